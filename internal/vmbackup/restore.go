package vmbackup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"filippo.io/age"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/vtpm"
)

// The reason codes of this package.
const (
	codeBackedUp = evidence.Code("machine.backed-up")
	codeRestored = evidence.Code("machine.restored")
	codeOlder    = evidence.Code("machine.restored-older")
	codeCopied   = evidence.Code("machine.copied")
)

// A File is a backup whose header was read. What its Card says is a claim.
type File struct {
	Card
	f      *os.File
	digest [sha256.Size]byte // of the header as it stands
	size   int64
	body   int64 // offset
}

// OpenFile reads the header of a backup; close what it returns.
func OpenFile(name string) (*File, error) {
	// O_NONBLOCK keeps a named pipe from stalling us until its mode is seen.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	file, err := newFile(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%q: %w", name, err), f.Close())
	}
	return file, nil
}

func newFile(f *os.File) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrFormat)
	}
	begin := make([]byte, min(info.Size(), maxHeader))
	if _, err := f.ReadAt(begin, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	card, n, err := parseHeader(begin)
	if err != nil {
		return nil, err
	}
	return &File{*card, f, sha256.Sum256(begin[:n]), info.Size(), int64(n)}, nil
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// open decrypts the body up to the disks.
func (f *File) open(ids []age.Identity) (*frameReader, *contents, error) {
	text, err := decrypt(bufio.NewReaderSize(io.NewSectionReader(f.f, f.body, f.size-f.body), maxExtent), ids)
	if err != nil {
		return nil, nil, err
	}
	r := newFrameReader(text)
	c, err := r.contents(f.digest)
	if err == nil && (c.manifest.ID != f.ID || c.manifest.Name != f.Name) {
		err = fmt.Errorf("%w: it is of another machine than its header says", ErrDamaged)
	}
	return r, c, err
}

// RestoreOptions say what to make of a backup.
type RestoreOptions struct {
	From string
	Name string // of the machine; that of the backup when empty
	Keys Keys
	// Provider keeps the key of the machine's home and of its TPM; empty is the default.
	Provider string
	// NewIdentity makes another machine of it: with an id and an empty TPM of its own,
	// and the baselines of the original.
	NewIdentity bool
	// AllowRollback takes a backup although the machine's TPM has told of newer states, or
	// has none where the machine's name has one here.
	AllowRollback bool
	// Disks and Networks are the files and the tap devices of this host that the machine
	// may use as the backup says; with others it is refused.
	Disks, Networks []string
	// May refuses a machine by its definition, before anything is made; nil for none.
	May func(*fleet.Definition) error
	// DryRun opens and checks all of the backup, and makes nothing.
	DryRun   bool
	Progress Progress // nil for none
}

// A Restored machine.
type Restored struct {
	Backup   *Report `json:"backup"`
	Machine  string  `json:"machine"`
	ID       string  `json:"id"` // empty before a new one is made
	Provider string  `json:"provider"`
	DryRun   bool    `json:"dryRun,omitempty"`
	// Known is the newest generation of the TPM that is known here, 0 when it is not;
	// RolledBack says that the backup is older.
	Known      uint64   `json:"tpmGenerationKnown,omitempty"`
	RolledBack bool     `json:"rolledBack"`
	Disks      []string `json:"disks"` // where they are now
	Warnings   []string `json:"warnings,omitempty"`
}

// Restore makes a machine of a backup, whole or not at all. It is the machine itself,
// which must not be here, or by [RestoreOptions.NewIdentity] another one.
func (s *Store) Restore(ctx context.Context, actor string, o RestoreOptions) (_ *Restored, err error) {
	f, err := OpenFile(o.From)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	ids, closing, err := s.identities(ctx, &f.Card, &o.Keys)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", o.From, err)
	}
	r, c, err := f.open(ids)
	if err = errors.Join(err, closing()); err != nil {
		return nil, fmt.Errorf("%q: %w", o.From, err)
	}
	back := reportOf(o.From, c)
	back.Method, back.Provider, back.Bytes = f.Method.String(), f.Provider, f.size
	m := &making{store: s, o: &o, from: c, r: r, out: &Restored{Backup: back, DryRun: o.DryRun, Disks: []string{}}}
	if err := m.plan(ctx, actor); err != nil {
		return nil, err
	}
	if o.DryRun {
		_, err := r.disks(ctx, nowhere{}, o.Progress.counter("check", m.total))
		return m.out, err
	}
	made, err := s.cfg.Machines.Arrive(ctx, actor, *m.arrival)
	if err != nil {
		return nil, err
	}
	m.out.ID = made.Card.ID
	if made.TPM != nil {
		m.out.Warnings = append(m.out.Warnings, made.TPM.Warnings...)
	}
	return m.out, nil
}

