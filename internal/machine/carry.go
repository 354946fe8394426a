package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/homecard"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
)

// Files of a home that is being carried, and the folder of the disks that this program
// made for the machine: they are deleted with it.
const (
	diskFolder   = "disks"
	leavingFile  = "tpm.leaving"
	arrivingFile = "tpm.arriving"
)

// ErrOriginal is a copy with the identity of a machine that is here.
var ErrOriginal = errors.New("the machine itself is here: a second one with its identity would be a twin that nobody can tell from it; give the copy an identity of its own, or delete the machine first")

// A Departure is all of a machine that does not run, besides its disks. Nobody starts or
// changes the machine until it is closed.
type Departure struct {
	Card       Card
	Definition *fleet.Definition
	Variables  []byte
	History    *integrity.History
	Events     []integrity.Notice
	// Torn says that nobody saw the end of the machine's last run: its disks are as after
	// a loss of power.
	Torn bool
	// Snapshots is how many snapshots the machine has, which stay with it.
	Snapshots int

	root *Root
	home *Home
}

// Depart takes hold of a machine that does not run.
func (r *Root) Depart(ctx context.Context, name string) (_ *Departure, err error) {
	h, err := ours(r.openOff(ctx, name))
	if errors.Is(err, ErrBusy) {
		return nil, fmt.Errorf("%w: while a machine runs its disks, its variables and its TPM change at different moments, and no copy of them is of one moment: stop it first", err)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("machine %q: %w", name, err), h.Close())
		}
	}()
	d := &Departure{Card: h.Card(), root: r, home: h}
	f, err := r.found(h.card)
	if err != nil {
		return nil, err
	}
	if f.alive || f.unknown {
		return nil, fmt.Errorf("a hypervisor may run without its supervisor; assay vm stop --force ends it: %w", ErrBusy)
	}
	d.Torn = f.was
	on, err := h.shelf()
	if err != nil {
		return nil, err
	}
	if on.Going != nil {
		return nil, errors.New("it is on its way back to a snapshot, and not all of it is of one moment: start it first")
	}
	d.Snapshots = len(on.Snapshots)
	if d.Definition, err = h.Definition(); err != nil {
		return nil, err
	}
	if d.Variables, err = h.Variables(); err != nil {
		return nil, err
	}
	if d.History, err = h.History(); err != nil {
		return nil, err
	}
	d.Events, err = h.Events()
	return d, err
}

// Close lets others have the machine.
func (d *Departure) Close() error { return d.home.Close() }

// TPM returns the machine's TPM as a backup for an age recipient.
func (d *Departure) TPM(ctx context.Context, actor, recipient string) (sealed []byte, report *vtpm.BackupReport, err error) {
	rec, err := d.root.cfg.TPMs.Owned(ctx, d.Card.Name)
	if err != nil {
		return nil, nil, err
	}
	if !belongs(rec, d.Card.ID) {
		return nil, nil, fmt.Errorf("the TPM %q belongs to another machine than %s, or to none", d.Card.Name, d.Card.ID)
	}
	file := filepath.Join(d.home.dir, leavingFile)
	if err := durable.Remove(file); err != nil { // of a crash
		return nil, nil, err
	}
	report, err = d.root.cfg.TPMs.Backup(ctx, actor, vtpm.BackupOptions{Name: d.Card.Name, To: file, Recipients: []string{recipient}})
	if err != nil {
		return nil, nil, err
	}
	if report.Suspended {
		err = errors.New("the TPM is suspended with the memory of its machine, which no backup has: start the machine, and shut it down")
	} else {
		sealed, err = readFile(file)
	}
	return sealed, report, errors.Join(err, durable.Remove(file))
}

// Note logs what was done with a machine that departs.
func (d *Departure) Note(event, actor string, reasons ...evidence.Reason) error {
	return d.root.logAll(d.home, []integrity.Notice{{
		Type: event, Instance: d.Card.Name, Time: d.root.cfg.Now(), BootCounter: d.History.BootCounter, Actor: actor, Reasons: reasons,
	}})
}

