package machine

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/vtpm"
)

// The files of snapshots. snapshotsFile says which there are: one whose folder it does not
// name was never finished, or is being removed.
const (
	snapshotsFile   = "snapshots.sealed"
	snapshotsFolder = "snapshots"
	memoryFile      = "memory.sealed"
	tpmFile         = "tpm.backup"
)

// maxSnapshots bounds the snapshots of one machine.
const maxSnapshots = 64

// tagPrefix begins the name that a snapshot has inside the images of disks: those of
// others are left alone.
const tagPrefix = "assay-"

// The errors of snapshots that a caller acts on.
var (
	ErrSnapshotName  = errors.New("not a name for a snapshot: want 1 to 63 letters, digits, dots, underscores and hyphens")
	ErrSnapshotThere = errors.New("there is a snapshot of that name")
	ErrNoSnapshot    = errors.New("there is no snapshot of that name")
	// ErrHardware is a memory that fits another machine than the definition now says.
	ErrHardware = errors.New("the machine has been changed since the snapshot, and its memory fits only what it was")
)

// A Snapshot is a machine at one moment: its disks, its variables and its TPM, and, when
// it ran, its memory. What belongs to which boot is known, too.
type Snapshot struct {
	Name string    `json:"name"`
	Made time.Time `json:"made"`
	By   string    `json:"actor"`
	// Boot is the one that the machine was in, 0 before its first.
	Boot uint64 `json:"bootCounter,string"`
	// Memory is set when the machine ran: restored, it goes on where it was.
	Memory bool     `json:"memory"`
	Disks  []string `json:"disks"`
	// TPM is the generation of its state, 0 without one.
	TPM uint64 `json:"tpmGeneration,omitempty"`
	// Tag is what the snapshot is called inside the images of the disks.
	Tag string `json:"tag"`
	// Hardware is the machine that the memory fits.
	Hardware string `json:"hardware"`
}

var (
	snapshotRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`) })
	tagRule      = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^assay-[0-9a-f]{32}$`) })
)

// in is a file of a snapshot, under the home's folder.
func (s *Snapshot) in(file string) string { return filepath.Join(snapshotsFolder, s.Tag, file) }

// hardware is the machine as its memory depends on it.
func (r *Root) hardware(d *fleet.Definition, id string) (string, error) {
	text, err := json.Marshal(r.hypervised(d, id))
	return string(text), err
}

// newSnapshot begins one: it has a folder, and is none yet.
func (r *Root) newSnapshot(h *Home, d *fleet.Definition, actor, name string) (*Snapshot, []int, error) {
	if !snapshotRule().MatchString(name) {
		return nil, nil, fmt.Errorf("snapshot %.80q: %w", name, ErrSnapshotName)
	}
	on, err := h.shelf()
	if err != nil {
		return nil, nil, err
	}
	switch {
	case on.Going != nil:
		return nil, nil, &StateError{"the machine is on its way back to a snapshot: start it first"}
	case len(on.Snapshots) >= maxSnapshots:
		return nil, nil, &StateError{fmt.Sprintf("the machine has %d snapshots already: delete one", maxSnapshots)}
	}
	if _, err := on.named(name); err == nil {
		return nil, nil, fmt.Errorf("snapshot %q: %w", name, ErrSnapshotThere)
	}
	disks, err := qemu.Kept(r.hypervised(d, h.card.ID).Disks)
	if err != nil {
		return nil, nil, err
	}
	tag := make([]byte, 16)
	if _, err := io.ReadFull(r.cfg.Random, tag); err != nil {
		return nil, nil, err
	}
	s := &Snapshot{Name: name, Made: r.cfg.Now().UTC(), By: actor, Disks: []string{}, Tag: tagPrefix + hex.EncodeToString(tag)}
	for _, i := range disks {
		s.Disks = append(s.Disks, d.Disks[i].File)
	}
	if s.Hardware, err = r.hardware(d, h.card.ID); err != nil {
		return nil, nil, err
	}
	return s, disks, os.MkdirAll(filepath.Join(h.dir, s.in("")), 0o700)
}

