package ekca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
)

// maxBundle bounds the certificates that come with one of a key.
const maxBundle = 8

// ParseBundle reads a certificate of a key, in PEM or DER, and what follows it: the
// authorities above it, in any order.
func ParseBundle(text []byte) ([]*x509.Certificate, error) {
	if len(text) > (maxBundle+1)*maxCertificate {
		return nil, fmt.Errorf("%d bytes are more than a certificate and its chain", len(text))
	}
	if block, _ := pem.Decode(text); block == nil {
		certs, err := x509.ParseCertificates(text)
		if err != nil || len(certs) == 0 {
			return nil, fmt.Errorf("no certificate in PEM or DER: %v", err)
		}
		return bounded(certs)
	}
	var certs []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("PEM block %q is no certificate", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	return bounded(certs)
}

func bounded(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	if len(certs) > maxBundle+1 {
		return nil, fmt.Errorf("%d certificates, want at most %d above one", len(certs), maxBundle)
	}
	return certs, nil
}

// InstallOptions say what an installed certificate must be.
type InstallOptions struct {
	At time.Time // when it must be valid
	// Roots must be above it; nil asks only that it follows from the authorities
	// that come with it, if any do.
	Roots  *x509.CertPool
	Random io.Reader
}

// Installed says what [Install] did.
type Installed struct {
	Kind     Kind
	Index    tpm2.Handle
	Replaced []byte // DER of the certificate that was there; nil for none
	Chain    int    // authorities in NV
	// PlatformStale says that the TPM's platform certificate names an endorsement
	// key certificate that is no longer there.
	PlatformStale bool
}

// Install puts a certificate of somebody else's authority into a TPM, to the
// endorsement key that it is for, with the authorities above it. t is in the hands
// of its owner and has power; it is started, and shut down at the end. After an
// error its state is to be left as it was before.
//
// Errors wrap [ErrOtherKey], [ErrUsage], [ErrExpired] or [ErrChain].
func Install(ctx context.Context, t TPM, bundle []*x509.Certificate, o InstallOptions) (*Installed, error) {
	if len(bundle) == 0 {
		return nil, errors.New("no certificate to install")
	}
	leaf, above := bundle[0], bundle[1:]
	k, err := keyOf(t, leaf)
	if err != nil {
		return nil, err
	}
	if err := o.check(k, leaf, above); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := &module{tpm: client.New(client.InProcess(t, 0), o.Random)}
	if err := m.begin(); err != nil {
		return nil, err
	}
	out, err := m.install(k, leaf, above)
	if err != nil {
		return nil, fmt.Errorf("install certificate: %w", err)
	}
	return out, m.tpm.Shutdown(tpm2.StartupClear)
}

// keyOf finds the endorsement key that a certificate is for.
func keyOf(t TPM, leaf *x509.Certificate) (Kind, error) {
	for _, p := range places() {
		if !p.kind.Endorsement() {
			continue
		}
		template, err := Template(p.kind)
		if err != nil {
			return "", err
		}
		if !mayBe(template, leaf) {
			continue
		}
		public, err := t.EndorsementKey(template)
		if err != nil {
			return "", err
		}
		if key, err := public.Key(); err == nil && sameKey(key, leaf.PublicKey) {
			return p.kind, nil
		}
	}
	return "", fmt.Errorf("it is no endorsement key of this TPM: %w", ErrOtherKey)
}

// check holds what the profile asks of the certificate, and its chain.
func (o *InstallOptions) check(k Kind, leaf *x509.Certificate, above []*x509.Certificate) error {
	if err := checkUsage(leaf, k); err != nil {
		return err
	}
	if o.At.IsZero() || o.At.Before(leaf.NotBefore) || o.At.After(leaf.NotAfter) {
		return fmt.Errorf("it is valid from %s to %s: %w", leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339), ErrExpired)
	}
	if len(above) == 0 && o.Roots == nil {
		return nil
	}
	return o.checkChain(leaf, above)
}

