package machine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/tpm2"
)

// A recorded boot stands for the prediction of it, but for registers that no disk
// determines.
type recorded map[int][]byte

func (r recorded) PCR(_ tpm2.Alg, pcr int) ([]byte, bool) {
	v, ok := r[pcr]
	return v, ok && slices.Contains([]int{4, 5, 7, 8, 9, 11}, pcr)
}

func (r recorded) Unknown(int) []evidence.Reason {
	return []evidence.Reason{{Code: "launch.by-firmware", Message: "the firmware makes it"}}
}

func TestWhatTheNextBootWillShowOtherwise(t *testing.T) {
	t.Parallel()
	inspect := func(scenario string) *eventlog.Inspected {
		l, err := eventlog.Parse(evidencetest.File(t, scenario+"/eventlog.bin"))
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Inspect(integrity.Bank)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	v := &integrity.Version{Number: 3, Baseline: baseline.From(inspect("good-uki"), baseline.Shape{})}
	for scenario, want := range map[string][]int{
		"good-uki":         nil,
		"good-uki-update":  {4, 11},
		"bad-uki-cmdline":  {4, 9, 11},
		"bad-db-extra-key": {7},
	} {
		f := foresee(recorded(inspect(scenario).Late()), v, baseline.Default())
		var changes []int
		for _, r := range f.Registers {
			switch {
			case r.State == ForeseenChanges:
				changes = append(changes, r.PCR)
				if r.Old == r.New || !r.Judged {
					t.Errorf("%s: %+v", scenario, r)
				}
			case r.State == ForeseenUnknown && (r.New != "" || len(r.Reasons) == 0):
				t.Errorf("%s: %+v", scenario, r)
			case r.State == ForeseenSame && r.Old != r.New:
				t.Errorf("%s: %+v", scenario, r)
			}
		}
		if diff := cmp.Diff(want, changes); diff != "" {
			t.Errorf("%s: registers that change (-want +got):\n%s", scenario, diff)
		}
		if f.Changes() != (len(want) > 0) || f.Baseline != 3 || f.Bank != "sha256" {
			t.Errorf("%s: Changes = %v of baseline %d in %s", scenario, f.Changes(), f.Baseline, f.Bank)
		}
	}
}

func TestNothingIsForeseenWithoutABaseline(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	if _, _, err := h.root.Foresee(t.Context(), "web-1"); !errors.Is(err, ErrNoBaseline) {
		t.Errorf("Foresee = %v", err)
	}
	h.run(boot(t, "good-uki"))
	if _, _, err := h.root.Foresee(t.Context(), "web-1"); !errors.Is(err, ErrNoDisk) {
		t.Errorf("Foresee = %v", err)
	}
}

// What a boot was foreseen by must be the same when that is approved: each file of it, and
// nobody may have started the machine.
func TestAGroundHoldsUntilAFileOfItChanges(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	for _, file := range []string{cardFile, definitionFile, variablesFile, integrityFile, runningFile} { // the last is damaged then
		g, err := h.root.groundOf(h.root.openOff(t.Context(), "web-1"))
		if err != nil {
			t.Fatal(file, err)
		}
		if err := h.root.holds(g); err != nil {
			t.Errorf("nothing has changed: %v", err)
		}
		text, err := os.ReadFile(h.file(file))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := durable.WriteFile(h.file(file), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.root.holds(g); !errors.Is(err, ErrNotAsSeen) {
			t.Errorf("%s was written anew: %v", file, err)
		}
	}
}

// A busyReader is a context that has something done whenever whoever reads a disk looks whether
// to go on, which he does before each piece.
type busyReader struct {
	context.Context
	do func()
}

func (r *busyReader) Err() error {
	r.do()
	return r.Context.Err()
}

// To read what a machine boots from takes long: its home is free meanwhile, and what was
// foreseen is not told, and not approved, where the machine is another by then.
func TestNobodyWaitsForWhatIsForeseen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	file := h.bootable("web-1.raw", "quiet")
	h.create(func(d *fleet.Definition) {
		d.Shielded.SecureBoot = false
		d.Disks = []fleet.Disk{{File: file, Format: "raw", Bus: "virtio", Boot: true}}
	})
	h.run(boot(t, "good-uki"))
	image := &Image{File: h.bootable("new.raw", "quiet audit=1"), Format: "raw"}
	read := false // the home
	provider := h.root.cfg.Provider
	h.root.cfg.Provider = func(ctx context.Context, spec string) (vtpm.Provider, error) {
		read = true
		return provider(ctx, spec)
	}
	// meanwhile does something once with the home of web-1, when others read a disk.
	meanwhile := func(then func(*Home) error) (context.Context, func()) {
		read = false
		done, doing := false, false
		ctx := &busyReader{Context: t.Context()}
		ctx.do = func() {
			if !read || done || doing {
				return
			}
			doing = true
			home, err := h.root.Open(t.Context(), "web-1")
			doing = false
			if errors.Is(err, ErrBusy) {
				return
			}
			done = true
			if err := errors.Join(err, then(home), home.Close()); err != nil {
				t.Error(err)
			}
		}
		return ctx, func() {
			t.Helper()
			if !done {
				t.Error("the home was not free while the disk was read")
			}
		}
	}
	look := func(*Home) error { return nil }
	change := func(home *Home) error {
		d, err := home.Definition()
		if err != nil {
			return err
		}
		d.MemoryMiB++
		return home.setDefinition(d)
	}
	ctx, wasFree := meanwhile(look)
	_, seen, err := h.root.ForeseeImage(ctx, "web-1", image)
	if err != nil {
		t.Fatal(err)
	}
	wasFree()
	plan := func(ctx context.Context) error {
		return h.root.PlanNext(ctx, "carol", "web-1", PlanOptions{For: time.Hour, Reason: "audit", Seen: seen})
	}
	ctx, wasFree = meanwhile(change)
	if _, _, err := h.root.ForeseeImage(ctx, "web-1", image); !errors.Is(err, ErrNotAsSeen) {
		t.Errorf("ForeseeImage of a machine that was changed meanwhile = %v", err)
	}
	wasFree()
	ctx, wasFree = meanwhile(func(home *Home) error { return home.intend(time.Now()) })
	if _, _, err := h.root.ForeseeImage(ctx, "web-1", image); !errors.Is(err, ErrNotAsSeen) {
		t.Errorf("ForeseeImage of a machine that was started meanwhile = %v", err)
	}
	wasFree()
	home := h.home()
	if err := home.forget(); err != nil {
		t.Fatal(err)
	}
	h.close(home)
	ctx, wasFree = meanwhile(change)
	if err := plan(ctx); !errors.Is(err, ErrNotAsSeen) || h.plan() != nil {
		t.Errorf("PlanNext of a machine that was changed meanwhile = %v; there is a plan: %v", err, h.plan() != nil)
	}
	wasFree()
	ctx, wasFree = meanwhile(look)
	if err := plan(ctx); err != nil || h.plan() == nil {
		t.Errorf("PlanNext = %v; there is a plan: %v", err, h.plan() != nil)
	}
	wasFree()
}
