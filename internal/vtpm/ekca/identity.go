package ekca

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/wire"
)

// An Identity is what a TPM is known by, for outsiders (docs/vtpm-identity.md).
// Keys are those that its seed gives: not what a guest may have put in their place.
type Identity struct {
	Device Device        `json:"device"`
	Keys   []IdentityKey `json:"keys"`
	// Chain are the authorities above the certificates, in PEM, without roots.
	Chain []string `json:"chain"`
	// Platform is the platform certificate, in PEM; empty for none.
	Platform string `json:"platformCertificate,omitempty"`
	// PlatformMatches says that it names one of the certificates above.
	PlatformMatches bool `json:"platformCertificateMatches"`
}

// An IdentityKey is one key.
type IdentityKey struct {
	Kind       Kind   `json:"kind"`
	Template   string `json:"template,omitempty"` // of the EK Credential Profile
	Handle     string `json:"handle"`             // 0x81010001
	Persistent bool   `json:"persistent"`         // the key is at its handle
	Index      string `json:"nvIndex"`            // 0x01c00002
	Public     []byte `json:"public"`             // TPMT_PUBLIC
	Name       string `json:"name"`               // hex
	PublicKey  string `json:"publicKey"`          // PEM
	// Certificate is that in NV, in PEM; empty for none. Matches says that it is one
	// for this key.
	Certificate string `json:"certificate,omitempty"`
	Serial      string `json:"serial,omitempty"`
	Issuer      string `json:"issuer,omitempty"`
	Matches     bool   `json:"certificateMatches"`
	// Problem says why it is not.
	Problem string `json:"problem,omitempty"`
}

// ReadIdentity reads the identity of a TPM that has power. It is started: what is
// not to be changed by that goes to a copy. random is for nonces.
func ReadIdentity(ctx context.Context, t TPM, random io.Reader) (*Identity, error) {
	m := &module{tpm: client.New(client.InProcess(t, 0), random)}
	if err := m.begin(); err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	out, err := m.identity(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	return out, nil
}

func (m *module) identity(ctx context.Context, t TPM) (*Identity, error) {
	device, err := m.device()
	if err != nil {
		return nil, err
	}
	out := &Identity{Device: *device, Keys: []IdentityKey{}, Chain: []string{}}
	persistent, err := m.handles(0x81000000)
	if err != nil {
		return nil, err
	}
	for _, p := range places() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		cert, err := m.readIndex(p.index)
		if err != nil {
			return nil, err
		}
		if cert == nil && !slices.Contains(persistent, p.handle) {
			continue
		}
		k, err := p.identity(t, cert)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", p.kind, err)
		}
		if k.Persistent, err = m.isAt(p.handle, k.Name, persistent); err != nil {
			return nil, fmt.Errorf("key %s: %w", p.kind, err)
		}
		out.Keys = append(out.Keys, *k)
	}
	return out, m.authorities(out)
}

// identity describes the key of a place; cert is what stands in its index, or nil.
func (p *place) identity(t TPM, cert []byte) (*IdentityKey, error) {
	template, err := Template(p.kind)
	if err != nil {
		return nil, err
	}
	public, err := t.EndorsementKey(template)
	if err != nil {
		return nil, err
	}
	k := &IdentityKey{Kind: p.kind, Template: p.template, Handle: fmt.Sprintf("0x%08x", uint32(p.handle)), Index: fmt.Sprintf("0x%08x", uint32(p.index))}
	if k.Public, err = wire.Encode(public); err != nil {
		return nil, err
	}
	name, err := public.Name()
	if err != nil {
		return nil, err
	}
	key, err := public.Key()
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	k.Name = hex.EncodeToString(name)
	k.PublicKey = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	if cert != nil {
		k.certified(public, cert)
	}
	return k, nil
}

// certified adds what stands in the key's index.
func (k *IdentityKey) certified(public *tpm2.Public, der []byte) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		k.Problem = "what stands in the index is no certificate: " + err.Error()
		return
	}
	k.Certificate, k.Serial, k.Issuer = string(encodePEM(cert.Raw)), hexSerial(cert.SerialNumber), cert.Issuer.String()
	if err := matches(cert, k.Kind, public); err != nil {
		k.Problem = err.Error()
		return
	}
	k.Matches = true
}

// isAt reports whether the key of this Name is at its handle.
func (m *module) isAt(h tpm2.Handle, name string, persistent []tpm2.Handle) (bool, error) {
	if !slices.Contains(persistent, h) {
		return false, nil
	}
	got, err := m.readName(h)
	return hex.EncodeToString(got) == name, err
}

// authorities adds the chain and the platform certificate.
func (m *module) authorities(i *Identity) error {
	chain, err := m.readChain()
	if err != nil {
		return err
	}
	for _, c := range chain {
		i.Chain = append(i.Chain, string(encodePEM(c.Raw)))
	}
	platform, err := m.readIndex(indexPlatform)
	if err != nil || platform == nil {
		return err
	}
	leaves, err := m.certificates()
	i.Platform = string(pem.EncodeToMemory(&pem.Block{Type: "ATTRIBUTE CERTIFICATE", Bytes: platform}))
	i.PlatformMatches = slices.ContainsFunc(leaves, func(c *x509.Certificate) bool { return holds(platform, c) })
	return err
}
