package keyprovider_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keyprovider/keyprovidertest"
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
		vars    map[string]string
		secrets []string
	}{
		"in the clear":                    {"", nil, nil},
		"passphrase from a file":          {"?passphrase-file=" + private(t, phrase+"\nsecond line\n"), nil, []string{phrase}},
		"passphrase from the environment": {"?passphrase-env=PHRASE", map[string]string{"PHRASE": phrase}, []string{phrase}},
		"passphrase from a credential":    {"?passphrase-credential=phrase", map[string]string{"CREDENTIALS_DIRECTORY": credential(t, "phrase", []byte(phrase))}, []string{phrase}},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && tc.secrets != nil {
				t.Skip("deriving keys of passphrases is slow")
			}
			env := environ(tc.vars)
			spec := create(t, "local:"+filepath.Join(t.TempDir(), "keys")+tc.options, env)
			other := create(t, "local:"+filepath.Join(t.TempDir(), "keys")+tc.options, env)
			keyprovidertest.Run(t, keyprovidertest.Subject{Open: opener(spec, env), Other: opener(other, env), Secrets: tc.secrets})
		})
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
	folder := func() map[string]string {
		spec := filepath.Join(t.TempDir(), "keys")
		create(t, "local:"+spec, environ(nil))
		text, err := os.ReadFile(spec)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]string{"CREDENTIALS_DIRECTORY": credential(t, "keys", text)}
	}
	keyprovidertest.Run(t, keyprovidertest.Subject{
		Open: opener("local:?credential=keys", environ(folder())), Other: opener("local:?credential=keys", environ(folder())), ReadOnly: true,
	})
}
