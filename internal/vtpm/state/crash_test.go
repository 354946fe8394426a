//go:build unix

package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
)

const memPath = "d/web-1.nvram"

// steps are what a TPM does in the tests of crashes: each gives the content that it
// saves.
type step struct {
	name string
	do   func(f *File, c Content) error
}

func steps(cfg Config) []step {
	save := step{"save", func(f *File, c Content) error { return f.Save(context.Background(), c) }}
	return []step{
		save, save, save, save, save,
		{"grow", func(f *File, c Content) error {
			return f.Save(context.Background(), c)
		}},
		save,
		{"rewrap", func(f *File, c Content) error {
			if err := f.Rewrap(context.Background(), cfg.Provider, "again"); err != nil {
				return err
			}
			return f.Save(context.Background(), c)
		}},
		save,
		{"renew", func(f *File, c Content) error { return f.Renew(context.Background(), c) }},
		save,
	}
}

// contentOf is what step i saves.
func contentOf(all []step, i int) Content {
	c := content(i + 2)
	if all[i].name == "grow" {
		c.Volatile = make([]byte, 16<<10)
	}
	return c
}

// run does the steps until the power is cut, and returns what was acknowledged last
// and what was being saved.
func run(tb testing.TB, d *memDisk, cfg Config, id ID) (acknowledged, begun Content) {
	tb.Helper()
	cfg.disk = d
	begun = content(1)
	f, err := Create(context.Background(), memPath, id, begun, cfg)
	if err != nil {
		mustBeCut(tb, err)
		return Content{}, begun
	}
	all := steps(cfg)
	acknowledged = begun
	for i, s := range all {
		begun = contentOf(all, i)
		if err := s.do(f, begun); err != nil {
			mustBeCut(tb, err)
			return acknowledged, begun
		}
		acknowledged = begun
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return acknowledged, acknowledged
}

func mustBeCut(tb testing.TB, err error) {
	tb.Helper()
	if !errors.Is(err, errCut) {
		tb.Fatalf("failed before the power was cut: %v", err)
	}
}

// stepsOf counts the steps of a whole run.
func stepsOf(t *testing.T, cfg Config) int {
	t.Helper()
	d := newMemDisk()
	d.left = 1 << 30
	run(t, d, cfg, mustID(t))
	return 1<<30 - d.left
}

// wantOneOf opens what is left, and wants what was acknowledged or being saved.
func wantOneOf(tb testing.TB, d *memDisk, cfg Config, acknowledged, begun Content) {
	tb.Helper()
	cfg.disk = d
	got, _, err := tryOpen(memPath, cfg)
	if errors.Is(err, Missing) && len(acknowledged.Permanent) == 0 {
		return // Create did not end
	}
	if err != nil {
		tb.Errorf("does not open: %v", err)
		return
	}
	if !same(got, acknowledged) && !same(got, begun) {
		tb.Errorf("opens as %.60q, want %.60q or %.60q", got.Permanent, acknowledged.Permanent, begun.Permanent)
	}
}

// anchors runs a test without an anchor and with one.
func anchors(t *testing.T, test func(t *testing.T, cfg Config, a *memAnchor)) {
	for _, name := range []string{"no ledger", "ledger"} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			if name == "ledger" {
				a := newMemAnchor()
				cfg.Anchor = a
				test(t, cfg, a)
				return
			}
			test(t, cfg, nil)
		})
	}
}

func TestAProcessKilledAtEachStepLosesNothingAcknowledged(t *testing.T) {
	anchors(t, func(t *testing.T, cfg Config, a *memAnchor) {
		for n := range stepsOf(t, cfg) {
			for _, torn := range []int{-1, 1, 3 * blockSize, 1 << 20} {
				d := newMemDisk()
				d.left, d.torn = n, torn
				acknowledged, begun := run(t, d, cfg, mustID(t))
				wantOneOf(t, d.killed(), cfg, acknowledged, begun)
				if t.Failed() {
					t.Fatalf("at step %d, of which %d bytes were written", n, torn)
				}
			}
		}
	})
}

