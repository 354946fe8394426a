package vmbackup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"filippo.io/age"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/wire"
)

// Config is what a [Store] takes from its process. All of it is required.
type Config struct {
	Machines *machine.Root
	// Provider opens a key provider by its name or URI.
	Provider func(ctx context.Context, spec string) (vtpm.Provider, error)
	Random   io.Reader
	Now      func() time.Time
}

// A Store writes the machines of a root to files and makes machines of such files.
type Store struct {
	cfg  Config
	work int // of scrypt
}

// New makes a store.
func New(cfg Config) (*Store, error) {
	if cfg.Machines == nil || cfg.Provider == nil || cfg.Random == nil || cfg.Now == nil {
		return nil, errors.New("backups of machines need the machines, key providers, randomness and a clock")
	}
	return &Store{cfg, passphraseWork}, nil
}

// A Progress is told how far a long operation is, in bytes of disks.
type Progress func(phase string, done, total int64)

// counter adds up what is done of one phase.
func (p Progress) counter(phase string, total int64) func(n int) {
	done := int64(0)
	return func(n int) {
		if done += int64(n); p != nil {
			p(phase, min(done, total), total)
		}
	}
}

// Options say what to back up, and for whom.
type Options struct {
	Name string
	// To is the file, whose name must be free, or a folder, in which it gets one.
	To string
	Protection
	// WithoutShared leaves out the disks that other machines write to as well; with one
	// that is not left out the backup is refused.
	WithoutShared bool
	// Room, if any, refuses a file by what the disks in it take, before it is begun.
	Room     func(disks int64) error
	Progress Progress // nil for none
}

// A Report says what a backup has.
type Report struct {
	File        string    `json:"file"`
	Machine     string    `json:"machine"`
	ID          string    `json:"id"`
	Made        time.Time `json:"made"`
	By          string    `json:"by"`
	Method      string    `json:"method"`
	Provider    string    `json:"provider,omitempty"`
	BootCounter uint64    `json:"bootCounter,string"`
	// TPM is the generation of the machine's TPM; 0 without one.
	TPM      uint64       `json:"tpmGeneration,omitempty"`
	Disks    []DiskReport `json:"disks"`
	Bytes    int64        `json:"bytes"` // of the file
	Warnings []string     `json:"warnings,omitempty"`
}

// A DiskReport says of a disk what is in a backup.
type DiskReport struct {
	File string `json:"file"` // where it was
	Size int64  `json:"size"`
	Left string `json:"left,omitempty"` // why it is not in it
}

// fileTime is the time in the name of a file.
const fileTime = "20060102T150405Z"

// Backup writes a machine that does not run to a file, which is opened again before it
// gets its name. Meanwhile nobody can start the machine.
func (s *Store) Backup(ctx context.Context, actor string, o Options) (_ *Report, err error) {
	method, err := o.method()
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(o.To); err == nil && info.IsDir() {
		o.To = filepath.Join(o.To, o.Name+"-"+s.cfg.Now().UTC().Format(fileTime)+".assayvm")
	}
	if _, err := os.Lstat(o.To); err == nil {
		return nil, fmt.Errorf("%q: %w", o.To, ErrExists)
	}
	card, err := s.cfg.Machines.Card(o.Name)
	if err != nil {
		return nil, err
	}
	l, closing, err := s.newLock(ctx, &o.Protection, method, card.ID) // keys first: without them all else is in vain
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closing()) }()
	d, err := s.cfg.Machines.Depart(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	w := &writing{store: s, o: &o, actor: actor, method: method, lock: l, machine: d, made: s.cfg.Now().UTC().Truncate(time.Microsecond)}
	defer w.close()
	if err := w.gather(ctx); err != nil {
		return nil, fmt.Errorf("back up machine %q: %w", o.Name, err)
	}
	if err := w.sweep(); err != nil { // before its room is counted
		return nil, err
	}
	if o.Room != nil {
		if err := o.Room(w.total); err != nil {
			return nil, err
		}
	}
	if err := w.file(ctx); err != nil {
		return nil, fmt.Errorf("back up machine %q: %w", o.Name, err)
	}
	words := fmt.Sprintf("a backup was written to %q and opened again", o.To)
	return w.report(), d.Note(integrity.EventBackup, actor, evidence.Reason{Code: codeBackedUp, Message: words})
}