// A making is one restore on its way.
type making struct {
	store   *Store
	o       *RestoreOptions
	from    *contents
	r       *frameReader
	names   map[int]string // of the disks' files
	total   int64
	arrival *machine.Arrival
	out     *Restored
}

// plan decides what is made, and refuses what can be refused before anything is.
func (m *making) plan(ctx context.Context, actor string) error {
	c := m.from
	a := &machine.Arrival{
		Definition: c.definition, ID: c.manifest.ID, Provider: m.o.Provider, Variables: c.variables, History: c.history, Events: c.events,
		Event: integrity.EventRestore,
	}
	m.arrival = a
	if a.History.Plan != nil { // it may be used up, or was never given
		a.History.Plan = nil
		m.out.Warnings = append(m.out.Warnings, "the backup has a plan for one boot, which is not taken over: approve it again")
	}
	if m.o.Name != "" {
		a.Definition.Name = m.o.Name
	}
	if err := m.permitted(); err != nil {
		return err
	}
	if m.o.May != nil {
		if err := m.o.May(a.Definition); err != nil {
			return err
		}
	}
	m.place()
	said := fmt.Sprintf("the machine is what it was in the backup of %s by %s, after its boot %d", c.manifest.Made.Format(time.RFC3339), c.manifest.By, c.manifest.BootCounter)
	a.Reasons = append(a.Reasons, evidence.Reason{Code: codeRestored, Message: said})
	if m.o.NewIdentity {
		m.renew()
	} else if c.manifest.TPM != nil {
		if err := m.weigh(ctx, actor); err != nil {
			return err
		}
	} else if err := m.weighNoTPM(ctx, actor); err != nil {
		return err
	}
	if c.manifest.Torn {
		m.out.Warnings = append(m.out.Warnings, "nobody saw the end of the machine's last run before the backup: its disks are as after a loss of power")
	}
	warnings, err := m.store.cfg.Machines.CanArrive(ctx, a)
	if err != nil {
		return err
	}
	m.out.Warnings = append(m.out.Warnings, warnings...)
	m.out.Machine, m.out.ID, m.out.Provider = a.Definition.Name, a.ID, a.Provider
	return nil
}

// permitted refuses what the machine would use of this host and the operator has not
// named: with recipients anybody can have written the backup.
func (m *making) permitted() (err error) {
	d := m.arrival.Definition
	for i, p := range m.from.manifest.Disks {
		if file := d.Disks[i].File; p.Left != "" && !slices.Contains(m.o.Disks, file) {
			err = errors.Join(err, fmt.Errorf("disk %q is not in the backup: %w", file, ErrOfHost))
		}
	}
	for _, n := range d.Networks {
		if n.Kind != "user" && !slices.Contains(m.o.Networks, n.Device) {
			err = errors.Join(err, fmt.Errorf("network device %q: %w", n.Device, ErrOfHost))
		}
	}
	return err
}

// place gives the disks their files in the new home. One that is not in the backup stays
// where it was.
func (m *making) place() {
	m.names = map[int]string{}
	d := m.arrival.Definition
	for i, p := range m.from.manifest.Disks {
		if p.Left != "" {
			m.out.Disks = append(m.out.Disks, d.Disks[i].File)
			m.out.Warnings = append(m.out.Warnings, fmt.Sprintf("disk %q is not in the backup (%s): the machine uses what is there", d.Disks[i].File, p.Left))
			continue
		}
		m.names[i] = fmt.Sprintf("disk%d.%s", i, d.Disks[i].Format)
		d.Disks[i].File = m.store.cfg.Machines.DiskPath(d.Name, m.names[i])
		m.out.Disks = append(m.out.Disks, d.Disks[i].File)
		m.total += p.Size
	}
	m.arrival.Disks = m.write
}

