package homecard

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

const good = `{"version": 1, "name": "web-1", "id": "0badc0de-0000-4000-8000-000000000001", "provider": "main", "created": "2026-01-01T00:00:00Z", "key": "AAAA"}`

func provider(t *testing.T) *keyprovider.Local {
	t.Helper()
	k, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := keyprovider.NewLocal(rand.Reader, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// home makes a home with a key by a provider.
func home(t *testing.T, dir string, p keyprovider.Provider) (*Home, seal.Secret) {
	t.Helper()
	c, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	key, err := seal.Random(rand.Reader, seal.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Seal(t.Context(), p, rand.Reader, key); err != nil {
		t.Fatal(err)
	}
	text, err := c.Text()
	if err != nil {
		t.Fatal(err)
	}
	h := &Home{filepath.Join(dir, c.Name), c}
	if err := errors.Join(os.MkdirAll(h.Dir, 0o700), os.WriteFile(filepath.Join(h.Dir, File), text, 0o600)); err != nil {
		t.Fatal(err)
	}
	return h, key
}

func TestARewrappedHomeHasItsKeyUnderTheOtherProvider(t *testing.T) {
	t.Parallel()
	dir, a, b := t.TempDir(), provider(t), provider(t)
	h, key := home(t, dir, a)
	if err := h.Rewrap(t.Context(), a, b, "other", rand.Reader); err != nil {
		t.Fatal(err)
	}
	homes, err := List(dir)
	if err != nil || len(homes) != 1 || homes[0].Card.Provider != "other" || homes[0].Card.Under() != b.KeyIDs()[0] {
		t.Fatalf("List = %+v, %v", homes, err)
	}
	got, err := homes[0].Card.Open(t.Context(), b)
	if err != nil || !got.Equal(key) {
		t.Errorf("the key is another: %v", err)
	}
	if _, err := homes[0].Card.Open(t.Context(), a); err == nil {
		t.Error("the provider before still opens it")
	}
}

// The key of one machine in the card of another does not open.
func TestAKeyIsOfItsMachine(t *testing.T) {
	t.Parallel()
	a := provider(t)
	h, _ := home(t, t.TempDir(), a)
	h.Card.ID = "0badc0de-0000-4000-8000-000000000002"
	if _, err := h.Card.Open(t.Context(), a); err == nil {
		t.Error("it opens")
	}
}

func TestADeletedMachineIsNotBroughtBack(t *testing.T) {
	t.Parallel()
	dir, a, b := t.TempDir(), provider(t), provider(t)
	h, _ := home(t, dir, a)
	if err := os.RemoveAll(h.Dir); err != nil {
		t.Fatal(err)
	}
	if err := h.Rewrap(t.Context(), a, b, "other", rand.Reader); err == nil {
		t.Error("Rewrap of a machine that is deleted")
	}
	if homes, err := List(dir); err != nil || len(homes) != 0 {
		t.Errorf("List = %+v, %v", homes, err)
	}
}

func TestBadCardsAreRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":          "",
		"cut":            good[:len(good)-1],
		"more":           good + "{}",
		"version":        strings.Replace(good, `"version": 1`, `"version": 2`, 1),
		"no UUID":        strings.Replace(good, "0badc0de", "0badc0dx", 1),
		"no provider":    strings.Replace(good, `"main"`, `""`, 1),
		"no key":         strings.Replace(good, `"AAAA"`, `""`, 1),
		"twice":          strings.Replace(good, `"version": 1`, `"version": 1, "version": 1`, 1),
		"unknown member": strings.Replace(good, `"version": 1`, `"version": 1, "x": 1`, 1),
	} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: Parse = %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "a"), 0o700), os.WriteFile(filepath.Join(dir, "a", File), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := List(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("List = %v: what cannot be read may need any provider", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		again, err := c.Text()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(again); err != nil {
			t.Errorf("%s is not read again: %v", again, err)
		}
	})
}
