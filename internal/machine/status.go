package machine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// runningFile says that a hypervisor is about to be started for the machine, and then
// which one. It stays when the supervisor is killed.
const runningFile = "running.json"

// running is what is needed to find a hypervisor again, or to know that it is gone: a
// process number is used anew, a number with its start within one boot of the host is not.
type running struct {
	PID     int       `json:"pid"`   // 0 while it is about to be started
	Start   uint64    `json:"start"` // clock ticks after the host's boot (proc(5), stat)
	Host    string    `json:"hostBoot"`
	Started time.Time `json:"started"`
}

// finding is what became of a machine's last hypervisor.
type finding struct {
	running
	was   bool // one was started and not said to have ended
	alive bool
	// unknown is set when the supervisor ended in the moment of the start: it is not
	// known which hypervisor was started, or whether one was.
	unknown bool
}

// found looks for the hypervisor of a machine that no supervisor has.
func (r *Root) found(c *Card) (finding, error) { return r.foundBy(c.Name) }

// foundBy is found for a machine whose card may be damaged.
func (r *Root) foundBy(name string) (finding, error) {
	text, err := readFile(filepath.Join(r.dir(name), runningFile))
	if errors.Is(err, fs.ErrNotExist) {
		return finding{}, nil
	}
	if err != nil {
		return finding{}, err
	}
	f := finding{was: true}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f.running); err != nil {
		return finding{}, fmt.Errorf("%s: %w: %w", runningFile, err, ErrDamaged)
	}
	host, err := hostBoot()
	if err != nil {
		return finding{}, err
	}
	if f.PID == 0 {
		f.unknown = host == f.Host
		return f, nil
	}
	start, err := startOf(f.PID)
	f.alive = err == nil && host == f.Host && start == f.Start
	return f, nil
}

// problem says what became of a hypervisor whose end nobody saw.
func (f *finding) problem() string {
	if f.unknown {
		return "its supervisor ended while it started the hypervisor: one may run, without its TPM; look for a process whose arguments have the machine's id, and end it before the next start"
	}
	return "nobody saw its end: the host, or its supervisor, went down while it ran; its disks are as after a loss of power"
}

// intend says that a hypervisor is about to be started. What is called next is note
// with its number, or forget when it did not start.
func (h *Home) intend(now time.Time) error {
	host, err := hostBoot()
	if err != nil {
		return err
	}
	return h.writeRunning(running{Host: host, Started: now})
}

func (h *Home) writeRunning(n running) error {
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(h.dir, runningFile), text, 0o600)
}

// note says which hypervisor runs.
func (h *Home) note(pid int, now time.Time) error {
	start, err := startOf(pid)
	if err != nil {
		return err
	}
	host, err := hostBoot()
	if err != nil {
		return err
	}
	return h.writeRunning(running{pid, start, host, now})
}

// forget says that no hypervisor runs.
func (h *Home) forget() error { return durable.Remove(filepath.Join(h.dir, runningFile)) }

