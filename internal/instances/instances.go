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
	"path/filepath"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/gallery"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/vmbackup"
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

// A StartError is a machine that did not start. Words are what may be told to anybody of
// why, "" for nothing; Cause, if any, is for the log.
type StartError struct {
	Words string
	Cause error
}

func (e *StartError) Error() string {
	if e.Words == "" {
		return "it did not start"
	}
	return "it did not start: " + e.Words
}

// Config is what an API is made of. All but Backups, Disks and Log are required.
type Config struct {
	Machines *machine.Root
	Findings *finding.Store
	Images   *gallery.Gallery
	Host     Host
	Audit    apiserver.AuditLog
	// Dir is a folder of this process alone, for the records of operations. It is made
	// when it is not there.
	Dir string
	// Backups writes machines to files in the folder BackupDir, and makes machines of such
	// files; nil, or an empty folder, is a service without backups.
	Backups   *vmbackup.Store
	BackupDir string
	// BackupsOfOne is how many backups of one machine the folder may have, for which another
	// is refused; 0 means 32. BackupBytes is how much all of them may have; 0 means what the
	// file system has room for.
	BackupsOfOne int
	BackupBytes  int64
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
	copying    chan struct{} // full while a backup is written or read
	answering  turns         // of who asks for a log or history, until its answer is written
	asking     turns         // of what is asked for
	heavy      turns         // of who reads one that comes

	mu    sync.Mutex                  // guards known
	known map[string]*machine.Defined // definitions that were read, by machine
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
	if c.BackupsOfOne <= 0 {
		c.BackupsOfOne = usualOfOne
	}
	if c.Patience <= 0 {
		c.Patience = answerPatience
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{cfg: c, operations: newOperations(c.Dir), known: map[string]*machine.Defined{}, copying: make(chan struct{}, 1)}
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
	a.backupRoutes(s)
	a.imageRoutes(s)
	a.findingRoutes(s)
	a.operationRoutes(s)
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
