package machine

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/strictjson"
)

// The verbs of the control socket. It has mode 0700's folder around it: who reaches it is
// the supervisor's own user.
const (
	verbStatus    = "status"
	verbStop      = "stop"
	verbReset     = "reset"
	verbConsole   = "console"
	verbReadLog   = "events"
	verbReview    = "review"
	verbApprove   = "approve"
	verbRestore   = "restore"
	verbHistory   = "history"
	verbDescribe  = "describe"
	verbConsoleOf = "consoleText"
	verbObserve   = "observe"

	verbSnapshot     = "snapshot"
	verbSnapshots    = "snapshots"
	verbDropSnapshot = "dropSnapshot"
	verbGoBack       = "goBack"
	verbMigrate      = "migrate"
	verbCallOff      = "callOff"
	verbMoving       = "moving"
)

// A request is one line of JSON.
type request struct {
	Verb   string `json:"verb"`
	Actor  string `json:"actor,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Seen is what was reviewed, Baseline the number of the one to restore.
	Seen     *integrity.Seen `json:"seen,omitempty"`
	Baseline int             `json:"baseline,omitempty"`
	// Snapshot is the name of one; Memory says that the machine is to go on with its memory.
	Snapshot string `json:"snapshot,omitempty"`
	Memory   bool   `json:"memory,omitempty"`
	// Ticket is that of another host.
	Ticket    string `json:"ticket,omitempty"`
	CopyDisks bool   `json:"copyDisks,omitempty"`
	DryRun    bool   `json:"dryRun,omitempty"`
	// Force ends the machine at once.
	Force bool `json:"force,omitempty"`
}

// A response is one line of JSON.
type response struct {
	Error string `json:"error,omitempty"`
	// Kind is what kinds calls the error, if it is one that callers act on; Words are its own,
	// without what else went wrong, which may name files of this host.
	Kind   string          `json:"kind,omitempty"`
	Words  string          `json:"words,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// asked is a request on its way to the machine's loop.
type asked struct {
	request request
	answer  chan response
}

var requestRules = strictjson.Rules{Bytes: 64 << 10, Depth: 2, Members: 16, Values: 32, FoldNames: true}

// control serves one connection: one request, one response; a console goes on after it.
func (s *supervisor) control(ctx context.Context, c *net.UnixConn) {
	line, err := bufio.NewReader(io.LimitReader(c, int64(requestRules.Bytes))).ReadBytes('\n')
	if err != nil {
		return
	}
	var q request
	if _, err = strictjson.Parse(line, requestRules); err == nil {
		err = json.Unmarshal(line, &q)
	}
	if err != nil {
		answer(c, response{Error: "not a request"})
		return
	}
	a := asked{q, make(chan response, 1)}
	select {
	case s.asked <- a:
	case <-ctx.Done():
		return
	}
	var got response
	select {
	case got = <-a.answer:
	case <-ctx.Done():
		return
	}
	if answer(c, got) && got.Error == "" && q.Verb == verbConsole {
		s.console.attach(c)
	}
}

// answer writes a response.
func answer(w io.Writer, r response) bool {
	b, err := json.Marshal(r)
	if err != nil {
		return false
	}
	_, err = w.Write(append(b, '\n'))
	return err == nil
}

// handle answers a request, in the machine's loop. What waits for the hypervisor does so
// elsewhere.
func (s *supervisor) handle(a asked) {
	q := &a.request
	switch q.Verb {
	case verbReset:
		if err := s.notSaid(); err != nil {
			a.answer <- respond(nil, err)
			return
		}
		s.timed = false // what an operator starts has its whole time
		s.serving.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), cutTime)
			defer cancel()
			a.answer <- respond(struct{}{}, s.hypervisor.Reset(ctx))
		})
	case verbSnapshot:
		s.aside(func(ctx context.Context) { a.answer <- respond(s.takeSnapshot(ctx, q.Actor, q.Snapshot)) })
	case verbDropSnapshot:
		s.aside(func(ctx context.Context) { a.answer <- respond(struct{}{}, s.dropSnapshot(ctx, q.Actor, q.Snapshot)) })
	case verbMigrate:
		s.asideFor(s.root.pace.whole(q.CopyDisks), func(ctx context.Context) {
			var once sync.Once
			answer := func(m *Migration, err error) { once.Do(func() { a.answer <- respond(m, err) }) }
			m, err := s.depart(ctx, q, func(err error) { answer(nil, err) })
			answer(m, err)
			if err == nil && !m.DryRun || errors.Is(err, ErrGiven) { // what is here does not go on
				s.cut()
			}
		})
	default:
		a.answer <- respond(s.do(*q))
	}
}

func respond(result any, err error) response {
	if err != nil {
		kind, words := kindOf(err)
		return response{Error: err.Error(), Kind: kind, Words: words}
	}
	b, err := json.Marshal(result)
	if err != nil {
		return response{Error: err.Error()}
	}
	return response{Result: b}
}

// A StateError is a machine that cannot do what was asked as it is now, in words for
// whoever asked.
type StateError struct{ Words string }

