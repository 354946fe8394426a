package vtpmcli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/internal/vtpm"
)

// providerRoot is a root of TPMs that commands are run on.
type providerRoot struct {
	t   *testing.T
	dir string
}

// run runs assay, wants an exit status, and returns what is on standard output.
func (r *providerRoot) run(want int, line ...string) string {
	r.t.Helper()
	var out, errs bytes.Buffer
	env := &program.Env{
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: time.Now, Rand: rand.Reader,
		Getenv: func(name string) string { return map[string]string{"ASSAY_VTPM_ROOT": r.dir}[name] },
	}
	if got := assay(env, line); got != want {
		r.t.Fatalf("assay %s: status %d, want %d\n%s%s", strings.Join(line, " "), got, want, &out, &errs)
	}
	return out.String()
}

// rewrap runs rotate or migrate.
func (r *providerRoot) rewrap(want int, line ...string) rewrapped {
	r.t.Helper()
	var out rewrapped
	if err := json.Unmarshal([]byte(r.run(want, append(line, "-o", "json")...)), &out); err != nil {
		r.t.Fatal(err)
	}
	return out
}

func newProviderRoot(t *testing.T) *providerRoot {
	t.Helper()
	r := &providerRoot{t, filepath.Join(t.TempDir(), "root")}
	for _, name := range []string{"a", "b"} {
		r.run(program.StatusOK, "key-provider", "add", name, "local:"+filepath.Join(t.TempDir(), name), "--create")
	}
	for _, name := range []string{"web-1", "web-2"} {
		r.run(program.StatusOK, "vtpm", "create", name)
	}
	return r
}

