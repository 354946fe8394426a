package instances

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/vmbackup"
	"github.com/assay-project/assay/internal/vtpm/backup"
)

const codeBackup evidence.Code = "instance.backup-refused"

// backupRule is a file of the folder for backups: no other is named, opened or told of.
var backupRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,119}\.assayvm$`) })

// providerRule is the name of a key provider: a URI of one would have this host speak to
// whoever the caller likes.
var providerRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9-]{1,64}$`) })

type backupInput struct {
	ByInstance
	Body struct {
		KeyProvider   string   `json:"keyProvider,omitempty" maxLength:"64" pattern:"^[a-zA-Z0-9-]*$" doc:"Name of the key provider that encrypts it"`
		Recipients    []string `json:"recipients,omitempty" maxItems:"16" nullable:"false" doc:"In its place, age recipients (age1...)"`
		WithoutShared bool     `json:"withoutShared,omitempty" doc:"Leave out disks that other machines write to, too"`
	}
}

// A BackupMade is what a backup has.
type BackupMade struct {
	Backup      string    `json:"backup" doc:"Its name in the folder for backups"`
	Machine     string    `json:"machine"`
	ID          string    `json:"id"`
	Made        time.Time `json:"made"`
	By          string    `json:"by"`
	Method      string    `json:"method" doc:"What encrypts it"`
	KeyProvider string    `json:"keyProvider,omitempty"`
	BootCounter uint64    `json:"bootCounter,string"`
	TPM         uint64    `json:"tpmGeneration,omitempty" doc:"Generation of the machine's TPM; absent without one"`
	Bytes       int64     `json:"bytes"`
	Warnings    []string  `json:"warnings" nullable:"false"`
}

// A Restored is what was made, or would be, of a backup.
type Restored struct {
	Backup     BackupMade `json:"backup"`
	Machine    string     `json:"machine"`
	ID         string     `json:"id" doc:"Empty before a new one is made"`
	Known      uint64     `json:"tpmGenerationKnown,omitempty" doc:"Newest generation of the TPM that is known here"`
	RolledBack bool       `json:"rolledBack" doc:"The backup is older than that"`
	Warnings   []string   `json:"warnings" nullable:"false"`
}

// A backupHead is what a backup says of itself in the clear.
type backupHead struct {
	Backup      string    `json:"backup"`
	Machine     string    `json:"machine"`
	ID          string    `json:"id"`
	Made        time.Time `json:"made"`
	Method      string    `json:"method"`
	KeyProvider string    `json:"keyProvider,omitempty"`
	Bytes       int64     `json:"bytes"`
	Problem     string    `json:"problem,omitempty" doc:"Why nothing else is known of it"`
}

type backupsInput struct {
	After string `query:"after" maxLength:"128" doc:"next of the page before"`
	Limit int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
}

type backupsBody struct {
	Items []backupHead `json:"items" nullable:"false" doc:"By name of the file. What each says of itself is a claim before it is restored"`
	Next  string       `json:"next,omitempty" doc:"after of the next page; absent on the last"`
}

type restoreBackupInput struct {
	Backup string `path:"backup" maxLength:"128"`
	OnlyValidate
	Body struct {
		Name              string   `json:"name,omitempty" maxLength:"63" doc:"Of the machine; that of the backup when absent"`
		Identities        []string `json:"identities,omitempty" maxItems:"8" nullable:"false" doc:"age identities (AGE-SECRET-KEY-1...) of a backup for recipients; they are used once, and kept nowhere"`
		BackupKeyProvider string   `json:"backupKeyProvider,omitempty" maxLength:"64" pattern:"^[a-zA-Z0-9-]*$" doc:"Name here of the key provider that encrypted the backup, where it is called otherwise"`
		KeyProvider       string   `json:"keyProvider,omitempty" maxLength:"64" pattern:"^[a-zA-Z0-9-]*$" doc:"Name of that of the machine from now on; the default one when absent"`
		NewIdentity       bool     `json:"newIdentity,omitempty" doc:"Make another machine, with an id and an empty TPM of its own"`
		AllowRollback     bool     `json:"allowRollback,omitempty" doc:"Take a backup that is older than what the TPM has told since"`
	}
}

func (a *API) backupRoutes(s *apiserver.Server) {
	apiserver.Serve(s, apiserver.Operation{
		ID: "back-up-instance", Summary: "Write a machine that is off to an encrypted file in the folder for backups", Tag: "backups",
		Route: apiserver.Route{Pattern: "POST /v1/instances/{instance}/backup", Needs: access.CreateBackup, On: "instance", Body: 16 << 10},
	}, a.backUp)
	apiserver.Serve(s, apiserver.Operation{
		ID: "list-backups", Summary: "List the backups in the folder for them", Tag: "backups",
		Route: apiserver.Route{Pattern: "GET /v1/backups", Needs: access.ReadBackups},
	}, a.backups)
	apiserver.Serve(s, apiserver.Operation{
		ID: "restore-backup", Summary: "Make a machine of a backup, whole or not at all", Tag: "backups",
		Route: apiserver.Route{Pattern: "POST /v1/backups/{backup}/restore", Needs: access.RestoreBackup, Body: 16 << 10},
	}, a.restoreBackup)
}

// errNoBackups is a service without a folder for backups.
func (a *API) errNoBackups() error {
	if a.cfg.Backups != nil && a.cfg.BackupDir != "" {
		return nil
	}
	return apiserver.NewProblem(http.StatusConflict, codeBackup, "this service was given no folder for backups: assay serve --machine-backups names one")
}