func (e *StateError) Error() string { return e.Words }

// kindState is the kind of a [StateError].
const kindState = "state"

// kinds are the other errors that callers act on: errors.Is holds on both sides of the
// control socket.
func kinds() map[string]error {
	return map[string]error{
		"snapshotName": ErrSnapshotName, "snapshotThere": ErrSnapshotThere, "noSnapshot": ErrNoSnapshot, "noSnapshotOfDisk": qemu.ErrNoSnapshot,
		"noBoot": integrity.ErrNoBoot, "notSeen": integrity.ErrNotSeen, "notKept": integrity.ErrNotKept, "notJudged": ErrNotJudged,
		"hardware": ErrHardware,
	}
}

func kindOf(err error) (kind, words string) {
	var state *StateError
	if errors.As(err, &state) {
		return kindState, state.Words
	}
	if errors.Is(err, errMoving) {
		return kindState, errMoving.Error()
	}
	for kind, e := range kinds() {
		if errors.Is(err, e) {
			return kind, WordsOf(err, e)
		}
	}
	return "", ""
}

// WordsOf is what err says of target, without what else went wrong at the same time: that
// may name files of the host.
func WordsOf(err, target error) string {
	own := err
	for at := err; at != nil; {
		switch e := at.(type) {
		case interface{ Unwrap() []error }:
			all := e.Unwrap()
			i := slices.IndexFunc(all, func(one error) bool { return errors.Is(one, target) })
			if i < 0 {
				return target.Error()
			}
			at, own = all[i], all[i]
		case interface{ Unwrap() error }:
			at = e.Unwrap()
		default:
			at = nil
		}
	}
	return own.Error()
}

// A toldError is all that a supervisor said, with the error among it that callers act on.
type toldError struct {
	words string
	is    []error
}

func (e *toldError) Error() string   { return e.words }
func (e *toldError) Unwrap() []error { return e.is }

// A kindError is one of kinds in the words of a supervisor.
type kindError struct {
	words string
	kind  error
}

func (e *kindError) Error() string { return e.words }
func (e *kindError) Unwrap() error { return e.kind }

// unsaid are the words of a supervisor of an older program, which did not tell its own from
// others.
const unsaid = "as the machine is now, it cannot do that"

// err is the error of a response that has one.
func (r *response) err() error {
	all, own := strings.TrimSpace(r.Error), strings.TrimSpace(r.Words)
	kind := kinds()[r.Kind]
	switch {
	case r.Kind == kindState:
		return &toldError{all, []error{&StateError{cmp.Or(own, unsaid)}}}
	case kind == nil:
		return &toldError{words: all}
	}
	return &toldError{all, []error{&kindError{cmp.Or(own, kind.Error()), kind}}}
}

func (s *supervisor) do(q request) (any, error) {
	switch q.Verb {
	case verbStatus:
		return s.status(), nil
	case verbObserve:
		return s.observe(), nil
	case verbDescribe:
		return s.described(), nil
	case verbStop:
		s.ending = &ending{actor: q.Actor, reason: reason(codeStopped, "somebody stopped the machine")}
		if q.Force {
			s.cut()
		} else {
			s.halt()
		}
		return struct{}{}, nil
	case verbGoBack:
		return struct{}{}, s.beginBack(&q)
	case verbCallOff:
		return struct{}{}, s.callOff(q.Actor)
	case verbMoving:
		return s.onItsWay(), nil
	case verbConsole:
		return struct{}{}, nil
	case verbConsoleOf:
		return s.console.log.Text(), nil
	case verbReadLog:
		return s.home.Events()
	case verbHistory:
		return s.history, nil
	case verbSnapshots:
		return s.home.snapshots()
	case verbReview:
		return review(s.monitor, s.history)
	case verbApprove:
		if q.Seen == nil {
			return nil, integrity.ErrNotSeen
		}
		return s.changed(func() ([]integrity.Notice, error) { return s.monitor.Approve(*q.Seen, q.Actor, q.Reason) })
	case verbRestore:
		return s.changed(func() ([]integrity.Notice, error) { return s.monitor.Restore(q.Baseline, q.Actor, q.Reason) })
	}
	return nil, fmt.Errorf("verb %.40q is not known", q.Verb)
}

// changed keeps what a change of the baseline brings. One that cannot be kept is undone.
func (s *supervisor) changed(change func() ([]integrity.Notice, error)) (any, error) {
	if err := s.notSaid(); err != nil {
		return nil, err
	}
	before := *s.history
	before.Versions, before.Boots = slices.Clone(s.history.Versions), slices.Clone(s.history.Boots)
	notices, err := change()
	if err != nil {
		return nil, err
	}
	notices = s.worded(notices)
	if err := s.home.keep(s.history, notices); err != nil {
		*s.history = before
		return nil, fmt.Errorf("the baseline is not kept: %w", err)
	}
	return notices, s.say(notices, nil)
}

// A Review is what would change if the latest boot became the baseline.
type Review struct {
	integrity.Seen
	Changes []baseline.Difference `json:"changes"`
	// First is set when there is no baseline yet: the changes are all that was measured.
	First bool `json:"first,omitempty"`
}