// writing is one backup on its way.
type writing struct {
	store    *Store
	o        *Options
	actor    string
	method   Method
	lock     *lock
	machine  *machine.Departure
	made     time.Time
	contents contents
	disks    []*source // by the machine's disks; nil for one that is left out
	total    int64
	bytes    int64
	warnings []string
}

func (w *writing) close() {
	clear(w.lock.key)
	for _, d := range w.disks {
		if d != nil {
			d.file.Close()
		}
	}
}

// gather opens all that the backup will have.
func (w *writing) gather(ctx context.Context) error {
	d := w.machine
	m := &manifest{
		Version: Version, ID: d.Card.ID, Name: d.Card.Name, Made: w.made, By: w.actor, BootCounter: d.History.BootCounter,
		Torn: d.Torn, Disks: []diskPart{},
	}
	history := *d.History
	history.Plan = nil // an approval is for one boot, and must not come back after that
	w.contents = contents{manifest: m, definition: d.Definition, variables: d.Variables, history: &history, events: d.Events}
	if w.contents.events == nil {
		w.contents.events = []integrity.Notice{}
	}
	if d.Torn {
		w.warnings = append(w.warnings, "nobody saw the end of the machine's last run: its disks are as after a loss of power, and so is the backup")
	}
	if d.Snapshots > 0 {
		w.warnings = append(w.warnings, fmt.Sprintf("the machine's %d snapshots are not in the backup: it has the machine as it is now", d.Snapshots))
	}
	for i := range d.Definition.Disks {
		if err := w.addDisk(i); err != nil {
			return err
		}
	}
	if !d.Definition.Shielded.VTPM {
		return nil
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	sealed, report, err := d.TPM(ctx, w.actor, identity.Recipient().String())
	if err != nil {
		return err
	}
	m.TPM = &tpmPart{report.ID.String(), report.Generation, identity.String()}
	w.contents.tpm = sealed
	return nil
}

func (w *writing) addDisk(i int) error {
	disk := &w.machine.Definition.Disks[i]
	p := diskPart{Index: i}
	if disk.Shared && !w.o.WithoutShared {
		return fmt.Errorf("disk %q: %w", disk.File, ErrShared)
	}
	if disk.Shared {
		p.Left = "it is shared with other machines"
		w.warnings = append(w.warnings, fmt.Sprintf("disk %q is shared, and not in the backup", disk.File))
		w.disks = append(w.disks, nil)
		w.contents.manifest.Disks = append(w.contents.manifest.Disks, p)
		return nil
	}
	s, err := openSource(disk)
	if err != nil {
		return err
	}
	p.Size = s.size
	w.total += s.allocated
	w.disks = append(w.disks, s)
	w.contents.manifest.Disks = append(w.contents.manifest.Disks, p)
	return nil
}

// An unfinished file of a backup of another machine is somebody's until it is this old: older
// versions of this program did not hold what they wrote.
const sweepAfter = time.Hour

// backupFile is the name that a backup gets in a folder; see [Store.Backup].
var backupFile = regexp.MustCompile(`^(.+)-[0-9]{8}T[0-9]{6}Z\.assayvm$`)

// sweep removes what backups that were killed left beside the file. This one has the machine,
// and so nobody else here writes a backup of it.
func (w *writing) sweep() error {
	now := w.store.cfg.Now()
	return durable.SweepUnheld(filepath.Dir(w.o.To), func(name string, written time.Time) bool {
		if name == filepath.Base(w.o.To) {
			return true
		}
		m := backupFile.FindStringSubmatch(name)
		return m != nil && (m[1] == w.o.Name || now.Sub(written) > sweepAfter)
	})
}

// file writes the file, opens it again, and gives it its name.
func (w *writing) file(ctx context.Context) (err error) {
	if err := durable.SweepOf(w.o.To); err != nil { // also where nothing can be held
		return err
	}
	f, err := durable.BeginHeld(w.o.To, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Abort())
		} else {
			err = f.Close()
		}
	}()
	sum, err := w.write(ctx, f)
	if err != nil {
		return fmt.Errorf("write %q: %w", w.o.To, err)
	}
	if err := w.check(ctx, f.File, sum); err != nil {
		return fmt.Errorf("check %q: %w", w.o.To, err)
	}
	err = f.CommitNew()
	if errors.Is(err, durable.ErrExists) {
		return fmt.Errorf("%q: %w", w.o.To, ErrExists)
	}
	return err
}