// A CarriedTPM is a TPM in the form of [Departure.TPM].
type CarriedTPM struct {
	Sealed, Identity []byte
	// AllowRollback takes one that is older than what is known here of the TPM.
	AllowRollback bool
}

// LookAt opens a TPM that is carried, and says what it is and whether a newer state of it
// is known here.
func (r *Root) LookAt(ctx context.Context, t *CarriedTPM) (report *vtpm.BackupReport, err error) {
	dir, err := os.MkdirTemp("", "assay-tpm-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, arrivingFile)
	if err := os.WriteFile(file, t.Sealed, 0o600); err != nil {
		return nil, err
	}
	reports, err := r.cfg.TPMs.Verify(ctx, file, vtpm.KeysFor{Identities: [][]byte{t.Identity}})
	if err != nil {
		return nil, err
	}
	return reports[0], nil
}

// An Arrival is a machine that is made of what another one was.
type Arrival struct {
	// Definition is that of the machine. A disk that Disks writes has its place in the
	// home: [Root.DiskPath].
	Definition *fleet.Definition
	// ID is the identity that the machine keeps; empty for one of its own.
	ID string
	// Provider is the name or URI of the key provider; empty is the default.
	Provider string
	// Variables, History and Events are what the machine had; nil for those of a new one.
	Variables []byte
	History   *integrity.History
	Events    []integrity.Notice
	// Disks writes the machine's own disks into a folder, durably; nil for none.
	Disks func(ctx context.Context, dir string) error
	// TPM is the machine's; nil for a new one, where the definition has one.
	TPM *CarriedTPM
	// Moved is a TPM of swtpm that the machine takes over, in place of TPM. Its name,
	// provider and machine are filled in.
	Moved *vtpm.MoveOptions
	// Event is logged last, with its Reasons.
	Event   string
	Reasons []evidence.Reason
}

// An Arrived machine, and what became of its TPM where that was carried.
type Arrived struct {
	Card *Card
	TPM  *vtpm.RestoreReport
}

// LookAtMoved says what would become of a TPM of swtpm as that of a machine, and changes
// nothing.
func (r *Root) LookAtMoved(ctx context.Context, actor string, a *Arrival) (*vtpm.MoveReport, error) {
	o := *a.Moved
	o.Name, o.Provider, o.VM, o.DryRun = a.Definition.Name, a.Provider, vmOf(a.Definition, a.ID), true
	return r.cfg.TPMs.Move(ctx, actor, o)
}

// DiskPath is where a disk of a machine lies that this program made for it.
func (r *Root) DiskPath(name, file string) string {
	return filepath.Join(r.dir(name), diskFolder, file)
}

// Arrive makes a machine of what another one was. As for [Root.Create], all that can be
// refused is refused before anything is made, and the card, which makes the folder a
// machine, is written last; after an error nothing is left.
func (r *Root) Arrive(ctx context.Context, actor string, a Arrival) (_ *Arrived, err error) {
	if _, err := r.CanArrive(ctx, &a); err != nil {
		return nil, err
	}
	lock, err := r.lockArrivals()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := r.noTwin(a.ID); err != nil { // that came meanwhile
		return nil, err
	}
	name := a.Definition.Name
	h, err := r.makeHome(ctx, actor, name, a.Provider, a.ID)
	if err != nil {
		return nil, err
	}
	out := &Arrived{Card: h.card}
	if err = r.fillArrival(ctx, h, actor, &a, out); err != nil {
		err = errors.Join(fmt.Errorf("machine %q: %w", name, err), r.discard(context.WithoutCancel(ctx), h, actor))
	}
	return out, errors.Join(err, h.Close())
}

// CanArrive checks all that can be checked before anything is made, and completes what
// the arrival leaves to us. The warnings are of what a start may find wanting.
func (r *Root) CanArrive(ctx context.Context, a *Arrival) (warnings []string, err error) {
	d := a.Definition
	d.Complete()
	if err := d.Check(); err != nil {
		return nil, err
	}
	if reasons := r.cfg.Matrix.Judge(d, r.cfg.Accelerator); len(reasons) > 0 {
		return nil, &RefusedError{d.Name, reasons}
	}
	if err := r.reachable(d.Name); err != nil {
		return nil, err
	}
	if a.Provider == "" && r.cfg.DefaultProvider != nil {
		a.Provider = r.cfg.DefaultProvider()
	}
	if a.Provider == "" {
		return nil, ErrProvider
	}
	if err := r.provides(ctx, a.Provider); err != nil {
		return nil, err
	}
	if a.ID != "" && !homecard.ValidID(a.ID) {
		return nil, fmt.Errorf("%.80q is no identity of a machine", a.ID)
	}
	if _, err := r.Card(d.Name); !errors.Is(err, ErrUnknown) {
		return nil, errors.Join(fmt.Errorf("machine %q: %w", d.Name, ErrExists), err)
	}
	if err := r.noTPM(d); err != nil {
		return nil, err
	}
	if err := r.cfg.Place.Check(d); err != nil {
		warnings = append(warnings, fmt.Sprintf("it will not start here: %v", err))
	}
	if _, err := r.cfg.Keyset(d.Keyset); err != nil {
		if a.Variables == nil {
			return nil, fmt.Errorf("key set %q: %w", d.Keyset, err)
		}
		warnings = append(warnings, fmt.Sprintf("key set %q cannot be had here: the machine keeps the keys that it has, and no update can enrol others of that set: %v", d.Keyset, err))
	}
	return warnings, r.noTwin(a.ID)
}

// provides sees that a key provider can be had.
func (r *Root) provides(ctx context.Context, spec string) error {
	p, err := r.cfg.Provider(ctx, spec)
	if err != nil {
		return fmt.Errorf("key provider %q: %w", spec, err)
	}
	return p.Close()
}

// noTPM refuses a name that a TPM has which no machine has left here.
func (r *Root) noTPM(d *fleet.Definition) error {
	if !d.Shielded.VTPM || r.custody(d.Name).Machine != "" {
		return nil
	}
	tpms, err := r.cfg.TPMs.Names()
	if err == nil && slices.Contains(tpms, d.Name) {
		err = fmt.Errorf("TPM %q is here, and not this machine's: assay vtpm delete removes it, or the machine takes another name: %w", d.Name, ErrExists)
	}
	return err
}

// noTwin refuses an identity that a machine of this root has. A card is a claim: this
// keeps people from a mistake.
func (r *Root) noTwin(id string) error {
	if id == "" {
		return nil
	}
	names, err := r.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if c, err := r.Card(name); err == nil && c.ID == id {
			return fmt.Errorf("machine %q, %s: %w", name, id, ErrOriginal)
		}
	}
	return nil
}

