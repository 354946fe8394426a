package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// Status says how a machine is, whoever runs it. It opens no home and needs no key.
func (r *Root) Status(ctx context.Context, name string) (*Status, error) {
	card, err := r.Card(name)
	if errors.Is(err, ErrDamaged) {
		return &Status{Name: name, State: StateDamaged, Problem: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	out := new(Status)
	_, _, err = r.call(ctx, name, request{Verb: verbStatus}, out)
	if err == nil {
		return out, nil
	}
	if !errors.Is(err, errNotRunning) {
		return nil, err
	}
	return r.unsupervised(card), nil
}

// givenProblem is what is wrong with a machine that was given away and is still here.
const givenProblem = "it was given to another host, which has not confirmed: " + askWhereItIs

// unsupervised is how a machine is that has no supervisor.
func (r *Root) unsupervised(card *Card) *Status {
	out := &Status{Name: card.Name, ID: card.ID, State: StateStopped}
	f, err := r.found(card)
	switch {
	case err != nil:
		out.State, out.Problem = StateDamaged, err.Error()
	case f.alive:
		out.State, out.PID, out.Since = StateUnsupervised, f.PID, f.Started
		out.Problem = fmt.Sprintf("its hypervisor, process %d, runs without a supervisor, and so without its TPM: assay vm stop --force ends it", f.PID)
	case f.was:
		out.State, out.Since, out.Problem = StateLost, f.Started, f.problem()
	}
	away, err := r.givenAway(card.Name)
	switch {
	case err != nil && out.Problem == "":
		out.Problem = err.Error()
	case away && out.Problem == "":
		out.Problem = givenProblem
	case away:
		out.Problem += "; " + givenProblem
	}
	return out
}

// Stop stops a machine that runs: its guest is asked to, and after a while it is ended.
// With force it is ended at once, and so is a hypervisor without a supervisor. It returns
// when the machine has ended.
func (r *Root) Stop(ctx context.Context, actor, name string, force bool) error {
	card, err := r.Card(name)
	if err != nil {
		return err
	}
	_, _, err = r.call(ctx, name, request{Verb: verbStop, Actor: actor, Force: force}, nil)
	if err != nil && !errors.Is(err, errNotRunning) {
		return err
	}
	if err != nil {
		f, ferr := r.found(card)
		if ferr == nil && f.unknown && force {
			return r.forget(ctx, name)
		}
		if ferr != nil || !f.alive {
			return errors.Join(err, ferr)
		}
		if !force {
			return fmt.Errorf("machine %q: its hypervisor, process %d, runs without a supervisor: --force ends it", name, f.PID)
		}
		if err := f.end(); err != nil {
			return err
		}
	}
	return r.awaitEnd(ctx, card)
}

// forget takes an operator's word that no hypervisor of a machine runs.
func (r *Root) forget(ctx context.Context, name string) error {
	h, err := r.Open(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(h.forget(), h.Close())
}

// awaitEnd waits until nobody has the home and no hypervisor is left.
func (r *Root) awaitEnd(ctx context.Context, card *Card) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, _, err := r.call(ctx, card.Name, request{Verb: verbStatus}, nil)
		if f, ferr := r.found(card); errors.Is(err, errNotRunning) && ferr == nil && !f.alive {
			// What follows finds the home free.
			if lock, err := durable.LockDir(r.dir(card.Name)); err == nil {
				return lock.Close()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("machine %q has not ended yet: %w", card.Name, ctx.Err())
		}
	}
}

// Reset presses the reset button of a machine.
func (r *Root) Reset(ctx context.Context, actor, name string) error {
	if _, err := r.Card(name); err != nil {
		return err
	}
	_, _, err := r.call(ctx, name, request{Verb: verbReset, Actor: actor}, nil)
	return err
}

// Console attaches to the first serial port of a machine that runs.
func (r *Root) Console(ctx context.Context, name string) (io.ReadWriteCloser, error) {
	if _, err := r.Card(name); err != nil {
		return nil, err
	}
	conn, in, err := r.call(ctx, name, request{Verb: verbConsole}, nil)
	if err != nil {
		return nil, err
	}
	return &attached{in, conn}, nil
}

// attached is a console: what came with the answer is read first.
type attached struct {
	in io.Reader
	io.WriteCloser
}

func (a *attached) Read(b []byte) (int, error) { return a.in.Read(b) }

// ask has the supervisor of a machine answer, or where there is none, offline, with the
// home opened here.
func ask[T any](ctx context.Context, r *Root, name string, q request, offline func(*Home) (T, error)) (out T, err error) {
	if _, err := r.Card(name); err != nil {
		return out, err
	}
	if _, _, err = r.call(ctx, name, q, &out); !errors.Is(err, errNotRunning) {
		return out, err
	}
	h, err := r.openSoon(ctx, name)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return offline(h)
}

// openSoon opens a home that another process is about to give back.
func (r *Root) openSoon(ctx context.Context, name string) (*Home, error) {
	const patience = 2 * time.Second
	late := time.NewTimer(patience)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		h, err := r.Open(ctx, name)
		if !errors.Is(err, ErrBusy) {
			return h, err
		}
		select {
		case <-tick.C:
		case <-late.C:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}

// Events are what happened to a machine, the oldest first.
func (r *Root) Events(ctx context.Context, name string) ([]integrity.Notice, error) {
	return ask(ctx, r, name, request{Verb: verbReadLog}, (*Home).Events)
}

// ConsoleText is what a machine printed in its last boot, words of the guest.
func (r *Root) ConsoleText(ctx context.Context, name string) (string, error) {
	return ask(ctx, r, name, request{Verb: verbConsoleOf}, func(h *Home) (string, error) {
		text, err := h.open(consoleFile)
		if err != nil {
			return "", err
		}
		defer text.Destroy()
		return string(text.Expose()), nil
	})
}

// History are the baselines and boots of a machine.
func (r *Root) History(ctx context.Context, name string) (*integrity.History, error) {
	text, err := ask(ctx, r, name, request{Verb: verbHistory}, func(h *Home) (*rawHistory, error) {
		history, err := h.History()
		return &rawHistory{history}, err
	})
	if err != nil {
		return nil, err
	}
	return text.History, nil
}

// rawHistory is read as strictly from a supervisor as from the home.
type rawHistory struct{ *integrity.History }

func (h *rawHistory) UnmarshalJSON(b []byte) (err error) {
	h.History, err = integrity.ParseHistory(b)
	return err
}

// Describe says all that is known of a machine.
func (r *Root) Describe(ctx context.Context, name string) (*Description, error) {
	status, err := r.Status(ctx, name)
	if err != nil {
		return nil, err
	}
	if status.State == StateDamaged {
		return &Description{Status: *status}, nil
	}
	out, err := ask(ctx, r, name, request{Verb: verbDescribe}, func(h *Home) (*Description, error) {
		d, err := h.Definition()
		if err != nil {
			return nil, err
		}
		history, err := h.History()
		if err != nil {
			return nil, err
		}
		status.Shield = &d.Shielded
		return &Description{Status: *status, Definition: d, Baselines: versionsOf(history), LastBoot: last(BootsOf(history))}, nil
	})
	return out, err
}

func last(boots []BootSummary) *BootSummary {
	if len(boots) == 0 {
		return nil
	}
	return &boots[len(boots)-1]
}

// Review says what would change if the latest boot of a machine became its baseline.
func (r *Root) Review(ctx context.Context, name string) (*Review, error) {
	return ask(ctx, r, name, request{Verb: verbReview}, func(h *Home) (*Review, error) {
		m, history, err := r.offline(h)
		if err != nil {
			return nil, err
		}
		return review(m, history)
	})
}

// Approve makes the boot that was reviewed the baseline of a machine.
func (r *Root) Approve(ctx context.Context, actor, name string, seen integrity.Seen, why string) ([]integrity.Notice, error) {
	return r.judgeAnew(ctx, name, request{Verb: verbApprove, Actor: actor, Seen: &seen, Reason: why}, func(m *integrity.Monitor) ([]integrity.Notice, error) {
		return m.Approve(seen, actor, why)
	})
}

// Restore puts an earlier baseline of a machine in force again.
func (r *Root) Restore(ctx context.Context, actor, name string, number int, why string) ([]integrity.Notice, error) {
	return r.judgeAnew(ctx, name, request{Verb: verbRestore, Actor: actor, Baseline: number, Reason: why}, func(m *integrity.Monitor) ([]integrity.Notice, error) {
		return m.Restore(number, actor, why)
	})
}

func (r *Root) judgeAnew(ctx context.Context, name string, q request, change func(*integrity.Monitor) ([]integrity.Notice, error)) ([]integrity.Notice, error) {
	return ask(ctx, r, name, q, func(h *Home) ([]integrity.Notice, error) {
		if err := h.notGiven(); err != nil {
			return nil, err
		}
		m, history, err := r.offline(h)
		if err != nil {
			return nil, err
		}
		notices, err := change(m)
		if err != nil {
			return nil, err
		}
		if err := h.beginBaseline(notices); err != nil {
			return nil, err
		}
		if err := h.SetHistory(history); err != nil {
			return nil, err
		}
		if err := r.logAll(h, notices); err != nil {
			return notices, err
		}
		return notices, h.unbegin()
	})
}

// offline is the judge of a machine that does not run, over its last boot.
func (r *Root) offline(h *Home) (*integrity.Monitor, *integrity.History, error) {
	d, err := h.Definition()
	if err != nil {
		return nil, nil, err
	}
	history, err := h.History()
	if err != nil {
		return nil, nil, err
	}
	m, err := r.newMonitor(d, history, nil)
	return m, history, err
}

// logAll keeps events of a machine that does not run.
func (r *Root) logAll(h *Home, notices []integrity.Notice) error {
	for _, n := range notices {
		if err := h.Log(n); err != nil {
			return err
		}
		if r.cfg.Event != nil {
			r.cfg.Event(n)
		}
	}
	return nil
}

// The states of a machine's TPM, as its supervisor knows them.
const (
	TPMServing = "serving"
	TPMLost    = "lost" // it ended under the machine
	TPMNone    = "none" // the machine has none
)

// An Observation is what somebody is told who watches all machines of a host.
type Observation struct {
	Status
	Records
	// TPM is empty for a machine that nobody supervises.
	TPM string `json:"tpm,omitempty"`
	// Generation is that of the state of its TPM, of a machine with a supervisor; 0 for none.
	Generation uint64 `json:"tpmGeneration,omitempty,string"`
	// TPMID tells that TPM from another that the machine had before; empty without Generation.
	TPMID string `json:"tpmId,omitempty"`
	// Unkept is set when something that happened could not be written down.
	Unkept bool `json:"unkept,omitempty"`
	// Events are counted from the start of the supervisor.
	Events []EventCount `json:"events,omitempty"`
	// Unread is why there are no Records of a machine without a supervisor; nil when they
	// were read. It wraps [ErrDamaged] where the home is to blame.
	Unread error  `json:"-"`
	stamp  string // of the files that Records were read from
}

// Records are what the home of a machine has of it.
type Records struct {
	// Agent is set when the definition has an agent.
	Agent  bool              `json:"agent"`
	Labels map[string]string `json:"labels,omitempty"`
	// Startups is how many boots the machine has begun in its life.
	Startups uint64 `json:"startups,string"`
	// Judged is what is kept of the boot that runs, or ran last; nil for nothing.
	Judged *BootSummary `json:"judged,omitempty"`
	// Baseline is the newest; nil without one.
	Baseline *VersionSummary `json:"baseline,omitempty"`
}

// An EventCount says how often something happened to a machine.
type EventCount struct {
	Type string `json:"type"`
	// Outcome is that of a report, or of an attestation.
	Outcome string `json:"outcome,omitempty"`
	Count   uint64 `json:"count"`
}

// recordsOf says what a home has of a boot.
func recordsOf(d *fleet.Definition, h *integrity.History, boot uint64) Records {
	out := Records{Agent: d.Agent, Labels: d.Labels, Startups: h.BootCounter}
	if b, err := h.Boot(boot); err == nil {
		out.Judged = &BootSummary{b.Counter, b.Started, b.Judged, b.Baseline, b.Early, b.Late}
	}
	if all := versionsOf(h); len(all) > 0 {
		out.Baseline = &all[len(all)-1]
	}
	return out
}

// observe is the supervisor's answer.
func (s *supervisor) observe() *Observation {
	out := &Observation{Status: s.status(), Records: recordsOf(s.definition, s.history, s.boot.Counter), TPM: TPMServing, Unkept: s.unkept != nil}
	switch {
	case s.tpm == nil:
		out.TPM = TPMNone
	case s.tpmLost:
		out.TPM = TPMLost
	default:
		if rec, ok := s.tpm.Record(); ok {
			out.Generation, out.TPMID = s.tpm.Generation(), rec.ID.String()
		}
	}
	for what, n := range s.counts {
		what.Count = n
		out.Events = append(out.Events, what)
	}
	return out
}

// count counts an event. A report that compared with nothing has not passed.
func (s *supervisor) count(n *integrity.Notice) {
	if s.counts == nil {
		s.counts = map[EventCount]uint64{}
	}
	what := EventCount{Type: n.Type, Outcome: n.Health}
	if n.Report != nil {
		what.Outcome = string(n.Outcome())
	}
	s.counts[what]++
}

// Observe is for who looks at all machines of a host again and again. It takes no lock,
// and opens the home of a machine that nobody supervises only when its files are others
// than those of known, which is what Observe returned before; nil for nothing.
func (r *Root) Observe(ctx context.Context, name string, known *Observation) (*Observation, error) {
	card, err := r.Card(name)
	if errors.Is(err, ErrDamaged) {
		return &Observation{Status: Status{Name: name, State: StateDamaged, Problem: err.Error()}, Unread: err}, nil
	}
	if err != nil {
		return nil, err
	}
	out := new(Observation)
	if _, _, err := r.call(ctx, name, request{Verb: verbObserve}, out); err == nil || !errors.Is(err, errNotRunning) {
		return out, err
	}
	out = &Observation{Status: *r.unsupervised(card)}
	if out.stamp, err = r.stamp(name); err != nil {
		return nil, err
	}
	if known != nil && known.stamp == out.stamp && known.Unread == nil {
		out.Records, out.Shield = known.Records, known.Shield
		return out, nil
	}
	d, history, err := r.peek(ctx, card)
	if after, serr := r.stamp(name); err != nil && (serr != nil || after != out.stamp) {
		return nil, fmt.Errorf("machine %q: it is being changed: %w", name, errors.Join(err, serr))
	}
	if err != nil {
		out.Unread = err
		if errors.Is(err, ErrDamaged) {
			out.State, out.Problem = StateDamaged, err.Error()
		}
		return out, nil
	}
	out.Records, out.Shield = recordsOf(d, history, history.BootCounter), &d.Shielded
	return out, nil
}

// stamp names the content of the files that Observe reads.
func (r *Root) stamp(name string) (string, error) {
	var all strings.Builder
	for _, file := range []string{cardFile, definitionFile, integrityFile} {
		s, err := durable.Stamp(filepath.Join(r.dir(name), file))
		if err != nil {
			return "", err
		}
		all.WriteString(s + "\n")
	}
	return all.String(), nil
}

// peek reads what Observe tells, without the home's lock.
func (r *Root) peek(ctx context.Context, card *Card) (d *fleet.Definition, history *integrity.History, err error) {
	err = r.glance(ctx, card, func(h *Home) error {
		if d, err = h.Definition(); err == nil {
			history, err = h.History()
		}
		return err
	})
	return d, history, err
}
