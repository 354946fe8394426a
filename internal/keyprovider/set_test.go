package keyprovider_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
)

var update = flag.Bool("update", false, "write golden files anew")

var added = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func addTo(name, spec string) func(*keyprovider.Set) error {
	return func(s *keyprovider.Set) error {
		parsed, err := keyprovider.ParseSpec(spec)
		if err != nil {
			return err
		}
		return s.Add(keyprovider.Configured{Name: name, Spec: parsed, Added: added})
	}
}

func TestASetKeepsWhatIsConfigured(t *testing.T) {
	file := filepath.Join(t.TempDir(), keyprovider.SetFile)
	none, err := keyprovider.LoadSet(file)
	if err != nil || len(none.List()) != 0 || none.Default() != "" {
		t.Fatalf("LoadSet without a file = %v, %v", none, err)
	}
	if _, _, err := none.Resolve(""); !errors.Is(err, keyprovider.ErrNoProvider) {
		t.Errorf("default of no set: %v", err)
	}
	steps := []func(*keyprovider.Set) error{
		addTo("main", "local:/keys/main?passphrase-file=/keys/phrase"),
		addTo("vault", "vault:https://vault.example:8200/transit/keys/assay?token-file=/keys/token"),
		addTo("again", "local:/keys/again"),
		func(s *keyprovider.Set) error { return s.MakeDefault("vault") },
		func(s *keyprovider.Set) error { return s.Remove("again") },
		func(s *keyprovider.Set) error { return s.Replace("main", parseSpec(t, "local:/keys/new")) },
	}
	for i, change := range steps {
		if err := keyprovider.UpdateSet(file, change); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	s, err := keyprovider.LoadSet(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	got.WriteString(fmt.Sprint(s.Default()))
	for _, c := range s.List() {
		got.WriteString(fmt.Sprintf(" %s=%s@%s", c.Name, c.Spec, c.Added.Format(time.RFC3339)))
	}
	want := "vault main=local:/keys/new@2026-11-22T10:00:00Z vault=vault:https://vault.example:8200/transit/keys/assay?token-file=/keys/token@2026-11-22T10:00:00Z"
	if got.String() != want {
		t.Errorf("the set is %s, want %s", got.String(), want)
	}
	for text, want := range map[string]string{"": "vault", "main": "main", "local:/x": ""} {
		if _, name, err := s.Resolve(text); err != nil || name != want {
			t.Errorf("Resolve(%q) = %q, %v, want %q", text, name, err, want)
		}
	}
	golden := filepath.Join("testdata", "key-providers-v1.json")
	text, _ := os.ReadFile(file)
	if *update {
		if err := os.WriteFile(golden, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile(golden); err != nil || !bytes.Equal(kept, text) {
		t.Errorf("the format has drifted: %s, %v, want %s", text, err, kept)
	}
}

func TestASetRefuses(t *testing.T) {
	var nobody *keyprovider.Set
	if _, _, err := nobody.Resolve("main"); !errors.Is(err, keyprovider.ErrNoProvider) {
		t.Errorf("Resolve of no set = %v", err)
	}
	two := func() *keyprovider.Set {
		s := new(keyprovider.Set)
		for _, name := range []string{"one", "two"} {
			if err := addTo(name, "local:/"+name)(s); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	for name, change := range map[string]func(*keyprovider.Set) error{
		"a name twice":            addTo("one", "local:/x"),
		"a path for a name":       addTo("../one", "local:/x"),
		"a spec for a name":       addTo("local:x", "local:/x"),
		"no name":                 addTo("", "local:/x"),
		"no spec":                 func(s *keyprovider.Set) error { return s.Add(keyprovider.Configured{Name: "x"}) },
		"removing the default":    func(s *keyprovider.Set) error { return s.Remove("one") },
		"removing what is not":    func(s *keyprovider.Set) error { return s.Remove("three") },
		"a default that is not":   func(s *keyprovider.Set) error { return s.MakeDefault("three") },
		"replacing what is not":   func(s *keyprovider.Set) error { return s.Replace("three", parseSpec(t, "local:/x")) },
		"replacing by other kind": func(s *keyprovider.Set) error { return s.Replace("one", parseSpec(t, "trusted:https://x")) },
	} {
		if err := change(two()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	s := two()
	if err := errors.Join(s.Remove("two"), s.Remove("one")); err != nil || s.Default() != "" {
		t.Errorf("removing all: %v, default %q", err, s.Default())
	}
}

func TestASetsFileIsReadStrictly(t *testing.T) {
	const good = `{"format": "assay key providers", "version": 1, "oldestReader": 1, "default": "a", "providers": [{"name": "a", "spec": "local:/a", "added": "2026-11-22T10:00:00Z"}]}`
	if _, err := keyprovider.ParseSet([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another file":          {"assay key providers", "assay key"},
		"a newer format":        {`"oldestReader": 1`, `"oldestReader": 2`},
		"no version":            {`"oldestReader": 1`, `"oldestReader": 0`},
		"a default that is not": {`"default": "a"`, `"default": "b"`},
		"no default":            {`"default": "a"`, `"default": ""`},
		"an unknown member":     {`"version"`, `"verzion"`},
		"an unknown option":     {`"added"`, `"token": "hunter2", "added"`},
		"a spec that is none":   {"local:/a", "ftp:/a"},
		"a time that is none":   {"2026-11-22T", "2026-11-22"},
		"a name that is none":   {`"name": "a"`, `"name": "A"`},
		"text after it":         {"]}", "]}}"},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		if text == good {
			t.Fatalf("%s: nothing changed", name)
		}
		if s, err := keyprovider.ParseSet([]byte(text)); err == nil {
			t.Errorf("%s: read as %v", name, s.List())
		}
	}
	file := filepath.Join(t.TempDir(), "set")
	for mode, fine := range map[os.FileMode]bool{0o600: true, 0o644: true, 0o660: false, 0o602: false} {
		if err := errors.Join(os.WriteFile(file, []byte(good), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := keyprovider.LoadSet(file); (err == nil) != fine {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

func TestSeveralProcessesChangeASet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "set")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := keyprovider.UpdateSet(file, addTo(fmt.Sprint("p", i), "local:/x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s, err := keyprovider.LoadSet(file); err != nil || len(s.List()) != 20 {
		t.Errorf("%d providers, %v, want 20", len(s.List()), err)
	}
	if err := keyprovider.UpdateSet(file, func(*keyprovider.Set) error { return os.ErrInvalid }); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("UpdateSet = %v", err)
	}
}

func TestSpecsAreReadStrictly(t *testing.T) {
	env := environ(nil)
	for spec, want := range map[string]string{
		"local:":                                      "either a path",
		"local:/a?credential=b":                       "either a path",
		"local:/a?nonsense=1":                         `option "nonsense" is not known`,
		"local:/a?passphrase=hunter2":                 "passphrase-file",
		"local:/a?passphrase-file=":                   "is empty",
		"local:/a?passphrase-file":                    "name=value",
		"local:/a?x=%zz":                              "two hexadecimal digits",
		"local:/a?x=1&x=2":                            "stands twice",
		"local:/a?passphrase-file=b&passphrase-env=c": "more than one",
		"local:/a b":                                  "white space",
		"local:/a#b":                                  "%23",
		"local:/a?tpm=/dev/tpm0":                      "wants the option pcrs",
		"local:/a?pcrs=sha256:7":                      "without the option tpm",
		"local:/a?tpm=/dev/tpm0&pcrs=sha1:7":          "SHA-2",
		"local:/a?tpm=/dev/tpm0&pcrs=sha256:24":       "from 0 to 23",
		"local:/a?tpm=/dev/tpm0&pcrs=sha256:7,7":      "different registers",
		"local:/a?tpm=/dev/tpm0&pcrs=sha256:07":       "different registers",
		"local:/a?tpm=/t&pcrs=none&passphrase-env=x":  "not by both",
		"local:?credential=a&tpm=/t&pcrs=none":        "systemd",
		"name":                                        "no such key provider",
		"ftp:hunter2":                                 "neither",
		":":                                           "neither",
		"trusted:https://user:hunter2@host":           "user or password",
		"trusted:http://host":                         "https://",
		"trusted:https://host":                        "attested hosts only",
		"trusted:https://host?token=hunter2":          "does not stand in a spec",
		"local:" + strings.Repeat("x", 3000):          "2048 bytes",
	} {
		p, err := keyprovider.OpenSpec(t.Context(), spec, env)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("OpenSpec(%q) = %v, want %q", spec, err, want)
		}
	}
}

func TestTrustedProvidersRefuseUntilHostsAreAttested(t *testing.T) {
	_, err := keyprovider.OpenSpec(t.Context(), "trusted:https://keys.example", environ(nil))
	if !errors.Is(err, keyprovider.ErrRefused) || !errors.Is(err, keyprovider.ErrNotAttested) {
		t.Errorf("OpenSpec = %v, want %v", err, keyprovider.ErrNotAttested)
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{"local:/a?passphrase-file=b", "vault:https://h:1/transit/keys/a?token-env=X&namespace=n%20m", "kmip://h/1?a=b", "pkcs11:token=a;object=b?pin-source=file:/x", "trusted:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := keyprovider.ParseSpec(text)
		if err == nil && s.String() != text {
			t.Errorf("ParseSpec(%q) is %q", text, s)
		}
	})
}

func FuzzParseSet(f *testing.F) {
	f.Add([]byte(`{"format": "assay key providers", "version": 1, "oldestReader": 1, "default": "a", "providers": [{"name": "a", "spec": "local:/a", "added": "2026-11-22T10:00:00Z"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := keyprovider.ParseSet(text)
		if err != nil {
			return
		}
		if _, ok := s.Lookup(s.Default()); !ok && len(s.List()) > 0 {
			t.Errorf("ParseSet(%q) has the default %q, which it has not", text, s.Default())
		}
	})
}
