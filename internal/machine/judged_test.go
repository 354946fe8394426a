package machine

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/tpm2/engine"
)

// supervisor is that of web-1 as it is before its hypervisor starts: what happens to the
// machine is for the test to say.
func (h *host) supervisor() *supervisor { return h.supervisorOf(func(*supervisor) {}) }

func (h *host) supervisorOf(change func(*supervisor)) *supervisor {
	h.Helper()
	home, err := h.root.Open(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	s := newSupervisor(h.root, home)
	change(s)
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
	if r := h.supervisor().references(); r.None || r.Baseline != nil {
		t.Errorf("before the first boot quotes are compared with %+v, as if nobody judged the machine", r)
	}
}

func TestAResizedMachineIsStillComparedWithItsBaseline(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	h.update(func(d *fleet.Definition) { d.MemoryMiB = 1024 })
	s := h.supervisor()
	r := s.references()
	if v := s.history.InForce(); v == nil || r.None || r.Baseline != v.Baseline || r.Profile.Name != "default" {
		t.Errorf("quotes are compared with %+v, boots with %v", r, v)
	}
}

func TestSecureBootThatIsOffIsAsDefinedOrNot(t *testing.T) {
	t.Parallel()
	said := []evidence.Reason{{Code: "secureboot.off", Message: "secure boot is off"}, {Code: "baseline.mismatch"}}
	for code, on := range map[evidence.Code]bool{"secureboot.off": true, "machine.secure-boot-off": false} {
		got := asDefined(&fleet.Definition{Shielded: fleet.Shielded{SecureBoot: on}}, said)
		if len(got) != 2 || got[0].Code != code || got[1].Code != "baseline.mismatch" || said[0].Code != "secureboot.off" {
			t.Errorf("secure boot %v: %v of %v", on, got, said)
		}
	}
}

// The agent's port is opened before the history comes. Until then no quote is compared with
// nothing, as of a machine that nobody judges; then it is as at home.
func TestAQuoteIsComparedWhereTheMachineComesToAsAtHome(t *testing.T) {
	t.Parallel()
	for name, monitored := range map[string]bool{"has baselines, monitoring is off": true, "was never judged": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := newHost(t), newHost(t)
			a.create(func(d *fleet.Definition) { d.Shielded.IntegrityMonitoring = monitored })
			a.run(boot(t, "good-uki"))
			if monitored {
				a.update(func(d *fleet.Definition) { d.Shielded.IntegrityMonitoring = false })
			}
			home := a.supervisor()
			text, err := home.history.Encode()
			if err != nil {
				t.Fatal(err)
			}
			want := home.references()

			b.create(func(d *fleet.Definition) { d.Shielded.IntegrityMonitoring = false })
			variables := b.variables()
			comes := &arrival{root: b.root, actor: "dora", supervisor: b.supervisorOf(func(s *supervisor) { s.waiting = true })}
			if r := comes.references(); r.None || r.Baseline != nil {
				t.Errorf("before its history came: %+v", r)
			}
			if err := comes.adopt(&lastWords{History: text, Variables: variables, Boot: home.history.BootCounter}); err != nil {
				t.Fatal(err)
			}
			if r := comes.references(); r.None {
				t.Errorf("before it is this host's: %+v", r)
			}
			comes.waiting = false
			if err := comes.tell([]integrity.Notice{{Type: integrity.EventMigrated, Instance: "web-1"}}); err != nil {
				t.Fatal(err)
			}
			r := comes.references()
			if v := comes.history.InForce(); r.None != want.None || r.None == monitored || monitored && (v == nil || r.Baseline != v.Baseline) {
				t.Errorf("here a quote is compared with %+v, at home with %+v", r, want)
			}
		})
	}
}

func TestAMachineThatNobodyJudgesIsComparedWithNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.Shielded.IntegrityMonitoring = false })
	if r := h.supervisor().references(); !r.None {
		t.Error("monitoring is off, and quotes wait for a baseline")
	}
}

// The first baseline of a machine is approved by a person who sees what is in it.
func TestWhatIsToBeApprovedFirstIsShown(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.ApproveFirst = true })
	h.run(boot(t, "good-uki"))
	r, err := h.root.Review(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	decide := 0
	for _, d := range r.Changes {
		if d.Change != baseline.ChangeAdded || d.Old != nil || d.New == nil {
			t.Errorf("%+v is not shown as new", d)
		}
		if d.Judged {
			decide++
		}
	}
	measured := strings.Count(boot(t, "good-uki"), "\n")
	if !r.First || decide == 0 || len(r.Changes) < measured-2 {
		t.Errorf("first %t, %d components and %d of them decide; %d were measured", r.First, len(r.Changes), decide, measured)
	}
	if _, err := h.root.Approve(t.Context(), "bob", "web-1", r.Seen, "seen"); err != nil {
		t.Fatal(err)
	}
	if r, err = h.root.Review(t.Context(), "web-1"); err != nil || r.First || len(r.Changes) != 0 {
		t.Errorf("after the approval: %+v, %v", r, err)
	}
}