// holdTPM writes the state of the machine's TPM, sealed by the home's key provider.
func (r *Root) holdTPM(ctx context.Context, h *Home, d *fleet.Definition, s *Snapshot, actor string) error {
	if !d.Shielded.VTPM {
		return nil
	}
	report, err := r.cfg.TPMs.Backup(ctx, actor, vtpm.BackupOptions{Name: h.Name(), To: filepath.Join(h.dir, s.in(tpmFile)), Provider: h.card.Provider})
	if err == nil {
		s.TPM = report.Generation
	}
	return err
}

// shelve makes a snapshot count; the event is to be logged next.
func (r *Root) shelve(h *Home, s *Snapshot) (integrity.Notice, error) {
	n := integrity.Notice{
		Type: integrity.EventSnapshot, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: s.Boot, Actor: s.By,
		Reasons: []evidence.Reason{reason(codeSnapshot, fmt.Sprintf("snapshot %q was made, %s", s.Name, map[bool]string{true: "with the memory of the machine, which ran", false: "of the machine, which was off"}[s.Memory]))},
	}
	on, err := h.shelf()
	if err != nil {
		return n, err
	}
	on.Snapshots = append(on.Snapshots, *s)
	return n, h.keepShelf(on, n)
}

// Snapshot makes a snapshot of a machine, whether it runs or not.
func (r *Root) Snapshot(ctx context.Context, actor, name, snapshot string) (*Snapshot, error) {
	return ask(ctx, r, name, request{Verb: verbSnapshot, Actor: actor, Snapshot: snapshot}, func(h *Home) (*Snapshot, error) {
		if err := errors.Join(h.notGiven(), r.notAlive(name)); err != nil {
			return nil, err
		}
		d, err := h.Definition()
		if err != nil {
			return nil, err
		}
		if err := r.settleSnapshots(ctx, h, d); err != nil {
			return nil, err
		}
		return r.snapshotOff(ctx, h, d, actor, snapshot)
	})
}

// snapshotOff makes a snapshot of a machine that is off.
func (r *Root) snapshotOff(ctx context.Context, h *Home, d *fleet.Definition, actor, name string) (_ *Snapshot, err error) {
	s, disks, err := r.newSnapshot(h, d, actor, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil { // what is there of it is no snapshot
			err = errors.Join(err, r.settleSnapshots(context.WithoutCancel(ctx), h, d))
		}
	}()
	m := r.hypervised(d, h.card.ID)
	for _, i := range disks {
		if err := r.cfg.Images.Snapshot(ctx, &m.Disks[i], s.Tag); err != nil {
			return nil, err
		}
	}
	variables, err := h.Variables()
	if err != nil {
		return nil, err
	}
	history, err := h.History()
	if err != nil {
		return nil, err
	}
	s.Boot = history.BootCounter
	if err := errors.Join(h.write(s.in(variablesFile), variables), r.holdTPM(ctx, h, d, s, actor)); err != nil {
		return nil, err
	}
	n, err := r.shelve(h, s)
	if err != nil {
		return nil, err
	}
	return s, r.logLast(h, n)
}

// Snapshots are those of a machine, the oldest first.
func (r *Root) Snapshots(ctx context.Context, name string) ([]Snapshot, error) {
	return ask(ctx, r, name, request{Verb: verbSnapshots}, (*Home).snapshots)
}

func (h *Home) snapshots() ([]Snapshot, error) {
	on, err := h.shelf()
	if err != nil {
		return nil, err
	}
	return append([]Snapshot{}, on.Snapshots...), nil // a list, also of none
}

// DropSnapshot deletes a snapshot of a machine. What it held is gone.
func (r *Root) DropSnapshot(ctx context.Context, actor, name, snapshot string) error {
	_, err := ask(ctx, r, name, request{Verb: verbDropSnapshot, Actor: actor, Snapshot: snapshot}, func(h *Home) (struct{}, error) {
		d, err := h.Definition()
		if err != nil {
			return struct{}{}, err
		}
		if err := errors.Join(h.notGiven(), r.notAlive(name)); err != nil {
			return struct{}{}, err
		}
		n, _, err := r.unshelve(h, actor, snapshot)
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, errors.Join(r.logLast(h, n), r.settleSnapshots(ctx, h, d))
	})
	return err
}