// arrivalsLock keeps arrivals apart: of two with one identity one must see the other.
const arrivalsLock = "arrivals.lock"

func (r *Root) lockArrivals() (*durable.Lock, error) {
	l, err := durable.LockFile(filepath.Join(r.cfg.Dir, arrivalsLock))
	if errors.Is(err, durable.ErrLocked) {
		err = fmt.Errorf("another machine is being restored or imported: %w", ErrBusy)
	}
	return l, err
}

// fillArrival writes the files of a home, the longest first, then the TPM and the card.
func (r *Root) fillArrival(ctx context.Context, h *Home, actor string, a *Arrival, out *Arrived) (err error) {
	if a.Disks != nil {
		dir := filepath.Join(h.dir, diskFolder)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := a.Disks(ctx, dir); err != nil {
			return err
		}
	}
	if a.Variables == nil {
		if a.Variables, err = r.newVariables(a.Definition); err != nil {
			return err
		}
	}
	if a.History == nil {
		a.History = &integrity.History{}
	}
	for _, do := range []func() error{
		func() error { return h.setDefinition(a.Definition) },
		func() error { return h.SetVariables(a.Variables) },
		func() error { return h.SetHistory(a.History) },
		func() error { return h.logArrival(r.cfg.Now(), actor, a) },
		func() (err error) { out.TPM, err = r.arriveTPM(ctx, h, actor, a); return err },
		h.settleCard,
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// logArrival begins the log with what the machine had, as far as there is room, and says
// where the machine is from.
func (h *Home) logArrival(now time.Time, actor string, a *Arrival) error {
	if err := durable.WriteFile(filepath.Join(h.dir, eventsFile), logHead(0), 0o600); err != nil {
		return err
	}
	if err := h.openLog(); err != nil {
		return err
	}
	for i := range a.Events {
		if err := h.Log(a.Events[i]); err != nil {
			return err
		}
	}
	return h.Log(integrity.Notice{
		Type: a.Event, Instance: h.card.Name, Time: now, BootCounter: a.History.BootCounter, Actor: actor, Reasons: a.Reasons,
	})
}

// arriveTPM gives the machine the TPM that came with it, or a new one.
func (r *Root) arriveTPM(ctx context.Context, h *Home, actor string, a *Arrival) (*vtpm.RestoreReport, error) {
	d := a.Definition
	switch {
	case !d.Shielded.VTPM:
		return nil, nil
	case a.Moved != nil:
		return nil, r.moveTPM(ctx, h, actor, a)
	case a.TPM == nil:
		return nil, r.makeTPM(ctx, h, d, actor)
	}
	if err := r.setCustody(d.Name, custody{Machine: h.card.ID}); err != nil {
		return nil, err
	}
	file := filepath.Join(h.dir, arrivingFile)
	if err := durable.WriteFile(file, a.TPM.Sealed, 0o600); err != nil {
		return nil, err
	}
	report, err := r.cfg.TPMs.Restore(ctx, actor, vtpm.RestoreOptions{
		From: file, Name: d.Name, Provider: a.Provider, Cold: true, AllowRollback: a.TPM.AllowRollback,
		Keys: vtpm.KeysFor{Identities: [][]byte{a.TPM.Identity}}, VM: vmOf(d, h.card.ID),
	})
	return report, errors.Join(err, durable.Remove(file))
}

// moveTPM has the machine go on with a TPM of swtpm.
func (r *Root) moveTPM(ctx context.Context, h *Home, actor string, a *Arrival) error {
	if err := r.setCustody(h.Name(), custody{Machine: h.card.ID}); err != nil {
		return err
	}
	o := *a.Moved
	o.Name, o.Provider, o.VM, o.DryRun = h.Name(), a.Provider, vmOf(a.Definition, h.card.ID), false
	_, err := r.cfg.TPMs.Move(ctx, actor, o)
	return err
}

// settleCard makes the folder a machine.
func (h *Home) settleCard() error {
	text, err := json.MarshalIndent(h.card, "", "  ")
	if err != nil {
		return err
	}
	return durable.CreateFile(filepath.Join(h.dir, cardFile), append(text, '\n'), 0o600)
}

// discard takes away what was made of a machine that could not be completed.
func (r *Root) discard(ctx context.Context, h *Home, actor string) error {
	name := h.card.Name
	if _, err := os.Lstat(filepath.Join(h.dir, cardFile)); !errors.Is(err, fs.ErrNotExist) {
		return err // it is a machine
	}
	if c := r.custody(name); c.Machine != "" {
		if err := r.dropTPM(ctx, name, c.Machine, actor); err != nil {
			return err
		}
	}
	return durable.RemoveDir(h.dir, filepath.Join(r.cfg.Dir, deletedPrefix+name))
}

// Moving says how far a machine is that is on its way to another host; nil for one that is not.
func (r *Root) Moving(ctx context.Context, name string) (out *Migration, err error) {
	if _, err := r.Card(name); err != nil {
		return nil, err
	}
	if _, _, err = r.call(ctx, name, request{Verb: verbMoving}, &out); errors.Is(err, errNotRunning) {
		return nil, nil
	}
	return out, err
}

// CallOff ends a move that has not come to its point of no return: the machine runs on here.
func (r *Root) CallOff(ctx context.Context, actor, name string) error {
	if _, err := r.Card(name); err != nil {
		return err
	}
	_, _, err := r.call(ctx, name, request{Verb: verbCallOff, Actor: actor}, nil)
	return err
}
