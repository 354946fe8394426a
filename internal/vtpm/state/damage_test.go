//go:build unix

package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// image makes the bytes of a file with generations 1 to n.
func image(tb testing.TB, cfg Config, n int) ([]byte, ID) {
	tb.Helper()
	d := newMemDisk()
	cfg.disk = d
	id := mustID(tb)
	f, err := Create(context.Background(), memPath, id, content(1), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	for i := 2; i <= n; i++ {
		mustSave(tb, f, content(i))
	}
	mustClose(tb, f)
	return d.names[memPath].data, id
}

// openBytes opens a file with these bytes.
func openBytes(cfg Config, data []byte) (Content, []Notice, error) {
	cfg.disk = memDiskWith(memPath, data)
	return tryOpen(memPath, cfg)
}

// damageKinds are what damage may be called.
var damageKinds = []Kind{Truncated, Damaged, Altered, Swapped, Foreign, RolledBack, NotOurs, NewerFormat, Torn}

// wantContentOrFault fails unless data opens as want, or is a named fault whose last
// good generation is one below want's at most.
func wantContentOrFault(tb testing.TB, cfg Config, data []byte, want Content, generation uint64) (faulted bool) {
	tb.Helper()
	got, _, err := openBytes(cfg, data)
	if err == nil {
		if !same(got, want) {
			tb.Fatalf("opens as %.60q, want %.60q", got.Permanent, want.Permanent)
		}
		return false
	}
	var fault *Fault
	if !errors.As(err, &fault) || !slices.Contains(damageKinds, fault.Kind) {
		tb.Fatalf("not a named fault: %v", err)
	}
	if n := fault.LastGood(); n != generation && n != generation-1 && n != 0 {
		tb.Fatalf("last good generation is %d of %d: %v", n, generation, err)
	}
	return true
}

// every has the tests of damage try each byte also where nothing is kept.
var every = flag.Bool("every", false, "damage every byte of a file, also of its unused parts")

// matters reports whether a byte is to be damaged: all that are used, and some of
// the others.
func matters(data []byte, at int) bool {
	slotSize := (len(data) - 2*headerSize) / slotCount
	in, used := at, blockSize // of a header
	switch end := len(data) - headerSize; {
	case at >= end:
		in = at - end
	case at >= headerSize:
		in, used = (at-headerSize)%slotSize, 4*blockSize
	}
	return *every || in < used || at%61 == 0 || at >= len(data)-64 || at >= headerSize-64 && at < headerSize
}

func TestEachFlippedByteIsSeenOrMattersNot(t *testing.T) {
	anchors(t, func(t *testing.T, cfg Config, _ *memAnchor) {
		const n = 7
		data, _ := image(t, cfg, n)
		faults := 0
		const blocks = 4 // of the newest generation
		newest := headerSize + newestSlot(t, data)*len(sliceOf(data, 0))
		for at := range data {
			if !matters(data, at) && (at < newest || at >= newest+blocks*blockSize) {
				continue
			}
			bits := byte(1) << (at % 8)
			data[at] ^= bits
			if wantContentOrFault(t, cfg, data, content(n), n) {
				faults++
			}
			data[at] ^= bits
		}
		// The slot of the newest generation, and no other.
		if n := blocksFor(textSize(content(n))); n != blocks || faults != blocks*blockSize {
			t.Errorf("%d flips are faults, want the %d bytes of the %d blocks of the newest generation", faults, blocks*blockSize, n)
		}
	})
}

func TestAFileCutAtEachByteIsNamedSo(t *testing.T) {
	cfg := config(t)
	const n = 7
	data, _ := image(t, cfg, n)
	for at := range data {
		if !matters(data, at) {
			continue
		}
		_, _, err := openBytes(cfg, data[:at])
		fault := wantFault(t, err, Truncated)
		if at > headerSize+slotCount*minSlotSize && fault.LastGood() != n {
			t.Fatalf("cut at byte %d: last good generation is %d", at, fault.LastGood())
		}
		if at%1024 != 0 {
			continue
		}
		if !strings.Contains(err.Error(), "the file was cut") {
			t.Errorf("cut at byte %d: %v", at, err)
		}
	}
	_, _, err := openBytes(cfg, append(bytes.Clone(data), 0))
	if fault := wantFault(t, err, Damaged); fault.Offset != int64(len(data)) || fault.LastGood() != n {
		t.Errorf("one byte more: %v", err)
	}
}

// sliceOf is slot i of a file.
func sliceOf(data []byte, i int) []byte {
	size := (len(data) - 2*headerSize) / slotCount
	at := headerSize + i*size
	return data[at : at+size]
}

func newestSlot(t *testing.T, data []byte) int {
	t.Helper()
	info, err := inspectOn(memDiskWith(memPath, data), memPath)
	if err != nil {
		t.Fatal(err)
	}
	return slices.IndexFunc(info.Slots, func(s SlotInfo) bool { return s.Generation == info.Newest() })
}

func TestEachAlterationIsNamed(t *testing.T) {
	cfg := config(t)
	const n = 9
	data, id := image(t, cfg, n)
	older, _ := imageOf(t, cfg, id, n-4)
	other, otherID := image(t, cfg, n)
	newest := newestSlot(t, data)
	second := (newest + slotCount - 1) % slotCount
	for name, tc := range map[string]struct {
		alter func(b []byte) []byte
		kind  Kind
		good  uint64
		text  string
	}{
		"two slots swapped": {func(b []byte) []byte {
			was := bytes.Clone(sliceOf(b, newest))
			copy(sliceOf(b, newest), sliceOf(b, second))
			copy(sliceOf(b, second), was)
			return b
		}, Swapped, n, "parts of the file have changed places"},
		"the newest slot replaced by the one before": {func(b []byte) []byte {
			copy(sliceOf(b, newest), sliceOf(b, second))
			return b
		}, Swapped, n - 1, "it is what was written to slot"},
		"a slot of another TPM": {func(b []byte) []byte {
			copy(sliceOf(b, newest), sliceOf(other, newest))
			return b
		}, Foreign, n - 1, "it is of TPM " + otherID.String()},
		"the newest slot as it was four generations ago": {func(b []byte) []byte {
			copy(sliceOf(b, newest), sliceOf(older, newest))
			return b
		}, Altered, n - 1, "generation 5"}, // the older file has another key
		"the newest slot wiped": {func(b []byte) []byte {
			clear(sliceOf(b, newest))
			return b
		}, Damaged, n - 1, "damaged"},
		"the newest slot blank": {func(b []byte) []byte {
			size := len(sliceOf(b, newest))
			copy(sliceOf(b, newest), blank(nil, newest, 0, size/blockSize))
			return b
		}, RolledBack, n - 1, "had generation 5 or a newer one"},
		"all slots blank": {func(b []byte) []byte {
			for i := range slotCount {
				size := len(sliceOf(b, i))
				copy(sliceOf(b, i), blank(nil, i, 0, size/blockSize))
			}
			return b
		}, Damaged, 0, "no slot was ever written"},
		"a sealed byte with a stamp that fits": {func(b []byte) []byte {
			s := sliceOf(b, newest)
			s[200] ^= 1
			stamp{n, uint8(newest), 0}.seal(s)
			return b
		}, Altered, n - 1, "altered by somebody without the key"},
		"the number of a generation": {func(b []byte) []byte {
			s := sliceOf(b, newest)
			text := unframe(s, len(s)/blockSize)
			text[16+7] = 200
			used := blocksFor(textSize(content(n)))
			copy(s, frame(nil, newest, 200, text[:used*blockText]))
			return b
		}, Altered, n - 1, "altered by somebody without the key"},
		"a length that the slot does not have": {func(b []byte) []byte {
			s := sliceOf(b, newest)
			binary.BigEndian.PutUint32(s[headSize-4:], uint32(len(s)/blockSize*blockText-headSize+1))
			stamp{n, uint8(newest), 0}.seal(s)
			return b
		}, Damaged, n - 1, "bytes where there is room for"},
		"another file's header": {func(b []byte) []byte {
			copy(b[:headerSize], other)
			copy(b[len(b)-headerSize:], other)
			return b
		}, Foreign, 0, "of another TPM"},
		"both headers damaged": {func(b []byte) []byte {
			b[20] ^= 1
			b[len(b)-headerSize+20] ^= 1
			return b
		}, Damaged, 0, "digest does not fit"},
		"a newer format": {func(b []byte) []byte {
			for _, at := range []int{0, len(b) - headerSize} {
				b[at+9], b[at+11] = 3, 2
			}
			return b
		}, NewerFormat, 0, "written by a newer version of this program: version 3, which needs a reader of version 2"},
		"no state file": {func([]byte) []byte { return []byte("#!/bin/sh\nexit 0\n") }, NotOurs, 0, "not a TPM state file"},
		"an empty file": {func([]byte) []byte { return nil }, Truncated, 0, "0 bytes are left"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := openBytes(cfg, tc.alter(bytes.Clone(data)))
			fault := wantFault(t, err, tc.kind)
			if fault.LastGood() != tc.good || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("last good generation %d, want %d: %v, want %q", fault.LastGood(), tc.good, err, tc.text)
			}
		})
	}
	cfg.Want = id
	_, _, err := openBytes(cfg, other)
	if fault := wantFault(t, err, Foreign); fault.ID != otherID {
		t.Errorf("the file of another TPM: %v", err)
	}
	if _, _, err := openBytes(cfg, data); err != nil {
		t.Errorf("the TPM that is wanted: %v", err)
	}
}

