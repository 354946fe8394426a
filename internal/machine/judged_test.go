package machine

import (
	"testing"

	"github.com/assay-project/assay/internal/fleet"
)

// supervisor is that of web-1 as it is before its hypervisor starts: what happens to the
// machine is for the test to say.
func (h *host) supervisor() *supervisor {
	h.Helper()
	home, err := h.root.Open(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	s := newSupervisor(h.root, home)
	if err := s.prepare(h.Context()); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() {
		if err := s.close(); err != nil {
			h.Error(err)
		}
		if err := home.Close(); err != nil {
			h.Error(err)
		}
	})
	return s
}

// What an agent quotes is compared with what the boots are compared with, in another shape
// of the machine too, and before the first approval with nothing: never as of a machine
// that nobody judges.
func TestAQuoteIsJudgedByTheBaselineOfTheBoots(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	references := h.supervisor().references()
	if references == nil {
		t.Fatal("quotes are compared with nothing, as if nobody judged the machine")
	}
	if b, _ := references(); b != nil {
		t.Error("a baseline before the first boot")
	}
}

func TestAResizedMachineIsStillComparedWithItsBaseline(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	h.update(func(d *fleet.Definition) { d.MemoryMiB = 1024 })
	s := h.supervisor()
	b, p := s.references()()
	if v := s.history.Judging(s.monitor.Shape()); v == nil || b != v.Baseline || p.Name != "default" {
		t.Errorf("quotes are compared with %v under %q, boots with %v", b, p.Name, v)
	}
}

func TestAMachineThatNobodyJudgesIsComparedWithNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.Shielded.IntegrityMonitoring = false })
	if s := h.supervisor(); s.references() != nil {
		t.Error("monitoring is off, and quotes wait for a baseline")
	}
}
