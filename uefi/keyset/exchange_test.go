package keyset_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

// imported reads the JSON of a set, and makes a set of it.
func imported(t *testing.T, text []byte, change func([]varstore.Variable) []varstore.Variable) (*keyset.Set, error) {
	t.Helper()
	variables, err := varstore.ParseJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		variables = change(variables)
	}
	return keyset.Import("imported", variables, keyset.Options{Random: rand.Reader, Now: time.Now()})
}

func TestASetAsJSONIsTheSameSet(t *testing.T) {
	t.Parallel()
	for _, kind := range []keyset.Kind{keyset.Own, keyset.Microsoft, keyset.MicrosoftAndOwn} {
		s := newSet(t, keyset.Options{Kind: kind, Given: given(sigdb.PK, sigdb.KEK, sigdb.DB)})
		text, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		got, err := imported(t, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range sigdb.Roles() {
			if d := cmp.Diff(s.Entries(r), got.Entries(r)); d != "" {
				t.Errorf("%s: %v (-want +got):\n%s", kind, r, d)
			}
		}
		if got.Kind != keyset.Own || got.Name != "imported" {
			t.Errorf("%s: the set is %q of kind %q", kind, got.Name, got.Kind)
		}
	}
	text, err := newSet(t, keyset.Options{Kind: keyset.SetupMode}).JSON()
	if v, perr := varstore.ParseJSON(text); err != nil || perr != nil || len(v) != 0 {
		t.Errorf("a set without keys is %s, %v, %v", text, err, perr)
	}
}

func TestVariablesThatMakeNoSetAreRefused(t *testing.T) {
	t.Parallel()
	s := newSet(t, keyset.Options{Kind: keyset.Own, Given: given(sigdb.PK, sigdb.KEK, sigdb.DB)})
	text, err := s.JSON()
	if err != nil {
		t.Fatal(err)
	}
	of := func(r sigdb.Role, change func(*varstore.Variable)) func([]varstore.Variable) []varstore.Variable {
		return func(all []varstore.Variable) []varstore.Variable {
			i := slices.IndexFunc(all, func(v varstore.Variable) bool { return v.Name == r.String() })
			change(&all[i])
			return all
		}
	}
	for name, change := range map[string]func([]varstore.Variable) []varstore.Variable{
		"no platform key":          of(sigdb.PK, func(v *varstore.Variable) { v.Name = "another" }),
		"no key exchange key":      of(sigdb.KEK, func(v *varstore.Variable) { v.Vendor = uefi.ShimLock }),
		"no db":                    of(sigdb.DB, func(v *varstore.Variable) { v.Name = "DB" }),
		"lists that are none":      of(sigdb.DB, func(v *varstore.Variable) { v.Data = v.Data[:20] }),
		"two platform keys":        of(sigdb.PK, func(v *varstore.Variable) { v.Data = append(v.Data, v.Data...) }),
		"nothing of Secure Boot's": func([]varstore.Variable) []varstore.Variable { return nil },
	} {
		if s, err := imported(t, text, change); !errors.Is(err, keyset.ErrEntry) {
			t.Errorf("%s: Import = %v, %v, want ErrEntry", name, s, err)
		}
	}
}
