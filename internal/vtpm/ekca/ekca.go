// Package ekca makes the identity of a virtual TPM: endorsement keys at their
// standard places, the keys of device identity, and certificates for them, by a
// certificate authority of this host or of somebody else.
//
// An endorsement key certificate says that the key is in a TPM of this maker. That
// the TPM is virtual, and that root on its host can read it, is the maker's to
// say: the built-in authority names itself in every certificate, and a verifier
// who trusts its root trusts every host that can use its intermediate key.
//
// Start with [Manufacture], [Authority] and [ReadIdentity].
//
// TCG EK Credential Profile 2.5; TCG Platform Certificate Profile 1.1; TPM 2.0
// Keys for Device Identity and Attestation 1.0; RFC 5280, RFC 5755.
package ekca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
)

// Options are what a new TPM is made with. The zero value has the default keys,
// no device identity and no platform certificate.
type Options struct {
	// TPM is the identifier of the TPM, a UUID: certificates are found by it.
	TPM string
	// CommonName goes into the certificates as the subject's; empty for none.
	CommonName string
	// Keys are endorsement keys; nil means [DefaultKeys].
	Keys []Kind
	// DeviceIdentity adds an IAK and an IDevID.
	DeviceIdentity bool
	// Platform describes the VM, for a platform certificate; nil for none.
	Platform *Platform
	// Random is for nonces of the TPM's caller.
	Random io.Reader
}

func (o *Options) kinds() ([]Kind, error) {
	kinds := o.Keys
	if kinds == nil {
		kinds = DefaultKeys()
	}
	for i, k := range kinds {
		if _, err := placeOf(k); err != nil {
			return nil, err
		}
		if !k.Endorsement() || slices.Contains(kinds[:i], k) {
			return nil, fmt.Errorf("%q is no endorsement key, or named twice", k)
		}
	}
	if o.DeviceIdentity {
		kinds = append(slices.Clone(kinds), IDevID, IAK)
	}
	return kinds, nil
}

// Issued is the identity that a TPM was made with.
type Issued struct {
	Keys     []IssuedKey
	Platform []byte   // attribute certificate, DER; nil when there is none
	Chain    [][]byte // DER of the authorities above the keys, without the root
}

// An IssuedKey is one key in its place.
type IssuedKey struct {
	Kind        Kind
	Handle      tpm2.Handle
	Index       tpm2.Handle // of the certificate in NV
	Public      tpm2.Public
	Certificate []byte // DER; nil when nobody issued one
}

// ErrNotNew is a TPM that has keys or certificates in the places of its identity.
var ErrNotNew = errors.New("TPM is not new: it has an identity already")

// Manufacture gives a new TPM its identity. t is a TPM that was just made and has
// power; it is started, and shut down at the end, so that the owner keeps its
// permanent state and turns it on anew. All certificates are there before anything
// is written to the TPM. After an error the TPM is to be thrown away, and what the
// issuer certified revoked ([Authority.RevokeTPM]).
func Manufacture(ctx context.Context, t client.Transport, issuer Issuer, o Options) (*Issued, error) {
	kinds, err := o.kinds()
	if err != nil {
		return nil, err
	}
	m := &module{tpm: client.New(t, o.Random)}
	if err := m.begin(); err != nil {
		return nil, fmt.Errorf("manufacture: %w", err)
	}
	out, err := m.manufacture(ctx, issuer, kinds, &o)
	if err != nil {
		return nil, fmt.Errorf("manufacture: %w", err)
	}
	if err := m.tpm.Shutdown(tpm2.StartupClear); err != nil {
		return nil, fmt.Errorf("manufacture: %w", err)
	}
	return out, nil
}

func (m *module) manufacture(ctx context.Context, issuer Issuer, kinds []Kind, o *Options) (*Issued, error) {
	if err := m.mustBeNew(); err != nil {
		return nil, err
	}
	device, err := m.device()
	if err != nil {
		return nil, err
	}
	out := new(Issued)
	batch := &Batch{TPM: o.TPM, CommonName: o.CommonName, Device: *device, Platform: o.Platform}
	for _, k := range kinds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key, err := m.makeKey(k)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k, err)
		}
		out.Keys = append(out.Keys, *key)
		batch.Keys = append(batch.Keys, BatchKey{Kind: k, Public: key.Public})
	}
	certs, err := issuer.Issue(ctx, batch)
	if err != nil {
		return nil, fmt.Errorf("issue certificates: %w", err)
	}
	if err := out.take(batch, certs); err != nil {
		return nil, fmt.Errorf("issue certificates: %w", err)
	}
	return out, m.writeIdentity(out)
}

// take puts certificates to the keys, after a check that they belong there.
func (i *Issued) take(b *Batch, certs *Certificates) error {
	if certs == nil {
		return nil
	}
	if len(certs.Keys) != len(b.Keys) {
		return fmt.Errorf("%d certificates for %d keys", len(certs.Keys), len(b.Keys))
	}
	for n, der := range certs.Keys {
		if der == nil {
			continue
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate of key %s: %w", b.Keys[n].Kind, err)
		}
		if err := matches(cert, b.Keys[n].Kind, &b.Keys[n].Public); err != nil {
			return fmt.Errorf("certificate of key %s: %w", b.Keys[n].Kind, err)
		}
		i.Keys[n].Certificate = der
	}
	i.Platform, i.Chain = certs.Platform, certs.Chain
	return nil
}

// writeIdentity writes certificates to NV. The order matters to nobody: until the
// owner keeps the state none of it exists.
func (m *module) writeIdentity(i *Issued) error {
	for n := range i.Keys {
		if k := &i.Keys[n]; k.Certificate != nil {
			if err := m.writeIndex(k.Index, k.Certificate); err != nil {
				return fmt.Errorf("certificate of key %s: %w", k.Kind, err)
			}
		}
	}
	if i.Platform != nil {
		if err := m.writeIndex(indexPlatform, i.Platform); err != nil {
			return fmt.Errorf("platform certificate: %w", err)
		}
	}
	return m.writeChain(i.Chain)
}