func review(m *integrity.Monitor, h *integrity.History) (*Review, error) {
	seen, changes, err := m.Review()
	if err != nil {
		return nil, err
	}
	return &Review{seen, changes, h.InForce() == nil}, nil
}

// The states of a machine.
const (
	StateRunning = "running"
	StateStopped = "stopped"
	// StateLost is a machine whose end nobody saw: the host, or its supervisor and
	// hypervisor, went down.
	StateLost = "lost"
	// StateUnsupervised is a hypervisor that runs without its supervisor, and so without
	// its TPM.
	StateUnsupervised = "unsupervised"
	StateDamaged      = "damaged"
)

// A Status is what is known of a machine without opening its home.
type Status struct {
	Name  string `json:"name"`
	ID    string `json:"id,omitempty"`
	State string `json:"state"`
	// LastKnown is how a machine was whose state is unknown; nil when nobody knows.
	LastKnown *LastKnown `json:"lastKnown,omitempty"`
	// Problem says what is wrong where the state is lost, unsupervised, damaged or unknown.
	// Detail says more of it to who is on the host: it may name files.
	Problem string            `json:"problem,omitempty"`
	Detail  string            `json:"detail,omitempty"`
	PID     int               `json:"pid,omitempty"`
	Since   time.Time         `json:"since,omitzero"`
	Boot    *BootStatus       `json:"boot,omitempty"`
	Shield  *fleet.Shielded   `json:"shieldedInstanceConfig,omitempty"`
	Health  *HealthStatus     `json:"health,omitempty"` // nil without an agent; no state before its first word
	Reasons []evidence.Reason `json:"reasons,omitempty"`
}

// A Description is all that is known of a machine.
type Description struct {
	Status
	Definition *fleet.Definition `json:"definition"`
	Baselines  []VersionSummary  `json:"baselines"`
	LastBoot   *BootSummary      `json:"lastBoot,omitempty"`
}

// A VersionSummary is one baseline without its values.
type VersionSummary struct {
	Number int       `json:"number"`
	Made   time.Time `json:"made"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	Boot   uint64    `json:"bootCounter,string"`
}

// A BootSummary is one boot without its measurements.
type BootSummary struct {
	Counter  uint64            `json:"bootCounter,string"`
	Started  time.Time         `json:"started"`
	Judged   time.Time         `json:"judged,omitzero"`
	Baseline int               `json:"baseline,omitempty"`
	Early    integrity.Outcome `json:"early"`
	Late     integrity.Outcome `json:"late"`
}

func versionsOf(h *integrity.History) []VersionSummary {
	out := []VersionSummary{}
	for _, v := range h.Versions {
		out = append(out, VersionSummary{v.Number, v.Made, v.Actor, v.Reason, v.Boot})
	}
	return out
}

// BootsOf lists the boots of a history.
func BootsOf(h *integrity.History) []BootSummary {
	out := []BootSummary{}
	for _, b := range h.Boots {
		out = append(out, BootSummary{b.Counter, b.Started, b.Judged, b.Baseline, b.Early, b.Late})
	}
	return out
}

// condition is the machine's own view.
func (s *supervisor) condition() Status {
	boot := s.boot
	if s.tpm == nil {
		boot.Phase = PhaseUnseen
	}
	problem, detail := "", ""
	switch {
	case s.unkept != nil:
		problem, detail = "what happened is not kept", s.unkept.Error()
	case s.doubt != "":
		problem = s.doubt
	case s.tpmLost:
		problem = "its TPM has ended"
	}
	return Status{
		Problem: problem, Detail: detail, Name: s.home.Name(), ID: s.home.card.ID, State: StateRunning, PID: s.hypervisor.PID(),
		Boot: &boot, Shield: &s.definition.Shielded, Health: s.health,
	}
}

func reason(code evidence.Code, message string) evidence.Reason {
	return evidence.Reason{Code: code, Message: message}
}

// The reason codes of this package.
const (
	codeTPMLost = "machine.tpm-lost"
	codeChanged = "machine.configuration-changed"
	// codeSecureBootOff is told apart from the code of a quote by package finding, too.
	codeSecureBootOff = "machine.secure-boot-off"
	codeCleared       = "machine.tpm-cleared"
	codeTPMRemoved    = "machine.tpm-removed"
	codeUnwatched     = "machine.monitoring-off"
	codeStopped       = "machine.stopped"
	codeHypervisor    = "machine.hypervisor-failed"
	codeLost          = "machine.end-not-seen"

	codeSnapshot     = "machine.snapshot-made"
	codeSnapshotGone = "machine.snapshot-deleted"
	codeWentBack     = "machine.snapshot-restored"
	codeTPMBack      = "machine.tpm-rolled-back"

	codeArrived = "machine.arrived"
	codeLeft    = "machine.left"
	codeStayed  = "machine.migration-failed"

	// codeUnapproved is of package integrity.
	codeUnapproved = "integrity.baseline-unapproved"
)