// unshelve makes a snapshot count no more; the event is to be logged next, and its folder and
// its tags are left to be swept.
func (r *Root) unshelve(h *Home, actor, name string) (n integrity.Notice, gone Snapshot, err error) {
	on, err := h.shelf()
	if err != nil {
		return n, gone, err
	}
	s, err := on.named(name)
	if err != nil {
		return n, gone, err
	}
	gone = *s
	if on.Going != nil && on.Going.Tag == gone.Tag {
		return n, gone, &StateError{"the machine is on its way back to this snapshot: start it first"}
	}
	on.Snapshots = slices.DeleteFunc(on.Snapshots, func(s Snapshot) bool { return s.Tag == gone.Tag })
	n = integrity.Notice{
		Type: integrity.EventSnapshot, Instance: h.Name(), Time: r.cfg.Now(), BootCounter: gone.Boot, Actor: actor,
		Reasons: []evidence.Reason{reason(codeSnapshotGone, fmt.Sprintf("snapshot %q of %s was deleted", gone.Name, gone.Made.Format(time.RFC3339)))},
	}
	return n, gone, h.keepShelf(on, n)
}

// GoBack sets a machine that is off back to a snapshot. With memory its next start goes
// on where the machine was; without, it is as after a loss of power in that moment. Once
// it has begun a crash does not undo it: the next start completes it. Later snapshots
// stay.
func (r *Root) GoBack(ctx context.Context, actor, name, snapshot string, memory bool) (err error) {
	h, err := ours(r.openSoon(ctx, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := r.notAlive(name); err != nil {
		return err
	}
	d, on, s, err := r.wayBack(ctx, h, snapshot, memory, r.cfg.Images.Tags)
	if err != nil {
		return err
	}
	on.Going = &goingBack{Tag: s.Tag, Actor: actor, Time: r.cfg.Now().UTC(), Memory: memory}
	if d.Shielded.VTPM {
		if about, err := r.cfg.TPMs.Describe(ctx, name); err == nil {
			on.Going.Before = about.Generation
		}
	}
	if err := h.setShelf(on); err != nil {
		return err
	}
	return r.settleSnapshots(ctx, h, d)
}

// SetBack sets a machine back to a snapshot, as [Root.GoBack] does. One that runs loses its
// power, once nothing refuses that: its way back has begun then, so that nobody deletes the
// snapshot meanwhile, and what is cut short here the next start completes.
func (r *Root) SetBack(ctx context.Context, actor, name, snapshot string, memory bool) error {
	if err := r.mayGoBack(ctx, name, snapshot, memory); err != nil {
		return err
	}
	_, _, err := r.call(ctx, name, request{Verb: verbGoBack, Actor: actor, Snapshot: snapshot, Memory: memory}, nil)
	if errors.Is(err, errNotRunning) {
		return r.GoBack(ctx, actor, name, snapshot, memory)
	}
	if err != nil {
		return err
	}
	card, err := r.Card(name)
	if err == nil {
		err = r.awaitEnd(ctx, card)
	}
	if err == nil {
		err = r.completeBack(ctx, name)
	}
	if err != nil {
		return fmt.Errorf("machine %q is on its way back to snapshot %q, and assay vm start completes that: %w", name, snapshot, err)
	}
	return nil
}

// completeBack goes the way back that a machine began which has ended since.
func (r *Root) completeBack(ctx context.Context, name string) (err error) {
	h, err := ours(r.openSoon(ctx, name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := r.notAlive(name); err != nil {
		return err
	}
	d, err := h.Definition()
	if err != nil {
		return err
	}
	return r.settleSnapshots(ctx, h, d)
}

// beginBack has a machine that runs begin its way back, in its loop, and takes its power.
func (s *supervisor) beginBack(q *request) error {
	if s.moving {
		return errMoving
	}
	on, err := s.home.shelf()
	if err != nil {
		return err
	}
	to, err := on.named(q.Snapshot)
	if err != nil {
		return err
	}
	if err := s.root.suits(s.definition, s.home.card.ID, to, q.Memory); err != nil {
		return err
	}
	on.Going = &goingBack{Tag: to.Tag, Actor: q.Actor, Time: s.root.cfg.Now().UTC(), Memory: q.Memory}
	if s.tpm != nil {
		on.Going.Before = s.tpm.Generation()
	}
	if err := s.home.setShelf(on); err != nil {
		return err
	}
	s.ending = &ending{actor: q.Actor, reason: reason(codeStopped, fmt.Sprintf("somebody sets the machine back to snapshot %q", to.Name))}
	s.cut()
	return nil
}

// mayGoBack returns the error with which [Root.GoBack] would refuse, of a machine that may
// run: it is asked before the machine loses its power.
func (r *Root) mayGoBack(ctx context.Context, name, snapshot string, memory bool) error {
	card, err := r.Card(name)
	if err != nil {
		return err
	}
	return r.glance(ctx, card, func(h *Home) error {
		if err := h.notGiven(); err != nil {
			return err
		}
		_, _, _, err := r.wayBack(ctx, h, snapshot, memory, r.cfg.Images.TagsInUse)
		return err
	})
}

// tagsOf lists the snapshots in the image of a disk.
type tagsOf func(context.Context, *qemu.Disk) ([]string, error)

// wayBack looks for a snapshot, and refuses a way back to it that would not end.
func (r *Root) wayBack(ctx context.Context, h *Home, name string, memory bool, tags tagsOf) (*fleet.Definition, *shelf, *Snapshot, error) {
	d, err := h.Definition()
	if err != nil {
		return nil, nil, nil, err
	}
	on, err := h.shelf()
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := on.named(name)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := r.suits(d, h.card.ID, s, memory); err != nil {
		return nil, nil, nil, err
	}
	return d, on, s, r.disksFit(ctx, d, h.card.ID, s, tags)
}

// settleSnapshots completes what a crash cut short. No hypervisor has the disks, and the
// caller has the home.
func (r *Root) settleSnapshots(ctx context.Context, h *Home, d *fleet.Definition) error {
	on, err := h.shelf()
	if err != nil {
		return err
	}
	if err := r.sweepSnapshots(ctx, h, d, on); err != nil {
		return err
	}
	if on.Going == nil || on.Going.Applied {
		return nil
	}
	s := on.tagged(on.Going.Tag)
	if err := r.apply(ctx, h, d, s, on.Going.Actor); err != nil {
		return fmt.Errorf("go back to snapshot %q: %w", s.Name, err)
	}
	on.Going.Applied = true
	if on.Going.Memory {
		return h.setShelf(on) // its start is the last part
	}
	history, err := h.History()
	if err != nil {
		return err
	}
	n := r.wentBack(h, s, on.Going)
	n.BootCounter = history.BootCounter
	if err := r.logAll(h, []integrity.Notice{n}); err != nil {
		return err
	}
	on.Going = nil
	return h.setShelf(on)
}

// sweepSnapshots removes what is left of snapshots that there are not.
func (r *Root) sweepSnapshots(ctx context.Context, h *Home, d *fleet.Definition, on *shelf) error {
	dir := filepath.Join(h.dir, snapshotsFolder)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m := r.hypervised(d, h.card.ID)
	for _, e := range entries {
		tag := e.Name()
		if !tagRule().MatchString(tag) || on.tagged(tag) != nil {
			continue
		}
		for i := range m.Disks {
			if m.Disks[i].Format != "qcow2" || m.Disks[i].ReadOnly {
				continue
			}
			if err := r.cfg.Images.Drop(ctx, &m.Disks[i], tag); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, tag)); err != nil {
			return err
		}
	}
	return nil
}

// apply makes disks, variables and TPM what they were. It may be done twice.
func (r *Root) apply(ctx context.Context, h *Home, d *fleet.Definition, s *Snapshot, actor string) error {
	m := r.hypervised(d, h.card.ID)
	disks, err := qemu.Kept(m.Disks)
	if err != nil {
		return err
	}
	for _, i := range disks {
		if err := r.cfg.Images.Apply(ctx, &m.Disks[i], s.Tag); err != nil {
			return err
		}
	}
	variables, err := h.read(s.in(variablesFile))
	if err != nil {
		return err
	}
	defer variables.Destroy()
	if err := h.SetVariables(variables.Expose()); err != nil || !d.Shielded.VTPM {
		return err
	}
	// What the TPM told since is undone knowingly: the event and its own trail say so.
	_, err = r.cfg.TPMs.Restore(ctx, actor, vtpm.RestoreOptions{
		From: filepath.Join(h.dir, s.in(tpmFile)), Name: h.Name(), Provider: h.card.Provider, AllowRollback: true, Cold: true,
	})
	return err
}
