package ekca

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/pki"
)

// An Authority is the built-in certificate authority, kept in a folder
// (docs/formats/vtpm-ca.md): a root that is needed once and may go offline, an
// authority below it that certifies keys, and, since RFC 5755, 4.5, keeps issuers
// of attribute certificates and authorities apart, a key for platform
// certificates. Its private keys are sealed by a key provider, or the issuing one
// is with somebody who signs. Several processes may use one folder. It is safe for
// concurrent use.
type Authority struct {
	dir    string
	cfg    AuthorityConfig
	file   authorityFile
	policy policy
	urls   urls

	root *x509.Certificate
	generation
	older []generation // which certify nothing any more, and still revoke; oldest first

	mu sync.Mutex // guards the journal within this process
}

// A generation is an issuing authority below the root, and the key for platform
// certificates that it certified. The newest of an authority certifies.
type generation struct {
	number            int // from 1
	issuing, platform signer
}

// name is that of an issuing or platform key in files and in the journal: those of the
// first generation have no number.
func (g *generation) name(by string) string {
	if g.number <= 1 {
		return by
	}
	return by + strconv.Itoa(g.number)
}

// signers are the keys that sign lists, by name.
func (g *generation) signers() map[string]*signer {
	return map[string]*signer{g.name(byIssuing): &g.issuing, g.name(byPlatform): &g.platform}
}

// generations are all, the newest first.
func (a *Authority) generations() []*generation {
	out := []*generation{&a.generation}
	for i := range slices.Backward(a.older) {
		out = append(out, &a.older[i])
	}
	return out
}

// A signer is a certificate and its private key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer // nil when this process cannot sign
}

// AuthorityConfig is what an authority takes from its surroundings.
type AuthorityConfig struct {
	// Provider unseals the private keys. Nil opens the authority without them: it
	// can be read and served, and issues nothing.
	Provider keyprovider.Provider
	Random   io.Reader
	Now      func() time.Time
	// Signer holds the issuing key when the folder does not.
	Signer crypto.Signer
	// ListLife is how long a revocation list is good; 0 means a week.
	ListLife time.Duration
}

func (c *AuthorityConfig) listLife() time.Duration {
	if c.ListLife > 0 {
		return c.ListLife
	}
	return 7 * 24 * time.Hour
}

var (
	// ErrNoKey is an authority whose keys are not at hand, as when it was opened
	// without a provider or its root is offline.
	ErrNoKey = errors.New("private key of the authority is not at hand")
	// ErrNoAuthority is a folder without an authority.
	ErrNoAuthority = errors.New("no certificate authority here: make one first")
	// ErrStale is an authority that another process has given its next issuing key
	// since it was opened: what was asked for is asked of it opened anew.
	ErrStale = errors.New("the authority has another issuing key since: open it again")
	// ErrAuthority is a folder whose parts are damaged or do not belong together.
	ErrAuthority = errors.New("certificate authority is damaged")
)

// Certificates are public: the root's, and those of the newest issuing authority and
// its platform key.
func (a *Authority) Certificates() (root, issuing, platform *x509.Certificate) {
	return a.root, a.issuing.cert, a.platform.cert
}

// Older are the issuing authorities of before, the newest first. What they certified
// stays good.
func (a *Authority) Older() []*x509.Certificate {
	var out []*x509.Certificate
	for _, g := range a.generations()[1:] {
		out = append(out, g.issuing.cert)
	}
	return out
}

// Chain is what leads from a key's certificate to the root, without the root.
func (a *Authority) Chain() [][]byte { return [][]byte{a.issuing.cert.Raw} }

// backdate is how far validity reaches back, for verifiers whose clock is slow.
const backdate = 10 * time.Minute

