//go:build unix

package state

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const aPlace = "/var/lib/web-1/tpm2-00.permall"

func TestALedgerKnowsWhoseAPlaceIs(t *testing.T) {
	l, first, second := mustLedger(t), mustID(t), mustID(t)
	if _, known, err := l.TPMOf(aPlace); known || err != nil {
		t.Fatalf("a new ledger: %v, %v", known, err)
	}
	for _, id := range []ID{first, second} {
		if err := l.Bind(aPlace, id); err != nil {
			t.Fatal(err)
		}
		again, err := OpenLedger(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		if got, known, err := again.TPMOf(aPlace); got != id || !known || err != nil {
			t.Errorf("TPMOf = %s, %v, %v, want %s", got, known, err, id)
		}
	}
	if _, known, err := l.TPMOf(aPlace + "x"); known || err != nil {
		t.Errorf("another place: %v, %v", known, err)
	}
	for range 2 {
		if err := l.Unbind(aPlace); err != nil {
			t.Error(err)
		}
	}
	if _, known, err := l.TPMOf(aPlace); known || err != nil {
		t.Errorf("after Unbind: %v, %v", known, err)
	}
	if err := l.Bind(strings.Repeat("x", maxPlace+1), first); err == nil {
		t.Error("a place of any length is taken")
	}
	if err := l.Bind(aPlace, ID{}); err == nil {
		t.Error("a place of no TPM is taken")
	}
}

// An entry that is cut, longer, altered, of another place or in its stead is never
// taken for one, and never for none.
func TestADamagedPlaceIsAFault(t *testing.T) {
	l := mustLedger(t)
	if err := l.Bind(aPlace, mustID(t)); err != nil {
		t.Fatal(err)
	}
	if err := l.Bind("/other", mustID(t)); err != nil {
		t.Fatal(err)
	}
	name := l.placeName(aPlace)
	whole, other := mustRead(t, name), mustRead(t, l.placeName("/other"))
	try := func(what string, b []byte) {
		t.Helper()
		mustWrite(t, name, b)
		if id, known, err := l.TPMOf(aPlace); !errors.Is(err, ErrLedgerEntry) || known {
			t.Errorf("%s: %s, %v, %v, want %v", what, id, known, err, ErrLedgerEntry)
		}
	}
	for n := range whole {
		try("cut", whole[:n])
		flipped := append([]byte(nil), whole...)
		flipped[n] ^= 0x10
		try("altered", flipped)
	}
	try("longer", append(append([]byte(nil), whole...), 0))
	try("of another place", other)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(l.placeName("/other"), name); err != nil {
		t.Fatal(err)
	}
	if _, known, err := l.TPMOf(aPlace); known || err == nil {
		t.Errorf("a link: %v, %v", known, err)
	}
}

// Two processes that say the same place is theirs leave one of the two, whole.
func TestPlacesAreBoundByManyAtOnce(t *testing.T) {
	l := mustLedger(t)
	ids := map[ID]bool{}
	var all sync.WaitGroup
	for range 8 {
		id := mustID(t)
		ids[id] = true
		all.Go(func() {
			own, err := OpenLedger(l.dir)
			if err == nil {
				err = own.Bind(aPlace, id)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if id, known, err := l.TPMOf(aPlace); !ids[id] || !known || err != nil {
		t.Errorf("TPMOf = %s, %v, %v", id, known, err)
	}
	if left, err := filepath.Glob(filepath.Join(l.dir, placesDir, "*")); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// What is about to be replaced is opened whatever the ledger knows, and what comes
// in its place goes on above that.
func TestArrivingStateGoesOnAboveWhatTheLedgerKnows(t *testing.T) {
	for name, tc := range map[string]struct {
		known uint64 // by the ledger
		lost  bool   // the ledger is another
	}{
		"rolled back": {known: 20},
		"unanchored":  {lost: true},
		"newest":      {known: 3},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := anchored(t)
			path, id := saved(t, cfg, 3)
			if tc.lost {
				cfg.Anchor = mustLedger(t)
			} else if tc.known > 3 {
				if err := cfg.Anchor.Advance(id, mark(tc.known), true); err != nil {
					t.Fatal(err)
				}
			}
			arriving := cfg
			arriving.Arriving = true
			f, _ := mustOpen(t, path, arriving)
			mustClose(t, f) // nothing came: the ledger is told of nothing
			if m, _, err := cfg.Anchor.Last(id); m.Generation != tc.known || err != nil {
				t.Errorf("the ledger knows %d, %v, want %d", m.Generation, err, tc.known)
			}
			f, _ = mustOpen(t, path, arriving)
			mustSave(t, f, content(9))
			mustClose(t, f)
			got, _, err := tryOpen(path, cfg)
			if err != nil || !same(got, content(9)) {
				t.Errorf("%v", err)
			}
			if m, known, err := cfg.Anchor.Last(id); err != nil || !known || m.Generation <= max(tc.known, 3) {
				t.Errorf("the ledger knows %d, %v, %v", m.Generation, known, err)
			}
		})
	}
}

// A copy in another folder, served beside the original, saves the same generation
// with another text: the second of the two is refused.
func TestTheLedgerTakesOneTextForAGeneration(t *testing.T) {
	l, id := mustLedger(t), mustID(t)
	m := mark(5)
	for range 2 {
		if err := l.Advance(id, m, true); err != nil {
			t.Fatal(err)
		}
	}
	other := m
	other.Digest[0] ^= 1
	if err := l.Advance(id, other, true); err == nil || !strings.Contains(err.Error(), "two processes") {
		t.Errorf("another text of generation 5: %v", err)
	}
	if got, _, err := l.Last(id); err != nil || got != m {
		t.Errorf("the ledger knows %v, %v", got, err)
	}
}

func TestAFileSaysWhetherItHadALedger(t *testing.T) {
	with := anchored(t)
	path, _ := saved(t, with, 2)
	without := with
	without.Anchor = nil
	f, _ := mustOpen(t, path, without)
	if !f.Ledgered() {
		t.Error("it had one")
	}
	mustSave(t, f, content(3))
	if f.Ledgered() {
		t.Error("the last generation had none")
	}
	mustClose(t, f)
}

func TestGoldenPlaceStaysReadable(t *testing.T) {
	l := mustLedger(t)
	golden := "testdata/v1.place"
	if _, err := os.Stat(golden); *update && errors.Is(err, fs.ErrNotExist) {
		if err := l.Bind(aPlace, goldenID()); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, golden, mustRead(t, l.placeName(aPlace)))
	}
	if id, err := parsePlace(mustRead(t, golden), aPlace); err != nil || id != goldenID() {
		t.Errorf("%s, %v, want %s", id, err, goldenID())
	}
}

func FuzzPlace(f *testing.F) {
	f.Add([]byte(placeMagic + "\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parsePlace(binary.BigEndian.AppendUint32(b, placeSum(b)), aPlace)
		if err == nil && id.IsZero() || err != nil && !errors.Is(err, ErrLedgerEntry) {
			t.Fatalf("%s, %v", id, err)
		}
	})
}

// Whoever knows the generations of another host knows what is saved here of its state for a
// newer one, whatever that host says that they are.
func TestStateOfAnotherHostGoesOnAboveIts(t *testing.T) {
	for name, tc := range map[string]struct{ above, want uint64 }{
		"more than here":       {above: 20, want: 21},
		"as many":              {above: 4, want: 5},
		"fewer":                {above: 2, want: 5},
		"none":                 {above: 0, want: 5},
		"more than there are":  {above: 1<<64 - 1, want: 1<<63 + 1},
		"half of all and more": {above: 1<<63 + 9, want: 1<<63 + 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := anchored(t)
			path, id := saved(t, cfg, 4)
			above := cfg
			above.Above = tc.above
			replaced := filepath.Join(t.TempDir(), "replaced")
			if _, err := Replace(t.Context(), replaced, mustID(t), content(7), above); err != nil {
				t.Fatal(err)
			}
			made := mustCreate(t, filepath.Join(t.TempDir(), "made"), above)
			first := min(tc.above, 1<<63) + 1
			if made.Generation() != first {
				t.Errorf("one that is made has generation %d, want %d", made.Generation(), first)
			}
			mustClose(t, made)
			if info, err := Inspect(replaced); err != nil || info.Newest() != first {
				t.Errorf("one that is replaced has generation %d, want %d; %v", info.Newest(), first, err)
			}
			f, _ := mustOpen(t, path, cfg)
			if err := f.SaveAbove(t.Context(), content(8), tc.above); err != nil || f.Generation() != tc.want {
				t.Errorf("SaveAbove = %v, generation %d, want %d", err, f.Generation(), tc.want)
			}
			mustSave(t, f, content(9))
			mustClose(t, f)
			f, got := mustOpen(t, path, cfg)
			defer mustClose(t, f)
			if m, _, err := cfg.Anchor.Last(id); !same(got, content(9)) || f.Generation() != tc.want+1 || m.Generation != tc.want+1 || err != nil {
				t.Errorf("generation %d, the ledger knows %d, %v", f.Generation(), m.Generation, err)
			}
		})
	}
}

// Of a file that is not told the ledger knows nothing new, however it is opened, saved and
// closed, until it is told of the last.
func TestAFileThatIsNotToldLeavesTheLedgerAsItWas(t *testing.T) {
	for name, known := range map[string]uint64{"a TPM that was here": 6, "one that never was": 0} {
		t.Run(name, func(t *testing.T) {
			cfg, id := anchored(t), mustID(t)
			if known > 0 {
				if err := cfg.Anchor.Advance(id, mark(known), true); err != nil {
					t.Fatal(err)
				}
			}
			knows := func(want uint64) {
				t.Helper()
				if m, _, err := cfg.Anchor.Last(id); err != nil || m.Generation != want {
					t.Errorf("the ledger knows %d, %v, want %d", m.Generation, err, want)
				}
			}
			untold := cfg
			untold.Untold = true
			path := filepath.Join(t.TempDir(), "tpm.nvram")
			f, err := Create(t.Context(), path, id, content(1), untold)
			if err != nil {
				t.Fatal(err)
			}
			mustClose(t, f)
			knows(known)
			f, _ = mustOpen(t, path, untold)
			mustSave(t, f, content(2))
			knows(known)
			mustClose(t, f)
			knows(known)
			f, _ = mustOpen(t, path, untold)
			if err := f.Tell(); err != nil {
				t.Fatal(err)
			}
			knows(f.Generation())
			mustSave(t, f, content(3))
			knows(f.Generation())
			if f.Generation() != known+3 {
				t.Errorf("generation %d, want %d", f.Generation(), known+3)
			}
			mustClose(t, f)
			if err := f.Tell(); !errors.Is(err, Closed) {
				t.Errorf("Tell of a closed file = %v", err)
			}
			if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(3)) {
				t.Errorf("%v", err)
			}
		})
	}
}
