package keyset_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type made struct {
	set  *keyset.Set
	keys keyset.Keys
}

// both is a set of Microsoft's keys and own ones; made once, since keys are slow.
var both = sync.OnceValue(func() made {
	s, k, err := keyset.New("both", keyset.Options{Kind: keyset.MicrosoftAndOwn, Random: rand.Reader, Now: now})
	if err != nil {
		panic(err)
	}
	return made{s, k}
})

// given are the entries of the set above, so that no new keys are made.
func given(roles ...sigdb.Role) map[sigdb.Role][]sigdb.Signature {
	out := map[sigdb.Role][]sigdb.Signature{}
	for _, r := range roles {
		all := both().set.Entries(r)
		e := all[len(all)-1]
		e.Owner = uefi.GUID{}
		out[r] = []sigdb.Signature{e}
	}
	return out
}

func newSet(t *testing.T, o keyset.Options) *keyset.Set {
	t.Helper()
	o.Random, o.Now = rand.Reader, now
	s, _, err := keyset.New("set", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func counts(s *keyset.Set) (out [4]int) {
	for i, r := range sigdb.Roles() {
		out[i] = len(s.Entries(r))
	}
	return out
}

func TestEachKindHasItsKeys(t *testing.T) {
	pk := given(sigdb.PK)
	for name, tc := range map[string]struct {
		o    keyset.Options
		want [4]int
	}{
		"microsoft":                 {keyset.Options{Kind: keyset.Microsoft, Given: pk}, [4]int{1, 2, 4, 482}},
		"microsoft, no revocations": {keyset.Options{Kind: keyset.Microsoft, Given: pk, WithoutRevocations: true}, [4]int{1, 2, 4, 0}},
		"microsoft+own":             {keyset.Options{Kind: keyset.MicrosoftAndOwn, Given: given(sigdb.PK, sigdb.KEK, sigdb.DB)}, [4]int{1, 3, 5, 482}},
		"own":                       {keyset.Options{Kind: keyset.Own, Given: given(sigdb.PK, sigdb.KEK, sigdb.DB)}, [4]int{1, 1, 1, 0}},
		"setup-mode":                {keyset.Options{Kind: keyset.SetupMode}, [4]int{}},
		"own, a digest more":        {keyset.Options{Kind: keyset.Own, Given: withDigest(given(sigdb.PK, sigdb.KEK, sigdb.DB))}, [4]int{1, 1, 2, 0}},
	} {
		s := newSet(t, tc.o)
		if got := counts(s); got != tc.want {
			t.Errorf("%s: PK, KEK, db, dbx have %v entries, want %v", name, got, tc.want)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := keyset.Parse(text)
		if err != nil || cmp.Diff(s.Variables(), again.Variables()) != "" || again.Owner != s.Owner || !again.Updated.Equal(s.Updated) {
			t.Errorf("%s: reads otherwise than it was written: %v", name, err)
		}
	}
	if got := counts(both().set); got != [4]int{1, 3, 5, 482} || len(both().keys) != 3 {
		t.Errorf("made with %d keys: %v entries", len(both().keys), got)
	}
}

func withDigest(g map[sigdb.Role][]sigdb.Signature) map[sigdb.Role][]sigdb.Signature {
	g[sigdb.DB] = append(g[sigdb.DB], sigdb.Signature{Type: sigdb.SHA256, Data: make([]byte, 32)})
	return g
}

func TestASetThatFirmwareWouldNotTakeIsRefused(t *testing.T) {
	bad := map[sigdb.Role][]sigdb.Signature{sigdb.PK: {{Type: sigdb.X509, Data: []byte("x")}}}
	two := given(sigdb.PK)
	two[sigdb.PK] = append(two[sigdb.PK], two[sigdb.PK]...)
	for name, tc := range map[string]struct {
		name string
		o    keyset.Options
		want error
	}{
		"name":                 {"../x", keyset.Options{Kind: keyset.SetupMode}, keyset.ErrName},
		"no name":              {"", keyset.Options{Kind: keyset.SetupMode}, keyset.ErrName},
		"longest name":         {strings.Repeat("x", 63), keyset.Options{Kind: keyset.SetupMode}, nil},
		"name too long":        {strings.Repeat("x", 64), keyset.Options{Kind: keyset.SetupMode}, keyset.ErrName},
		"kind":                 {"x", keyset.Options{}, keyset.ErrKind},
		"no certificate":       {"x", keyset.Options{Kind: keyset.Microsoft, Given: bad}, keyset.ErrEntry},
		"two platform keys":    {"x", keyset.Options{Kind: keyset.Microsoft, Given: two}, keyset.ErrEntry},
		"setup mode with keys": {"x", keyset.Options{Kind: keyset.SetupMode, Given: given(sigdb.PK)}, keyset.ErrEntry},
	} {
		tc.o.Random, tc.o.Now = rand.Reader, now
		if s, _, err := keyset.New(tc.name, tc.o); (s != nil) != (tc.want == nil) || !errors.Is(err, tc.want) {
			t.Errorf("%s: New = %v, want %v", name, err, tc.want)
		}
	}
}

func TestEnrolWritesWhatFirmwareEnforces(t *testing.T) {
	store := varstore.New(varstore.OVMF4M)
	if keyset.SecureBoot(store) {
		t.Error("an empty store enforces Secure Boot")
	}
	s := both().set
	if done, err := s.Enrol(store); err != nil || done.Kept != 0 {
		t.Fatalf("Enrol = %+v, %v", done, err)
	}
	if !keyset.SecureBoot(store) {
		t.Error("the store does not enforce Secure Boot")
	}
	b, err := store.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := varstore.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keyset.Read(again)
	if err != nil || cmp.Diff(s.Variables(), got) != "" {
		t.Errorf("the store reads otherwise: %v", err)
	}
	if err := keyset.SetSecureBoot(again, false); err != nil || keyset.SecureBoot(again) {
		t.Errorf("switched off: %v, %v", keyset.SecureBoot(again), err)
	}
	setup := newSet(t, keyset.Options{Kind: keyset.SetupMode})
	if _, err := setup.Enrol(again); err != nil {
		t.Fatal(err)
	}
	if got, err := keyset.Read(again); err != nil || len(got) != 0 || keyset.SecureBoot(again) {
		t.Errorf("in setup mode the store has %v, %v", got, err)
	}
	small := varstore.New(varstore.OVMF2M)
	_, err = s.Enrol(small)
	if r := evidence.Reasons(err); len(r) != 1 || r[0].Code != "varstore.too-large" || r[0].Component != "dbx" {
		t.Errorf("the 2 MB build has no room for the revocations: %v", err)
	}
}

func TestEnrolTakesBackNeitherRevocationsNorTime(t *testing.T) {
	store := varstore.New(varstore.OVMF4M)
	extra := sigdb.Signature{Type: sigdb.SHA256, Owner: uefi.ShimLock, Data: bytes.Repeat([]byte{7}, 32)}
	later := uefi.NewTime(now.AddDate(1, 0, 0))
	if err := keyset.Write(store, sigdb.DBX, sigdb.Value{Data: sigdb.Encode([]sigdb.Signature{extra}), Time: later}); err != nil {
		t.Fatal(err)
	}
	done, err := both().set.Enrol(store)
	if err != nil || done.Kept != 1 {
		t.Fatalf("Enrol = %+v, %v", done, err)
	}
	v, err := keyset.Read(store)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for e := range v.Database(sigdb.DBX).All() {
		if n++; e.Owner == extra.Owner && bytes.Equal(e.Data, extra.Data) {
			extra.Owner = uefi.GUID{}
		}
	}
	if n != 483 || extra.Owner != (uefi.GUID{}) || v[sigdb.DBX].Time != later {
		t.Errorf("dbx has %d entries of %v; the machine's own is gone: %v", n, v[sigdb.DBX].Time.Time(), extra.Owner != (uefi.GUID{}))
	}
}

// take carries a roll out as the firmware of a machine does.
func take(t *testing.T, v sigdb.Variables, r *keyset.Rolled) sigdb.Variables {
	t.Helper()
	u, err := sigdb.ParseUpdate(r.Update)
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.Verify(r.Role, r.More, u)
	if err != nil {
		t.Fatal(err)
	}
	return v.Apply(c)
}

// content is what decides of variables: their entries.
func content(v sigdb.Variables) map[sigdb.Role][]sigdb.Signature {
	out := map[sigdb.Role][]sigdb.Signature{}
	for r := range v {
		for e := range v.Database(r).All() {
			out[r] = append(out[r], e)
		}
	}
	return out
}

func TestARunningMachineFollowsEachRoll(t *testing.T) {
	s, keys := both().set, both().keys
	machine := s.Variables()
	for _, r := range []sigdb.Role{sigdb.DB, sigdb.KEK, sigdb.PK} {
		old := keys[r]
		rolled, err := s.Roll(r, keys, rand.Reader, now)
		if err != nil {
			t.Fatal(err)
		}
		machine = take(t, machine, rolled)
		if d := cmp.Diff(content(rolled.Set.Variables()), content(machine)); d != "" {
			t.Fatalf("after a roll of %v the machine has something else (-set +machine):\n%s", r, d)
		}
		if old.Equal(rolled.Keys[r]) || !keys[r].Equal(old) || !rolled.Set.Updated.After(s.Updated) {
			t.Errorf("%v: the key or the time did not change, or the old set's did", r)
		}
		s, keys = rolled.Set, rolled.Keys
	}
	if n := len(s.Entries(sigdb.DB)); n != 6 {
		t.Errorf("db has %d entries, want 6: the image signing keys stay", n)
	}
	rolled, err := s.Retire(keys, rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	machine = take(t, machine, rolled)
	if d := cmp.Diff(content(rolled.Set.Variables()), content(machine)); d != "" || len(content(machine)[sigdb.DB]) != 5 {
		t.Errorf("after it is retired the machine has something else (-set +machine):\n%s", d)
	}
	if _, err := rolled.Set.Retire(keys, rand.Reader, now); !errors.Is(err, keyset.ErrRole) {
		t.Errorf("the last key was retired: %v", err)
	}
	without, err := s.Retire(keyset.Keys{}, rand.Reader, now)
	if err != nil || without.Update != nil {
		t.Errorf("without the key exchange key: %v, an update %v", err, without.Update != nil)
	}
	if _, err := newSet(t, keyset.Options{Kind: keyset.Microsoft, Given: given(sigdb.PK)}).Roll(sigdb.DB, nil, rand.Reader, now); !errors.Is(err, keyset.ErrRole) {
		t.Errorf("a set of Microsoft's keys has no db key: %v", err)
	}
}

func TestAnUpdateOfRevocationsNeedsAKeyOfTheSet(t *testing.T) {
	s, keys := both().set, both().keys
	entry := sigdb.Signature{Type: sigdb.SHA256, Owner: keyset.MicrosoftOwner, Data: bytes.Repeat([]byte{9}, 32)}
	list := sigdb.Encode([]sigdb.Signature{entry, s.Entries(sigdb.DBX)[5]})
	for by, want := range map[sigdb.Role]evidence.Code{sigdb.KEK: "", sigdb.DB: "update.signer"} {
		signing, err := s.Signing(by, keys, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		b, err := sigdb.NewUpdate(sigdb.DBX, true, uefi.NewTime(now.AddDate(0, 0, 1)), list, signing)
		if err != nil {
			t.Fatal(err)
		}
		next, added, err := s.Revoke(b, now)
		if want == "" {
			if err != nil || added != 1 || len(next.Entries(sigdb.DBX)) != 483 || len(s.Entries(sigdb.DBX)) != 482 {
				t.Errorf("by %v: %v, %d added", by, err, added)
			}
		} else if r := evidence.Reasons(err); len(r) != 1 || r[0].Code != want {
			t.Errorf("by %v: %v, want %s", by, err, want)
		}
	}
}

func TestASetWithoutKeysTakesNoRevocations(t *testing.T) {
	list := sigdb.Encode([]sigdb.Signature{{Type: sigdb.SHA256, Owner: keyset.MicrosoftOwner, Data: bytes.Repeat([]byte{9}, 32)}})
	signing, err := both().set.Signing(sigdb.DB, both().keys, rand.Reader) // anybody's key
	if err != nil {
		t.Fatal(err)
	}
	b, err := sigdb.NewUpdate(sigdb.DBX, true, uefi.NewTime(now.AddDate(0, 0, 1)), list, signing)
	if err != nil {
		t.Fatal(err)
	}
	if next, _, err := newSet(t, keyset.Options{Kind: keyset.SetupMode}).Revoke(b, now); next != nil || !errors.Is(err, keyset.ErrKind) {
		t.Errorf("Revoke = %v, %v, want %v", next, err, keyset.ErrKind)
	}
}

func TestARollLeavesOnePlatformKeyWhoeverOwnsTheOld(t *testing.T) {
	pk := given(sigdb.PK)
	pk[sigdb.PK][0].Owner = keyset.MicrosoftOwner
	rolled, err := newSet(t, keyset.Options{Kind: keyset.Microsoft, Given: pk, WithoutRevocations: true}).Roll(sigdb.PK, nil, rand.Reader, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := rolled.Set.Entries(sigdb.PK); len(got) != 1 || got[0].Owner != rolled.Set.Owner {
		t.Errorf("PK has %d keys, want the new one", len(got))
	}
	b, err := json.Marshal(rolled.Set)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keyset.Parse(b); err != nil {
		t.Error(err)
	}
}

func TestTheExpiryOfEachCertificateIsShown(t *testing.T) {
	states := map[string]keyset.State{}
	for _, c := range both().set.Status(now) {
		states[c.Role+" "+c.Subject] = c.State
	}
	want := map[string]keyset.State{
		"PK both platform key 2026-11-22":          keyset.StateGood,
		"KEK Microsoft Corporation KEK CA 2011":    keyset.StateExpired,
		"KEK Microsoft Corporation KEK 2K CA 2023": keyset.StateGood,
		"KEK both key exchange key 2026-11-22":     keyset.StateGood,
		"db Microsoft Windows Production PCA 2011": keyset.StateExpired,
		"db Windows UEFI CA 2023":                  keyset.StateGood,
		"db Microsoft Corporation UEFI CA 2011":    keyset.StateExpired,
		"db Microsoft UEFI CA 2023":                keyset.StateGood,
		"db both image signing key 2026-11-22":     keyset.StateGood,
	}
	if d := cmp.Diff(want, states); d != "" {
		t.Errorf("Status (-want +got):\n%s", d)
	}
	for at, want := range map[time.Time]keyset.State{
		now.AddDate(-1, 0, 0):                             keyset.StateNotYet,
		now.AddDate(19, 7, 0):                             keyset.StateExpiresSoon,
		now.AddDate(20, 0, 1):                             keyset.StateExpired,
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UTC(): keyset.StateNotYet,
	} {
		if got := both().set.Status(at)[0].State; got != want {
			t.Errorf("at %v the platform key is %s, want %s", at, got, want)
		}
	}
}

func TestTextsThatAreNoKeySetsAreRefused(t *testing.T) {
	s := newSet(t, keyset.Options{Kind: keyset.Own, Given: given(sigdb.PK, sigdb.KEK, sigdb.DB)})
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for name, text := range map[string]string{
		"empty":               "",
		"cut":                 good[:len(good)-1],
		"something after":     good + "{}",
		"unknown member":      strings.Replace(good, `"version"`, `"x":1,"version"`, 1),
		"a member twice":      strings.Replace(good, `"version"`, `"version":1,"version"`, 1),
		"of another version":  strings.Replace(good, `"oldestReader":1`, `"oldestReader":2`, 1),
		"kind":                strings.Replace(good, `"own"`, `"mine"`, 1),
		"name":                strings.Replace(good, `"name":"set"`, `"name":"Set/"`, 1),
		"owner":               strings.Replace(good, `"owner":"`, `"owner":"x`, 1),
		"time with fractions": strings.Replace(good, `"updated":"2026-11-22T12:00:00Z"`, `"updated":"2026-11-22T12:00:00.5Z"`, 1),
		"no PK":               strings.Replace(good, `"PK"`, `"dbx"`, 1),
		"a list cut":          strings.Replace(good, `"PK":"`, `"PK":"AAAA`, 1),
		"keys in setup mode":  strings.Replace(good, `"own"`, `"setup-mode"`, 1),
	} {
		if text == good {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if s, err := keyset.Parse([]byte(text)); s != nil || !errors.Is(err, keyset.ErrFormat) {
			t.Errorf("%s: Parse = %v, want %v", name, err, keyset.ErrFormat)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, err := json.Marshal(both().set)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := keyset.Parse(b)
		if err != nil {
			return
		}
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := keyset.Parse(out)
		if err != nil || cmp.Diff(s.Variables(), again.Variables()) != "" {
			t.Fatalf("reads otherwise than it was written: %v", err)
		}
		_ = s.Status(now)
	})
}
