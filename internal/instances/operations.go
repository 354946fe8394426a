package instances

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/gallery"
	"github.com/assay-project/assay/internal/machine"
)

// The states of an operation, as Compute Engine has them.
const (
	statusRunning = "RUNNING"
	statusDone    = "DONE"
)

// Limits of operations.
const (
	maxOperations  = 1000             // kept, those that have ended among them
	mostRunning    = 64               // at once
	mostOfOne      = 48               // of them by one principal
	operationTime  = 15 * time.Minute // of one
	copyTime       = 2 * time.Hour    // of one that copies disks: into the gallery, to a backup or from one
	answerPatience = 5 * time.Second  // how long the request of a change waits for its end, unless the configuration says otherwise
	waitPatience   = 15 * time.Second // how long "wait" does; a request has 20
)

// An Operation is one change of one machine. One that ends soon has ended in the answer to
// its request; its failure then is the answer. Else it is RUNNING, and is asked for by
// its name.
type Operation struct {
	Kind          string     `json:"kind" enum:"operation"`
	Name          string     `json:"name"`
	OperationType string     `json:"operationType" doc:"create, update, start, stop and so on"`
	Instance      string     `json:"instance"`
	Image         string     `json:"image,omitempty" doc:"Of a change of an image, which has no instance"`
	User          string     `json:"user"`
	Status        string     `json:"status" enum:"RUNNING,DONE"`
	InsertTime    time.Time  `json:"insertTime"`
	EndTime       *time.Time `json:"endTime,omitempty"`
	Error         *Fault     `json:"error,omitempty" doc:"Why it failed; absent while it runs and when it has succeeded"`
	// ValidateOnly is set when nothing was changed.
	ValidateOnly bool            `json:"validateOnly,omitempty"`
	Effects      []fleet.Effect  `json:"effects,omitzero" nullable:"false" doc:"What a change of the definition brings about"`
	Review       *machine.Review `json:"review,omitempty" doc:"What is, or would become, the baseline: in the answer to the change itself, or with validateOnly, and not kept"`
	// Snapshot is the one that was made.
	Snapshot *Snapshot   `json:"snapshot,omitempty"`
	Backup   *BackupMade `json:"backup,omitempty" doc:"That was written"`
	Restored *Restored   `json:"restored,omitempty" doc:"What was made of a backup, or with validateOnly would be"`
	// ImageMade is the image that was made.
	ImageMade *gallery.Image `json:"imageMade,omitempty"`
}

// subject is what the operation is about.
func (o *Operation) subject() string {
	if o.Image != "" {
		return o.Image
	}
	return o.Instance
}

// key is what one operation at a time is about. No name of a machine has a space.
func (o *Operation) key() string {
	if o.Image != "" {
		return "images "
	}
	return o.Instance
}

// action is the operation's name in the audit chain.
func (o *Operation) action() string {
	if o.Image != "" {
		return "image." + o.OperationType
	}
	return "instance." + o.OperationType
}

// A Fault is why an operation failed.
type Fault struct {
	Code    evidence.Code          `json:"code" doc:"Reason code of docs/reasons.md"`
	Message string                 `json:"message"`
	Errors  []apiserver.FieldError `json:"errors,omitempty" nullable:"false"`
}

// An ongoing operation; the mutex of operations guards it.
type ongoing struct {
	Operation
	failed *apiserver.Problem // once done; nil for no failure
	done   chan struct{}      // closed at its end
	// review is whole in the answer to the request that began the operation, and is kept for
	// that alone: a guest chooses how long it is.
	review   *machine.Review
	answered bool // that request is, or waits no longer
}

// operations are those of one service, by name: in memory, and in a ledger that outlives
// it.
type operations struct {
	ledger ledger

	mu      sync.Mutex // guards all below
	byName  map[string]*ongoing
	order   []string            // by begin
	current map[string]*ongoing // by instance
}

func newOperations(dir string) *operations {
	return &operations{ledger: ledger{dir}, byName: map[string]*ongoing{}, current: map[string]*ongoing{}}
}

// begin adds an operation, durably before anybody is told its name. A machine has one at a
// time.
func (o *operations) begin(op Operation) (*ongoing, error) {
	out := &ongoing{Operation: op, done: make(chan struct{})}
	if err := o.take(out); err != nil {
		return nil, err
	}
	err := o.ledger.write(&op)
	o.mu.Lock()
	if err != nil {
		delete(o.current, op.key())
		o.mu.Unlock()
		return nil, fmt.Errorf("keep operation: %w", err)
	}
	dropped := o.add(out)
	o.mu.Unlock()
	o.drop(dropped)
	return out, nil
}

