package integrity

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// Config is what a [Monitor] knows of its machine.
type Config struct {
	Instance string
	// Off makes the monitor follow and count boots and judge none of them.
	Off     bool
	Profile baseline.Profile
	Shape   baseline.Shape
	// ApproveFirst leaves the first baseline to a person, too: until one is approved,
	// no boot passes.
	ApproveFirst bool
	Names        Namer            // nil knows nothing
	Now          func() time.Time // required
}

// Bank is the bank that boots are judged in: the one that every firmware and
// every TPM has (boot measurement, decision 3).
const Bank = tpm2.AlgSHA256

// A Monitor judges the boots of one machine. It is not safe for concurrent use.
type Monitor struct {
	cfg     Config
	history *History
	boot    uint64 // counter of the boot that the machine is in
	watch   *Watch
	started time.Time
	latest  *Boot // of this boot: the record at its last report
	lost    bool  // the boot's record is not whole, and that was told
	wentOn  bool  // in a boot that began elsewhere or before
}

// NewMonitor makes a monitor that continues a history, which it changes. Until the
// machine starts again, its last boot can be reviewed and approved.
func NewMonitor(h *History, cfg Config) (*Monitor, error) {
	if cfg.Instance == "" || cfg.Now == nil {
		return nil, errors.New("a monitor needs the machine's name and a clock")
	}
	cfg.Profile.Shape = cfg.Shape
	m := &Monitor{cfg: cfg, history: h, boot: h.BootCounter, watch: NewWatch(Bank, cfg.Names)}
	if last, err := h.Boot(h.BootCounter); err == nil {
		m.latest, m.started = last.Boot, last.Started
	}
	return m, nil
}

// Take reads the next record of the TPM's journal and returns what is to be
// logged, in order. Where it returns anything, the history has changed.
func (m *Monitor) Take(r engine.JournalRecord) []Notice {
	var out []Notice
	for _, moment := range m.watch.Take(r) {
		out = append(out, m.moment(moment)...)
	}
	return append(out, m.incomplete()...)
}

// Catch reads the records of a boot that was counted before this process began to
// watch. It returns what was not said of it: a part that ended while nobody watched, that
// is another than the one that was judged, as in a snapshot of another boot, or that was
// judged by a baseline that is no longer in force.
func (m *Monitor) Catch(records iter.Seq[engine.JournalRecord]) (out []Notice) {
	said, err := m.history.Boot(m.boot)
	holds := err == nil && said.Baseline == m.inForce()
	early, late := holds && said.Early != NotReached, holds && said.Late != NotReached
	if m.started = m.cfg.Now(); err == nil {
		m.started = said.Started
	}
	defer func() { out = append(out, m.incomplete()...) }()
	for r := range records {
		for _, at := range m.watch.Take(r) {
			switch {
			case at.Kind == Started:
				m.latest = nil
			case at.Kind == EarlyDone && !(early && at.Boot.partOf(said.Boot)), at.Kind == LateDone && !(late && at.Boot.partOf(said.Boot)):
				out = append(out, m.moment(at)...)
			case at.Kind == EarlyDone, at.Kind == LateDone:
				m.latest = at.Boot
			}
		}
	}
	return out
}

// inForce is the number of the version that a boot is judged by; 0 for none.
func (m *Monitor) inForce() int {
	if v := m.history.InForce(); v != nil {
		return v.Number
	}
	return 0
}

// BootCounter is that of the boot that the machine is in: the last one that began, or an
// earlier one that goes on.
func (m *Monitor) BootCounter() uint64 { return m.boot }

// GoOn says that the machine goes on in an earlier boot, as from a snapshot of it. What
// the machine measures next is of that boot, and the next one that begins still has a
// counter of its own.
func (m *Monitor) GoOn(boot uint64) error {
	if boot > m.history.BootCounter {
		return fmt.Errorf("boot %d has not been: the machine is in boot %d", boot, m.history.BootCounter)
	}
	m.boot, m.latest, m.wentOn = boot, nil, true
	if r, err := m.history.Boot(boot); err == nil {
		m.latest, m.started = r.Boot, r.Started
	}
	return nil
}

// Lose says that the journal did not hold all records that came until now, and returns
// what is to be logged.
func (m *Monitor) Lose() []Notice {
	m.watch.Lose()
	return m.incomplete()
}

// incomplete tells once that the record of this boot is not whole. A boot that has not
// ended by then fails: who fills the record does not get round its judgement.
func (m *Monitor) incomplete() []Notice {
	if !m.watch.over || m.lost || !m.watch.started {
		return nil
	}
	m.lost = true
	at := Moment{Attempt: m.watch.attempt, Boot: m.watch.Boot()}
	if _, late := at.Boot.Ended(); !late {
		return m.report(at, true)
	}
	n := m.notice(EventRecordFull, at.Attempt)
	n.Reasons = []evidence.Reason{{Code: codeRecordFull, Message: "the record of measurements is full: whether a register of the firmware is extended from now on is not seen"}}
	return []Notice{n}
}

