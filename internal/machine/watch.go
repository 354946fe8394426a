package machine

import (
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/qemu/qmp"
	"github.com/assay-project/assay/internal/serial"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/tpm2/engine"
)

// The phases of a boot.
const (
	PhaseFirmware = "firmware" // no boot loader has started
	PhaseLoader   = "bootLoader"
	PhaseSystem   = "operatingSystem"
	PhaseRefused  = "refused" // the firmware or a boot loader says that it starts nothing
	PhaseStuck    = "stuck"   // the deadline has passed
	PhaseUnseen   = "unseen"  // without a TPM nobody sees it
)

// A BootStatus says how far the boot of a running machine has got.
type BootStatus struct {
	Counter uint64 `json:"bootCounter,string"`
	Phase   string `json:"phase"`
	// Early and Late are nil until the part is over and judged.
	Early   *bool             `json:"earlyBootPassed"`
	Late    *bool             `json:"lateBootPassed"`
	Reasons []evidence.Reason `json:"reasons,omitempty"`
	// Refused are the reasons why boot options were given up.
	Refused []evidence.Reason `json:"refused,omitempty"`
}

// A queue takes what a TPM measures, from between two of its commands, and never waits.
type queue struct {
	mu    sync.Mutex // guards list
	list  []vtpm.Measured
	ready chan struct{}
}

// maxQueue bounds what waits for the machine's loop: more than a boot can measure.
const maxQueue = 1 << 16

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

