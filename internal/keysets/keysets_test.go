package keysets_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type made struct {
	set  *keyset.Set
	keys keyset.Keys
}

// platform is a set with one key of its own; made once, since keys are slow.
var platform = sync.OnceValue(func() made {
	s, k, err := keyset.New("web", keyset.Options{Kind: keyset.Microsoft, Random: rand.Reader, Now: now, WithoutRevocations: true})
	if err != nil {
		panic(err)
	}
	return made{s, k}
})

func provider(t testing.TB) *keyprovider.Local {
	t.Helper()
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func stored(t testing.TB, p keyprovider.Provider) *keysets.Stored {
	t.Helper()
	s, err := keysets.Seal(t.Context(), platform().set, platform().keys, "main", p, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestASetIsReadAsItWasWritten(t *testing.T) {
	p := provider(t)
	r := &keysets.Root{Dir: filepath.Join(t.TempDir(), "keysets")}
	if names, err := r.List(); err != nil || names != nil {
		t.Errorf("List of nothing = %v, %v", names, err)
	}
	if err := r.Create(stored(t, p)); err != nil {
		t.Fatal(err)
	}
	if err := r.Create(stored(t, p)); !errors.Is(err, keysets.ErrExists) {
		t.Errorf("second Create = %v, want %v", err, keysets.ErrExists)
	}
	s, err := r.Load("web")
	if err != nil || !s.HasKeys() || s.Provider != "main" || cmp.Diff(platform().set.Variables(), s.Set.Variables()) != "" {
		t.Fatalf("Load = %+v, %v", s, err)
	}
	keys, err := s.Keys(t.Context(), p)
	if err != nil || !keys[sigdb.PK].Equal(platform().keys[sigdb.PK]) {
		t.Errorf("Keys: %v", err)
	}
	if keys, err := s.Keys(t.Context(), provider(t)); keys != nil || err == nil {
		t.Error("another provider opens the keys")
	}
	info, err := os.Stat(filepath.Join(r.Dir, "web.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	if names, err := r.List(); err != nil || cmp.Diff([]string{"web"}, names) != "" {
		t.Errorf("List = %v, %v", names, err)
	}
	_, err = r.Load("mail")
	if !errors.Is(err, keysets.ErrNone) {
		t.Errorf("Load of another = %v, want %v", err, keysets.ErrNone)
	}
	if _, err := r.Load("../web"); !errors.Is(err, keyset.ErrName) {
		t.Errorf("Load of a path = %v, want %v", err, keyset.ErrName)
	}
}

func TestAnUpdateReplacesTheSetOrLeavesIt(t *testing.T) {
	p := provider(t)
	r := &keysets.Root{Dir: t.TempDir()}
	if err := r.Update("web", nil); !errors.Is(err, keysets.ErrNone) {
		t.Errorf("Update of none = %v, want %v", err, keysets.ErrNone)
	}
	if err := r.Create(stored(t, p)); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	if err := r.Update("web", func(*keysets.Stored) (*keysets.Stored, error) { return nil, no }); !errors.Is(err, no) {
		t.Errorf("Update = %v, want %v", err, no)
	}
	err := r.Update("web", func(s *keysets.Stored) (*keysets.Stored, error) {
		s.Set.Updated = s.Set.Updated.Add(time.Hour)
		return s, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Load("web")
	if err != nil || !s.Set.Updated.Equal(now.Add(time.Hour)) {
		t.Errorf("after it: %v, %v", s.Set.Updated, err)
	}
	if _, err := s.Keys(t.Context(), p); err != nil {
		t.Errorf("the keys do not open any more: %v", err)
	}
}

func TestASetThatCouldNotBeReadAgainIsNotWritten(t *testing.T) {
	r := &keysets.Root{Dir: t.TempDir()}
	if err := r.Create(stored(t, provider(t))); err != nil {
		t.Fatal(err)
	}
	err := r.Update("web", func(s *keysets.Stored) (*keysets.Stored, error) {
		s.Set.Updated = s.Set.Updated.Add(time.Millisecond)
		return s, nil
	})
	if !errors.Is(err, keysets.ErrFormat) {
		t.Errorf("Update = %v, want %v", err, keysets.ErrFormat)
	}
	if _, err := r.Load("web"); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestKeysOfOneSetDoNotOpenForAnother puts the sealed keys of one set into the file
// of another.
func TestKeysOfOneSetDoNotOpenForAnother(t *testing.T) {
	p := provider(t)
	r := &keysets.Root{Dir: t.TempDir()}
	if err := r.Create(stored(t, p)); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(r.Dir, "web.json")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	owner := platform().set.Owner.String()
	other := strings.Replace(string(b), `"owner": "`+owner, `"owner": "00000000`+owner[8:], 1)
	if other == string(b) {
		t.Fatal("the owner is not in the file")
	}
	if err := os.WriteFile(name, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := r.Load("web")
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := s.Keys(t.Context(), p); keys != nil || err == nil {
		t.Error("they open")
	}
}

func TestFilesThatAreNoStoredSetsAreRefused(t *testing.T) {
	r := &keysets.Root{Dir: t.TempDir()}
	if err := r.Create(stored(t, provider(t))); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(r.Dir, "web.json"))
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for name, text := range map[string]string{
		"empty":          "",
		"cut":            good[:len(good)/2],
		"after it":       good + "x",
		"format":         strings.Replace(good, "assay key set", "assay key sets", 1),
		"version":        strings.Replace(good, `"oldestReader": 1`, `"oldestReader": 9`, 1),
		"unknown member": strings.Replace(good, `"provider"`, `"providers"`, 1),
		"no provider":    strings.Replace(good, `"provider": "main"`, `"provider": ""`, 1),
		"the set":        strings.Replace(good, `"kind": "microsoft"`, `"kind": "none"`, 1),
	} {
		if _, err := keysets.Parse([]byte(text)); !errors.Is(err, keysets.ErrFormat) {
			t.Errorf("%s: Parse = %v, want %v", name, err, keysets.ErrFormat)
		}
	}
	if err := os.WriteFile(filepath.Join(r.Dir, "mail.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Load("mail"); !errors.Is(err, keysets.ErrFormat) {
		t.Errorf("a set under another name: %v, want %v", err, keysets.ErrFormat)
	}
}

func FuzzParse(f *testing.F) {
	r := &keysets.Root{Dir: f.TempDir()}
	if err := r.Create(stored(f, provider(f))); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(r.Dir, "web.json"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := keysets.Parse(b)
		if err == nil && s.Set == nil || err != nil && s != nil {
			t.Fatalf("Parse = %v, %v", s, err)
		}
	})
}
