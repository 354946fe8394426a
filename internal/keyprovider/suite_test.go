package keyprovider_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keyprovider/keyprovidertest"
	"github.com/assay-project/assay/internal/seal"
)

// environ is an Env whose variables are those of the map.
func environ(vars map[string]string) keyprovider.Env {
	return keyprovider.Env{Random: rand.Reader, Now: time.Now, Getenv: func(name string) string { return vars[name] }}
}

func parseSpec(tb testing.TB, text string) keyprovider.Spec {
	tb.Helper()
	s, err := keyprovider.ParseSpec(text)
	if err != nil {
		tb.Fatalf("ParseSpec(%q) = %v", text, err)
	}
	return s
}

// create makes the key of a spec and returns the spec to open it by.
func create(tb testing.TB, text string, env keyprovider.Env) string {
	tb.Helper()
	s, err := keyprovider.Create(tb.Context(), parseSpec(tb, text), env)
	if err != nil {
		tb.Fatal(err)
	}
	return s.String()
}

// opener opens a spec for the suite.
func opener(text string, env keyprovider.Env) func(testing.TB) *keyprovider.Opened {
	return func(tb testing.TB) *keyprovider.Opened {
		tb.Helper()
		p, err := keyprovider.OpenSpec(tb.Context(), text, env)
		if err != nil {
			tb.Fatalf("OpenSpec(%q) = %v", text, err)
		}
		return p
	}
}

const phrase = "correct horse battery staple"

// private writes a file that only its owner reads.
func private(tb testing.TB, text string) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "secret")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

func TestLocalProvidersPassTheSuite(t *testing.T) {
	for name, tc := range map[string]struct {
		options string
		secrets []string
	}{
		"in the clear":      {"", nil},
		"with a passphrase": {"?passphrase-file=" + private(t, phrase+"\nsecond line\n"), []string{phrase}},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && tc.secrets != nil {
				t.Skip("deriving keys of passphrases is slow")
			}
			env := environ(nil)
			spec := create(t, "local:"+filepath.Join(t.TempDir(), "keys")+tc.options, env)
			other := create(t, "local:"+filepath.Join(t.TempDir(), "keys"), env) // a passphrase's work is great
			keyprovidertest.Run(t, keyprovidertest.Subject{Env: env, Spec: spec, Other: other, Secrets: tc.secrets, Slow: tc.secrets != nil})
		})
	}
}

func TestPassphrasesComeFromWhereTheSpecSays(t *testing.T) {
	t.Parallel()
	env := environ(map[string]string{"PHRASE": phrase, "WRONG": phrase + "r", "CREDENTIALS_DIRECTORY": credential(t, "phrase", []byte(phrase))})
	spec := "local:" + filepath.Join(t.TempDir(), "keys")
	create(t, spec+"?passphrase-env=PHRASE", env)
	opener(spec+"?passphrase-credential=phrase", env)(t).Close()
	for name, options := range map[string]string{
		"none":               "",
		"a wrong one":        "?passphrase-env=WRONG",
		"one that is not":    "?passphrase-env=NOT_SET",
		"a file others read": "?passphrase-file=" + readable(t, phrase),
	} {
		p, err := keyprovider.OpenSpec(t.Context(), spec+options, env)
		if err == nil {
			p.Close()
		}
		if !errors.Is(err, keyprovider.ErrRefused) || strings.Contains(err.Error(), phrase) {
			t.Errorf("%s: %v, want %v", name, err, keyprovider.ErrRefused)
		}
	}
	if _, err := keyprovider.OpenSpec(t.Context(), "local:/nowhere/keys", env); !errors.Is(err, keyprovider.ErrUnavailable) {
		t.Errorf("a file on a disk that is not mounted: %v", err)
	}
}

// What another process has put at the head of the file is found without a restart.
func TestAKeyThatAnotherProcessAddedIsFound(t *testing.T) {
	env := environ(nil)
	spec := create(t, "local:"+filepath.Join(t.TempDir(), "keys"), env)
	ours, theirs := opener(spec, env)(t), opener(spec, env)(t)
	defer ours.Close()
	defer theirs.Close()
	if _, err := theirs.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := seal.NewSecret(make([]byte, seal.KeySize))
	w, err := theirs.Wrap(t.Context(), seal.Context{}, k)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ours.Unwrap(t.Context(), seal.Context{}, w); err != nil || !got.Equal(k) {
		t.Errorf("Unwrap = %v", err)
	}
}

// credential makes a folder as systemd lends it.
func credential(tb testing.TB, name string, text []byte) string {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o440); err != nil {
		tb.Fatal(err)
	}
	return dir
}

func TestKeysInACredentialPassTheSuite(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"keys", "other"} {
		create(t, "local:"+filepath.Join(dir, name), environ(nil))
		if err := os.Chmod(filepath.Join(dir, name), 0o440); err != nil {
			t.Fatal(err)
		}
	}
	env := environ(map[string]string{"CREDENTIALS_DIRECTORY": dir})
	keyprovidertest.Run(t, keyprovidertest.Subject{Env: env, Spec: "local:?credential=keys", Other: "local:?credential=other", ReadOnly: true})
}

// readable writes a file that everybody reads.
func readable(tb testing.TB, text string) string {
	tb.Helper()
	name := private(tb, text)
	if err := os.Chmod(name, 0o644); err != nil {
		tb.Fatal(err)
	}
	return name
}

// rewrite changes a file.
func rewrite(tb testing.TB, name, text string) {
	tb.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
}
