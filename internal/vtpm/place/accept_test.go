//go:build unix

package place

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/internal/vtpm/state"
)

func (b *bench) accept(file string) *Acceptance {
	b.t.Helper()
	a, err := b.home(file).Accept(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	return a
}

// What is accepted is served from then on, and what was in its place before is not.
func TestWhatIsAcceptedIsServed(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(b *bench)
		says string
	}{
		"an older copy": {func(b *bench) {
			old := b.read(b.file)
			b.save(b.file, "newer")
			b.put(b.file, old)
		}, "a"},
		"another TPM's file": {func(b *bench) {
			other := b.folder("b")
			b.create(other, "other")
			b.put(b.file, b.read(other))
			os.Remove(other)
		}, "other"},
		"the TPM that was here before": {func(b *bench) {
			before := b.read(b.file)
			os.Remove(b.file)
			b.create(b.file, "new")
			b.put(b.file, before)
		}, "a"},
		"a moved folder": {func(b *bench) {
			moved := filepath.Join(b.dir, "moved")
			if err := os.Rename(filepath.Dir(b.file), moved); err != nil {
				b.t.Fatal(err)
			}
			b.file = filepath.Join(moved, filepath.Base(b.file))
		}, "a"},
		"a lost ledger": {func(b *bench) {
			if err := os.RemoveAll(filepath.Join(b.dir, "ledger")); err != nil {
				b.t.Fatal(err)
			}
			b.reopen(false)
		}, "a"},
		"a torn ledger": {func(b *bench) {
			b.everyEntry(func(text []byte) []byte { return text[:len(text)/2-1] })
		}, "a"},
		"a torn file": {func(b *bench) {
			b.save(b.file, "newer")
			text := b.read(b.file)
			at := bytes.LastIndex(text[:len(text)-8192], []byte{0, 0, 0, 0, 0, 0, 0, 2, 1, 0}) // a stamp of generation 2 in slot 1
			text[at-100] ^= 1
			b.put(b.file, text)
		}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.create(b.file, "a")
			tc.do(b)
			_, refusal := b.says(b.file)
			if refusal == nil {
				t.Fatal("it is served without being accepted")
			}
			before := b.read(b.file)
			a := b.accept(b.file)
			if a.Was != refusal.Error() || a.Place == "" || a.TPM.IsZero() || a.Generation == 0 || !a.Before.IsZero() {
				t.Errorf("%+v", a)
			}
			for _, aside := range a.Aside {
				if !bytes.Equal(b.read(aside), before) {
					t.Errorf("%s is not the file as it was", aside)
				}
			}
			b.wantSays(b.file, tc.says)
			b.save(b.file, "goes on")
			if len(a.Aside) > 0 || !errors.Is(refusal, ErrElsewhere) {
				b.put(b.file, before)
				if _, err := b.says(b.file); err == nil {
					t.Error("the file as it was is served after another was")
				}
			}
		})
	}
}

// A copy whose original is still there becomes a TPM of its own: neither is then seen
// as a roll-back of the other.
func TestACopyThatIsAcceptedHasAnIDOfItsOwn(t *testing.T) {
	for name, names := range map[string][2]string{
		"by path":    {"a", "copy"},
		"by machine": {"m/00000000-0000-4000-8000-00000000000a/tpm2", "m/00000000-0000-4000-8000-00000000000b/tpm2"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			original, copied := b.folder(names[0]), b.folder(names[1])
			id := b.create(original, "a")
			b.put(copied, b.read(original))
			a := b.accept(copied)
			if a.Before != id || a.TPM == id || len(a.Aside) != 1 {
				t.Errorf("%+v, the original is %s", a, id)
			}
			for _, file := range []string{original, copied, original, copied} {
				b.save(file, "goes on in "+file)
				b.wantSays(file, "goes on in "+file)
			}
		})
	}
}