// imageOf makes the bytes of a file of a certain TPM.
func imageOf(tb testing.TB, cfg Config, id ID, n int) ([]byte, *File) {
	tb.Helper()
	d := newMemDisk()
	cfg.disk = d
	f, err := Create(context.Background(), memPath, id, content(1), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	for i := 2; i <= n; i++ {
		mustSave(tb, f, content(i))
	}
	return d.names[memPath].data, f
}

// A copy of a slot of the same file, under the same key, is told by its number alone.
// The newest one, set back, leaves the file as it was one generation ago: only an
// anchor can tell.
func TestASlotThatWasSetBackByItselfIsNamed(t *testing.T) {
	cfg, a := config(t), newMemAnchor()
	cfg.Anchor = a
	data, f := imageOf(t, cfg, mustID(t), 5)
	earlier := bytes.Clone(data)
	for i := 6; i <= 9; i++ {
		mustSave(t, f, content(i))
	}
	newest := newestSlot(t, data)
	for i := range slotCount {
		b := bytes.Clone(data)
		copy(sliceOf(b, i), sliceOf(earlier, i))
		_, _, err := openBytes(cfg, b)
		fault := wantFault(t, err, RolledBack)
		want := uint64(9)
		if i == newest {
			want = 8
		}
		if fault.LastGood() != want || i != newest && fault.Slot != i || i == newest && (fault.Found != 8 || fault.Known != 9) {
			t.Errorf("slot %d: %v", i, err)
		}
	}
}

func TestAnOlderCopyOfTheFileIsNamedWithBothGenerations(t *testing.T) {
	cfg := anchored(t)
	path, _ := saved(t, cfg, 5)
	earlier := mustRead(t, path)
	f, _ := mustOpen(t, path, cfg)
	mustSave(t, f, content(6))
	mustSave(t, f, content(7))
	mustClose(t, f)
	now := mustRead(t, path)
	mustWrite(t, path, earlier)
	_, _, err := tryOpen(path, cfg)
	fault := wantFault(t, err, RolledBack)
	if fault.Found != 5 || fault.Known != 7 || fault.LastGood() != 5 || !strings.Contains(err.Error(), "the file has generation 5, the ledger knows 7") {
		t.Errorf("%+v: %v", fault, err)
	}
	if !bytes.Equal(mustRead(t, path), earlier) {
		t.Error("Open changed the file")
	}
	// Without the ledger nobody can know, and the result says so.
	blind := cfg
	blind.Anchor = nil
	g, got := mustOpen(t, path, blind)
	if g.Anchored() || !same(got, content(5)) {
		t.Errorf("without a ledger: anchored %v", g.Anchored())
	}
	mustClose(t, g)
	mustWrite(t, path, now)
	if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(7)) {
		t.Errorf("the newest copy put back: %v", err)
	}
}