// take has an operation be the one of its machine.
func (o *operations) take(op *ongoing) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c, busy := o.current[op.key()]; busy {
		return apiserver.NewProblem(http.StatusConflict, codeBusy, fmt.Sprintf("operation %s (%s) is under way", c.Name, c.OperationType))
	}
	own := 0
	for _, c := range o.current {
		if c.User == op.User {
			own++
		}
	}
	if len(o.current) >= mostRunning || own >= mostOfOne {
		return apiserver.NewProblem(http.StatusTooManyRequests, apiserver.CodeOverloaded, "too many operations are under way")
	}
	o.current[op.key()] = op
	return nil
}

// add makes an operation one that is found, and returns the names of those that have ended
// and are found no more. The caller has the mutex.
func (o *operations) add(op *ongoing) (dropped []string) {
	o.byName[op.Name] = op
	o.order = append(o.order, op.Name)
	for len(o.byName) > maxOperations {
		name := o.oldestOfMost()
		if name == "" {
			return dropped
		}
		delete(o.byName, name)
		o.order = slices.DeleteFunc(o.order, func(n string) bool { return n == name })
		dropped = append(dropped, name)
	}
	return dropped
}

// oldestOfMost is the oldest operation that has ended of the principal who has the most of
// these, so that nobody's are pushed out by others'; "" for none.
func (o *operations) oldestOfMost() string {
	ended := map[string]int{}
	most := ""
	for _, name := range o.order {
		if op := o.byName[name]; op.Status == statusDone {
			if ended[op.User]++; ended[op.User] > ended[most] {
				most = op.User
			}
		}
	}
	i := slices.IndexFunc(o.order, func(name string) bool { op := o.byName[name]; return op.Status == statusDone && op.User == most })
	if i < 0 {
		return ""
	}
	return o.order[i]
}

// drop takes operations that are found no more off the ledger.
func (o *operations) drop(names []string) {
	for _, name := range names {
		o.ledger.remove(name) //nolint:errcheck // the next process finds what stayed, and drops it
	}
}

// finish ends an operation, durably before anybody is told how. An error is a ledger that
// still has it as running: after a crash nobody knows how it ended.
func (o *operations) finish(op *ongoing, as Operation, p *apiserver.Problem) error {
	err := o.ledger.write(&as)
	o.mu.Lock()
	defer o.mu.Unlock()
	if !op.answered && p == nil {
		op.review = as.Review
	}
	as.Review = nil
	op.Operation, op.failed = as, p
	delete(o.current, op.key())
	close(op.done)
	return err
}

// view is an operation as it stands.
func (o *operations) view(op *ongoing) (Operation, *apiserver.Problem) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return op.Operation, op.failed
}

// answer is an operation as it stands for the request that began it, which asks once.
func (o *operations) answer(op *ongoing) (Operation, *apiserver.Problem) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := op.Operation
	if op.review != nil {
		out.Review = op.review
	}
	op.review, op.answered = nil, true
	return out, op.failed
}

// find returns the operation of a name that a caller may see.
func (o *operations) find(name string) *ongoing {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byName[name]
}

// list returns all, the newest first.
func (o *operations) list() []Operation {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]Operation, 0, len(o.order))
	for _, name := range slices.Backward(o.order) {
		out = append(out, o.byName[name].Operation)
	}
	return out
}

// A work is a change to carry out.
type work struct {
	kind, instance string
	detail         any // for the audit chain
	// do carries it out, and may add to what the operation shows.
	do func(ctx context.Context, actor string, show *Operation) error
}

// run carries a change out, whether or not its caller waits for it. The audit chain has
// its begin before anything is done, and its end.
func (a *API) run(ctx context.Context, w work) (*apiserver.Reply[Operation], error) {
	return a.runOn(ctx, "", w)
}

// runOn is run for a change of an image, which has no instance; "" is none.
func (a *API) runOn(ctx context.Context, image string, w work) (*apiserver.Reply[Operation], error) {
	name, err := a.newName()
	if err != nil {
		return nil, err
	}
	op, err := a.operations.begin(Operation{
		Kind: "operation", Name: name, OperationType: w.kind, Instance: w.instance, Image: image, User: apiserver.Actor(ctx),
		Status: statusRunning, InsertTime: a.cfg.Now().UTC(),
	})
	if err != nil {
		return nil, err
	}
	// From here on no other operation changes the machine's labels.
	if err := a.server.Recheck(ctx); err != nil {
		a.end(ctx, op, Operation{}, a.server.Problem(ctx, err))
		return nil, err
	}
	if err := a.record(ctx, op.action(), op.subject(), op.User, "begun", map[string]any{"operation": name, "change": w.detail}); err != nil {
		a.end(ctx, op, Operation{}, a.server.Problem(ctx, err))
		return nil, err
	}
	actor := actorOf(ctx)
	a.running.Go(func() { a.carryOut(op, w, actor) })
	err = wait(ctx, op, a.cfg.Patience)
	out, failed := a.operations.answer(op)
	if err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return apiserver.Answer(out), nil
}