// However the copy is named, and however old it is, the original keeps its id and what
// the ledger knows of it.
func TestACopyIsOneByEveryPathAndAge(t *testing.T) {
	for name, path := range map[string]func(b *bench, copied string) string{
		"a link": func(b *bench, copied string) string {
			link := filepath.Join(b.dir, "link")
			if err := os.Symlink(filepath.Dir(copied), link); err != nil {
				b.t.Fatal(err)
			}
			return filepath.Join(link, filepath.Base(copied))
		},
		"relative": func(b *bench, copied string) string {
			b.t.Chdir(filepath.Dir(copied))
			return filepath.Base(copied)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			original := b.folder("m/0000000A-0000-4000-8000-00000000000A/tpm2")
			copied := b.folder("m/0000000a-0000-4000-8000-00000000000b/tpm2")
			id := b.create(original, "a")
			old := b.read(original)
			for range 3 {
				b.save(original, "newer")
			}
			b.put(copied, old)
			if a := b.accept(path(b, copied)); a.Before != id || a.TPM == id {
				t.Errorf("%+v, the original is %s", a, id)
			}
			b.wantSays(original, "newer")
			b.wantSays(copied, "a")
		})
	}
}

// An original that cannot be looked at may be there: nothing is accepted then.
func TestAnOriginalThatCannotBeReadIsNoneThatIsGone(t *testing.T) {
	b := newBench(t)
	original, copied := b.folder("a"), b.folder("copy")
	b.create(original, "a")
	b.put(copied, b.read(original))
	b.put(original, []byte("torn"))
	if a, err := b.home(copied).Accept(context.Background()); err == nil {
		t.Errorf("accepted as %+v beside a damaged original", a)
	}
}

// A TPM that moved away is not known in its old place any more: what comes there later
// is new.
func TestAPlaceThatWasLeftIsFree(t *testing.T) {
	b := newBench(t)
	b.create(b.file, "a")
	moved := b.folder("moved")
	if err := os.Rename(b.file, moved); err != nil {
		t.Fatal(err)
	}
	b.accept(moved)
	if id, known, err := b.home(b.file).Known(); known || err != nil {
		t.Errorf("TPM %s, %v", id, err)
	}
	b.create(b.file, "new")
	b.wantSays(b.file, "new")
	b.wantSays(moved, "a")
}

// And one that another TPM has by then stays that one's.
func TestAPlaceThatWasTakenOverIsNotFreed(t *testing.T) {
	b := newBench(t)
	id := b.create(b.file, "a")
	moved := b.folder("moved")
	if err := os.Rename(b.file, moved); err != nil {
		t.Fatal(err)
	}
	b.create(b.file, "new")
	if a := b.accept(moved); a.TPM != id || !a.Before.IsZero() {
		t.Errorf("%+v, want TPM %s", a, id)
	}
	if _, known, err := b.home(b.file).Known(); !known || err != nil {
		t.Errorf("%v, %v", known, err)
	}
	b.wantSays(b.file, "new")
	b.wantSays(moved, "a")
}

func TestNothingIsAcceptedThatNeedsIt(t *testing.T) {
	b := newBench(t)
	id := b.create(b.file, "a")
	if _, err := b.home(b.file).Accept(t.Context()); !errors.Is(err, ErrNothing) {
		t.Errorf("a sound state: %v, want %v", err, ErrNothing)
	}
	b.cfg.Ledger = Absent(errors.New("no folder"), false)
	if _, err := b.home(b.file).Accept(t.Context()); !errors.Is(err, ErrLedger) {
		t.Errorf("without a ledger: %v, want %v", err, ErrLedger)
	}
	b.reopen(false)
	b.put(b.file, b.read(b.file)[:9000])
	if _, err := b.home(b.file).Accept(t.Context()); err == nil || errors.Is(err, ErrNothing) {
		t.Errorf("a file without a good generation: %v", err)
	}
	if _, err := b.home(b.folder("none")).Accept(t.Context()); !errors.Is(err, state.Missing) {
		t.Errorf("no file: %v, want %v", err, state.Missing)
	}
	if got, known, err := b.home(b.file).Known(); got != id || !known || err != nil {
		t.Errorf("the ledger knows %s, %v, %v, want %s as before", got, known, err, id)
	}
	// One that runs is left alone.
	b.file = b.folder("runs")
	b.create(b.file, "a")
	o, err := b.home(b.file).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer o.drop(nil)
	if _, err := b.home(b.file).Accept(t.Context()); !errors.Is(err, state.Locked) {
		t.Errorf("a TPM that runs: %v, want %v", err, state.Locked)
	}
}
