package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/internal/store/postgres/pgtest"
)

// rotateKey runs assay key rotate and reads its answer.
func rotateKey(t *testing.T, want int, args ...string) (r keyRotation, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	got := Main(programtest.Env(&stdout, &stderr), append([]string{"key", "rotate", "-o", "json"}, args...))
	if got != want {
		t.Fatalf("key rotate %v: status %d, want %d: %s", args, got, want, &stderr)
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("key rotate %v prints %q: %v", args, &stdout, err)
	}
	return r, stderr.String()
}

// published are the token keys that the service of data shows, having shown that
// it starts, answers its administrator and its clients.
func published(t *testing.T, data string, change func(*serveOptions)) string {
	t.Helper()
	s := startServing(t, data, change)
	if out, status := s.admin(t, "whoami"); status != program.StatusOK {
		t.Fatalf("whoami: %d %s", status, out)
	}
	resp, err := clientFor(t, data).Get(s.url + "/certs")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var set struct{ Keys []struct{ Kid string } }
	if err := json.NewDecoder(resp.Body).Decode(&set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("keys: %+v, %v", set, err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range set.Keys {
		ids = append(ids, k.Kid)
	}
	return strings.Join(ids, " ")
}

func testRotation(t *testing.T, change func(*serveOptions), args ...string) {
	data := t.TempDir()
	args = append([]string{"--data", data}, args...)
	first := published(t, data, change)
	ca := mustRead(t, filepath.Join(data, caFile))
	before := mustRead(t, filepath.Join(data, program.KeyFile))

	same := func(step string) {
		t.Helper()
		if got := published(t, data, change); got != first {
			t.Errorf("after %s the service has keys %s, want %s", step, got, first)
		}
	}
	// Each step leaves a service that works, so that a crash between two does too.
	added, _ := rotateKey(t, program.StatusOK, append(args, "--step", "add")...)
	if added.Older != 1 || added.Rewrapped != 0 || added.Remaining != 4 { // two token keys, a challenge key, the authority's
		t.Errorf("add: %+v", added)
	}
	same("add")
	var stdout, stderr bytes.Buffer
	if got := Main(programtest.Env(&stdout, &stderr), append([]string{"key", "rotate", "--step", "drop"}, args...)); got != program.StatusRefused || !strings.Contains(stderr.String(), "still sealed") {
		t.Errorf("drop too early: status %d, %s", got, &stderr)
	}
	rewrapped, _ := rotateKey(t, program.StatusOK, append(args, "--step", "rewrap")...)
	if rewrapped != (keyRotation{added.Newest, 1, 4, 0}) {
		t.Errorf("rewrap: %+v", rewrapped)
	}
	same("rewrap")
	if again, _ := rotateKey(t, program.StatusOK, append(args, "--step", "rewrap")...); again.Rewrapped != 0 {
		t.Errorf("rewrap again: %+v", again)
	}
	if dropped, _ := rotateKey(t, program.StatusOK, append(args, "--step", "drop")...); dropped != (keyRotation{added.Newest, 0, 0, 0}) {
		t.Errorf("drop: %+v", dropped)
	}
	same("drop")
	if whole, _ := rotateKey(t, program.StatusOK, args...); whole.Newest == added.Newest || whole.Older != 1 || whole.Rewrapped != 4 || whole.Remaining != 0 {
		t.Errorf("rotation at once: %+v", whole)
	}
	same("a rotation at once")
	if !bytes.Equal(mustRead(t, filepath.Join(data, caFile)), ca) {
		t.Error("the TLS authority is another one")
	}
	// The first key opens nothing any more.
	if err := os.WriteFile(filepath.Join(data, program.KeyFile), before, 0o600); err != nil {
		t.Fatal(err)
	}
	o := &serveOptions{listen: "127.0.0.1:0", tlsMode: tlsSelfSigned, logFormat: "text", logLevel: "info"}
	o.Data = data
	if change != nil {
		change(o)
	}
	if err := serve(t.Context(), programtest.Env(&stdout, &stderr), o); err == nil || !strings.Contains(err.Error(), "key-encryption key is not held") {
		t.Errorf("with the key of before: %v", err)
	}
}

func TestKeyRotationKeepsWhatWasSealed(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) { testRotation(t, nil) })
	t.Run("PostgreSQL", func(t *testing.T) {
		url := pgtest.Start(t).Database(t)
		testRotation(t, func(o *serveOptions) { o.Database, o.WithoutSync = url, true }, "--database", url, "--database-without-fsync")
	})
}

func TestKeyRotationOfAProtectedFile(t *testing.T) {
	dir := t.TempDir()
	data, phrase := filepath.Join(dir, "data"), filepath.Join(dir, "phrase")
	if err := os.WriteFile(phrase, []byte("correct horse battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	change := func(o *serveOptions) { o.Keys.Passphrase = phrase }
	first := published(t, data, change)
	if r, _ := rotateKey(t, program.StatusOK, "--data", data, "--passphrase-file", phrase); r.Rewrapped != 4 || r.Remaining != 0 {
		t.Errorf("%+v", r)
	}
	if got := published(t, data, change); got != first {
		t.Errorf("keys %s, want %s", got, first)
	}
	if text := mustRead(t, filepath.Join(data, program.KeyFile)); !bytes.HasPrefix(text, []byte("assay-keys-passphrase 1\n")) {
		t.Error("the file has lost its passphrase")
	}
}

func TestKeyRotationWaitsForNoRunningService(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	for name, tc := range map[string]struct {
		change func(*serveOptions)
		args   []string
	}{
		"SQLite":     {nil, nil},
		"PostgreSQL": {func(o *serveOptions) { o.Database, o.WithoutSync = url, true }, []string{"--database", url, "--database-without-fsync"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServing(t, t.TempDir(), tc.change)
			before := mustRead(t, filepath.Join(s.data, program.KeyFile))
			if _, errs := rotateKey(t, program.StatusUnusable, append([]string{"--data", s.data}, tc.args...)...); !strings.Contains(errs, "stop the service first") {
				t.Errorf("while the service runs: %s", errs)
			}
			if !bytes.Equal(mustRead(t, filepath.Join(s.data, program.KeyFile)), before) {
				t.Error("the key file was changed")
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "mistyped")
	rotateKey(t, program.StatusUnusable, "--data", missing)
	if _, err := os.Stat(missing); err == nil {
		t.Error("a mistyped folder was made")
	}
}

// What a crash left unfinished in the data folder is gone after the next start.
func TestStartSweepsTheDataFolder(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	for name, change := range map[string]func(*serveOptions){
		"SQLite":     nil,
		"PostgreSQL": func(o *serveOptions) { o.Database, o.WithoutSync = url, true },
	} {
		t.Run(name, func(t *testing.T) {
			data := t.TempDir()
			left := filepath.Join(data, ".durable-123.tmp")
			if err := os.WriteFile(left, []byte("half a key"), 0o600); err != nil {
				t.Fatal(err)
			}
			startServing(t, data, change)
			if _, err := os.Stat(left); err == nil {
				t.Error("the unfinished file is still there")
			}
			if _, err := durable.LockDir(data); err == nil {
				t.Error("the folder of a running service is free")
			}
		})
	}
}
