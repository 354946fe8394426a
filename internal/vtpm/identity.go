package vtpm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"github.com/assay-project/assay/internal/vtpm/ekca"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/tpm2/engine"
)

// The verbs of a TPM's identity.
const (
	VerbIdentity = "identity"
	VerbRequest  = "ek-csr"
	VerbInstall  = "ek-install"
)

// What happens to a TPM's certificates.
const (
	// EventRequest is a signature by an endorsement key, over a request for its
	// certificate and nothing else.
	EventRequest EventType = "requestCertificateTPMEvent"
	// EventInstall is a certificate that was put into a TPM.
	EventInstall EventType = "installCertificateTPMEvent"
)

// A revoker is an issuer that takes back what it certified.
type revoker interface {
	Revoke(ctx context.Context, serial string, reason ekca.Reason) error
	RevokeTPM(ctx context.Context, tpm string, reason ekca.Reason, keep ...string) (int, error)
}

// An Identity is what an outsider needs to know a TPM.
type Identity struct {
	Name       string   `json:"name"`
	ID         state.ID `json:"id"`
	VM         string   `json:"vm,omitempty"`
	Generation uint64   `json:"generation"`
	*ekca.Identity
}

// Identity reads the keys and certificates of a TPM from its state; the TPM may run.
// Keys are derived anew from its seed: what a guest put in their place is not shown.
func (r *Root) Identity(ctx context.Context, name string) (*Identity, error) {
	t, out, err := r.copyOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if out.Identity, err = ekca.ReadIdentity(ctx, t, r.cfg.Random); err != nil {
		return nil, fmt.Errorf("TPM %q: %w", name, err)
	}
	return out, nil
}

