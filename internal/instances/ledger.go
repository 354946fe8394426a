package instances

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/strictjson"
)

// The format of docs/formats/operations.md.
const (
	recordFormat  = "assay operation"
	recordVersion = 1
)

// maxRecord bounds the record of an operation in bytes.
const maxRecord = 64 << 10

const recordEnding = ".json"

var (
	operationRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^operation-[0-9a-f]{16}$`) })
	recordRules   = strictjson.Rules{Bytes: maxRecord, Depth: 5, Members: 64, Values: 1 << 10, FoldNames: true}
)

// A record is what is kept of an operation: that it was begun, and how it ended. What it
// showed of a machine's definition and baselines is not: homes are encrypted, and this is
// not.
type record struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Reader is the oldest version of the format whose readers understand it.
	Reader   int        `json:"oldestReader"`
	Name     string     `json:"name"`
	Type     string     `json:"operationType"`
	Instance string     `json:"instance"`
	Image    string     `json:"image,omitempty"`
	User     string     `json:"user"`
	Status   string     `json:"status"`
	Inserted time.Time  `json:"insertTime"`
	Ended    *time.Time `json:"endTime,omitempty"`
	Error    *Fault     `json:"error,omitempty"`
}

// A ledger keeps operations in a folder that is this process's alone, a file each, so that
// one whose name was told is found after a crash.
type ledger struct{ dir string }

func (l ledger) file(name string) string { return filepath.Join(l.dir, name+recordEnding) }

// write keeps an operation as it stands. It is durable when it returns.
func (l ledger) write(o *Operation) error {
	text, err := recordOf(o)
	if err != nil {
		return err
	}
	return durable.WriteFile(l.file(o.Name), append(text, '\n'), 0o600)
}

// recordOf is the text of an operation's record.
func recordOf(o *Operation) ([]byte, error) {
	r := record{
		Format: recordFormat, Version: recordVersion, Reader: recordVersion, Name: o.Name, Type: o.OperationType, Instance: o.Instance, Image: o.Image, User: o.User,
		Status: o.Status, Inserted: o.InsertTime, Ended: o.EndTime, Error: o.Error,
	}
	text, err := json.Marshal(r)
	if err == nil && len(text) > maxRecord && o.Error != nil {
		r.Error = &Fault{Code: o.Error.Code, Message: "the words of the error were too long to be kept"}
		text, err = json.Marshal(r)
	}
	return text, err
}

// remove drops an operation. A crash may leave it to be dropped again.
func (l ledger) remove(name string) error { return os.Remove(l.file(name)) }

// read returns what is kept, the oldest first, and the names of records that cannot be
// read.
func (l ledger) read() (all []Operation, damaged []string, err error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, nil, err
	}
	if err := durable.Sweep(l.dir); err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), recordEnding)
		if !ok || !operationRule().MatchString(name) {
			continue
		}
		o, err := l.readOne(name)
		if err != nil {
			damaged = append(damaged, name)
			continue
		}
		all = append(all, *o)
	}
	slices.SortStableFunc(all, func(a, b Operation) int { return a.InsertTime.Compare(b.InsertTime) })
	return all, damaged, nil
}

func (l ledger) readOne(name string) (*Operation, error) {
	info, err := os.Lstat(l.file(name))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxRecord+1 {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", name, maxRecord)
	}
	text, err := os.ReadFile(l.file(name))
	if err != nil {
		return nil, err
	}
	return parseRecord(name, bytes.TrimSuffix(text, []byte("\n")))
}

// parseRecord reads the record of the operation called name.
func parseRecord(name string, text []byte) (*Operation, error) {
	if _, err := strictjson.Parse(text, recordRules); err != nil {
		return nil, err
	}
	var r record
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, err
	}
	switch {
	case r.Format != recordFormat || r.Version < recordVersion || r.Reader > recordVersion:
		return nil, fmt.Errorf("format %.32q, version %d, for readers of %d, is not understood", r.Format, r.Version, r.Reader)
	case r.Name != name || r.Type == "" || r.Inserted.IsZero():
		return nil, errors.New("name, operationType or insertTime is not an operation's")
	case r.Status != statusRunning && r.Status != statusDone, (r.Status == statusDone) != (r.Ended != nil):
		return nil, fmt.Errorf("status %.32q does not fit the time of the end", r.Status)
	}
	return &Operation{
		Kind: "operation", Name: r.Name, OperationType: r.Type, Instance: r.Instance, Image: r.Image, User: r.User,
		Status: r.Status, InsertTime: r.Inserted, EndTime: r.Ended, Error: r.Error,
	}, nil
}

// recall finds what an earlier process left. Of what was under way then nobody knows how
// it ended: it is told so, and the audit chain has it.
func (a *API) recall(ctx context.Context) error {
	all, damaged, err := a.operations.ledger.read()
	if err != nil {
		return fmt.Errorf("read operations: %w", err)
	}
	now := a.cfg.Now().UTC()
	for i := range all {
		o := &all[i]
		if o.Status == statusRunning {
			if err := a.interrupted(ctx, o, now); err != nil {
				return err
			}
		}
		a.operations.recall(*o)
	}
	for _, name := range damaged {
		a.cfg.Log.WarnContext(ctx, "the record of an operation cannot be read", slog.String("operation", name))
		fault := &Fault{Code: codeOutcome, Message: "the record of this operation is damaged: what it was, and how it ended, is in the audit chain"}
		a.operations.recall(Operation{
			Kind: "operation", Name: name, OperationType: "unknown", Status: statusDone, InsertTime: now, EndTime: &now, Error: fault,
		})
	}
	return nil
}

// interrupted ends an operation that its service did not outlive.
func (a *API) interrupted(ctx context.Context, o *Operation, now time.Time) error {
	o.Status, o.EndTime, o.Error = statusDone, &now, outcomeUnknown("the service ended before the operation did", o.Instance)
	if err := a.record(ctx, o.action(), o.subject(), o.User, "unknown", map[string]any{"operation": o.Name, "code": o.Error.Code}); err != nil {
		return err
	}
	if err := a.operations.ledger.write(o); err != nil {
		return fmt.Errorf("keep operation %s: %w", o.Name, err)
	}
	return nil
}

// outcomeUnknown is the fault of an operation of which nobody knows how it ended.
func outcomeUnknown(why, instance string) *Fault {
	return &Fault{Code: codeOutcome, Message: fmt.Sprintf("%s: whether it took place is not known; GET /v1/instances/%s and its events say how the machine is", why, instance)}
}

// problemOf says why an operation failed. One that was broken off may have taken place.
func (a *API) problemOf(ctx context.Context, instance string, err error) *apiserver.Problem {
	if err == nil {
		return nil
	}
	silent := errors.Is(err, machine.ErrNoAnswer) || errors.Is(err, machine.ErrGarbled)
	broken := ctx.Err() != nil && (silent || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
	why := "the operation was broken off"
	switch {
	case broken:
	case silent:
		why = "its supervisor, which was asked, does not answer"
	default:
		return a.server.Problem(ctx, err)
	}
	f := outcomeUnknown(why, instance)
	return apiserver.NewProblem(http.StatusServiceUnavailable, f.Code, f.Message)
}

// faultOf is a problem as an operation has it.
func faultOf(p *apiserver.Problem) *Fault {
	if p == nil {
		return nil
	}
	message := p.Detail
	if p.RequestID != "" {
		message += ": " + p.RequestID
	}
	return &Fault{p.Code, message, p.Errors}
}

// recall adds an operation of an earlier process, which has ended.
func (o *operations) recall(op Operation) {
	known := &ongoing{Operation: op, done: make(chan struct{})}
	close(known.done)
	o.mu.Lock()
	dropped := o.add(known)
	o.mu.Unlock()
	o.drop(dropped)
}
