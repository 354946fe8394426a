package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

// ErrLayout is a store of variables that is of another build of OVMF than this host has.
var ErrLayout = errors.New("it is of another build of the firmware (OVMF has builds of 2 MB and of 4 MB)")

// newVariables makes the variable store of a new machine: the firmware's template with
// the machine's keys, and secure boot on or off.
func (r *Root) newVariables(d *fleet.Definition) ([]byte, error) {
	text, err := os.ReadFile(r.cfg.Firmware.Variables)
	if err != nil {
		return nil, fmt.Errorf("template of variables: %w", err)
	}
	return r.enrolled(text, d)
}

// VariablesFor makes the variables of a machine that is to be: the firmware's template,
// or those of a guest, with the keys of the definition's key set.
func (r *Root) VariablesFor(d *fleet.Definition, guest []byte) ([]byte, error) {
	if guest == nil {
		return r.newVariables(d)
	}
	return r.enrolled(guest, d)
}

// FirmwareTakes refuses variables of another layout than the firmware of this host has.
func (r *Root) FirmwareTakes(variables []byte) error {
	text, err := os.ReadFile(r.cfg.Firmware.Variables)
	if err != nil {
		return fmt.Errorf("template of variables: %w", err)
	}
	if len(text) != len(variables) {
		return fmt.Errorf("the variables have %d bytes, and those of the firmware here %d: %w", len(variables), len(text), ErrLayout)
	}
	return nil
}

// enrolled puts the keys of a definition's key set into a store, and turns secure boot
// on or off. Revocations that the store has stay.
func (r *Root) enrolled(text []byte, d *fleet.Definition) ([]byte, error) {
	store, err := varstore.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("variables: %w", err)
	}
	set, err := r.cfg.Keyset(d.Keyset)
	if err != nil {
		return nil, fmt.Errorf("key set %q: %w", d.Keyset, err)
	}
	if _, err := set.Enrol(store); err != nil {
		return nil, fmt.Errorf("enrol key set %q: %w", d.Keyset, err)
	}
	if err := keyset.SetSecureBoot(store, d.Shielded.SecureBoot); err != nil {
		return nil, err
	}
	return store.Bytes()
}

// checkVariables refuses to start a machine whose store does not enforce what its
// definition says.
func checkVariables(text []byte, d *fleet.Definition) error {
	store, err := varstore.Parse(text)
	if err != nil {
		return fmt.Errorf("variables: %w: %w", err, ErrDamaged)
	}
	if d.Shielded.SecureBoot && !store.Pending() && !keyset.SecureBoot(store) {
		return fmt.Errorf("secure boot is to be on, and the variables of machine %q have no platform key or have it switched off: assay vm update enrols its keys", d.Name)
	}
	return nil
}

// lacks says what a store does not enforce of a definition, nothing where it enforces all.
// What a guest added, as revocations that its owner signed, is no fault.
func (r *Root) lacks(store *varstore.Store, d *fleet.Definition) ([]string, error) {
	set, err := r.cfg.Keyset(d.Keyset)
	if err != nil {
		return nil, fmt.Errorf("key set %q: %w", d.Keyset, err)
	}
	if set.Kind == keyset.SetupMode {
		return nil, nil // its keys are the guest's
	}
	has, err := keyset.Read(store)
	if err != nil {
		return []string{"its lists of keys cannot be read"}, nil //nolint:nilerr // they are enrolled again
	}
	var out []string
	if keyset.SecureBoot(store) != d.Shielded.SecureBoot {
		out = append(out, "secure boot is not as the definition says")
	}
	if want := set.Variables(); !bytes.Equal(has[sigdb.PK].Data, want[sigdb.PK].Data) {
		out = append(out, "the platform key is another")
	}
	for _, role := range sigdb.Roles() {
		there, n := has.Database(role), 0
		for _, e := range set.Entries(role) {
			if !holds(there, e) {
				n++
			}
		}
		if n > 0 && role != sigdb.PK {
			out = append(out, fmt.Sprintf("%s lacks %d of %d entries", role, n, len(set.Entries(role))))
		}
	}
	return out, nil
}

func holds(d *sigdb.Database, want sigdb.Signature) bool {
	if d == nil {
		return false
	}
	for e := range d.All() {
		if e.Type == want.Type && bytes.Equal(e.Data, want.Data) {
			return true
		}
	}
	return false
}

// Variables is the variable store of a machine that is off, byte for byte.
func (r *Root) Variables(ctx context.Context, name string) (_ []byte, err error) {
	h, err := r.openOff(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return h.Variables()
}

// A KeysetLag is what the variables of a machine lack of its key set.
type KeysetLag struct {
	Keyset string
	// Known is false while the firmware has a write to finish: what it will hold is not known.
	Known bool
	Lacks []string // in words; none for a machine with secure boot off
}

// KeysetLag looks at a machine, which may run: its variables are those that were kept last.
func (r *Root) KeysetLag(ctx context.Context, name string) (*KeysetLag, error) {
	card, err := r.Card(name)
	if err != nil {
		return nil, err
	}
	out := new(KeysetLag)
	return out, r.glance(ctx, card, func(h *Home) error {
		d, err := h.Definition()
		if err != nil {
			return err
		}
		out.Keyset, out.Known = d.Keyset, true
		if !d.Shielded.SecureBoot {
			return nil
		}
		text, err := h.Variables()
		if err != nil {
			return err
		}
		store, err := varstore.Parse(text)
		if err != nil {
			return err
		}
		if out.Known = !store.Pending(); !out.Known {
			return nil
		}
		out.Lacks, err = r.lacks(store, d)
		return err
	})
}

// memory is a file without a name, in memory, that a hypervisor writes a machine's
// variables to: on the disk they are encrypted.
type memory struct {
	file *os.File
	kept []byte // what was last written to the home
}

func newMemory(content []byte) (*memory, error) {
	fd, err := unix.MemfdCreate("assay-variables", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory for the variables: %w", err)
	}
	m := &memory{os.NewFile(uintptr(fd), "variables"), content}
	if _, err := m.file.WriteAt(content, 0); err != nil {
		return nil, errors.Join(err, m.file.Close())
	}
	return m, nil
}

// save writes the variables back if the firmware has changed them.
func (m *memory) save(h *Home) error {
	same, err := m.same()
	if err != nil {
		return fmt.Errorf("read the variables back: %w", err)
	}
	if same {
		return nil
	}
	now := make([]byte, len(m.kept))
	if _, err := m.file.ReadAt(now, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the variables back: %w", err)
	}
	if err := h.SetVariables(now); err != nil {
		return fmt.Errorf("keep the variables: %w", err)
	}
	m.kept = now
	return nil
}

// same reports whether the file is as it was kept. It leaves no garbage: each machine
// asks again and again for as long as it runs.
func (m *memory) same() (bool, error) {
	var piece [16 << 10]byte
	for at := 0; at < len(m.kept); {
		n, err := m.file.ReadAt(piece[:min(len(piece), len(m.kept)-at)], int64(at))
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if n == 0 || !bytes.Equal(piece[:n], m.kept[at:at+n]) {
			return false, nil
		}
		at += n
	}
	return true, nil
}

// Keyset is a key set of this host.
func (r *Root) Keyset(name string) (*keyset.Set, error) {
	set, err := r.cfg.Keyset(name)
	if err != nil {
		return nil, fmt.Errorf("key set %q: %w", name, err)
	}
	return set, nil
}