// Progress says how far the boot has got, whether or not it is judged.
func (m *Monitor) Progress() (early, late bool) { return m.watch.boot.Ended() }

func (m *Monitor) moment(at Moment) []Notice {
	switch at.Kind {
	case Started:
		m.history.BootCounter++
		m.boot = m.history.BootCounter
		m.started, m.latest, m.lost = m.cfg.Now(), nil, false
		m.history.begin(BootRecord{Counter: m.boot, Started: m.started, Boot: &Boot{bank: Bank}, Shape: m.cfg.Shape})
		return []Notice{m.notice(EventStartup, at.Attempt)}
	case Resumed:
		return []Notice{m.notice(EventResumed, at.Attempt)}
	case EarlyDone:
		return m.report(at, false)
	case Returned:
		n := m.notice(EventAttemptFailed, at.Attempt)
		n.Reasons = []evidence.Reason{{Code: codeAttemptFailed, Message: fmt.Sprintf("the program of boot attempt %d returned to the firmware", at.Attempt)}}
		return []Notice{n}
	case Refused:
		n := m.notice(EventAttemptFailed, at.Attempt)
		n.Reasons = []evidence.Reason{{Code: codeAttemptRefused, Message: fmt.Sprintf("the firmware gave boot attempt %d up before its program ran", at.Attempt)}}
		return []Notice{n}
	case LateDone:
		return m.report(at, true)
	case Appended:
		n := m.notice(EventAppended, at.Attempt)
		n.Reasons = []evidence.Reason{{Code: codeAppended, Message: fmt.Sprintf("PCR %d, which belongs to the firmware, was extended after the operating system took over", at.PCR)}}
		return []Notice{n}
	}
	return nil
}

func (m *Monitor) notice(kind string, attempt int) Notice {
	return Notice{Type: kind, Instance: m.cfg.Instance, Time: m.cfg.Now(), BootCounter: m.boot, Attempt: attempt}
}

// report judges one part of the boot. A machine without any baseline gets one of its
// first whole boot. In another shape it is judged by the newest of its baselines, too: the
// firmware's first volume, which depends on the shape, informs then (package
// baseline), and a new size of a machine is no way round its baseline, nor an old size a
// way back to an older one.
func (m *Monitor) report(at Moment, late bool) []Notice {
	m.latest = at.Boot
	if m.cfg.Off {
		m.keep(NotReached, NotReached, 0)
		return nil
	}
	version := m.history.InForce()
	learned := version == nil
	switch {
	case learned && m.cfg.ApproveFirst:
		return m.unapproved(at, late)
	case learned:
		version = m.learn(at.Boot)
	}
	n, c := m.judge(at, version, late)
	if !learned && m.planned(at, version, c, late) {
		if late {
			return m.consume(at)
		}
		// Its end decides whether it is the planned one.
		c.EarlyPassed, n.Report.PolicyEvaluationPassed, n.Reasons = true, true, []evidence.Reason{asPlanned(m.history.Plan)}
	}
	// A boot that is not as it should be even beside itself, as with a bank that nobody
	// extends, becomes no baseline.
	learned = learned && !at.Boot.Broken() && c.EarlyPassed && (c.LatePassed || !late)
	if learned {
		if late {
			n.Baseline = m.history.add(*version).Number
		}
		n.Reasons = append(n.Reasons, evidence.Reason{
			Code: codeLearned, Message: becomes(late),
		})
	}
	early, whole := m.outcomes(at.Boot, c, late)
	if learned {
		if early = Learned; late {
			whole = Learned
		}
	}
	m.keep(early, whole, n.Baseline)
	return []Notice{n}
}

// becomes says what a first boot comes to.
func becomes(late bool) string {
	if late {
		return "there was no baseline: this boot becomes it, and was compared with nothing"
	}
	return "there is no baseline: this boot becomes it when its operating system has taken over, and is compared with nothing"
}

// unapproved reports a boot that waits for its first baseline.
func (m *Monitor) unapproved(at Moment, late bool) []Notice {
	n := m.notice(EventEarlyReport, at.Attempt)
	early, whole := Unknown, NotReached
	if late {
		n.Type, whole = EventLateReport, Unknown
	}
	n.Report = &baseline.Report{ActualMeasurements: []baseline.Measurement{}, PolicyMeasurements: []baseline.Measurement{}}
	n.Profile = m.cfg.Profile.Name
	n.Reasons = []evidence.Reason{{Code: codeUnapproved, Message: "this machine has no baseline yet, and its first is to be approved by a person"}}
	m.keep(early, whole, 0)
	return []Notice{n}
}

