// Package instances puts the machines of one host and their findings on HTTP, beside
// other routes of the service: shapes and names are close to Compute Engine's.
//
// It holds no machine and judges none: packages machine and finding do. Each call needs
// its permission on the machine that it is about; changes go into the service's audit
// chain. A definition names files and devices of the host, so what a caller may name is
// narrower here than on the host's own command line. Start with [New]; the guide is
// docs/guide/instances-api.md.
package instances

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/gallery"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/vtpm"
)

// A Host is what the routes need of this host beside its machines.
type Host interface {
	// Start starts a machine in the background, and returns when it runs. An error that
	// is the machine's own wraps a [StartError].
	Start(ctx context.Context, actor, name string) error
	// Create makes a machine, with a copy of the image that its definition names, if any.
	Create(ctx context.Context, actor, provider string, d *fleet.Definition) error
	// Boots says of a disk whether it boots under a key set: yes, no or unknown, and why not.
	Boots(ctx context.Context, file, format, keyset string) (boots, why string, err error)
	// Changed is told that a machine was made or has another definition.
	Changed(ctx context.Context, name string)
	// Deleted is told that a machine is no more.
	Deleted(ctx context.Context, name string)
}

// A StartError is why a machine did not start, in the words of its supervisor.
type StartError struct{ Words string }

func (e *StartError) Error() string { return "it did not start: " + e.Words }

// Config is what an API is made of. All but Disks and Log are required.
type Config struct {
	Machines *machine.Root
	Findings *finding.Store
	Images   *gallery.Gallery
	Host     Host
	Audit    apiserver.AuditLog
	// Dir is a folder of this process alone, for the records of operations. It is made
	// when it is not there.
	Dir string
	// Disks are the folders whose files callers may give to machines; none is none.
	Disks []string
	Now   func() time.Time
	Rand  io.Reader // of the names of operations
	// Patience is how long the request of a change waits for its end; 0 means 5 seconds.
	Patience time.Duration
	Log      *slog.Logger // nil means none
}

// An API is the routes of the machines of one host. It is safe for concurrent use.
type API struct {
	cfg        Config
	server     *apiserver.Server
	operations *operations
	life       context.Context // of operations; ended by Close
	stop       context.CancelFunc
	running    sync.WaitGroup

	mu   sync.Mutex                      // guards seen
	seen map[string]*machine.Observation // for Labels, by machine
}