func TestPowerLostAtEachStepLosesNothingAcknowledged(t *testing.T) {
	anchors(t, func(t *testing.T, cfg Config, a *memAnchor) {
		for n := range stepsOf(t, cfg) {
			d := newMemDisk()
			d.left, d.torn = n, 1<<20
			acknowledged, begun := run(t, d, cfg, mustID(t))
			for _, names := range []bool{false, true} {
				for kept, choose := range map[string]func(int) bool{
					"none": func(int) bool { return false }, "all": func(int) bool { return true },
					"even": func(s int) bool { return s%2 == 0 }, "odd": func(s int) bool { return s%2 == 1 },
				} {
					left := cfg
					if a != nil {
						left.Anchor = a.rebooted()
					}
					wantOneOf(t, d.rebooted(memPath, names, choose), left, acknowledged, begun)
					if t.Failed() {
						t.Fatalf("at step %d, names durable %v, sectors %s", n, names, kept)
					}
				}
			}
		}
	})
}

// A save is cut off in all ways that a disk can leave its sectors: what opens is
// the generation before, or the new one when all of it is there.
func TestASaveOfWhichAnySectorsAreLostLeavesTheOneBefore(t *testing.T) {
	anchors(t, func(t *testing.T, cfg Config, a *memAnchor) {
		d := newMemDisk()
		cfg.disk = d
		f, err := Create(context.Background(), memPath, mustID(t), content(1), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i := 2; i < 8; i++ {
			mustSave(t, f, content(i))
		}
		d.left, d.torn = 1, 1<<20
		mustBeCut(t, f.Save(context.Background(), content(8)))
		dirty := d.sectors(memPath)
		if len(dirty) < 4 || len(dirty) > 12 {
			t.Fatalf("the save is of %d sectors", len(dirty))
		}
		for mask := range 1 << len(dirty) {
			left := cfg
			if a != nil {
				left.Anchor = a.rebooted()
			}
			want := content(7)
			if mask == 1<<len(dirty)-1 {
				want = content(8)
			}
			wantOneOf(t, d.rebooted(memPath, false, chosen(dirty, mask)), left, want, want)
			if t.Failed() {
				t.Fatalf("sectors %b of %v", mask, dirty)
			}
		}
	})
}

func chosen(dirty []int, mask int) func(int) bool {
	return func(s int) bool {
		for i, d := range dirty {
			if d == s {
				return mask>>i&1 == 1
			}
		}
		return false
	}
}

// Where a disk tears a sector in the middle, damage and an unfinished save may not
// be told apart: then it is a fault, which offers the generation before.
func TestASaveCutAtEachByteLosesNothingAcknowledged(t *testing.T) {
	cfg := config(t)
	d := newMemDisk()
	cfg.disk = d
	f, err := Create(context.Background(), memPath, mustID(t), content(1), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := 2; i < 8; i++ {
		mustSave(t, f, content(i))
	}
	before := d.killed()
	d.left, d.torn = 1, 1<<20
	mustBeCut(t, f.Save(context.Background(), content(8)))
	dirty := d.sectors(memPath)
	from, to := dirty[0]*blockSize, (dirty[len(dirty)-1]+1)*blockSize
	opened, faults := 0, 0
	for at := from; at <= to; at++ {
		data := before.killed().names[memPath].data
		copy(data[from:at], d.names[memPath].data[from:at])
		left := cfg
		left.disk = memDiskWith(memPath, data)
		got, _, err := tryOpen(memPath, left)
		var fault *Fault
		switch {
		case err == nil:
			opened++
			want := content(7)
			if at == to || bytes.Equal(data[from:to], d.names[memPath].data[from:to]) {
				want = content(8)
			}
			if !same(want, got) {
				t.Fatalf("cut at byte %d: %.60q, want %.60q", at, got.Permanent, want.Permanent)
			}
		case errors.As(err, &fault) && fault.Kind == Damaged && fault.LastGood() == 7:
			faults++
		default:
			t.Fatalf("cut at byte %d: %v", at, err)
		}
	}
	if faults > blockSize || opened == 0 {
		t.Errorf("%d opened, %d faults: only cuts of the last sector may be faults", opened, faults)
	}
}

// What does not reach the disk must not be acknowledged, and must not cost what did.
func TestSavesThatFailKeepTheGenerationsBefore(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		for count := 1; count <= 9; count++ {
			t.Run(fmt.Sprintf("%s fails %d times", op, count), func(t *testing.T) {
				cfg := config(t)
				d := newMemDisk()
				cfg.disk = d
				f, err := Create(context.Background(), memPath, mustID(t), content(1), cfg)
				if err != nil {
					t.Fatal(err)
				}
				for i := 2; i < 6; i++ {
					mustSave(t, f, content(i))
				}
				d.fail, d.torn = failing(op, 1, count, 28), blockSize+7 // ENOSPC
				for i := range count {
					wantFault(t, f.Save(context.Background(), content(100+i)), NoSpace)
				}
				left := cfg
				left.disk = d.killed()
				got, _, err := tryOpen(memPath, left)
				last := content(99 + count)
				if err != nil || !same(got, content(5)) && !same(got, last) {
					t.Fatalf("after the failures: %.40q, %v", got.Permanent, err)
				}
				mustSave(t, f, content(6))
				left.disk = d.killed()
				if got, notices, err := tryOpen(memPath, left); err != nil || !same(got, content(6)) || len(notices) != 0 {
					t.Errorf("after the next save: %.40q, %v, %v", got.Permanent, notices, err)
				}
				info, err := inspectOn(d.killed(), memPath)
				if err != nil || !generationsAre(info, 3, 4, 5, uint64(6+count)) {
					t.Errorf("generations kept: %+v, %v", info.Slots, err)
				}
			})
		}
	}
}

func generationsAre(info Info, want ...uint64) bool {
	have := map[uint64]bool{}
	for _, s := range info.Slots {
		have[s.Generation] = s.Condition == "whole"
	}
	for _, w := range want {
		if !have[w] {
			return false
		}
	}
	return true
}

// The operator's own decisions are whole as well.
func TestARecoveryThatIsCutOffLeavesTheOldFileOrTheNew(t *testing.T) {
	const old, wanted = 7, 6
	replaced := content(40)
	for name, do := range map[string]func(cfg Config, id ID) error{
		"recover": func(cfg Config, _ ID) error {
			_, err := Recover(context.Background(), memPath, wanted, cfg)
			return err
		},
		"replace": func(cfg Config, id ID) error {
			_, err := Replace(context.Background(), memPath, id, replaced, cfg)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]bool{}
			for n := 0; ; n++ {
				cfg, a := config(t), newMemAnchor()
				cfg.Anchor = a
				data, id := image(t, cfg, old)
				d := memDiskWith(memPath, data)
				d.left = n
				cut := cfg
				cut.disk = d
				err := do(cut, id)
				if err != nil {
					mustBeCut(t, err)
				}
				for _, names := range []bool{false, true} {
					after := cfg
					after.Anchor, after.disk = a.rebooted(), d.rebooted(memPath, names, func(int) bool { return true })
					got, _, openErr := tryOpen(memPath, after)
					switch {
					case openErr != nil:
						t.Fatalf("cut at step %d: %v", n, openErr)
					case same(got, content(old)) && err != nil:
						seen["old"] = true
					case same(got, content(wanted)) && name == "recover", same(got, replaced) && name == "replace":
						seen["new"] = true
					default:
						t.Fatalf("cut at step %d: %.40q", n, got.Permanent)
					}
				}
				if err == nil {
					break
				}
			}
			if !seen["old"] || !seen["new"] {
				t.Errorf("seen %v", seen)
			}
		})
	}
}

// A part of generation 7 may be in the file: another 7 in its place could not be told
// from it.
func TestTheNumberOfASaveThatWasCutOffIsNotUsedAgain(t *testing.T) {
	anchors(t, func(t *testing.T, cfg Config, _ *memAnchor) {
		data, f := imageOf(t, cfg, mustID(t), 6)
		d := f.cfg.disk.(*memDisk)
		d.left, d.torn = 0, blockSize
		mustBeCut(t, f.Save(context.Background(), content(7)))
		cfg.disk = memDiskWith(memPath, data)
		again, got := mustOpen(t, memPath, cfg)
		if again.Generation() != 6 || !same(got, content(6)) || len(again.Notices()) != 1 {
			t.Fatalf("generation %d, %v", again.Generation(), again.Notices())
		}
		mustSave(t, again, content(8))
		if again.Generation() != 8 {
			t.Errorf("the next save has number %d", again.Generation())
		}
		mustClose(t, again)
	})
}