// write makes the files of the disks.
func (m *making) write(ctx context.Context, dir string) error {
	to := &folder{dir: dir, names: m.names}
	_, err := m.r.disks(ctx, to, m.o.Progress.counter("write", m.total))
	return errors.Join(err, to.close())
}

// renew makes another machine of the backup: with nothing by which the original is known.
func (m *making) renew() {
	a := m.arrival
	a.ID, a.Events = "", nil
	a.History = &integrity.History{Versions: m.from.history.Versions}
	for i := range a.Definition.Networks {
		n := &a.Definition.Networks[i]
		if n.MAC != "" {
			m.out.Warnings = append(m.out.Warnings, fmt.Sprintf("network %d had the address %s, which is the original's: the copy has QEMU's", i, n.MAC))
			n.MAC = ""
		}
	}
	words := fmt.Sprintf("it is another machine, made of a backup of machine %q, %s: its id and its TPM are its own, its baselines those of the original", m.from.manifest.Name, m.from.manifest.ID)
	a.Reasons = append(a.Reasons, evidence.Reason{Code: codeCopied, Message: words})
	if a.Definition.Shielded.VTPM {
		m.out.Warnings = append(m.out.Warnings, "the TPM is a new, empty one: what the original sealed or encrypted by its own, disk keys among it, does not open here")
	}
}

// weigh opens the TPM, and compares it with what is known here of it.
func (m *making) weigh(ctx context.Context, actor string) error {
	a, part := m.arrival, m.from.manifest.TPM
	a.TPM = &machine.CarriedTPM{Sealed: m.from.tpm, Identity: []byte(part.Identity), AllowRollback: m.o.AllowRollback}
	report, err := m.store.cfg.Machines.LookAt(ctx, a.TPM)
	if err != nil {
		return fmt.Errorf("%w: its TPM: %w", ErrDamaged, err)
	}
	if report.ID.String() != part.ID || report.Generation != part.Generation {
		return fmt.Errorf("%w: its TPM is another than it says", ErrDamaged)
	}
	m.out.Known = report.Known
	if report.Known == 0 {
		m.out.Warnings = append(m.out.Warnings, "nothing is known here of the machine's TPM: whether the backup is its newest state, or the machine runs elsewhere, cannot be told; started twice it is two machines with the same secrets")
	}
	if !report.Older {
		return nil
	}
	if !m.o.AllowRollback {
		return &vtpm.RollbackError{TPM: report.TPM, Backup: report.Generation, Known: report.Known}
	}
	m.older(fmt.Sprintf("the machine went back: its TPM had told of generation %d, and the backup has generation %d; what happened in between is lost, and boots after boot %d had counters that are given again; allowed by %s", report.Known, report.Generation, m.from.manifest.BootCounter, actor))
	return nil
}

// weighNoTPM is weigh of a backup without a TPM: nothing tells its age.
func (m *making) weighNoTPM(ctx context.Context, actor string) error {
	m.out.Warnings = append(m.out.Warnings, "the backup has no TPM: whether it is the machine's newest state, or the machine got a TPM or other options since, cannot be told")
	has, err := m.store.cfg.Machines.HasTPM(ctx, m.arrival.Definition.Name, m.from.manifest.Name)
	if err != nil || !has {
		return err
	}
	if !m.o.AllowRollback {
		return ErrWithoutTPM
	}
	m.older(fmt.Sprintf("the machine may have gone back: it has no TPM in the backup, and its name has one here; allowed by %s", actor))
	return nil
}

// older notes what a restore takes back.
func (m *making) older(words string) {
	m.out.RolledBack = true
	m.arrival.Reasons = append(m.arrival.Reasons, evidence.Reason{Code: codeOlder, Message: words})
	m.out.Warnings = append(m.out.Warnings, words)
}