func (a *API) newName() (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(a.cfg.Rand, b[:]); err != nil {
		return "", fmt.Errorf("name operation: %w", err)
	}
	return "operation-" + hex.EncodeToString(b[:]), nil
}

// carryOut does the work and keeps how it ended.
func (a *API) carryOut(op *ongoing, w work, actor string) {
	most := operationTime
	if op.Image != "" || w.kind == "backup" || w.kind == "restoreBackup" {
		most = copyTime
	}
	ctx, cancel := context.WithTimeout(a.life, most)
	defer cancel()
	var shown Operation
	failed := a.problemOf(ctx, w.instance, a.guarded(func() error { return w.do(ctx, actor, &shown) }))
	outcome, detail := "done", map[string]any{"operation": op.Name}
	if failed != nil {
		outcome, detail["code"] = "failed", failed.Code
	}
	if failed != nil && failed.Code == codeOutcome {
		outcome = "unknown"
	}
	if err := a.record(context.WithoutCancel(ctx), op.action(), op.subject(), op.User, outcome, detail); err != nil {
		a.cfg.Log.ErrorContext(ctx, "the end of an operation is not in the audit chain", slog.String("operation", op.Name), slog.Any("error", err))
	}
	a.end(ctx, op, shown, failed)
}

// end ends an operation with what it shows.
func (a *API) end(ctx context.Context, op *ongoing, shown Operation, failed *apiserver.Problem) {
	as, _ := a.operations.view(op)
	now := a.cfg.Now().UTC()
	as.Status, as.EndTime, as.Error = statusDone, &now, faultOf(failed)
	as.Effects, as.Review, as.Snapshot, as.ImageMade = shown.Effects, shown.Review, shown.Snapshot, shown.ImageMade
	as.Backup, as.Restored, as.ValidateOnly = shown.Backup, shown.Restored, shown.ValidateOnly
	if err := a.operations.finish(op, as, failed); err != nil {
		a.cfg.Log.ErrorContext(ctx, "the end of an operation is not kept: after a restart it is told as unknown", slog.String("operation", op.Name), slog.Any("error", err))
	}
}

// guarded makes a bug of ours an error of the operation: the service goes on.
func (a *API) guarded(do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			a.cfg.Log.Error("panic in operation", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return do()
}

// wait waits for the end of an operation, a while.
func wait(ctx context.Context, op *ongoing, patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-op.done:
	case <-late.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// ByOperation is the part of a path that names an operation.
type ByOperation struct {
	Name string `path:"operation" maxLength:"64"`
}

type operationsBody struct {
	Items []Operation `json:"items" nullable:"false" doc:"Newest first; of machines that the caller may see"`
}

func (a *API) operationRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-operations", Summary: "List the changes of machines that this service carried out", Tag: "operations",
		Route: apiserver.Route{Pattern: "GET /v1/operations", Needs: access.GetInstance, Somewhere: true},
	}, func(ctx context.Context, _ *struct{}) (*apiserver.Reply[operationsBody], error) {
		who := apiserver.Caller(ctx)
		all := slices.DeleteFunc(a.operations.list(), func(o Operation) bool { return !who.MayOn(access.GetInstance, o.Instance) })
		return apiserver.Answer(operationsBody{all}), nil
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "get-operation", Summary: "Read how far a change has got", Tag: "operations",
		Route: apiserver.Route{Pattern: "GET /v1/operations/{operation}"},
	}, func(ctx context.Context, in *ByOperation) (*apiserver.Reply[Operation], error) {
		return a.operationOf(ctx, in.Name, 0)
	})
	apiserver.Serve(s, apiserver.Operation{
		ID: "wait-for-operation", Summary: "Wait for the end of a change, for 15 seconds at most", Tag: "operations",
		Route: apiserver.Route{Pattern: "POST /v1/operations/{operation}/wait"},
	}, func(ctx context.Context, in *ByOperation) (*apiserver.Reply[Operation], error) {
		return a.operationOf(ctx, in.Name, waitPatience)
	})
}

// operationOf returns an operation to who began it, and to who may see its machine. To
// others there is none, nor to a later principal of the name.
func (a *API) operationOf(ctx context.Context, name string, patience time.Duration) (*apiserver.Reply[Operation], error) {
	op, who := a.operations.find(name), apiserver.Caller(ctx)
	if op == nil {
		return nil, apiserver.NotFound()
	}
	own := op.User == apiserver.Actor(ctx) && !who.Added.After(op.InsertTime)
	if !own && !who.MayOn(access.GetInstance, op.Instance) {
		return nil, apiserver.NotFound()
	}
	if patience > 0 {
		if err := wait(ctx, op, patience); err != nil {
			return nil, err
		}
	}
	out, _ := a.operations.view(op)
	return apiserver.Answer(out), nil
}