// Two copies of a file that both went on are two TPMs of one name.
func TestACopyThatWentOnElsewhereIsNamed(t *testing.T) {
	cfg := anchored(t)
	path, _ := saved(t, cfg, 5)
	copied := path + ".copy"
	mustWrite(t, copied, mustRead(t, path))
	elsewhere := cfg
	elsewhere.Anchor = nil
	g, _ := mustOpen(t, copied, elsewhere)
	f, _ := mustOpen(t, path, cfg)
	mustSave(t, f, content(6))
	mustClose(t, f)
	for i := 7; i < 9; i++ {
		mustSave(t, g, content(i))
		os.Remove(path)
		if err := os.Link(copied, path); err != nil {
			t.Fatal(err)
		}
		_, _, err := tryOpen(path, func() Config { c := cfg; c.disk = unlocked{}; return c }())
		fault := wantFault(t, err, Forked)
		if fault.Found != 6 || fault.Known != 6 {
			t.Errorf("%+v", fault)
		}
	}
	mustClose(t, g)
}

// unlocked is a disk on which locks hold nobody up.
type unlocked struct{ system }

type unlockedHandle struct{ handle }

func (u unlocked) open(path string) (handle, error) {
	h, err := u.system.open(path)
	return unlockedHandle{h}, err
}