func (o *InstallOptions) checkChain(leaf *x509.Certificate, above []*x509.Certificate) error {
	roots, pool := o.Roots, x509.NewCertPool()
	if roots == nil {
		// Nobody is trusted here: the highest that came along stands for the root.
		roots = x509.NewCertPool()
		for _, c := range above {
			if !slices.ContainsFunc(above, func(up *x509.Certificate) bool { return up != c && c.CheckSignatureFrom(up) == nil }) {
				roots.AddCert(c)
			}
		}
	}
	for _, c := range above {
		if o.At.Before(c.NotBefore) || o.At.After(c.NotAfter) {
			return fmt.Errorf("authority %q in the chain: %w", c.Subject, ErrExpired)
		}
		pool.AddCert(c)
	}
	// A critical name of the TCG's that Go does not know; it was checked for usage.
	verifiable := *leaf
	verifiable.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(leaf.UnhandledCriticalExtensions), oidSubjectAltName.Equal)
	_, err := verifiable.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, CurrentTime: o.At, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChain, err)
	}
	return nil
}

// install writes the certificate and the chain.
func (m *module) install(k Kind, leaf *x509.Certificate, above []*x509.Certificate) (*Installed, error) {
	p, err := placeOf(k)
	if err != nil {
		return nil, err
	}
	out := &Installed{Kind: k, Index: p.index}
	if out.Replaced, err = m.readIndex(p.index); err != nil {
		return nil, err
	}
	if err := m.writeIndex(p.index, leaf.Raw); err != nil {
		return nil, err
	}
	leaves, err := m.certificates()
	if err != nil {
		return nil, err
	}
	kept, err := m.readChain()
	if err != nil {
		return nil, err
	}
	chain := needed(leaves, append(slices.Clone(above), kept...))
	out.Chain = len(chain)
	if err := m.writeChain(chain); err != nil {
		return nil, err
	}
	platform, err := m.readIndex(indexPlatform)
	if err != nil {
		return nil, err
	}
	out.PlatformStale = platform != nil && !slices.ContainsFunc(leaves, func(c *x509.Certificate) bool { return holds(platform, c) })
	return out, nil
}

// certificates reads those of all keys. What a guest put in place of one is passed
// over.
func (m *module) certificates() ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, p := range places() {
		der, err := m.readIndex(p.index)
		if err != nil {
			return nil, err
		}
		if cert, err := x509.ParseCertificate(der); err == nil {
			out = append(out, cert)
		}
	}
	return out, nil
}

// readChain reads the chain; what does not parse ends it.
func (m *module) readChain() ([]*x509.Certificate, error) {
	var all []byte
	for index := indexChain; index <= indexChainEnd; index++ {
		part, err := m.readIndex(index)
		if err != nil {
			return nil, err
		}
		if part == nil {
			break
		}
		all = append(all, part...)
	}
	certs, err := x509.ParseCertificates(all)
	if err != nil {
		return nil, nil //nolint:nilerr // a guest's firmware may have written it: it proves nothing, and is replaced
	}
	return certs, nil
}

// needed picks from a pool what leads up from the leaves, in that order, without
// roots, which a verifier has from elsewhere (EK Credential Profile, 2.2.1.5.2).
func needed(leaves, pool []*x509.Certificate) [][]byte {
	var out [][]byte
	for _, leaf := range leaves {
		for below := leaf; ; {
			i := slices.IndexFunc(pool, func(up *x509.Certificate) bool {
				return bytes.Equal(up.RawSubject, below.RawIssuer) && below.CheckSignatureFrom(up) == nil
			})
			if i < 0 || bytes.Equal(pool[i].RawSubject, pool[i].RawIssuer) {
				break
			}
			if below = pool[i]; slices.ContainsFunc(out, func(c []byte) bool { return bytes.Equal(c, below.Raw) }) {
				break
			}
			out = append(out, below.Raw)
		}
	}
	return out
}

// mayBe says whether a certificate's key could be of a template, so that no key
// is made in vain.
func mayBe(template *tpm2.Public, leaf *x509.Certificate) bool {
	p, err := tpm2.NewPublic(leaf.PublicKey)
	if err != nil || p.Type != template.Type {
		return false
	}
	if p.Type == tpm2.AlgRSA {
		return p.Parameters.RSA.KeyBits == template.Parameters.RSA.KeyBits
	}
	return p.Parameters.ECC.CurveID == template.Parameters.ECC.CurveID
}

// holds reports whether a platform certificate is of the platform whose endorsement
// key has this certificate: its holder is a baseCertificateID.
func holds(platform []byte, ek *x509.Certificate) bool {
	id := der(tagConstructed, derDirectoryName(ek.RawIssuer), derBig(ek.SerialNumber))
	return bytes.Contains(platform, derSeq(id))
}