func TestRotationAndMigrationWrapEveryTPMAnew(t *testing.T) {
	r := newProviderRoot(t)
	before := r.rewrap(program.StatusOK, "key-provider", "rotate", "a", "--rewrap-only")
	if before.Already != 2 || before.Done != 0 {
		t.Errorf("before anything changed: %+v", before)
	}
	rotated := r.rewrap(program.StatusOK, "key-provider", "rotate", "a")
	if rotated.Done != 2 || rotated.KeyID == before.KeyID || len(rotated.Failed) != 0 {
		t.Errorf("rotate: %+v, and before %+v", rotated, before)
	}
	if again := r.rewrap(program.StatusOK, "key-provider", "rotate", "a", "--rewrap-only"); again.Already != 2 || again.Done != 0 {
		t.Errorf("rotate --rewrap-only after it: %+v", again)
	}
	r.run(program.StatusRefused, "key-provider", "remove", "a")
	moved := r.rewrap(program.StatusOK, "key-provider", "migrate", "--from", "a", "--to", "b")
	if moved.Done != 2 || moved.Provider != "b" {
		t.Errorf("migrate: %+v", moved)
	}
	if again := r.rewrap(program.StatusOK, "key-provider", "migrate", "--from", "a", "--to", "b"); again.Done != 0 || again.Already != 0 {
		t.Errorf("migrate again: %+v", again)
	}
	r.run(program.StatusOK, "key-provider", "default", "b")
	r.run(program.StatusOK, "key-provider", "remove", "a")
	if out := r.run(program.StatusOK, "vtpm", "list", "-o", "json"); strings.Count(out, `"provider": "b"`) != 2 {
		t.Errorf("list: %s", out)
	}
	for _, name := range []string{"web-1", "web-2"} {
		r.run(program.StatusOK, "vtpm", "describe", name) // opens under b alone
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	r := newProviderRoot(t)
	r.run(program.StatusOK, "vtpm", "ca", "init") // three keys
	before := r.files()
	for _, tc := range []struct {
		line                     []string
		done, already, authority int
	}{
		{[]string{"rotate", "a"}, 2, 0, 3},
		{[]string{"rotate", "a", "--rewrap-only"}, 0, 2, 0},
		{[]string{"rotate", "b"}, 0, 0, 0},
		{[]string{"migrate", "--from", "a", "--to", "b"}, 2, 0, 3},
		{[]string{"migrate", "--from", "b", "--to", "a"}, 0, 0, 0},
	} {
		line := append([]string{"key-provider"}, append(tc.line, "--dry-run")...)
		got := r.rewrap(program.StatusOK, line...)
		if got.Done != tc.done || got.Already != tc.already || got.Authority != tc.authority || !got.DryRun || len(got.Failed) > 0 {
			t.Errorf("%s: %+v, want %d TPMs, %d that are, %d keys", strings.Join(line, " "), got, tc.done, tc.already, tc.authority)
		}
		if out := r.run(program.StatusOK, line...); !strings.HasPrefix(out, fmt.Sprintf("would wrap %d TPMs anew", tc.done)) {
			t.Errorf("%s prints %q", strings.Join(line, " "), out)
		}
	}
	if diff := cmp.Diff(before, r.files()); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
	rotated := r.rewrap(program.StatusOK, "key-provider", "rotate", "a")
	if rotated.Done != 2 || rotated.Authority != 3 || rotated.DryRun {
		t.Errorf("rotate: %+v, and not what the dry run said", rotated)
	}
}

// files are the digests of all files of the root and of the key files beside it.
func (r *providerRoot) files() map[string][32]byte {
	r.t.Helper()
	out := map[string][32]byte{}
	err := filepath.WalkDir(filepath.Dir(filepath.Dir(r.dir)), func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "lock" {
			return err
		}
		text, err := os.ReadFile(name)
		out[name] = sha256.Sum256(text)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// A mortalReader kills its process when it was read so often.
type mortalReader struct{ left int }

func (m *mortalReader) Read(b []byte) (int, error) {
	if m.left--; m.left < 0 {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return rand.Read(b)
}

// The process that TestAKilledRotationIsFinishedLater kills.
func TestRotationChild(t *testing.T) {
	root := os.Getenv("ASSAY_TEST_ROTATION")
	if root == "" {
		t.Skip("for the test beside it")
	}
	reads, err := strconv.Atoi(os.Getenv("ASSAY_TEST_READS"))
	if err != nil {
		t.Fatal(err)
	}
	env := &program.Env{
		Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: os.Stderr, Now: time.Now, Rand: &mortalReader{reads},
		Getenv: func(name string) string { return map[string]string{"ASSAY_VTPM_ROOT": root}[name] },
	}
	if got := assay(env, []string{"key-provider", "rotate", "a"}); got != program.StatusOK {
		t.Errorf("status %d", got)
	}
}

// Wherever a rotation is killed, every TPM opens, and another run finishes the work.
func TestAKilledRotationIsFinishedLater(t *testing.T) {
	t.Parallel()
	r := newProviderRoot(t)
	killed := 0
	for reads := 0; ; reads += 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestRotationChild$")
		child.Env = append(os.Environ(), "ASSAY_TEST_ROTATION="+r.dir, "ASSAY_TEST_READS="+strconv.Itoa(reads))
		out, err := child.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case err == nil && killed > 2:
			return
		case err == nil || !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL || reads > 99:
			t.Fatalf("after %d reads: %v, and %d were killed before\n%s", reads, err, killed, out)
		}
		killed++
		for _, name := range []string{"web-1", "web-2"} {
			r.run(program.StatusOK, "vtpm", "describe", name)
		}
		rest := r.rewrap(program.StatusOK, "key-provider", "rotate", "a", "--rewrap-only")
		if rest.Done+rest.Already != 2 || len(rest.Failed) > 0 {
			t.Errorf("killed after %d reads, then %+v", reads, rest)
		}
	}
}

// One TPM that cannot be read stops no other, and a second run finishes the work.
func TestARotationThatFailsInPartIsFinishedLater(t *testing.T) {
	r := newProviderRoot(t)
	file := filepath.Join(r.dir, "tpms", "web-2", "web-2.nvram")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, whole[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	part := r.rewrap(program.StatusRefused, "key-provider", "rotate", "a")
	if part.Done != 1 || len(part.Failed) != 1 || part.Failed[0].TPM != "web-2" || part.Failed[0].Error == "" {
		t.Errorf("with a torn file: %+v", part)
	}
	if err := os.WriteFile(file, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	rest := r.rewrap(program.StatusOK, "key-provider", "rotate", "a", "--rewrap-only")
	if rest.Done != 1 || rest.Already != 1 || rest.KeyID != part.KeyID {
		t.Errorf("after it was mended: %+v", rest)
	}
}

// The authority's keys are sealed by a provider as well: it is not lost with the name.
func TestAProviderOfTheAuthorityIsNotRemoved(t *testing.T) {
	r := &providerRoot{t, filepath.Join(t.TempDir(), "root")}
	for _, name := range []string{"a", "b"} {
		r.run(program.StatusOK, "key-provider", "add", name, "local:"+filepath.Join(t.TempDir(), name), "--create")
	}
	ca := filepath.Join(r.dir, authorityDir)
	if err := os.MkdirAll(ca, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ca, "authority.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.run(program.StatusRefused, "key-provider", "remove", "b") // it cannot be read, so it may be b's
	if got := r.rewrap(program.StatusRefused, "key-provider", "migrate", "--from", "a", "--to", "b"); len(got.Failed) != 1 || !strings.Contains(got.Failed[0].Error, "certificate authority") {
		t.Errorf("migrate: %+v", got)
	}
	if err := os.RemoveAll(ca); err != nil {
		t.Fatal(err)
	}
	r.run(program.StatusOK, "vtpm", "ca", "init", "--name", "Test")
	r.run(program.StatusRefused, "key-provider", "remove", "a")
	moved := r.rewrap(program.StatusOK, "key-provider", "migrate", "--from", "a", "--to", "b")
	if moved.Authority == 0 {
		t.Errorf("migrate: %+v", moved)
	}
	r.run(program.StatusOK, "key-provider", "default", "b")
	r.run(program.StatusOK, "key-provider", "remove", "a")
	r.run(program.StatusOK, "vtpm", "create", "web-1") // certified by the authority, whose keys b opens
	if out := r.run(program.StatusOK, "vtpm", "describe", "web-1", "-o", "json"); !strings.Contains(out, `"issuer": "CN=Test"`) {
		t.Errorf("describe: %s", out)
	}
}

// A daemon's running TPMs are wrapped anew while they run, under a key that was made
// after the daemon had opened the provider.
func TestRotationGoesThroughTheDaemon(t *testing.T) {
	r := newProviderRoot(t)
	out, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- runVTPMDaemon(ctx, programtest.Env(w, io.Discard), &rootFlags{dir: r.dir}, vtpm.DaemonConfig{SocketDir: shortDir(t)})
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != readyLine {
		t.Fatalf("the daemon says %q, %v", line, err)
	}
	for _, name := range []string{"web-1", "web-2"} {
		r.run(program.StatusOK, "vtpm", "start", name)
	}
	if got := r.rewrap(program.StatusOK, "key-provider", "rotate", "a"); got.Done != 2 {
		t.Errorf("rotate: %+v", got)
	}
	if got := r.rewrap(program.StatusOK, "key-provider", "rotate", "a", "--rewrap-only"); got.Already != 2 {
		t.Errorf("rotate --rewrap-only: %+v", got)
	}
	if got := r.rewrap(program.StatusOK, "key-provider", "migrate", "--from", "a", "--to", "b"); got.Done != 2 {
		t.Errorf("migrate: %+v", got)
	}
	if list := r.run(program.StatusOK, "vtpm", "list", "-o", "json"); strings.Count(list, `"running": true`) != 2 {
		t.Errorf("list: %s", list)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A token that is asked each minute with a wrong PIN locks itself.
func TestATokenIsNotAskedUnattended(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"disk": "local:/keys", "hsm": "pkcs11:token=hsm;object=assay?module-path=/lib/token.so&pin-env=PIN"} {
		spec, err := keyprovider.ParseSpec(text)
		if err == nil {
			err = keyprovider.UpdateSet(filepath.Join(dir, keyprovider.SetFile), func(s *keyprovider.Set) error {
				return s.Add(keyprovider.Configured{Name: name, Spec: spec, Added: time.Unix(1, 0)})
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := HostAt(dir).Unattended(&program.Env{}); err != nil || !slices.Equal(got, []string{"disk"}) {
		t.Errorf("Unattended = %q, %v, want that on the disk", got, err)
	}
}