// New makes the routes, and tells of operations that an earlier process left under way.
// Close stops what the routes began.
func New(ctx context.Context, c Config) (*API, error) {
	if c.Machines == nil || c.Findings == nil || c.Images == nil || c.Host == nil || c.Audit == nil || c.Dir == "" || c.Now == nil || c.Rand == nil {
		return nil, errors.New("make API of instances: Machines, Findings, Images, Host, Audit, Dir, Now and Rand are required")
	}
	for i, dir := range c.Disks {
		real, err := filepath.EvalSymlinks(dir)
		if err == nil {
			real, err = filepath.Abs(real)
		}
		if err != nil {
			return nil, fmt.Errorf("folder of disks: %w", err)
		}
		c.Disks[i] = real
	}
	if c.Patience <= 0 {
		c.Patience = answerPatience
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{cfg: c, operations: newOperations(c.Dir)}
	if err := a.recall(ctx); err != nil {
		return nil, fmt.Errorf("make API of instances: %w", err)
	}
	a.life, a.stop = context.WithCancel(context.Background())
	return a, nil
}

// Undone is the routes for their description alone: they answer nothing.
func Undone() *API { return &API{operations: newOperations("")} }

// Close ends operations under way, and waits for them.
func (a *API) Close() error {
	a.stop()
	a.running.Wait()
	return nil
}

// Register registers everything; no route is made elsewhere.
func (a *API) Register(s *apiserver.Server) {
	a.server = s
	a.machineRoutes(s)
	a.powerRoutes(s)
	a.judgeRoutes(s)
	a.policyRoutes(s)
	a.nextBootRoutes(s)
	a.snapshotRoutes(s)
	a.imageRoutes(s)
	a.findingRoutes(s)
	a.operationRoutes(s)
}

const (
	codeBusy        evidence.Code = "instance.busy"
	codeConfirm     evidence.Code = "instance.confirm"
	codeDamaged     evidence.Code = "instance.damaged"
	codeDisk        evidence.Code = "instance.disk-not-allowed"
	codeNotRunning  evidence.Code = "instance.not-running"
	codeOutcome     evidence.Code = "instance.outcome-unknown"
	codeStart       evidence.Code = "instance.start-failed"
	codeUnsupported evidence.Code = "instance.unsupported"
)

// A definitionError is a definition that cannot be, with what is wrong and where.
type definitionError struct{ error }

func (e *definitionError) Unwrap() error { return e.error }

// Explain says what a client may know of an error of a machine.
func (a *API) Explain(err error) *apiserver.Problem {
	var (
		refused    *machine.RefusedError
		start      *StartError
		definition *definitionError
		member     *fleet.DefinitionError
		state      *machine.StateError
	)
	switch {
	case errors.As(err, &refused):
		p := apiserver.NewProblem(http.StatusUnprocessableEntity, codeUnsupported, "this host does not support the machine")
		for _, r := range refused.Reasons {
			p.Errors = append(p.Errors, apiserver.FieldError{Field: string(r.Code), Detail: r.Message})
		}
		return p
	case errors.As(err, &start):
		return apiserver.NewProblem(http.StatusConflict, codeStart, start.Error())
	case errors.As(err, &state):
		return apiserver.NewProblem(http.StatusConflict, apiserver.CodeConflict, state.Words)
	case errors.As(err, &member):
		return apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, member.Error())
	case errors.As(err, &definition):
		return apiserver.NewProblem(http.StatusUnprocessableEntity, apiserver.CodeInvalid, definition.Error())
	}
	for _, k := range known {
		if errors.Is(err, k.err) {
			return k.problem(err)
		}
	}
	return nil
}

// A knownError is an error that a caller can act on.
type knownError struct {
	err    error
	status int
	code   evidence.Code
	words  string // what to say; empty for the error's own
}

// whole has all that is said of an error told: words of boots, baselines and machines, which
// whoever may ask for them knows.
const whole = "whole"

// problem is what to say of err, which is a k.
func (k *knownError) problem(err error) *apiserver.Problem {
	words := k.words
	switch words {
	case "":
		words = k.err.Error()
	case whole:
		words = wordsOf(err, k.err)
	}
	return apiserver.NewProblem(k.status, k.code, words)
}

// wordsOf is what err says of target, without what else went wrong at the same time: that
// may name files of the host.
func wordsOf(err, target error) string {
	for {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			return err.Error()
		}
		all := joined.Unwrap()
		i := slices.IndexFunc(all, func(e error) bool { return errors.Is(e, target) })
		if i < 0 {
			return target.Error()
		}
		err = all[i]
	}
}