// copyOf restores a TPM from a copy of its state, with power, of which nothing is
// kept.
func (r *Root) copyOf(ctx context.Context, name string) (*engine.TPM, *Identity, error) {
	permanent, out, err := r.permanentOf(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer clear(permanent)
	t, err := engine.Restore(r.engineConfig(nil), permanent, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("restore TPM %q: %w", name, err)
	}
	t.PowerOn()
	return t, out, nil
}

func (r *Root) permanentOf(ctx context.Context, name string) ([]byte, *Identity, error) {
	if err := r.mustHave(name); err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	running := r.running[name]
	r.mu.Unlock()
	if running != nil {
		return running.permanent()
	}
	release, err := r.claim(name, "it is being looked at")
	if err != nil {
		return nil, nil, err
	}
	defer release()
	s, err := r.openState(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	out := &Identity{Name: name, ID: s.record.ID, VM: s.record.vmName(), Generation: s.file.Generation()}
	permanent := append([]byte(nil), s.content.Permanent...)
	s.content.Destroy()
	return permanent, out, s.file.Close()
}

// permanent is the kept state of a running TPM.
func (i *Instance) permanent() ([]byte, *Identity, error) {
	permanent, err := i.machine.Permanent()
	if err != nil {
		return nil, nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if permanent == nil || i.record == nil {
		return nil, nil, fmt.Errorf("TPM %q is starting: %w", i.name, ErrBusy)
	}
	return permanent, &Identity{Name: i.name, ID: i.record.ID, VM: i.record.vmName(), Generation: i.file.Generation()}, nil
}

// A CertificateRequest is a request for a certificate of an endorsement key.
type CertificateRequest struct {
	Name string    `json:"name"`
	Kind ekca.Kind `json:"kind"`
	PEM  string    `json:"request"`
}

// CertificateRequest has an endorsement key of a TPM, which may run, sign a request
// for its certificate.
func (r *Root) CertificateRequest(ctx context.Context, actor, name string, kind ekca.Kind) (*CertificateRequest, error) {
	t, id, err := r.copyOf(ctx, name)
	if err != nil {
		return nil, err
	}
	common := id.VM
	if common == "" {
		common = name
	}
	der, err := ekca.NewRequest(t, kind, common, r.cfg.Random)
	if err != nil {
		return nil, fmt.Errorf("TPM %q: %w", name, err)
	}
	sum := sha256.Sum256(der)
	r.report(ctx, Event{
		Type: EventRequest, TPM: name, ID: id.ID.String(), Actor: actor, Outcome: OutcomeDone,
		Detail: detail(map[string]string{"kind": string(kind), "request": hex.EncodeToString(sum[:])}),
	})
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return &CertificateRequest{Name: name, Kind: kind, PEM: string(text)}, nil
}

// InstalledCertificate says what [Root.InstallCertificate] did.
type InstalledCertificate struct {
	Name  string    `json:"name"`
	Kind  ekca.Kind `json:"kind"`
	Index string    `json:"nvIndex"`
	Chain int       `json:"chain"` // authorities in NV
	// Replaced is the serial number of the certificate that was there.
	Replaced string `json:"replaced,omitempty"`
	// Notes are what the operator should know.
	Notes []string `json:"notes,omitempty"`
}

// ErrSuspended is a TPM whose volatile state is kept for the next start, and would
// not fit a changed one.
var ErrSuspended = errors.New("the TPM is suspended: resume its virtual machine, and shut it down")

// InstallCertificate puts a certificate by somebody else's authority into a TPM,
// which must not run, to the endorsement key that it is for. The text is PEM or DER,
// the key's certificate first.
func (r *Root) InstallCertificate(ctx context.Context, actor, name string, text []byte) (*InstalledCertificate, error) {
	bundle, err := ekca.ParseBundle(text)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if len(bundle) == 0 {
		return nil, errors.New("read certificate: there is none")
	}
	out := &InstalledCertificate{Name: name}
	serial := bundle[0].SerialNumber.Text(16)
	e := Event{Type: EventInstall, TPM: name, Actor: actor, Detail: detail(map[string]string{"serial": serial, "issuer": bundle[0].Issuer.String()})}
	err = r.change(ctx, e, func(s *opened) error {
		if len(s.content.Volatile) != 0 {
			return fmt.Errorf("TPM %q: %w", name, ErrSuspended)
		}
		t, err := engine.Restore(r.engineConfig(nil), s.content.Permanent, nil)
		if err != nil {
			return err
		}
		t.PowerOn()
		done, err := ekca.Install(ctx, t, bundle, ekca.InstallOptions{At: r.cfg.Now(), Random: r.cfg.Random})
		if err != nil {
			return fmt.Errorf("TPM %q: %w", name, err)
		}
		permanent, err := t.Permanent()
		if err != nil {
			return err
		}
		clear(s.content.Permanent)
		s.content.Permanent = permanent
		out.took(done, s.record)
		sum := sha256.Sum256(bundle[0].Raw)
		s.record.certified(done.Kind, serial, bundle[0].Issuer.String(), hex.EncodeToString(sum[:]))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, r.supersede(ctx, out)
}

// took notes what was done. rec is as it was before.
func (i *InstalledCertificate) took(done *ekca.Installed, rec *Record) {
	i.Kind, i.Index, i.Chain = done.Kind, fmt.Sprintf("%08x", uint32(done.Index)), done.Chain
	for n := range rec.Identity {
		if rec.Identity[n].Kind == done.Kind {
			i.Replaced = rec.Identity[n].Serial
		}
	}
	if done.PlatformStale {
		i.Notes = append(i.Notes, "the platform certificate in the TPM names a certificate that is no longer there")
	}
}

// certified has the record name another certificate of a key.
func (r *Record) certified(kind ekca.Kind, serial, issuer, sum string) {
	for n := range r.Identity {
		if k := &r.Identity[n]; k.Kind == kind {
			k.Serial, k.Issuer, k.SHA256 = serial, issuer, sum
		}
	}
}

// supersede revokes the certificate that was replaced, if this root's authority
// issued it.
func (r *Root) supersede(ctx context.Context, i *InstalledCertificate) error {
	a, ok := r.cfg.Issuer.(revoker)
	if !ok || i.Replaced == "" {
		return nil
	}
	err := a.Revoke(ctx, i.Replaced, ekca.Superseded)
	if errors.Is(err, ekca.ErrNotIssued) || errors.Is(err, ekca.ErrNoAuthority) {
		return nil
	}
	if err != nil {
		i.Notes = append(i.Notes, fmt.Sprintf("the certificate that it replaces, %s, is not revoked: %v", i.Replaced, err))
	}
	return nil
}

// withdraw revokes the certificates of a TPM that is gone or was made anew, but
// those that its record names still. A TPM that shares its secrets with another
// keeps them: the other has the same certificates.
func (r *Root) withdraw(ctx context.Context, card *Card, reason ekca.Reason, rec *Record) error {
	a, ok := r.cfg.Issuer.(revoker)
	if !ok {
		return nil
	}
	names, err := r.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if c, err := r.readCard(name); err == nil && c.Name != card.Name && c.Secrets == card.Secrets {
			return nil
		}
	}
	var keep []string
	if rec != nil {
		for n := range rec.Identity {
			keep = append(keep, rec.Identity[n].Serial)
		}
	}
	_, err = a.RevokeTPM(ctx, card.ID.String(), reason, keep...)
	if err != nil && !errors.Is(err, ekca.ErrNoAuthority) {
		return fmt.Errorf("it is done, but earlier certificates of TPM %s are not revoked (assay vtpm ca revoke --tpm %s): %w", card.ID, card.ID, err)
	}
	return nil
}

// platform describes the TPM's machine for a platform certificate; nil when too
// little is known of it.
func (r *Record) platform() *ekca.Platform {
	if !r.PlatformCertificate || r.VM == nil || r.VM.UUID == "" {
		return nil
	}
	return &ekca.Platform{
		Manufacturer: cmpOr(r.VM.Manager, "Assay"), Model: "virtual machine",
		Version: "hardware " + strconv.Itoa(r.VM.HardwareVersion), Serial: r.VM.UUID,
	}
}

// handleIdentity are the verbs of a TPM's identity.
func (r *Root) handleIdentity(ctx context.Context, actor string, q *Request) (any, error) {
	switch q.Verb {
	case VerbIdentity:
		return r.Identity(ctx, q.Name)
	case VerbRequest:
		return r.CertificateRequest(ctx, actor, q.Name, ekca.Kind(q.Kind))
	}
	return r.InstallCertificate(ctx, actor, q.Name, []byte(q.Certificate))
}
