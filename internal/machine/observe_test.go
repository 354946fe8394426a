package machine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
)

func (h *host) observe(known *Observation) *Observation {
	h.Helper()
	o, err := h.root.Observe(h.Context(), "web-1", known)
	if err != nil {
		h.Fatal(err)
	}
	return o
}

// TestObserveSaysWhatABootCameTo also holds that a first boot, which was compared with
// nothing, has not passed.
func TestObserveSaysWhatABootCameTo(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	if o := h.observe(nil); o.State != StateStopped || o.Startups != 0 || o.Judged != nil || o.Baseline != nil || !o.Shield.IntegrityMonitoring {
		t.Errorf("of a new machine: %+v", o)
	}
	s := h.start(boot(t, "good-uki"))
	h.await("lateBootReportEvent", 1)
	o := h.observe(nil)
	if o.State != StateRunning || o.TPM != TPMServing || o.Unkept || o.Startups != 1 || o.Judged == nil || o.Judged.Late != integrity.Learned || o.Baseline == nil {
		t.Errorf("of the first boot: %+v", o)
	}
	want := []EventCount{{"startupEvent", "", 1}, {"earlyBootReportEvent", "learned", 1}, {"lateBootReportEvent", "learned", 1}}
	for _, w := range want {
		if !slices.Contains(o.Events, w) {
			t.Errorf("%+v is not among the events %+v", w, o.Events)
		}
	}
	h.stop(s)
	h.run(boot(t, "bad-uki-cmdline"))
	if o := h.observe(o); o.State != StateStopped || o.Startups != 2 || o.Judged == nil || o.Judged.Counter != 2 || o.Judged.Late != integrity.Failed || o.TPM != "" {
		t.Errorf("of the failed boot: %+v, judged %+v", o, o.Judged)
	}
}

// TestObserveReadsAHomeOnlyWhenItChanged counts how often the key provider is asked.
func TestObserveReadsAHomeOnlyWhenItChanged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	asked := 0
	provider := h.root.cfg.Provider
	h.root.cfg.Provider = func(ctx context.Context, spec string) (vtpm.Provider, error) {
		asked++
		return provider(ctx, spec)
	}
	first := h.observe(nil)
	if second := h.observe(first); asked != 1 || second.Shield == nil || second.Startups != first.Startups {
		t.Errorf("asked %d times, want 1: %+v", asked, second)
	}
	if _, err := h.root.Update(t.Context(), "alice", "web-1", UpdateOptions{Change: func(d *fleet.Definition) error {
		d.Shielded.IntegrityMonitoring = false
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	if o := h.observe(first); o.Shield.IntegrityMonitoring {
		t.Error("the change is not seen")
	}
}

// TestObserveTakesNoLock observes a home that another process has.
func TestObserveTakesNoLock(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home, err := h.root.Open(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if o := h.observe(nil); o.Unread != nil || o.State != StateStopped {
		t.Errorf("%+v", o)
	}
}

// TestObserveCallsADamagedHomeDamaged has each of its files altered.
func TestObserveCallsADamagedHomeDamaged(t *testing.T) {
	t.Parallel()
	for _, file := range []string{cardFile, definitionFile, integrityFile, runningFile} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			if err := os.WriteFile(filepath.Join(h.dir, "vms", "web-1", file), []byte("?"), 0o600); err != nil {
				t.Fatal(err)
			}
			if o := h.observe(nil); o.State != StateDamaged || o.Problem == "" || o.Judged != nil {
				t.Errorf("%+v", o)
			}
		})
	}
}

// TestObserveWithoutItsKeyKnowsNothing is a key provider that does not answer: the home
// is not to blame.
func TestObserveWithoutItsKeyKnowsNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	away := errors.New("away")
	h.root.cfg.Provider = func(context.Context, string) (vtpm.Provider, error) { return nil, away }
	if o := h.observe(nil); o.State != StateStopped || !errors.Is(o.Unread, away) || o.Shield != nil {
		t.Errorf("%+v", o)
	}
	if _, err := h.root.Observe(t.Context(), "web-2", nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("of a machine that there is not: %v", err)
	}
}

// Whatever is done to a machine, the state of its TPM counts on: one that goes back was set
// back by nobody whom the product knows.
func TestTheGenerationOfATPMsStateNeverGoesBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.createWithDisks()
	var last uint64
	ids := map[string]bool{}
	counts := func(what string) {
		t.Helper()
		s := h.start(boot(t, "good-uki"))
		o := h.observe(nil)
		now := o.Generation
		ids[o.TPMID] = true
		if now == 0 || now < last {
			t.Errorf("after %s the generation is %d, and was %d", what, now, last)
		}
		last = now
		h.stop(s)
		if n := h.observe(nil).Generation; n != 0 {
			t.Errorf("a machine that is off has generation %d", n)
		}
	}
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		counts(what)
	}
	counts("its making")
	_, err := h.root.Snapshot(t.Context(), "bob", "web-1", "off")
	do("a snapshot", err)
	do("a restart", nil)
	do("a way back", h.root.GoBack(t.Context(), "bob", "web-1", "off", false))
	do("a clear", h.root.ClearTPM(t.Context(), "bob", "web-1"))
	if len(ids) != 1 {
		t.Errorf("the TPM has the ids %v", ids)
	}
	for _, on := range []bool{false, true} { // which makes another TPM: its state counts anew
		_, err := h.root.Update(t.Context(), "alice", "web-1", UpdateOptions{Confirm: true, Change: func(d *fleet.Definition) error {
			d.Shielded.VTPM, d.Shielded.IntegrityMonitoring = on, on
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	last = 0
	if counts("another TPM"); len(ids) != 2 {
		t.Errorf("two TPMs have the ids %v", ids)
	}
}