// Issue certifies a batch and writes it down before it returns.
func (a *Authority) Issue(ctx context.Context, b *Batch) (*Certificates, error) {
	if a.issuing.key == nil {
		return nil, ErrNoKey
	}
	out := &Certificates{Chain: a.Chain()}
	var ek *x509.Certificate
	var entries []journalEntry
	for i := range b.Keys {
		cert, err := a.certify(b, &b.Keys[i], ek)
		if err != nil {
			return nil, fmt.Errorf("certify key %s: %w", b.Keys[i].Kind, err)
		}
		if ek == nil && b.Keys[i].Kind.Endorsement() {
			ek = cert
		}
		out.Keys = append(out.Keys, cert.Raw)
		entries = append(entries, a.issued(b, string(b.Keys[i].Kind), a.name(byIssuing), cert.SerialNumber))
	}
	if b.Platform != nil {
		der, serial, err := a.certifyPlatform(b.Platform, ek)
		if err != nil {
			return nil, err
		}
		out.Platform = der
		e := a.issued(b, "platform", a.name(byPlatform), serial)
		e.Holder = hexSerial(ek.SerialNumber)
		entries = append(entries, e)
	}
	return out, a.record(ctx, entries...)
}

func (a *Authority) issued(b *Batch, kind, by string, serial *big.Int) journalEntry {
	return journalEntry{Type: entryIssue, Time: a.cfg.Now().UTC(), By: by, Serial: hexSerial(serial), Kind: kind, TPM: b.TPM, Name: b.CommonName}
}

// certify signs the certificate of one key. ek is that of the first endorsement
// key, nil as long as there is none.
func (a *Authority) certify(b *Batch, k *BatchKey, ek *x509.Certificate) (*x509.Certificate, error) {
	key, err := k.Public.Key()
	if err != nil {
		return nil, err
	}
	var t *x509.Certificate
	if k.Kind.Endorsement() {
		t = endorsementTemplate(b, k, key)
	} else if t, err = deviceTemplate(b, k, ek); err != nil {
		return nil, err
	}
	if t.SerialNumber, err = pki.NewSerial(a.cfg.Random); err != nil {
		return nil, err
	}
	t.NotBefore = a.cfg.Now().UTC().Add(-backdate)
	t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{Id: oidPolicies, Value: a.policy.der()})
	if a.urls.base != "" {
		t.IssuingCertificateURL, t.CRLDistributionPoints = []string{a.urls.cert(a.name(byIssuing))}, []string{a.urls.list(a.name(byIssuing))}
	}
	der, err := x509.CreateCertificate(a.cfg.Random, t, a.issuing.cert, key, a.issuing.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// certifyPlatform signs a platform certificate.
func (a *Authority) certifyPlatform(p *Platform, ek *x509.Certificate) (der []byte, serial *big.Int, err error) {
	if err := p.check(); err != nil {
		return nil, nil, err
	}
	if ek == nil || a.platform.key == nil {
		return nil, nil, fmt.Errorf("platform certificate: no endorsement key is certified, or: %w", ErrNoKey)
	}
	if serial, err = pki.NewSerial(a.cfg.Random); err != nil {
		return nil, nil, err
	}
	ac := &attributeCertificate{
		platform: p, ek: ek, issuer: a.platform.cert, serial: serial,
		notBefore: a.cfg.Now().UTC().Add(-backdate), policy: &a.policy, urls: &a.urls, by: a.name(byPlatform), algorithm: derECDSA(crypto.SHA256),
	}
	info := ac.info()
	h := crypto.SHA256.New()
	h.Write(info)
	sig, err := a.platform.key.Sign(a.cfg.Random, h.Sum(nil), crypto.SHA256)
	if err != nil {
		return nil, nil, fmt.Errorf("sign platform certificate: %w", err)
	}
	return derSeq(info, ac.algorithm, derBits(sig)), serial, nil
}

// Names of who signed, as the journal and the published files have them.
const (
	byIssuing  = "ca"
	byPlatform = "platform"
	byRoot     = "root"
)

// urls are where the public files of an authority are found; base is empty when
// they are nowhere.
type urls struct{ base string }

func (u *urls) cert(by string) string { return u.base + "/" + by + certSuffix }
func (u *urls) list(by string) string { return u.base + "/" + by + listSuffix }
