package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/component"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/qemu"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/uefi/keyset"
)

// Firmware names the files of OVMF on this host (facts of Debian's package ovmf).
type Firmware struct {
	// Code is for machines without secure boot, SecureCode for those with: it keeps the
	// variables behind System Management Mode.
	Code, SecureCode string
	// Variables is the template of a store without keys.
	Variables string
}

// DefaultFirmware is where Debian's package ovmf has it.
func DefaultFirmware() Firmware {
	return Firmware{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"}
}

// Config is what a [Root] takes from its process.
type Config struct {
	// Dir is the folder of all machines' homes; it is made when it is missing. Required.
	Dir string
	// TPMs are the virtual TPMs of this host: that of a machine has its name. Required.
	TPMs *vtpm.Root
	// Provider opens a key provider by its name or URI. Required.
	Provider func(ctx context.Context, spec string) (vtpm.Provider, error)
	// DefaultProvider names the one of machines that are made without a choice; nil for none.
	DefaultProvider func() string
	// Keyset returns a key set by its name. Required.
	Keyset func(name string) (*keyset.Set, error)
	// Matrix says which machines are supported. Required.
	Matrix *fleet.Matrix
	// Place is this host and its site, for machines that are bound to one.
	Place    fleet.Place
	Firmware Firmware
	// Accelerator is qemu.KVM or qemu.TCG. Required.
	Accelerator string
	// Program is QEMU; "" is that of the path.
	Program string
	// Images changes the images of disks; its zero value is qemu-img of the path.
	Images qemu.Images
	// Random and Now are this machine's. Required.
	Random io.Reader
	Now    func() time.Time
	// Log is told of what has no event; nil for none.
	Log *slog.Logger
	// Event is told of every event of a machine, after its log; nil for none.
	Event func(integrity.Notice)
	// Components names what no disk of a machine has; nil is component.Builtin.
	Components *component.Index
	// Booted is told of a machine that has started its operating system and is not judged,
	// so that there is no event of it; nil for none.
	Booted func(machine string)
	// Issuer gives the attestation service that makes tokens for a machine; nil for none.
	Issuer func(machine string) health.Issuer
	// Heard is told what the agent of a machine says that it saw in a boot; nil for none.
	Heard func(machine string, boot uint64, r health.Report)
	// Findings go with machines to other hosts; nil for a host that keeps none.
	Findings Findings
}

// A Root is the folder of the machines of a host. It is safe for concurrent use, and
// several processes may have it open: each home has its lock.
type Root struct {
	cfg      Config
	patience time.Duration // for what one machine says of how it is
	pace     paces
	seen     sightings
}

// OpenRoot opens a folder.
func OpenRoot(cfg Config) (*Root, error) {
	switch {
	case cfg.Dir == "" || cfg.TPMs == nil || cfg.Provider == nil || cfg.Keyset == nil || cfg.Matrix == nil || cfg.Random == nil || cfg.Now == nil:
		return nil, errors.New("a root of machines needs a folder, TPMs, key providers, key sets, a support matrix, randomness and a clock")
	case cfg.Accelerator != qemu.KVM && cfg.Accelerator != qemu.TCG:
		return nil, fmt.Errorf("accelerator %q is neither %s nor %s", cfg.Accelerator, qemu.KVM, qemu.TCG)
	}
	if cfg.Firmware == (Firmware{}) {
		cfg.Firmware = DefaultFirmware()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Root{cfg: cfg, patience: statusTime, pace: usualPaces()}
	if r.cfg.Components == nil {
		r.cfg.Components = component.Builtin()
	}
	if err := r.reachable("a"); err != nil { // no machine could run
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	return r, r.sweep()
}

// deletedPrefix begins the name of a home that is being emptied: no name of a machine.
const deletedPrefix = ".deleted-"

// sweep removes what a crash left of homes that were deleted.
func (r *Root) sweep() error {
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), deletedPrefix) {
			if err := os.RemoveAll(filepath.Join(r.cfg.Dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

var nameRule = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`) })

func (r *Root) dir(name string) string { return filepath.Join(r.cfg.Dir, name) }

// Names are the machines of the root, sorted. A folder without a card is none: it is
// what a crash left of one that was being made or deleted.
func (r *Root) Names() ([]string, error) {
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() || !nameRule().MatchString(e.Name()) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(r.dir(e.Name()), cardFile)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		out = append(out, e.Name())
	}
	r.seen.only(out)
	return out, nil
}

// Card reads what a home says of itself in the clear.
func (r *Root) Card(name string) (*Card, error) {
	if !nameRule().MatchString(name) {
		return nil, fmt.Errorf("machine %q: %w", name, ErrName)
	}
	text, err := readFile(filepath.Join(r.dir(name), cardFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, left := os.Lstat(r.dir(name)); left == nil {
			return nil, fmt.Errorf("machine %q: %w: %w", name, ErrUnknown, ErrLeftover)
		}
		return nil, fmt.Errorf("machine %q: %w", name, ErrUnknown)
	}
	if err != nil {
		return nil, err
	}
	c, err := parseCard(text)
	if err == nil && c.Name != name {
		err = fmt.Errorf("the card is of machine %q: %w", c.Name, ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}
	return c, nil
}

// Open opens the home of a machine for this process alone. It returns [ErrBusy],
// wrapped, while another has it: the machine runs, or is being changed.
func (r *Root) Open(ctx context.Context, name string) (_ *Home, err error) {
	if _, err := r.Card(name); err != nil {
		return nil, err
	}
	lock, err := takeHome(r.dir(name))
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("machine %q: %w", name, err), lock.Close())
		}
	}()
	card, err := r.Card(name) // with the lock: another may have been made meanwhile
	if err != nil {
		return nil, err
	}
	h := &Home{dir: r.dir(name), card: card, lock: lock, random: r.cfg.Random}
	if err := durable.Sweep(h.dir); err != nil {
		return nil, err
	}
	p, err := r.cfg.Provider(ctx, card.Provider)
	if err != nil {
		return nil, fmt.Errorf("key provider %q: %w", card.Provider, err)
	}
	h.key, err = unwrap(ctx, p, card)
	if err = errors.Join(err, p.Close()); err != nil {
		return nil, err
	}
	if err := h.openLog(); err != nil {
		return nil, err
	}
	if h.log.dropped {
		r.cfg.Log.Warn("the last event of a machine did not open and is dropped: a crash tore it, or it is damaged", slog.String("machine", name))
	}
	if err := r.settle(ctx, h); err != nil {
		return nil, errors.Join(err, h.log.close())
	}
	r.unpack(ctx, h)
	return h, nil
}

// CreateOptions say what machine to make.
type CreateOptions struct {
	Definition *fleet.Definition
	// Provider is the name or URI of the key provider; empty is the default.
	Provider string
}

// A RefusedError is a machine that is not supported, with all that is wrong.
type RefusedError struct {
	Name    string
	Reasons []evidence.Reason
}

func (e *RefusedError) Error() string {
	words := make([]string, len(e.Reasons))
	for i, reason := range e.Reasons {
		words[i] = reason.Message
	}
	return fmt.Sprintf("machine %q is not supported: %s", e.Name, strings.Join(words, "; "))
}

// Create makes a machine with its home and, where it has one, its TPM. All that can be
// refused is refused before anything is made; a crash leaves the whole machine or a
// folder without a card, which the next Create of that name clears away, with its TPM.
func (r *Root) Create(ctx context.Context, actor string, o CreateOptions) (card *Card, err error) {
	d := o.Definition
	if err := d.Check(); err != nil {
		return nil, err
	}
	if d.Image != "" { // a machine that says so has the image's disk
		return nil, &fleet.DefinitionError{Member: "image", Problem: "a machine of an image is made with a copy of its disk; assay vm create --image does that"}
	}
	if reasons := r.cfg.Matrix.Judge(d, r.cfg.Accelerator); len(reasons) > 0 {
		return nil, &RefusedError{d.Name, reasons}
	}
	if err := r.reachable(d.Name); err != nil {
		return nil, err
	}
	if o.Provider == "" && r.cfg.DefaultProvider != nil {
		o.Provider = r.cfg.DefaultProvider()
	}
	if o.Provider == "" {
		return nil, ErrProvider
	}
	if err := r.noMachine(d.Name); err != nil {
		return nil, err
	}
	variables, err := r.newVariables(d)
	if err != nil {
		return nil, err
	}
	h, err := r.makeHome(ctx, actor, d.Name, o.Provider, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	if err := r.fill(ctx, h, d, variables, actor); err != nil {
		return nil, err
	}
	return h.card, nil
}

// fill writes the files of a new home, makes its TPM, and then its card.
func (r *Root) fill(ctx context.Context, h *Home, d *fleet.Definition, variables []byte, actor string) error {
	for _, err := range []error{
		h.setDefinition(d), h.SetVariables(variables), h.SetHistory(&integrity.History{}),
		durable.WriteFile(filepath.Join(h.dir, eventsFile), logHead(0), 0o600), h.openLog(),
	} {
		if err != nil {
			return err
		}
	}
	made := false
	if d.Shielded.VTPM {
		if err := r.makeTPM(ctx, h, d, actor); err != nil {
			return err
		}
		made = true
	}
	err := h.settleCard()
	if err != nil && made {
		err = errors.Join(err, r.dropTPM(ctx, d.Name, h.card.ID, actor))
	}
	return err
}

// Delete removes a machine that does not run, with its TPM and all that it protects, or
// completes that after a crash. Its disks stay, and so does a TPM of its name that is not
// its own, or whose owner cannot be proved: the log says so. A folder without a card is
// [ErrLeftover]; a machine that was given to another host, which may not have taken it, is
// [ErrGiven].
func (r *Root) Delete(ctx context.Context, actor, name string) error {
	return r.whenFree(ctx, name, func() error { return r.remove(ctx, actor, name, func() error { return r.mayGo(name) }) })
}

// mayGo refuses a machine that there is not, and one that was given to another host.
func (r *Root) mayGo(name string) error {
	if _, err := r.Card(name); errors.Is(err, ErrUnknown) {
		return err
	}
	away, err := r.givenAway(name)
	if away {
		err = fmt.Errorf("machine %q: %w, and this may be all there is of it: %s", name, ErrGiven, askWhereItIs)
	}
	return err
}

// deleteGiven is Delete for a machine that another host has said to have.
func (r *Root) deleteGiven(ctx context.Context, actor, name string) error {
	return again(ctx, leaveTime, func() error {
		return r.remove(ctx, actor, name, func() error {
			if _, err := r.Card(name); errors.Is(err, ErrUnknown) {
				return err
			}
			// One that was made here since has the name, and was given to nobody.
			away, err := r.givenAway(name)
			if err == nil && !away {
				err = fmt.Errorf("machine %q: %w: it was not given to another host", name, ErrExists)
			}
			return err
		})
	})
}

// DeleteLeftovers removes a folder that is no machine because it has no card, with the
// TPM that was made for it. A machine is left alone, also one whose card is damaged.
func (r *Root) DeleteLeftovers(ctx context.Context, actor, name string) error {
	return r.remove(ctx, actor, name, func() error {
		if _, err := r.Card(name); !errors.Is(err, ErrLeftover) {
			return errors.Join(fmt.Errorf("%q has a card, and is no leftover: %w", name, ErrExists), err)
		}
		return nil
	})
}

// remove removes a folder with its TPM. What may is said with the lock held: another may
// have completed a machine meanwhile.
func (r *Root) remove(ctx context.Context, actor, name string, may func() error) (err error) {
	if _, err := r.Card(name); errors.Is(err, ErrName) || errors.Is(err, ErrUnknown) && !errors.Is(err, ErrLeftover) {
		return err
	}
	lock, err := takeHome(r.dir(name))
	if err != nil {
		return fmt.Errorf("machine %q: %w", name, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := may(); err != nil {
		return err
	}
	if err := r.notAlive(name); err != nil {
		return err
	}
	machine := r.custody(name).Machine
	if card, err := r.Card(name); err == nil {
		machine = card.ID
	}
	if err := r.dropTPM(ctx, name, machine, actor); err != nil {
		return err
	}
	return durable.RemoveDir(r.dir(name), filepath.Join(r.cfg.Dir, deletedPrefix+name))
}

// newUUID is a random one (RFC 9562, 5.4).
func newUUID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make UUID: %w", err)
	}
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}
