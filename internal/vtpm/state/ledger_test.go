//go:build unix

package state

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func mustLedger(t *testing.T) *Ledger {
	t.Helper()
	l, err := OpenLedger(filepath.Join(t.TempDir(), "anchors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mark(n uint64) Mark { return Mark{n, [32]byte{byte(n)}} }

func TestALedgerRemembersTheNewestMark(t *testing.T) {
	l, id, other := mustLedger(t), mustID(t), mustID(t)
	if _, known, err := l.Last(id); known || err != nil {
		t.Fatalf("an unknown TPM: %v, %v", known, err)
	}
	for n := range uint64(9) {
		if err := l.Advance(id, mark(n), n%3 == 0); err != nil {
			t.Fatal(err)
		}
		again, err := OpenLedger(l.dir)
		if err != nil {
			t.Fatal(err)
		}
		if m, known, err := again.Last(id); m != mark(n) || !known || err != nil {
			t.Errorf("Last = %+v, %v, %v, want %d", m, known, err, n)
		}
	}
	if err := l.Advance(id, mark(7), true); err == nil || !strings.Contains(err.Error(), "7 is older") {
		t.Errorf("an older generation: %v", err)
	}
	if _, known, _ := l.Last(other); known {
		t.Error("knows a TPM that it was not told of")
	}
}

// Of a copy that is damaged or torn the one before is left: never a newer one, and
// never a wrong one.
func TestADamagedEntryIsTheOneBeforeOrAFault(t *testing.T) {
	l, id := mustLedger(t), mustID(t)
	for n := uint64(1); n < 5; n++ {
		if err := l.Advance(id, mark(n), true); err != nil {
			t.Fatal(err)
		}
	}
	name := l.name(id)
	whole := mustRead(t, name)
	if len(whole) != entryCount*entrySize {
		t.Fatalf("entry of %d bytes", len(whole))
	}
	seen := map[uint64]bool{}
	for at := range whole {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		mustWrite(t, name, b)
		m, known, err := l.Last(id)
		if err != nil || !known || m != mark(4) && m != mark(3) {
			t.Fatalf("byte %d: %+v, %v, %v", at, m, known, err)
		}
		seen[m.Generation] = true
		mustWrite(t, name, whole[:at])
		if m, _, err := l.Last(id); err == nil && m != mark(4) && m != mark(3) || err != nil && !errors.Is(err, ErrLedgerEntry) {
			t.Fatalf("cut at byte %d: %+v, %v", at, m, err)
		}
	}
	if !seen[3] || !seen[4] {
		t.Errorf("seen %v", seen)
	}
	mustWrite(t, name, make([]byte, len(whole)))
	if _, _, err := l.Last(id); !errors.Is(err, ErrLedgerEntry) {
		t.Errorf("an empty entry: %v", err)
	}
	// Another TPM's entry under this name is damage too.
	other := mustID(t)
	if err := l.Advance(other, mark(9), true); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, name, mustRead(t, l.name(other)))
	if _, _, err := l.Last(id); !errors.Is(err, ErrLedgerEntry) {
		t.Errorf("another's entry: %v", err)
	}
}

func TestADamagedEntryIsMendedByRecoverOnly(t *testing.T) {
	cfg := anchored(t)
	path, id := saved(t, cfg, 4)
	name := cfg.Anchor.(*Ledger).name(id)
	mustWrite(t, name, []byte("gone"))
	_, _, err := tryOpen(path, cfg)
	wantFault(t, err, Unanchored)
	if !strings.Contains(err.Error(), "entry of the ledger is damaged") {
		t.Error(err)
	}
	if _, err := Recover(t.Context(), path, 4, cfg); err != nil {
		t.Fatal(err)
	}
	f, got := mustOpen(t, path, cfg)
	if !same(got, content(4)) || !f.Anchored() {
		t.Errorf("after Recover: %v", f.Anchored())
	}
	mustClose(t, f)
}

func TestALedgerThatCannotBeUsedStopsTheTPM(t *testing.T) {
	cfg, a := config(t), newMemAnchor()
	cfg.Anchor, cfg.disk = a, newMemDisk()
	f, err := Create(t.Context(), memPath, mustID(t), content(1), cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.err = errors.New("input/output error")
	wantFault(t, f.SavePermanent([]byte("p")), AnchorDown)
	wantFault(t, f.Close(), AnchorDown)
	_, _, err = tryOpen(memPath, cfg)
	wantFault(t, err, AnchorDown)
	_, err = Create(t.Context(), "d/other", mustID(t), content(1), cfg)
	wantFault(t, err, AnchorDown)
	a.err = nil
	if _, _, err := tryOpen(memPath, cfg); err != nil {
		t.Error(err)
	}
}

// A save need not wait for the ledger's disk; a start and an end do.
func TestTheLedgerIsDurableFromStartToEnd(t *testing.T) {
	cfg, a := config(t), newMemAnchor()
	cfg.Anchor, cfg.disk = a, newMemDisk()
	id := mustID(t)
	f, err := Create(t.Context(), memPath, id, content(1), cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := func(known, durable uint64) {
		t.Helper()
		if a.known[id].Generation != known || a.onDisk[id].Generation != durable {
			t.Errorf("knows %d, durable %d, want %d and %d", a.known[id].Generation, a.onDisk[id].Generation, known, durable)
		}
	}
	want(1, 1)
	mustSave(t, f, content(2))
	mustSave(t, f, content(3))
	want(3, 1)
	f.h.unlock() // the process was killed
	f, _ = mustOpen(t, memPath, cfg)
	want(3, 3)
	mustSave(t, f, content(4))
	want(4, 3)
	mustClose(t, f)
	want(4, 4)
}

// A TPM that is made again under its old id goes on from the number that it had: a
// copy of its first life is an older one.
func TestATPMThatComesBackGoesOnCounting(t *testing.T) {
	cfg := anchored(t)
	path, id := saved(t, cfg, 5)
	old := mustRead(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	f, err := Create(t.Context(), path, id, content(9), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if f.Generation() != 6 {
		t.Errorf("generation %d, want 6", f.Generation())
	}
	mustClose(t, f)
	mustWrite(t, path, old)
	_, _, err = tryOpen(path, cfg)
	wantFault(t, err, RolledBack)
}

func TestALedgerNeedsItsFolder(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "file"), nil)
	for _, bad := range []string{filepath.Join(dir, "file"), filepath.Join(dir, "no", "folder")} {
		if _, err := OpenLedger(bad); err == nil {
			t.Errorf("OpenLedger(%q) opens", bad)
		}
	}
	l, id := mustLedger(t), mustID(t)
	if err := os.Symlink(filepath.Join(dir, "file"), l.name(id)); err != nil {
		t.Fatal(err)
	}
	if err := l.Advance(id, mark(1), true); err == nil {
		t.Error("writes through a link")
	}
	if _, _, err := l.Last(id); err == nil {
		t.Error("reads through a link")
	}
}