func (q *queue) put(m vtpm.Measured) {
	q.mu.Lock()
	if n := len(q.list); n < maxQueue {
		q.list = append(q.list, m)
	} else {
		q.list[n-1].Lost = true
	}
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

func (q *queue) take() []vtpm.Measured {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.list
	q.list = nil
	return out
}

// measured judges what the TPM took since the last time.
func (s *supervisor) measured() {
	if s.waiting {
		return // until it is known which boot it is of
	}
	for _, m := range s.journal.take() {
		if s.quiet.Stop() && !goesOn(m) { // else the words were of something that was got over
			s.quiet.Reset(quietTime)
		}
		if m.Restored {
			s.restored(m)
			continue
		}
		for _, r := range m.Records {
			s.tell(s.monitor.Take(r)) //nolint:errcheck // said there
		}
		if m.Lost {
			s.tell(s.monitor.Lose()) //nolint:errcheck // said there
		}
		s.progressed()
	}
}

// progressed follows a boot that is not judged, too.
func (s *supervisor) progressed() {
	early, late := s.monitor.Progress()
	switch {
	case late && s.boot.Phase != PhaseSystem:
		s.boot.Phase, s.timed = PhaseSystem, false
		s.deadline.Stop()
		if !s.definition.Shielded.IntegrityMonitoring && s.root.cfg.Booted != nil {
			s.root.cfg.Booted(s.home.Name())
		}
	case early && s.boot.Phase == PhaseFirmware:
		s.boot.Phase = PhaseLoader
	}
}

// restored goes on with a machine whose memory came from elsewhere: what was said of its
// boot is not said again.
func (s *supervisor) restored(m vtpm.Measured) {
	s.unproven((*health.Monitor).Restored)
	boot := s.monitor.BootCounter()
	monitor, err := s.root.newMonitor(s.definition, s.history, s.name)
	if err == nil {
		err = monitor.GoOn(boot)
	}
	if err != nil { // nothing that was said holds for what runs now
		s.boot = BootStatus{Counter: boot, Phase: PhaseUnseen}
		s.root.cfg.Log.Error("a restored machine is not watched", slog.String("machine", s.home.Name()), slog.Any("error", err))
		return
	}
	s.monitor, s.boot = monitor, BootStatus{Counter: boot, Phase: PhaseFirmware}
	s.recall()
	s.tell(s.monitor.Catch(slices.Values(m.Records))) //nolint:errcheck // said there
	if m.Lost {
		s.tell(s.monitor.Lose()) //nolint:errcheck // said there
	}
	// A snapshot may be of before the end of what was judged.
	early, late := s.monitor.Progress()
	if !early {
		s.boot.Early = nil
	}
	if !late {
		s.boot.Late = nil
	}
	s.timed = false // it has been elsewhere
	s.armDeadline()
	s.progressed()
}

// recall has the status say of this boot what was kept of it.
func (s *supervisor) recall() {
	r, err := s.history.Boot(s.monitor.BootCounter())
	if err != nil {
		return // nothing was
	}
	verdict := func(o integrity.Outcome) *bool {
		if o == integrity.NotReached {
			return nil
		}
		good := o == integrity.Passed || o == integrity.Learned
		return &good
	}
	s.boot.Early, s.boot.Late = verdict(r.Early), verdict(r.Late)
}

// tell keeps what happened: the record first, with what is to be logged, so that a crash
// neither counts a boot twice nor loses an event, then the log, then everybody else. What
// cannot be kept is told all the same, and shown as a problem of the machine.
func (s *supervisor) tell(notices []integrity.Notice) error {
	if len(notices) == 0 {
		return nil
	}
	notices = s.worded(notices)
	return s.say(notices, s.home.keep(s.history, notices))
}

// worded are notices as they are logged.
func (s *supervisor) worded(notices []integrity.Notice) []integrity.Notice {
	out := slices.Clone(notices)
	for i := range out {
		s.explain(&out[i])
		out[i].Bound() // it must fit the log
	}
	return out
}

// say logs what was kept, or was not, and tells everybody else.
func (s *supervisor) say(notices []integrity.Notice, err error) error {
	s.refer()
	for i := range notices {
		n := &notices[i]
		s.count(n)
		err = errors.Join(err, s.home.Log(*n))
		s.note(n)
		if s.root.cfg.Event != nil {
			s.root.cfg.Event(*n)
		}
	}
	s.keepVariables()
	if err != nil { // and stays a problem: what was lost does not come back
		s.unkept = err
		s.root.cfg.Log.Error("what happened to a machine is not kept", slog.String("machine", s.home.Name()), slog.Any("error", err))
	}
	return err
}

// explain adds the firmware's words to a boot that did not get on. They prove nothing;
// the notice itself comes from the TPM's journal.
func (s *supervisor) explain(n *integrity.Notice) {
	if n.Type != integrity.EventAttemptFailed && n.Type != integrity.EventStuck {
		return
	}
	n.Reasons = append(n.Reasons, s.boot.Refused...)
}

// note follows the boot.
func (s *supervisor) note(n *integrity.Notice) {
	s.boot.Counter = n.BootCounter
	switch n.Type {
	case integrity.EventStartup:
		s.boot = BootStatus{Counter: n.BootCounter, Phase: PhaseFirmware, Refused: s.boot.Refused}
		s.armDeadline()
		s.booted()
	case integrity.EventEarlyReport:
		passed := n.Passed()
		s.boot.Early, s.boot.Late, s.boot.Phase = &passed, nil, PhaseLoader
		s.boot.Reasons = n.Reasons
		s.judged(n)
	case integrity.EventAttemptFailed: // what was said of it is not said of the next
		s.boot.Early, s.boot.Late, s.boot.Reasons = nil, nil, nil
		if s.boot.Phase == PhaseLoader {
			s.boot.Phase = PhaseFirmware
		}
	case integrity.EventLateReport:
		passed := n.Passed()
		s.boot.Late = &passed
		for _, r := range n.Reasons { // those of the early part stay
			if !slices.Contains(s.boot.Reasons, r) {
				s.boot.Reasons = append(s.boot.Reasons, r)
			}
		}
		s.judged(n)
	case integrity.EventRefused:
		s.boot.Phase, s.boot.Refused = PhaseRefused, n.Reasons
	case integrity.EventStuck:
		s.boot.Phase = PhaseStuck
	}
}

// judged stops a machine that failed, where its definition wants that. One that waits for
// its first baseline goes on, so that there is a boot to approve.
func (s *supervisor) judged(n *integrity.Notice) {
	waits := slices.ContainsFunc(n.Reasons, func(r evidence.Reason) bool { return r.Code == codeUnapproved })
	if n.Passed() || waits || !s.definition.StopOnFailure || s.hypervisor == nil {
		return
	}
	s.root.cfg.Log.Warn("a machine is stopped: its boot failed", slog.String("machine", s.home.Name()))
	s.ending = &ending{actor: "system", reason: reason(codeStopped, "the boot failed, and the machine is to be stopped then")}
	s.cut()
}

// armDeadline gives the boot its time. A machine that starts again before it has started its
// operating system gets no more: who restarts without end does not get round it.
func (s *supervisor) armDeadline() {
	if s.timed {
		return
	}
	s.deadline.Stop()
	if d := s.definition.BootDeadline; d > 0 && !s.waiting && s.definition.Shielded.VTPM {
		s.endsBy(time.Duration(d) * time.Second)
		s.timed = true
	}
}

// endsBy has the boot's time end.
func (s *supervisor) endsBy(left time.Duration) {
	s.deadline.Reset(left)
	s.late = s.root.cfg.Now().Add(left)
}

// stuck is a boot that did not get on in time.
func (s *supervisor) stuck() {
	s.timed = false // the next start has a deadline again
	if s.boot.Phase == PhaseSystem {
		return
	}
	n := s.monitor.Stuck(nil)
	s.tell([]integrity.Notice{n}) //nolint:errcheck // said there
	s.judged(&n)
}

// quietTime is how long nothing may be measured after words of a refusal until they are
// believed: words alone decide nothing.
const quietTime = 5 * time.Second

// loaderCommands is the register of a boot loader's commands (GRUB manual, "Measured Boot").
const loaderCommands = 8

// goesOn reports whether what was measured shows that a boot goes on. Commands of its
// boot loader do not: GRUB measures those that follow a refused kernel before they fail.
func goesOn(m vtpm.Measured) bool {
	return m.Restored || m.Lost || slices.ContainsFunc(m.Records, func(r engine.JournalRecord) bool {
		return r.Kind != engine.JournalExtend || r.PCR != loaderCommands
	})
}

// printed takes a line of the console that says something about the boot.
func (s *supervisor) printed(f serial.Finding) {
	s.measured() // what the TPM took before these words
	if s.boot.Phase == PhaseSystem {
		return // the guest's own words
	}
	if len(s.boot.Refused) < maxFindings {
		s.boot.Refused = append(s.boot.Refused, f.Reason())
	}
	if f.Final() && s.boot.Phase != PhaseRefused {
		s.quiet.Reset(quietTime)
	}
}

// overhear takes what the console has said until now.
func (s *supervisor) overhear() {
	for {
		select {
		case f := <-s.console.found:
			s.printed(f)
		default:
			return
		}
	}
}

// refused believes the words: nothing was measured after them.
func (s *supervisor) refused() {
	if s.boot.Phase == PhaseSystem || s.boot.Phase == PhaseRefused {
		return
	}
	s.tell([]integrity.Notice{{ //nolint:errcheck // said there
		Type: integrity.EventRefused, Instance: s.home.Name(), Time: s.root.cfg.Now(), BootCounter: s.monitor.Counter(),
		Reasons: slices.Concat(s.expected.refusal(), s.boot.Refused),
	}})
}

// happened takes an event of the hypervisor.
func (s *supervisor) happened(e qmp.Event) {
	switch e.Name {
	case "RESET":
		// The guest's journal tells of a restart too, but maybe after the firmware's first
		// words.
		s.console.log.Restart()
		s.boot.Refused = nil
		s.keepVariables()
	case "SHUTDOWN", "SUSPEND":
		s.keepVariables()
	case "STOP":
		s.keepVariables()
		s.agent.rest(true)
	case "RESUME":
		s.agent.rest(false)
	}
}