// learn makes the first baseline. It is kept once the boot has ended well: after the early
// part it is a passing one, for the boot may never end.
func (m *Monitor) learn(b *Boot) *Version {
	return &Version{
		Made: m.cfg.Now(), Actor: "system", Reason: "first boot", Boot: m.boot,
		Baseline: baseline.From(b, m.cfg.Shape),
	}
}

// judge compares a boot, which is at its early or at its late end, with a version. While
// firmware tries its boot options, what the baseline's boot had measured at the same
// attempt is what counts: a first option that comes back each time is no alarm, and one
// that measures something else, or that is left out, is.
func (m *Monitor) judge(at Moment, v *Version, late bool) (Notice, *baseline.Comparison) {
	base := v.Baseline
	if _, over := at.Boot.Ended(); !late && !over {
		base = base.Attempt(at.Boot.Attempts())
	}
	c := base.Compare(at.Boot, m.cfg.Profile)
	early, whole := base.Reports(at.Boot, c)
	n := m.notice(EventEarlyReport, at.Attempt)
	n.Report = &early
	if late {
		n.Type, n.Report = EventLateReport, &whole
	}
	n.Profile, n.Baseline = m.cfg.Profile.Name, v.Number
	n.Differences = slices.DeleteFunc(slices.Clone(c.Differences), func(d baseline.Difference) bool {
		return !late && d.Phase != "early"
	})
	if at.Boot.Broken() {
		n.Report.PolicyEvaluationPassed = false
		n.Reasons = []evidence.Reason{{Code: codeIncomplete, Message: "the record of this boot is not whole: its beginning was not seen, or it was full"}}
		return n, c
	}
	if !n.Report.PolicyEvaluationPassed {
		n.Reasons = reasons(n.Differences, late)
	}
	n.Bound()
	return n, c
}

// reasons gives one reason for each component that decides.
func reasons(differences []baseline.Difference, late bool) []evidence.Reason {
	code := evidence.Code(codeEarlyMismatch)
	if late {
		code = codeLateMismatch
	}
	var out []evidence.Reason
	for _, d := range differences {
		if d.Judged {
			out = append(out, evidence.Reason{Code: code, Message: d.Words, Component: d.Component})
		}
	}
	if len(out) == 0 {
		out = []evidence.Reason{{Code: code, Message: "the boot differs from its baseline"}}
	}
	return out
}

func (m *Monitor) outcomes(b *Boot, c *baseline.Comparison, late bool) (early, whole Outcome) {
	of := func(passed bool) Outcome {
		switch {
		case b.Broken():
			return Unknown
		case passed:
			return Passed
		default:
			return Failed
		}
	}
	if whole = NotReached; late {
		whole = of(c.LatePassed)
	}
	return of(c.EarlyPassed), whole
}

func (m *Monitor) keep(early, late Outcome, version int) {
	m.history.keep(BootRecord{
		Counter: m.boot, Started: m.started, Judged: m.cfg.Now(),
		Baseline: version, Early: early, Late: late, Boot: m.latest.settled(), Shape: m.cfg.Shape,
	})
}

// Counter is that of the boot that was seen to start; 0 while none was. What happens
// before belongs to no boot, and least of all to the one before.
func (m *Monitor) Counter() uint64 {
	// A machine that goes on in a boot is in it before its TPM has said anything here.
	if m.watch.started || m.wentOn && m.watch.before == nil {
		return m.boot
	}
	return 0
}

// Shutdown tells that the machine has stopped.
func (m *Monitor) Shutdown() Notice { return m.here(EventShutdown, 0) }

// here is a notice about what runs now.
func (m *Monitor) here(kind string, attempt int) Notice {
	n := m.notice(kind, attempt)
	if n.BootCounter = m.Counter(); n.BootCounter == 0 {
		n.Attempt = 0
	}
	return n
}

// Stuck tells that a boot did not get on in time. why is what was found out.
func (m *Monitor) Stuck(why []evidence.Reason) Notice {
	n := m.here(EventStuck, m.watch.attempt)
	n.Reasons = append([]evidence.Reason{{Code: codeDeadline, Message: "the machine did not start its operating system in time"}}, why...)
	return n
}

// The reason codes of this package.
const (
	codeAttemptFailed  = "integrity.attempt-failed"
	codeAttemptRefused = "integrity.attempt-refused"
	codeAppended       = "integrity.firmware-register-changed"
	codeLearned        = "integrity.baseline-learned"
	codeIncomplete     = "integrity.record-incomplete"
	codeEarlyMismatch  = "integrity.early-boot-mismatch"
	codeLateMismatch   = "integrity.late-boot-mismatch"
	codeDeadline       = "integrity.boot-deadline"
	codeUnapproved     = "integrity.baseline-unapproved"
	codeRecordFull     = "integrity.record-full"
	codeMore           = "integrity.more-differences"
	codePlanned        = "integrity.as-planned"
)
