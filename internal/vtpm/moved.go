package vtpm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/libtpms"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// MoveOptions say which TPM of swtpm to take over, and as what.
type MoveOptions struct {
	Dir string // swtpm's state folder
	// File is the name of the permanent state in it; empty is swtpm's own.
	File string
	Name string // of the TPM in this root
	// Key gives the key of an encrypted state, of so many bits.
	Key      func(bits int) (libtpms.Key, error)
	Provider string // the default when empty
	VM       *VM
	// AcceptLosses goes on although the TPM will not have all that it had.
	AcceptLosses bool
	DryRun       bool // look only
}

// A MoveLoss is something of a TPM that moves which it will not have.
type MoveLoss struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// A MoveReport says what was, or would be, taken over.
type MoveReport struct {
	TPM      string   `json:"tpm"`
	ID       state.ID `json:"id,omitzero"` // zero when nothing was made
	From     string   `json:"from"`
	Profile  string   `json:"profile"`
	Provider string   `json:"provider,omitempty"`
	VM       string   `json:"vm,omitempty"`
	// Objects and Indices are what is taken over.
	Objects  []string   `json:"persistentObjects"`
	Indices  []string   `json:"nvIndices"`
	Losses   []MoveLoss `json:"losses"`
	Made     bool       `json:"made"`
	Warnings []string   `json:"warnings,omitempty"`
}

// A LossesError is a TPM that would lose something; nothing was changed.
type LossesError struct{ Losses []MoveLoss }

func (e *LossesError) Error() string {
	return fmt.Sprintf("the TPM would not have %d of the things that it has, the first %s: %s; nothing was changed", len(e.Losses), e.Losses[0].What, e.Losses[0].Why)
}

// Move makes a TPM that goes on where one of swtpm stopped: its seeds, keys, NV and
// authorizations. The files of swtpm are read and stay as they are. The report comes
// with a [LossesError], too.
func (r *Root) Move(ctx context.Context, actor string, o MoveOptions) (*MoveReport, error) {
	if o.Provider == "" && r.cfg.DefaultProvider != nil {
		o.Provider = r.cfg.DefaultProvider()
	}
	if err := r.permitNew(ctx, Event{Type: EventImport, TPM: o.Name, Actor: actor}, o.Provider, o.VM); err != nil {
		return nil, err
	}
	unlock, err := libtpms.LockDir(o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := readMoved(&o)
	if err != nil {
		return nil, err
	}
	p, err := engine.FindProfile(libtpms.Profile, 0)
	if err != nil {
		return nil, err
	}
	from, losses := old.Convert(p)
	t, err := engine.Import(p, r.engineConfig(nil), from)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", o.Dir, err)
	}
	report := moveReport(&o, from, losses)
	if len(losses) > 0 && !o.AcceptLosses && !o.DryRun {
		return report, &LossesError{report.Losses}
	}
	if o.DryRun {
		return report, nil
	}
	return report, r.moveIn(ctx, actor, &o, t, report)
}

// readMoved reads the state in swtpm's folder.
func readMoved(o *MoveOptions) (*libtpms.State, error) {
	name := filepath.Join(o.Dir, cmp.Or(o.File, libtpms.PermanentFile))
	file, err := readAtMost(name, libtpms.MaxFile)
	if err != nil {
		return nil, fmt.Errorf("read the state of swtpm: %w", err)
	}
	bits, err := libtpms.KeyBits(file)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	var key libtpms.Key
	if bits > 0 && o.Key != nil {
		if key, err = o.Key(bits); err != nil {
			return nil, err
		}
		defer clear(key)
	}
	old, err := libtpms.Open(file, key)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return old, nil
}

// readAtMost reads a regular file that is not longer than it may be.
func readAtMost(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is no regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%q has more than %d bytes", name, limit)
	}
	return b, err
}

func moveReport(o *MoveOptions, from *engine.Imported, losses []libtpms.Loss) *MoveReport {
	out := &MoveReport{
		TPM: o.Name, From: o.Dir, Profile: libtpms.Profile, Provider: o.Provider,
		Objects: []string{}, Indices: []string{}, Losses: []MoveLoss{},
	}
	if o.VM != nil {
		out.VM = o.VM.Name
	}
	for i := range from.Objects {
		out.Objects = append(out.Objects, fmt.Sprintf("%08x", uint32(from.Objects[i].Handle)))
	}
	for i := range from.Indices {
		out.Indices = append(out.Indices, fmt.Sprintf("%08x", uint32(from.Indices[i].Public.NVIndex)))
	}
	for _, l := range losses {
		out.Losses = append(out.Losses, MoveLoss(l))
	}
	return out
}

// moveIn puts the TPM into the root.
func (r *Root) moveIn(ctx context.Context, actor string, o *MoveOptions, t *engine.TPM, report *MoveReport) error {
	release, err := r.claim(o.Name, "it is being taken over from swtpm")
	if err != nil {
		return err
	}
	defer release()
	rec, err := r.newRecord(actor, o.Name, state.ID{})
	if err != nil {
		return err
	}
	permanent, err := t.Permanent()
	if err != nil {
		return err
	}
	defer clear(permanent)
	if rec.Identity, err = r.movedIdentity(ctx, permanent); err != nil {
		return err
	}
	rec.VM, rec.Profile = o.VM, libtpms.Profile
	rec.descend(Origin{Event: EventImport, Time: rec.Created, By: actor, Mode: ModeCopy, From: "swtpm: " + o.Dir})
	report.ID, report.Made = rec.ID, true
	report.Warnings = append(report.Warnings, "the files of swtpm are as they were: started again, they are a second TPM with the same secrets")
	err = r.add(ctx, EventImport, rec, o.Provider, permanent, report)
	if err != nil {
		report.Made = false
	}
	return err
}

// movedIdentity is what the record says of the endorsement keys that the TPM has.
func (r *Root) movedIdentity(ctx context.Context, permanent []byte) ([]IdentityKey, error) {
	t, err := engine.Restore(r.engineConfig(nil), permanent, nil)
	if err != nil {
		return nil, err
	}
	t.PowerOn()
	id, err := ekca.ReadIdentity(ctx, t, r.cfg.Random)
	if err != nil {
		return nil, errors.Join(errors.New("read the identity of the TPM that moves"), err)
	}
	var out []IdentityKey
	for n := range id.Keys {
		k := &id.Keys[n]
		key := IdentityKey{Kind: k.Kind, Handle: strings.TrimPrefix(k.Handle, "0x"), Name: k.Name}
		if b, _ := pem.Decode([]byte(k.Certificate)); b != nil && k.Matches {
			sum := sha256.Sum256(b.Bytes)
			key.Serial, key.Issuer, key.SHA256 = k.Serial, k.Issuer, hex.EncodeToString(sum[:])
		}
		out = append(out, key)
	}
	return out, nil
}