// hostBoot is the identity of this boot of the host (proc(5), sys/kernel/random/boot_id).
func hostBoot() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// startOf is when a process was started: field 22 of its stat (proc(5)); the name before
// may have spaces and parentheses. One that has ended and waits for its parent is gone.
func startOf(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const state, start = 0, 22 - 3
	if len(fields) <= start || fields[state] == "Z" || fields[state] == "X" {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(fields[start], 10, 64)
}

// end kills a hypervisor that was found again, and no other process: the handle is
// taken before its start is looked at once more.
func (f *finding) end() error {
	p, err := os.FindProcess(f.PID)
	if err != nil {
		return err
	}
	defer p.Release() //nolint:errcheck // it was only a handle
	if start, err := startOf(f.PID); err != nil || start != f.Start {
		return nil // it is gone
	}
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Status says how a machine is, whoever runs it. It opens no home and needs no key. Of one
// whose supervisor does not say it is [ErrNoAnswer] or [ErrGarbled], wrapped.
func (r *Root) Status(ctx context.Context, name string) (*Status, error) {
	card, err := r.Card(name)
	if errors.Is(err, ErrDamaged) {
		return &Status{Name: name, State: StateDamaged, Problem: ErrDamaged.Error(), Detail: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	out := new(Status)
	_, _, err = r.call(ctx, name, request{Verb: verbStatus}, out)
	switch {
	case errors.Is(err, errNotRunning):
		out = r.unsupervised(card)
	case err != nil:
		return nil, err
	case out.Name != name || out.State != StateRunning: // no supervisor says so
		return nil, fmt.Errorf("machine %q: %w", name, ErrGarbled)
	}
	r.seen.keep(out, r.cfg.Now())
	return out, nil
}

// givenProblem is what is wrong with a machine that was given away and is still here.
const givenProblem = "it was given to another host, which has not confirmed: " + askWhereItIs

// unsupervised is how a machine is that has no supervisor.
func (r *Root) unsupervised(card *Card) *Status {
	out := &Status{Name: card.Name, ID: card.ID, State: StateStopped}
	f, err := r.found(card)
	switch {
	case err != nil:
		out.State, out.Problem, out.Detail = StateDamaged, "what became of its hypervisor cannot be read", err.Error()
	case f.alive:
		out.State, out.PID, out.Since = StateUnsupervised, f.PID, f.Started
		out.Problem = fmt.Sprintf("its hypervisor, process %d, runs without a supervisor, and so without its TPM: assay vm stop --force ends it", f.PID)
	case f.was:
		out.State, out.Since, out.Problem = StateLost, f.Started, f.problem()
	}
	away, err := r.givenAway(card.Name)
	switch {
	case err != nil && out.Problem == "":
		out.Problem, out.Detail = "whether it was given to another host cannot be read", err.Error()
	case away && out.Problem == "":
		out.Problem = givenProblem
	case away:
		out.Problem += "; " + givenProblem
	}
	return out
}

// StateUnknown is that of a machine that does not say how it is.
const StateUnknown = "unknown"

// Limits of who asks how many machines are.
const (
	statusTime = 3 * time.Second // for the answer of one
	listTime   = 9 * time.Second // for those of all
	atOnce     = 64
)

// Statuses says of each machine how it is. One that is at fault hides no other, and none is
// waited for long.
func (r *Root) Statuses(ctx context.Context) ([]*Status, error) {
	names, err := r.Names()
	if err != nil {
		return nil, err
	}
	out := r.StatusesOf(ctx, names)
	return out, ctx.Err()
}

// StatusesOf is Statuses of some machines, in their order. One that there is not is left out.
func (r *Root) StatusesOf(ctx context.Context, names []string) []*Status {
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	out := make([]*Status, len(names))
	slots := make(chan struct{}, atOnce)
	var asking sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			out[i] = r.statusSoon(ctx, name)
		})
	}
	asking.Wait()
	return slices.DeleteFunc(out, func(s *Status) bool { return s == nil })
}

// statusSoon is the status of a machine, or what is known without its supervisor; nil of
// one that there is not.
func (r *Root) statusSoon(ctx context.Context, name string) *Status {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	s, err := r.Status(ctx, name)
	switch {
	case errors.Is(err, ErrUnknown):
		return nil // a folder without a card: it is being made or deleted, or was when the host went down
	case err != nil:
		return r.unanswered(name, err)
	}
	return s
}

// unanswered is how a machine is whose supervisor does not say it: what is known of before,
// and what the host sees.
func (r *Root) unanswered(name string, err error) *Status {
	out := &Status{Name: name, State: StateUnknown, LastKnown: r.seen.of(name), Problem: "how it is cannot be read", Detail: err.Error()}
	switch {
	case errors.Is(err, ErrNoAnswer):
		out.Problem, out.Detail = ErrNoAnswer.Error(), ""
	case errors.Is(err, ErrGarbled):
		out.Problem = ErrGarbled.Error()
	}
	card, cerr := r.Card(name)
	if cerr != nil {
		return out
	}
	out.ID = card.ID
	if f, ferr := r.found(card); ferr == nil && f.was && !f.unknown {
		out.PID, out.Since = f.PID, f.Started
		if out.LastKnown == nil && f.alive {
			out.LastKnown = &LastKnown{State: StateRunning, Seen: f.Started}
		}
		if !f.alive {
			out.Problem += "; its hypervisor has ended"
		}
	}
	return out
}

// A LastKnown is how a machine was when it was last seen.
type LastKnown struct {
	State string      `json:"state"`
	Seen  time.Time   `json:"seen"`
	Boot  *BootStatus `json:"boot,omitempty"`
}

// sightings are how the machines of a root were last seen by this process.
type sightings struct {
	mu     sync.Mutex           // guards byName
	byName map[string]LastKnown // of machines that are there
}

func (s *sightings) keep(now *Status, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byName == nil {
		s.byName = map[string]LastKnown{}
	}
	s.byName[now.Name] = LastKnown{now.State, at, now.Boot}
}

func (s *sightings) of(name string) *LastKnown {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.byName[name]
	if !ok {
		return nil
	}
	return &known
}

// only forgets all machines but those of sorted names.
func (s *sightings) only(names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.byName {
		if _, there := slices.BinarySearch(names, name); !there {
			delete(s.byName, name)
		}
	}
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
		return &Observation{Status: Status{Name: name, State: StateDamaged, Problem: ErrDamaged.Error(), Detail: err.Error()}, Unread: err}, nil
	}
	if err != nil {
		return nil, err
	}
	out := new(Observation)
	if _, _, err := r.call(ctx, name, request{Verb: verbObserve}, out); err == nil || !errors.Is(err, errNotRunning) {
		return out, err
	}
	out = &Observation{Status: *r.unsupervised(card)}
	if out.stamp, err = r.stamp(name, observedFiles[:]...); err != nil {
		return nil, err
	}
	if known != nil && known.stamp == out.stamp && known.Unread == nil {
		out.Records, out.Shield = known.Records, known.Shield
		return out, nil
	}
	d, history, err := r.peek(ctx, card)
	if after, serr := r.stamp(name, observedFiles[:]...); err != nil && (serr != nil || after != out.stamp) {
		return nil, fmt.Errorf("machine %q: it is being changed: %w", name, errors.Join(err, serr))
	}
	if err != nil {
		out.Unread = err
		if errors.Is(err, ErrDamaged) {
			out.State, out.Problem, out.Detail = StateDamaged, ErrDamaged.Error(), err.Error()
		}
		return out, nil
	}
	out.Records, out.Shield = recordsOf(d, history, history.BootCounter), &d.Shielded
	return out, nil
}

// observedFiles are those that Observe reads.
var observedFiles = [...]string{cardFile, definitionFile, integrityFile}

// stamp names the content of files of a home.
func (r *Root) stamp(name string, files ...string) (string, error) {
	var all strings.Builder
	for _, file := range files {
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