// write writes header and body, and returns the digest of the body.
func (w *writing) write(ctx context.Context, f io.Writer) (sum []byte, err error) {
	m := w.contents.manifest
	head, err := wire.Encode(&header{
		version: Version, oldest: Version, method: w.method, made: w.made.UnixMicro(), id: []byte(m.ID), name: []byte(m.Name), provider: []byte(w.o.Provider),
	})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(head)
	m.Header = hex.EncodeToString(digest[:])
	buffer := bufio.NewWriterSize(f, maxExtent)
	if _, err := buffer.Write(head); err != nil {
		return nil, err
	}
	sealed, err := age.Encrypt(buffer, w.lock.to...)
	if err != nil {
		return nil, err
	}
	body := newFrameWriter(sealed)
	if err := body.putContents(&w.contents); err != nil {
		return nil, err
	}
	count := w.o.Progress.counter("write", w.total)
	for _, d := range w.disks {
		if d == nil {
			continue
		}
		err := d.read(ctx, body.extent, count)
		if err = errors.Join(err, d.unchanged()); err == nil {
			err = body.diskEnd(d.size)
		}
		if err != nil {
			return nil, fmt.Errorf("disk %q: %w", d.file.Name(), err)
		}
	}
	if sum, err = body.end(); err != nil {
		return nil, err
	}
	return sum, errors.Join(sealed.Close(), buffer.Flush())
}

// check opens what is on the disk: by the key provider, where one is needed for it, and
// else by the file's own key, for the keys of recipients need not be here.
func (w *writing) check(ctx context.Context, f *os.File, sum []byte) error {
	file, err := newFile(f)
	if err != nil {
		return err
	}
	ids, closing := []age.Identity{age.NewInjectedFileKeyIdentity(w.lock.key)}, func() error { return nil }
	if w.method == Provider {
		if ids, closing, err = w.store.identities(ctx, &file.Card, &Keys{}); err != nil {
			return err
		}
	}
	w.bytes = file.size
	r, c, err := file.open(ids)
	if err = errors.Join(err, closing()); err != nil {
		return err
	}
	if !bytes.Equal(c.tpm, w.contents.tpm) || !bytes.Equal(c.variables, w.contents.variables) {
		return fmt.Errorf("%w: what is on the disk is not what was written", ErrDamaged)
	}
	again, err := r.disks(ctx, nowhere{}, w.o.Progress.counter("check", w.total))
	if err == nil && !bytes.Equal(again, sum) {
		err = fmt.Errorf("%w: what is on the disk is not what was written", ErrDamaged)
	}
	return err
}

func (w *writing) report() *Report {
	r := reportOf(w.o.To, &w.contents)
	r.Method, r.Provider, r.Bytes, r.Warnings = w.method.String(), w.o.Provider, w.bytes, w.warnings
	if w.o.Provider != "" && w.o.Provider == w.machine.Card.Provider {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the backup needs key provider %q, as the machine itself does: lose its keys and both are lost", w.o.Provider))
	}
	return r
}

// reportOf says what is in a backup.
func reportOf(file string, c *contents) *Report {
	m := c.manifest
	r := &Report{File: file, Machine: m.Name, ID: m.ID, Made: m.Made, By: m.By, BootCounter: m.BootCounter, Disks: []DiskReport{}}
	if m.TPM != nil {
		r.TPM = m.TPM.Generation
	}
	for i, p := range m.Disks {
		r.Disks = append(r.Disks, DiskReport{c.definition.Disks[i].File, p.Size, p.Left})
	}
	return r
}
