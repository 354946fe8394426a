package vtpm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/engine"
)

// ErrNoProvider is a TPM that is to be made without a key provider: its state is
// always encrypted (SPEC V5).
var ErrNoProvider = errors.New("a TPM needs a key provider: its state is always encrypted; assay key-provider add makes one")

// CreateOptions say what TPM to make.
type CreateOptions struct {
	Name     string
	Profile  string // empty for that of [engine.DefaultProfile]
	Provider string // name or URI of the key provider; required
	VM       *VM    // nil for none yet; its requirements are checked
	// DeviceIdentity adds an IAK and an IDevID. PlatformCertificate adds a certificate
	// of the VM, which must have a UUID; it goes on naming that VM.
	DeviceIdentity, PlatformCertificate bool
	// ID is that of a TPM which will arrive by migration; zero for a new one.
	ID state.ID
}

// Create makes a TPM, with keys and certificates. Nothing is made unless all
// requirements are met; a crash leaves the whole TPM or none.
func (r *Root) Create(ctx context.Context, actor string, o CreateOptions) (*Record, error) {
	if o.Provider == "" && r.cfg.DefaultProvider != nil {
		o.Provider = r.cfg.DefaultProvider()
	}
	if err := r.permitNew(ctx, Event{Type: EventCreate, TPM: o.Name, Actor: actor}, o.Provider, o.VM); err != nil {
		return nil, err
	}
	release, err := r.claim(o.Name, "it is being made")
	if err != nil {
		return nil, err
	}
	defer release()
	rec, err := r.newRecord(actor, o.Name, o.ID)
	if err != nil {
		return nil, err
	}
	rec.VM, rec.DeviceIdentity, rec.PlatformCertificate = o.VM, o.DeviceIdentity, o.PlatformCertificate
	rec.Profile = cmpOr(o.Profile, engine.DefaultProfile())
	permanent, err := r.manufacture(ctx, rec)
	if err != nil {
		return nil, err
	}
	defer clear(permanent)
	return rec, r.add(ctx, EventCreate, rec, o.Provider, permanent, map[string]string{"profile": rec.Profile, "vm": rec.vmName(), "provider": o.Provider})
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// permitNew checks all that can be before a TPM is made. A refusal is in the trail.
func (r *Root) permitNew(ctx context.Context, e Event, provider string, vm *VM) error {
	err := r.mayMake(ctx, e.TPM, provider, vm)
	if err != nil {
		e.Outcome, e.Detail = OutcomeDenied, detail(map[string]string{"error": err.Error()})
		r.report(ctx, e)
	}
	return err
}

func (r *Root) mayMake(ctx context.Context, name, provider string, vm *VM) error {
	if err := checkName(name); err != nil {
		return err
	}
	if vm != nil {
		if err := vm.check(); err != nil {
			return err
		}
		if err := vm.permit(provider); err != nil {
			return err
		}
	}
	if provider == "" {
		return ErrNoProvider
	}
	if ok, err := r.has(name); err != nil || ok {
		return errors.Join(err, fmt.Errorf("%q: %w", name, ErrExists))
	}
	if vm != nil {
		if err := r.vmIsFree(vm.Name, name); err != nil {
			return err
		}
	}
	// That it opens is seen before the work.
	return r.withProvider(ctx, provider, func(keyprovider.Provider) error { return nil })
}

// vmIsFree refuses a second TPM for a machine. Cards are claims: this keeps
// people from a mistake, not an attacker from the folder.
func (r *Root) vmIsFree(vm, except string) error {
	names, err := r.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == except {
			continue
		}
		if c, err := r.readCard(name); err == nil && c.VM == vm {
			return fmt.Errorf("virtual machine %q has TPM %q already: detach that first", vm, name)
		}
	}
	return nil
}

func (r *Root) newRecord(actor, name string, id state.ID) (*Record, error) {
	var err error
	if id.IsZero() {
		if id, err = state.NewID(r.cfg.Random); err != nil {
			return nil, err
		}
	}
	secrets, err := newSecrets(r.cfg.Random)
	if err != nil {
		return nil, err
	}
	return &Record{Version: recordVersion, Name: name, ID: id, Created: r.cfg.Now().UTC(), CreatedBy: actor, Secrets: secrets}, nil
}

// manufacture makes a TPM of the record's profile with its endorsement keys, and
// returns its permanent state, which the caller clears.
func (r *Root) manufacture(ctx context.Context, rec *Record) ([]byte, error) {
	p, err := engine.FindProfile(rec.Profile, 0)
	if err != nil {
		return nil, err
	}
	if p.Unapproved() {
		r.cfg.Log.WarnContext(ctx, "the TPM's profile has what FIPS 140-3 does not approve, and the profile \"fips\" nothing of it", slog.String("tpm", rec.Name), slog.String("profile", p.Name))
	}
	t, err := engine.Manufacture(p, r.engineConfig(nil))
	if err != nil {
		return nil, err
	}
	t.PowerOn()
	issued, err := ekca.Manufacture(ctx, client.InProcess(t, 0), r.cfg.Issuer, ekca.Options{
		TPM: rec.ID.String(), CommonName: rec.vmName(), Random: r.cfg.Random,
		DeviceIdentity: rec.DeviceIdentity, Platform: rec.platform(),
	})
	if err != nil {
		return nil, fmt.Errorf("make the identity of TPM %q: %w", rec.Name, err)
	}
	if rec.Identity, err = identityOf(issued); err != nil {
		return nil, err
	}
	return t.Permanent()
}

// add puts a new TPM into the root. Its state is written last: that makes it.
func (r *Root) add(ctx context.Context, event EventType, rec *Record, provider string, permanent []byte, about any) error {
	meta, err := rec.encode()
	if err != nil {
		return err
	}
	o := &operation{Event: Event{Type: event, TPM: rec.Name, Actor: rec.CreatedBy, Detail: detail(about)}, id: rec.ID}
	return r.operate(ctx, o, func() error {
		if ok, err := r.has(rec.Name); err != nil || ok {
			return errors.Join(err, fmt.Errorf("%q: %w", rec.Name, ErrExists))
		}
		if err := r.place(ctx, rec, provider, state.Content{Permanent: permanent, Meta: meta}, 0); err != nil {
			return errors.Join(err, removeAll(r.dir(rec.Name), r.tpms()))
		}
		return nil
	})
}

func (r *Root) place(ctx context.Context, rec *Record, provider string, c state.Content, above uint64) error {
	if err := os.Mkdir(r.dir(rec.Name), 0o700); err != nil {
		return err
	}
	r.step("folder made")
	if err := r.writeCard(rec.card(provider)); err != nil {
		return err
	}
	r.step("card written")
	if err := syncDir(r.tpms()); err != nil {
		return err
	}
	return r.withProvider(ctx, provider, func(p keyprovider.Provider) error {
		cfg := r.stateConfig(p, provider, rec.ID)
		cfg.Above, cfg.Untold = above, r.withholds(rec.Name)
		f, err := state.Create(ctx, r.StatePath(rec.Name), rec.ID, c, cfg)
		if err != nil {
			return err
		}
		return f.Close()
	})
}
