package vtpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/backup"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// What becomes of backups; entries of the audit trail.
const (
	EventBackup EventType = "backupTPMEvent"
	EventExport EventType = "exportTPMEvent"
	// EventRestoreOver is a backup that took the place of a TPM's state.
	EventRestoreOver EventType = "restoreOverTPMEvent"
)

// BackupOptions say what to back up, and for whom.
type BackupOptions struct {
	Name string
	To   string // file, whose name must be free
	// Recipients are age's (age1…), or Provider names a key provider: one of the two.
	Recipients []string
	Provider   string
	// Export is for another site: the TPM must not run, and with Remove it is deleted
	// here once the file has been checked.
	Export, Remove bool
}

// A BackupReport says what a backup has.
type BackupReport struct {
	TPM        string    `json:"tpm"`
	ID         state.ID  `json:"id"`
	Kind       string    `json:"kind"` // "backup", "export" or "nvram"
	File       string    `json:"file"`
	Generation uint64    `json:"generation"`
	Made       time.Time `json:"made,omitzero"`
	VM         string    `json:"vm,omitempty"`
	Profile    string    `json:"profile,omitempty"`
	// Method is "age" or "provider", Provider the key provider that is needed.
	Method   string `json:"method"`
	Provider string `json:"provider,omitempty"`
	// Live is a state that was read while the TPM ran, Suspended one with what goes
	// with the memory of its machine.
	Live      bool `json:"live"`
	Suspended bool `json:"suspended"`
	// Opened says that it was decrypted, and that the TPM in it can be started.
	Opened bool `json:"opened"`
	// Known is the generation that the ledger of this root knows, 0 when it does not
	// know the TPM; Older says that it is above that of the backup.
	Known    uint64   `json:"known,omitempty"`
	Older    bool     `json:"older"`
	Removed  bool     `json:"removed,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Backup writes a TPM to a file, which is opened again before it counts. The TPM may
// run meanwhile, in this process or another: the file then has what a loss of power
// would have left.
func (r *Root) Backup(ctx context.Context, actor string, o BackupOptions) (*BackupReport, error) {
	if err := r.mustHave(o.Name); err != nil {
		return nil, err
	}
	if o.Remove && !o.Export {
		return nil, errors.New("a TPM is removed after an export only, not after a backup")
	}
	// Keys first: without them all else is in vain.
	p, err := r.protection(ctx, o.Recipients, o.Provider)
	if err != nil {
		return nil, fmt.Errorf("back up TPM %q: %w", o.Name, err)
	}
	if _, err := os.Lstat(o.To); err == nil {
		return nil, fmt.Errorf("%q: %w", o.To, backup.ErrExists)
	}
	event := EventBackup
	take := r.peek
	if o.Export {
		event, take = EventExport, r.hold
	}
	s, done, err := take(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	report, err := r.writeBackup(ctx, actor, o, p, s)
	err = errors.Join(err, done())
	e := Event{Type: event, TPM: o.Name, ID: s.snapshot.ID.String(), Actor: actor, Outcome: OutcomeDone, Detail: detail(report)}
	if err != nil {
		e.Outcome, e.Detail = OutcomeFailed, detail(map[string]string{"error": err.Error(), "file": o.To})
	}
	if err := errors.Join(err, r.noteNow(ctx, e)); err != nil {
		return nil, err
	}
	if o.Remove {
		return report, r.removeExported(ctx, actor, report)
	}
	return report, nil
}

// noteNow writes an event of an operation that changed nothing here.
func (r *Root) noteNow(ctx context.Context, e Event) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return r.note(e, true)
}

// removeExported deletes a TPM that another site has now.
func (r *Root) removeExported(ctx context.Context, actor string, report *BackupReport) error {
	now, done, err := r.peek(ctx, report.TPM)
	if err != nil {
		return fmt.Errorf("exported, and still here: %w", err)
	}
	if err := done(); err != nil {
		return err
	}
	if now.snapshot.Mark.Generation != report.Generation {
		return fmt.Errorf("TPM %q ran after it was exported, and is still here: export it again", report.TPM)
	}
	if report.VM != "" {
		if err := r.Detach(ctx, actor, report.TPM); err != nil {
			return fmt.Errorf("exported, and still here: %w", err)
		}
	}
	if err := r.Delete(ctx, actor, report.TPM); err != nil {
		return fmt.Errorf("exported, and still here: %w", err)
	}
	report.Removed = true
	report.Warnings = nil
	return nil
}

// protection opens what a backup is encrypted by, and sees that it works.
func (r *Root) protection(ctx context.Context, recipients []string, provider string) (backup.Protection, error) {
	var p backup.Protection
	var err error
	if p.Recipients, err = backup.ParseRecipients(recipients); err != nil {
		return p, err
	}
	if provider != "" {
		p.ProviderName = provider
		err = r.withProvider(ctx, provider, func(opened keyprovider.Provider) error {
			p.Provider = opened
			return nil
		})
		if err != nil {
			return p, err
		}
	}
	return p, p.Check(ctx, r.cfg.Random)
}

// A taken state is one that a backup is made of.
type taken struct {
	snapshot *state.Snapshot
	record   *Record
	home     string // its key provider
	live     bool
}

// peek reads the state of a TPM that may run.
func (r *Root) peek(ctx context.Context, name string) (*taken, func() error, error) {
	card, err := r.readCard(name)
	if err != nil {
		return nil, nil, err
	}
	owner, err := state.InUse(r.StatePath(name))
	if err != nil {
		return nil, nil, fmt.Errorf("back up TPM %q: %w", name, err)
	}
	t := &taken{live: owner != ""}
	var errs []error
	for _, spec := range card.Providers {
		err := r.withProvider(ctx, spec, func(p keyprovider.Provider) (err error) {
			t.snapshot, err = state.Peek(ctx, r.StatePath(name), r.stateConfig(p, spec, card.ID))
			return err
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.home = spec
		break
	}
	if t.snapshot == nil {
		return nil, nil, fmt.Errorf("back up TPM %q: %w", name, errors.Join(errs...))
	}
	done := func() error { t.snapshot.Content.Destroy(); return nil }
	check := opened{card: card, content: t.snapshot.Content}
	if err := check.check(name); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("back up TPM %q: %w", name, err), done())
	}
	t.record = check.record
	return t, done, nil
}

// hold opens the state of a TPM that must not run until done is called.
func (r *Root) hold(ctx context.Context, name string) (*taken, func() error, error) {
	release, err := r.claim(name, "it is being exported")
	if err != nil {
		return nil, nil, err
	}
	s, err := r.openState(ctx, name)
	if err != nil {
		release()
		return nil, nil, err
	}
	done := func() error {
		s.content.Destroy()
		err := s.file.Close()
		release()
		return err
	}
	t := &taken{record: s.record, home: s.card.Providers[0]}
	t.snapshot = &state.Snapshot{
		Content: s.content, ID: s.record.ID, Mark: s.file.Mark(), Saved: s.file.Saved(), Anchored: s.file.Anchored(), Notices: s.file.Notices(),
	}
	return t, done, nil
}

func (r *Root) writeBackup(ctx context.Context, actor string, o BackupOptions, p backup.Protection, t *taken) (*BackupReport, error) {
	s := t.snapshot
	if err := r.tryStart(s.Content); err != nil {
		return nil, fmt.Errorf("back up TPM %q: %w", o.Name, err)
	}
	b := &backup.Bundle{
		Kind: backup.Backup, ID: s.ID, Name: o.Name, Generation: s.Mark.Generation, Digest: s.Mark.Digest,
		Made: r.cfg.Now().UTC(), By: actor, Live: t.live, Home: t.home, Content: s.Content,
	}
	if o.Export {
		b.Kind = backup.Export
	}
	if err := backup.Write(ctx, o.To, b, p, r.cfg.Random); err != nil {
		return nil, err
	}
	report := reportOf(o.To, b, t.record)
	report.Method, report.Provider = "age", p.ProviderName
	if p.Provider != nil {
		report.Method = "provider"
		if p.ProviderName == t.home {
			report.Warnings = append(report.Warnings, fmt.Sprintf("the backup needs key provider %q, as the TPM itself does: lose its keys and both are lost", t.home))
		}
	}
	if o.Export {
		report.Warnings = append(report.Warnings, "the TPM is still here: started at both sites it is two TPMs with the same secrets")
	}
	for _, n := range s.Notices {
		report.Warnings = append(report.Warnings, n.Text)
	}
	report.Known = s.Mark.Generation
	return report, nil
}

// reportOf says what an opened bundle has.
func reportOf(file string, b *backup.Bundle, rec *Record) *BackupReport {
	return &BackupReport{
		TPM: b.Name, ID: b.ID, Kind: b.Kind.String(), File: file, Generation: b.Generation, Made: b.Made,
		VM: rec.vmName(), Profile: rec.Profile, Live: b.Live, Suspended: len(b.Content.Volatile) > 0, Opened: true,
	}
}

// tryStart sees that the engine takes a state, which a backup is of no use without.
func (r *Root) tryStart(c state.Content) error {
	volatile := c.Volatile
	if len(volatile) == 0 {
		volatile = nil
	}
	if _, err := engine.Restore(r.engineConfig(nil), c.Permanent, volatile); err != nil {
		return fmt.Errorf("the TPM in it does not start: %w", err)
	}
	return nil
}