func (a *API) backUp(ctx context.Context, in *backupInput) (*apiserver.Reply[Operation], error) {
	if err := a.errNoBackups(); err != nil {
		return nil, err
	}
	b := in.Body
	if (b.KeyProvider == "") == (len(b.Recipients) == 0) {
		return nil, apiserver.InvalidField("keyProvider", "or recipients, one of the two, says who can open the backup")
	}
	if _, err := backup.ParseRecipients(b.Recipients); err != nil {
		return nil, apiserver.InvalidField("recipients", "are not all age recipients (age1...)")
	}
	return a.run(ctx, work{"backup", in.Instance, b, func(ctx context.Context, actor string, show *Operation) error {
		leave, err := a.copyNow()
		if err != nil {
			return err
		}
		defer leave()
		made, err := a.cfg.Backups.Backup(ctx, actor, vmbackup.Options{
			Name: in.Instance, To: a.cfg.BackupDir, Protection: vmbackup.Protection{Recipients: b.Recipients, Provider: b.KeyProvider}, WithoutShared: b.WithoutShared,
			Room: func(disks int64) error { return a.backupRoom(ctx, in.Instance, disks) },
		})
		if err != nil {
			return err
		}
		show.Backup = backupMade(made)
		return nil
	}})
}

func backupMade(r *vmbackup.Report) *BackupMade {
	return &BackupMade{
		Backup: filepath.Base(r.File), Machine: r.Machine, ID: r.ID, Made: r.Made, By: r.By, Method: r.Method, KeyProvider: r.Provider,
		BootCounter: r.BootCounter, TPM: r.TPM, Bytes: r.Bytes, Warnings: apiserver.OrEmpty(r.Warnings),
	}
}

func (a *API) backups(ctx context.Context, in *backupsInput) (*apiserver.Reply[backupsBody], error) {
	if err := a.errNoBackups(); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(a.cfg.BackupDir)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool {
		return !e.Type().IsRegular() || !backupRule().MatchString(e.Name()) || e.Name() <= in.After
	})
	out := backupsBody{Items: []backupHead{}}
	if len(entries) > in.Limit {
		entries = entries[:in.Limit]
		out.Next = entries[in.Limit-1].Name()
	}
	for _, e := range entries {
		out.Items = append(out.Items, a.headOf(e))
	}
	return apiserver.Answer(out), ctx.Err()
}

func (a *API) headOf(e os.DirEntry) backupHead {
	out := backupHead{Backup: e.Name()}
	if info, err := e.Info(); err == nil {
		out.Bytes = info.Size()
	}
	f, err := vmbackup.OpenFile(filepath.Join(a.cfg.BackupDir, e.Name()))
	if err != nil {
		if out.Problem = Told(err); out.Problem == "" {
			out.Problem = "it cannot be read"
		}
		return out
	}
	defer f.Close()
	out.Machine, out.ID, out.Made, out.Method, out.KeyProvider = f.Name, f.ID, f.Made, f.Method.String(), f.Provider
	return out
}

// openBackup finds a backup by its name, and returns its file and what it says of itself.
func (a *API) openBackup(name string) (file string, head *backupHead, err error) {
	if err := a.errNoBackups(); err != nil {
		return "", nil, err
	}
	if !backupRule().MatchString(name) {
		return "", nil, apiserver.NotFound()
	}
	file = filepath.Join(a.cfg.BackupDir, name)
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return "", nil, apiserver.NotFound()
	}
	if err != nil {
		return "", nil, err
	}
	f, err := vmbackup.OpenFile(file)
	if err != nil {
		return "", nil, err
	}
	return file, &backupHead{Machine: f.Name, Method: f.Method.String(), KeyProvider: f.Provider}, f.Close()
}

func (a *API) restoreBackup(ctx context.Context, in *restoreBackupInput) (*apiserver.Reply[Operation], error) {
	file, head, err := a.openBackup(in.Backup)
	if err != nil {
		return nil, err
	}
	b := in.Body
	name := b.Name
	if name == "" {
		name = head.Machine
	}
	if err := a.server.Allow(ctx, access.CreateInstance, name); err != nil {
		return nil, err
	}
	if head.KeyProvider != "" && b.BackupKeyProvider == "" && !providerRule().MatchString(head.KeyProvider) {
		return nil, apiserver.InvalidField("backupKeyProvider", "must name the key provider here: the backup names none")
	}
	o := vmbackup.RestoreOptions{
		From: file, Name: name, Keys: vmbackup.Keys{Provider: b.BackupKeyProvider}, Provider: b.KeyProvider,
		NewIdentity: b.NewIdentity, AllowRollback: b.AllowRollback, DryRun: in.ValidateOnly,
		May: func(d *fleet.Definition) error { return a.mayLabel(ctx, name, nil, d.Labels) },
	}
	for _, text := range b.Identities {
		if _, err := backup.ParseIdentities([]byte(text)); err != nil {
			return nil, apiserver.InvalidField("identities", "are not all age identities")
		}
		o.Keys.Identities = append(o.Keys.Identities, []byte(text))
	}
	detail := map[string]any{"backup": in.Backup, "newIdentity": b.NewIdentity, "allowRollback": b.AllowRollback, "validateOnly": in.ValidateOnly}
	return a.run(ctx, work{"restoreBackup", name, detail, func(ctx context.Context, actor string, show *Operation) error {
		leave, err := a.copyNow()
		if err != nil {
			return err
		}
		defer leave()
		show.ValidateOnly = in.ValidateOnly
		made, err := a.cfg.Backups.Restore(ctx, actor, o)
		if err != nil {
			return err
		}
		show.Restored = &Restored{
			Backup: *backupMade(made.Backup), Machine: made.Machine, ID: made.ID, Known: made.Known, RolledBack: made.RolledBack, Warnings: apiserver.OrEmpty(made.Warnings),
		}
		if !in.ValidateOnly {
			a.cfg.Host.Changed(ctx, name)
		}
		return nil
	}})
}