var known = [...]knownError{
	{machine.ErrName, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{machine.ErrUnknown, http.StatusNotFound, apiserver.CodeNotFound, ""},
	{machine.ErrExists, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrConfirm, http.StatusConflict, codeConfirm, "the change destroys secrets for good: send confirm=true, after you have seen the effects with validateOnly=true"},
	{machine.ErrNotRunning, http.StatusConflict, codeNotRunning, ""},
	{machine.ErrBusy, http.StatusConflict, codeBusy, "the machine is in use: it runs, or is being changed by another process; a change needs it to be off"},
	{machine.ErrGiven, http.StatusConflict, apiserver.CodeConflict, "the machine was given to another host: assay vm migrate --settle finds out on the host whether it is there"},
	{machine.ErrDamaged, http.StatusConflict, codeDamaged, "what is stored of the machine is damaged: assay vm describe says more on the host"},
	{machine.ErrProvider, http.StatusConflict, apiserver.CodeConflict, ""},
	{keysets.ErrNone, http.StatusUnprocessableEntity, apiserver.CodeInvalid, "there is no key set of that name on this host"},
	{keyprovider.ErrNoProvider, http.StatusUnprocessableEntity, apiserver.CodeInvalid, "there is no key provider of that name on this host"},
	{machine.ErrNoDisk, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrNotJudged, http.StatusConflict, apiserver.CodeConflict, whole},
	{machine.ErrSnapshotName, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{machine.ErrSnapshotThere, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrNoSnapshot, http.StatusNotFound, apiserver.CodeNotFound, ""},
	{machine.ErrHardware, http.StatusConflict, apiserver.CodeConflict, "the machine has been changed since the snapshot, and its memory fits only what it was: withoutMemory=true leaves the memory"},
	{qemu.ErrNoSnapshot, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrNoBaseline, http.StatusConflict, apiserver.CodeConflict, whole},
	{machine.ErrNothingToPlan, http.StatusConflict, apiserver.CodeConflict, whole},
	{machine.ErrNotAsSeen, http.StatusConflict, apiserver.CodeConflict, ""},
	{machine.ErrNotReached, http.StatusConflict, apiserver.CodeConflict, whole},
	{integrity.ErrPlan, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{integrity.ErrNoBoot, http.StatusConflict, apiserver.CodeConflict, whole},
	{integrity.ErrNotSeen, http.StatusConflict, apiserver.CodeConflict, whole},
	{integrity.ErrNotKept, http.StatusNotFound, apiserver.CodeNotFound, whole},
	{vtpm.ErrUnknown, http.StatusConflict, apiserver.CodeConflict, ""},
	{gallery.ErrName, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{gallery.ErrUnknown, http.StatusNotFound, apiserver.CodeNotFound, ""},
	{gallery.ErrExists, http.StatusConflict, apiserver.CodeConflict, ""},
	{gallery.ErrDigest, http.StatusConflict, codeDamaged, ""},
	{gallery.ErrDamaged, http.StatusConflict, codeDamaged, ""},
	{gallery.ErrBusy, http.StatusConflict, codeBusy, ""},
	{disk.ErrMalformed, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{disk.ErrUnsupported, http.StatusUnprocessableEntity, apiserver.CodeInvalid, ""},
	{finding.ErrNone, http.StatusNotFound, apiserver.CodeNotFound, ""},
	{finding.ErrOver, http.StatusConflict, apiserver.CodeConflict, ""},
	{finding.ErrFull, http.StatusConflict, apiserver.CodeConflict, ""},
	{finding.ErrMust, http.StatusUnprocessableEntity, apiserver.CodeInvalid, "a member is missing or not fit: author, reason, kind, machine or the end, which is 366 days away at most"},
}

// actorOf names who asks in the events of a machine and in findings.
func actorOf(ctx context.Context) string { return "principal " + apiserver.Actor(ctx) }

// record keeps a change in the audit chain of the service.
func (a *API) record(ctx context.Context, action, subject, who, outcome string, detail any) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	e := audit.Entry{Time: a.cfg.Now(), Actor: who, Action: action, Subject: subject, Outcome: outcome, Detail: text}
	if err := a.cfg.Audit.RecordAudit(ctx, e); err != nil {
		return fmt.Errorf("record %s: %w", e.Action, err)
	}
	return nil
}

// checked says of a changed definition whether it can be.
func checked(d *fleet.Definition) error {
	if err := d.Check(); err != nil {
		return &definitionError{err}
	}
	return nil
}

// parsed reads a definition that a caller sent.
func parsed(v any) (*fleet.Definition, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d, err := fleet.ParseDefinition(text)
	if err != nil {
		return nil, &definitionError{err}
	}
	return d, nil
}