// A guest that restarts again and again does not get round its deadline; one that started
// its operating system in between has its time anew.
func TestABootLoopIsTold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.BootDeadline = 3600 })
	s := h.supervisor()
	whole := records(t, boot(t, "good-uki"))
	takes := func(r []engine.JournalRecord) {
		s.journal.put(vtpm.Measured{Records: r})
		s.measured()
	}
	takes(whole)
	if s.deadline.Stop() || s.boot.Phase != PhaseSystem {
		t.Errorf("in phase %q the deadline runs", s.boot.Phase)
	}
	firmware := whole[:len(whole)-2]
	for range 2 { // a loop is told again and again
		takes(firmware)
		if !s.deadline.Stop() {
			t.Fatal("the first start after the operating system has no deadline")
		}
		s.deadline.Reset(time.Nanosecond) // which another arming would make an hour
		takes(firmware)
		takes(firmware)
		<-s.deadline.C
		if s.stuck(); s.boot.Phase != PhaseStuck {
			t.Errorf("phase %q", s.boot.Phase)
		}
	}
}

// What was proved before a snapshot was loaded is not said of what runs now, and firmware
// that came out of one has its time.
func TestNothingIsSaidOfAnotherMemory(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.BootDeadline = 3600 })
	s := h.supervisor()
	s.agent = new(attestation)
	whole := records(t, boot(t, "good-uki"))
	s.journal.put(vtpm.Measured{Records: whole})
	s.measured()
	s.assessed(health.Assessment{Time: time.Now(), State: health.Healthy})
	s.journal.put(vtpm.Measured{Records: whole[:4], Restored: true})
	s.measured()
	if s.health.State != health.Unknown || s.boot.Phase == PhaseSystem {
		t.Errorf("phase %q, health %q", s.boot.Phase, s.health.State)
	}
	if !s.deadline.Stop() {
		t.Error("the firmware has all the time")
	}
	s.journal.put(vtpm.Measured{Records: whole, Restored: true})
	s.measured()
	if s.deadline.Stop() || s.boot.Phase != PhaseSystem {
		t.Errorf("in phase %q the deadline runs", s.boot.Phase)
	}
}

// A boot that came to nothing is the last all the same, and there is one such at most.
func TestTheLastBootIsTheLast(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	firmware := strings.Join(strings.SplitAfter(boot(t, "good-uki"), "\n")[:4], "")
	h.run(firmware + "reset\n" + firmware)
	d, err := h.root.Describe(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if b := d.LastBoot; b.Counter != 3 || b.Started.IsZero() || b.Early != integrity.NotReached || b.Late != integrity.NotReached {
		t.Errorf("of three boots the last is %+v", *b)
	}
	history, err := h.root.History(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if boots := BootsOf(history); len(boots) != 2 || boots[0].Late != integrity.Learned {
		t.Errorf("boots %+v", boots)
	}
	if r, _, err := Why(history, 0, ""); !errors.Is(err, ErrNotJudged) || r.Counter != 3 {
		t.Errorf("why: boot %+v, %v", r, err)
	}
	if _, err := Compare(history, 1, 3, ""); !errors.Is(err, ErrNotReached) {
		t.Errorf("compared with a boot that measured nothing: %v", err)
	}
	if _, err := h.root.Review(t.Context(), "web-1"); !errors.Is(err, integrity.ErrNoBoot) {
		t.Errorf("a boot that came to nothing is up for approval: %v", err)
	}
}

// An attempt that passed and came back to the firmware is over.
func TestTheStatusIsNotOfAnAttemptThatFailed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	s := h.supervisor()
	s.note(&integrity.Notice{Type: integrity.EventEarlyReport, Report: &baseline.Report{PolicyEvaluationPassed: true}})
	if s.boot.Early == nil || s.boot.Phase != PhaseLoader {
		t.Fatalf("after the early report: %+v", s.boot)
	}
	s.note(&integrity.Notice{Type: integrity.EventAttemptFailed})
	if s.boot.Early != nil || s.boot.Phase != PhaseFirmware {
		t.Errorf("after the attempt failed: early %v, phase %s", s.boot.Early, s.boot.Phase)
	}
}

// A baseline that is in force has its event, also when a crash came between the two; one
// that a crash kept from that has none.
func TestABaselineIsNotInForceWithoutItsEvent(t *testing.T) {
	for name, kept := range map[string]bool{"after it was kept": true, "before": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			h.run(boot(t, "good-uki"))
			home := h.home()
			m, history, err := h.root.offline(home)
			if err != nil {
				t.Fatal(err)
			}
			seen, _, err := m.Review()
			if err != nil {
				t.Fatal(err)
			}
			notices, err := m.Approve(seen, "bob", "again")
			if err != nil {
				t.Fatal(err)
			}
			before := h.readFile(integrityFile)
			if err := home.keep(history, notices); err != nil {
				t.Fatal(err)
			}
			if !kept {
				h.writeFile(integrityFile, before)
			}
			h.close(home)
			for range 2 { // and is told once
				events, err := h.root.Events(t.Context(), "web-1")
				if err != nil {
					t.Fatal(err)
				}
				told := 0
				for _, n := range events {
					if n.Type == integrity.EventSetPolicy && n.Actor == "bob" && n.Baseline == 2 {
						told++
					}
				}
				if want := map[bool]int{true: 1}[kept]; told != want {
					t.Errorf("%d events of the approval, want %d", told, want)
				}
			}
		})
	}
}