func (unlockedHandle) lock() (bool, error) { return true, nil }

func TestALedgerThatForgotIsNamed(t *testing.T) {
	cfg := anchored(t)
	path, id := saved(t, cfg, 3)
	if err := os.Remove(cfg.Anchor.(*Ledger).name(id)); err != nil {
		t.Fatal(err)
	}
	_, _, err := tryOpen(path, cfg)
	if fault := wantFault(t, err, Unanchored); fault.LastGood() != 3 {
		t.Errorf("%v", err)
	}
	if _, err := Recover(context.Background(), path, 3, cfg); err != nil {
		t.Fatal(err)
	}
	if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(3)) {
		t.Errorf("after Recover: %v", err)
	}
	// A file that never had a ledger gets one without a word.
	plain := config(t)
	path, _ = saved(t, plain, 3)
	plain.Anchor = cfg.Anchor
	f, _ := mustOpen(t, path, plain)
	if f.Anchored() {
		t.Error("anchored before the ledger knew the TPM")
	}
	mustClose(t, f)
	f, _ = mustOpen(t, path, plain)
	if !f.Anchored() {
		t.Error("not anchored afterwards")
	}
	mustClose(t, f)
}

func TestRecoverMakesAGoodGenerationTheNewest(t *testing.T) {
	for _, back := range []uint64{7, 6, 5, 4} {
		t.Run(fmt.Sprint(back), func(t *testing.T) {
			cfg := anchored(t)
			path, id := saved(t, cfg, 7)
			data := mustRead(t, path)
			if back < 7 {
				clear(sliceOf(data, newestSlot(t, data)))
			}
			mustWrite(t, path, data)
			if _, _, err := tryOpen(path, cfg); (err != nil) != (back < 7) {
				t.Fatalf("before: %v", err)
			}
			_, err := Recover(context.Background(), path, 99, cfg)
			wantFault(t, err, Damaged)
			aside, err := Recover(context.Background(), path, back, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(mustRead(t, aside), data) {
				t.Error("the damaged file was not kept")
			}
			f, got := mustOpen(t, path, cfg)
			if r := recordOf(t, f); r.recovered != back {
				t.Errorf("the record says that it went back to %d", r.recovered)
			}
			if !same(got, content(int(back))) || f.ID() != id || f.Generation() <= 7 || !f.Anchored() {
				t.Errorf("generation %d: %.40q", f.Generation(), got.Permanent)
			}
			mustSave(t, f, content(50))
			mustClose(t, f)
			if got, _, err := tryOpen(path, cfg); err != nil || !same(got, content(50)) {
				t.Errorf("goes on: %v", err)
			}
			// What was set aside is an older one now.
			mustWrite(t, path, mustRead(t, aside))
			if _, _, err := tryOpen(path, cfg); !errors.Is(err, RolledBack) && !errors.Is(err, Damaged) {
				t.Errorf("the file from before: %v", err)
			}
		})
	}
}

// recordOf reads the newest record from the disk.
func recordOf(t *testing.T, f *File) *record {
	t.Helper()
	l := &loaded{}
	if err := f.readSlots(l); err != nil {
		t.Fatal(err)
	}
	return &l.good()[0].record.record
}

func TestADamagedHeaderIsMendedByTheNextSave(t *testing.T) {
	for _, which := range []string{"first", "second", "differ", "differ in size"} {
		t.Run(which, func(t *testing.T) {
			cfg := config(t)
			data, id := image(t, cfg, 6)
			switch which {
			case "first":
				clear(data[:4096])
			case "second":
				data[len(data)-1] ^= 1
			case "differ":
				other, _ := imageOf(t, cfg, id, 1)
				copy(data[len(data)-headerSize:], other)
			case "differ in size":
				wide := newMemDisk()
				c := cfg
				c.disk = wide
				large := content(1)
				large.Volatile = make([]byte, 40<<10)
				if _, err := Create(t.Context(), memPath, id, large, c); err != nil {
					t.Fatal(err)
				}
				copy(data[:headerSize], wide.names[memPath].data)
			}
			d := memDiskWith(memPath, data)
			cfg.disk = d
			f, got := mustOpen(t, memPath, cfg)
			if len(f.Notices()) != 1 || f.Notices()[0].Kind != Damaged || !strings.Contains(f.Notices()[0].String(), "the next save mends it") || !same(got, content(6)) {
				t.Fatalf("notices %v", f.Notices())
			}
			mustSave(t, f, content(7))
			mustClose(t, f)
			if got, notices, err := tryOpen(memPath, cfg); err != nil || len(notices) != 0 || !same(got, content(7)) {
				t.Errorf("after a save: %v, %v", notices, err)
			}
			if info, err := inspectOn(d, memPath); err != nil || !generationsAre(info, 4, 5, 6, 7) {
				t.Errorf("generations kept: %+v, %v", info.Slots, err)
			}
		})
	}
}

func TestAnOlderGenerationThatIsLostIsANotice(t *testing.T) {
	cfg := config(t)
	data, _ := image(t, cfg, 7)
	newest := newestSlot(t, data)
	for i := range slotCount {
		if i == newest {
			continue
		}
		b := bytes.Clone(data)
		sliceOf(b, i)[700] ^= 1
		c := cfg
		c.disk = memDiskWith(memPath, b)
		f, got := mustOpen(t, memPath, c)
		notices := f.Notices()
		if !same(got, content(7)) || len(notices) != 1 || notices[0].Slot != i || !strings.Contains(notices[0].Text, "an older one, is lost") {
			t.Errorf("slot %d: %v", i, notices)
		}
		// What is lost is written over first.
		mustSave(t, f, content(8))
		mustClose(t, f)
		if got, notices, err := openBytes(cfg, b); err != nil || !same(got, content(8)) || len(notices) != 0 {
			t.Errorf("slot %d, after a save: %v, %v", i, notices, err)
		}
	}
}

// Where nothing was yet, a slot that cannot be read may have had the newest.
func TestAWipedSlotThatWasBlankIsAFault(t *testing.T) {
	cfg := config(t)
	data, _ := image(t, cfg, 2)
	info, err := inspectOn(memDiskWith(memPath, data), memPath)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range info.Slots {
		if s.Condition != "blank" {
			continue
		}
		b := bytes.Clone(data)
		clear(sliceOf(b, i))
		_, _, err := openBytes(cfg, b)
		if fault := wantFault(t, err, Damaged); fault.LastGood() != 2 || fault.Slot != i {
			t.Errorf("slot %d: %v", i, err)
		}
	}
}

// Blocks that are sound, and in a place that is not theirs.
func TestBlocksThatChangedPlacesAreDamage(t *testing.T) {
	cfg := config(t)
	data, _ := image(t, cfg, 7)
	newest := newestSlot(t, data)
	other := (newest + 1) % slotCount
	block := func(b []byte, slot, i int) []byte { return sliceOf(b, slot)[i*blockSize : (i+1)*blockSize] }
	for name, move := range map[string]func(b []byte){
		"two of the newest": func(b []byte) {
			was := bytes.Clone(block(b, newest, 1))
			copy(block(b, newest, 1), block(b, newest, 2))
			copy(block(b, newest, 2), was)
		},
		"the first is the second": func(b []byte) { copy(block(b, newest, 0), block(b, newest, 1)) },
		"a stamp of a later version": func(b []byte) {
			one := block(b, newest, 2)
			one[blockText+9] = 1
			binary.BigEndian.PutUint32(one[blockSize-4:], checksum(one))
		},
		"one of an older slot":         func(b []byte) { copy(block(b, newest, 2), block(b, other, 2)) },
		"the first two of other slots": func(b []byte) { clear(block(b, newest, 0)); copy(block(b, newest, 1), block(b, other, 1)) },
	} {
		b := bytes.Clone(data)
		move(b)
		_, _, err := openBytes(cfg, b)
		var fault *Fault
		if !errors.As(err, &fault) || fault.Kind != Damaged || fault.Slot != newest || fault.LastGood() != 6 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A generation that was told to the outside, and of which a part is gone since, is no
// save that did not end.
func TestATornGenerationThatWasToldIsAFault(t *testing.T) {
	anchors(t, func(t *testing.T, cfg Config, a *memAnchor) {
		data, f := imageOf(t, cfg, mustID(t), 6)
		before := bytes.Clone(data)
		mustSave(t, f, content(7))
		newest := newestSlot(t, data)
		copy(sliceOf(data, newest)[blockSize:2*blockSize], sliceOf(before, newest)[blockSize:])
		got, notices, err := openBytes(cfg, data)
		if a == nil {
			// Nobody can know that it was told: docs/formats/nvram.md says so.
			if err != nil || !same(got, content(6)) || len(notices) != 1 || notices[0].Kind != Torn {
				t.Errorf("without a ledger: %v, %v", notices, err)
			}
			return
		}
		fault := wantFault(t, err, Torn)
		if fault.Slot != newest || fault.Found != 7 || fault.LastGood() != 6 || fault.Known != 7 {
			t.Errorf("%v", err)
		}
	})
}

func TestAStampThatTheHeadContradictsIsDamage(t *testing.T) {
	cfg := config(t)
	data, _ := image(t, cfg, 7)
	newest := newestSlot(t, data)
	s := sliceOf(data, newest)
	for i := range blocksFor(textSize(content(7))) {
		stamp{99, uint8(newest), uint16(i)}.seal(s[i*blockSize : (i+1)*blockSize])
	}
	_, _, err := openBytes(cfg, data)
	if fault := wantFault(t, err, Damaged); fault.LastGood() != 6 || !strings.Contains(err.Error(), "generation 7 is stamped 99") {
		t.Errorf("%v", err)
	}
}
