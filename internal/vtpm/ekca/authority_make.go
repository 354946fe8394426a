package ekca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/pki"
	"github.com/assay-project/assay/internal/seal"
)

// AuthorityOptions are what an authority is made with.
type AuthorityOptions struct {
	// Name goes into the names of its certificates; at most 40 bytes.
	Name string
	// URL is where its public files will be served, without a slash at the end;
	// empty leaves out of certificates where their issuer and its lists are found.
	URL string
	// Provider names the key provider of AuthorityConfig, for whoever opens the folder.
	Provider string
	// CPS is where its practice statement is; may be empty.
	CPS string
	// IssuingCert is the certificate of AuthorityConfig.Signer and RootCert the root
	// above it, when the issuing key is with somebody else; nil makes both here.
	IssuingCert, RootCert *x509.Certificate
	// SignerCommand is the program that signs by that key ([ProgramSigner]); empty
	// when AuthorityConfig.Signer is given each time.
	SignerCommand []string
}

func (o *AuthorityOptions) check() error {
	if o.Name == "" || len(o.Name) > 40 {
		return fmt.Errorf("name of the authority has %d bytes, want 1 to 40", len(o.Name))
	}
	for _, s := range []string{o.URL, o.CPS} {
		if s == "" {
			continue
		}
		if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.HasSuffix(s, "/") || len(s) > 512 {
			return fmt.Errorf("%q is no URL of a web server without a slash at its end", s)
		}
	}
	if (o.IssuingCert == nil) != (o.RootCert == nil) {
		return errors.New("the certificate of a foreign issuing key comes with its root's, or not at all")
	}
	if o.IssuingCert == nil {
		return nil
	}
	return checkForeign(o.IssuingCert, o.RootCert)
}

// checkForeign holds that a foreign key may be that of an issuing authority here.
func checkForeign(issuing, root *x509.Certificate) error {
	const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case !issuing.IsCA || issuing.KeyUsage&usage != usage || len(issuing.SubjectKeyId) == 0:
		return errors.New("issuing certificate is not one of an authority that signs certificates and revocation lists, with a key identifier")
	case bytes.Equal(issuing.Raw, root.Raw):
		return errors.New("the root is to stay offline: name an issuing certificate below it")
	}
	if err := issuing.CheckSignatureFrom(root); err != nil {
		return fmt.Errorf("issuing certificate is not below the root: %w", err)
	}
	return nil
}

// Lives of the authorities. The root's and the issuing one's are long because the
// keys that they certify live as long as their machines.
const (
	rootLife    = 30 * 365 * 24 * time.Hour
	issuingLife = 25 * 365 * 24 * time.Hour
)

// CreateAuthority makes an authority in dir, which must not exist. Whole or not at
// all: it is made beside dir and renamed.
func CreateAuthority(ctx context.Context, dir string, o AuthorityOptions, cfg AuthorityConfig) (*Authority, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if cfg.Provider == nil {
		return nil, errors.New("an authority needs a key provider: its private keys are never kept in the clear")
	}
	if _, err := os.Lstat(dir); err == nil {
		return nil, fmt.Errorf("%q: %w", dir, os.ErrExist)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp) // nothing is left there after the rename
	if err := makeAuthority(ctx, temp, &o, &cfg); err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	if err := os.Rename(temp, dir); err != nil {
		return nil, err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	return OpenAuthority(ctx, dir, cfg)
}

// makeAuthority fills a new folder.
func makeAuthority(ctx context.Context, dir string, o *AuthorityOptions, cfg *AuthorityConfig) error {
	file, err := newAuthorityFile(o, cfg)
	if err != nil {
		return err
	}
	a := &Authority{dir: dir, cfg: *cfg, file: *file, urls: urls{o.URL}, generation: generation{number: 1}}
	if err := os.Mkdir(filepath.Join(dir, publicDir), 0o755); err != nil {
		return err
	}
	if o.IssuingCert != nil {
		a.root, a.issuing = o.RootCert, signer{o.IssuingCert, a.foreignSigner(o.IssuingCert)}
	} else if err := a.makeRoot(ctx, o.Name); err != nil {
		return err
	}
	if err := a.makePlatformKey(ctx); err != nil {
		return err
	}
	if err := a.publishCertificates(); err != nil {
		return err
	}
	if err := durable.WriteFile(a.path(journalFile), nil, 0o600); err != nil {
		return err
	}
	if err := a.updateLists(); err != nil { // nobody else has the folder yet
		return err
	}
	return a.writeFile(file)
}

// makeRoot makes a root and the authority below it, and uses the root for the one
// list that it signs: that nothing below it is revoked.
func (a *Authority) makeRoot(ctx context.Context, name string) error {
	now := a.cfg.Now().UTC()
	rootKey, err := a.newKey(ctx, byRoot, elliptic.P384())
	if err != nil {
		return err
	}
	t := authorityTemplate(name+" root", now, rootLife)
	t.MaxPathLen = 1
	if a.root, err = a.sign(t, t, rootKey.Public(), rootKey); err != nil {
		return err
	}
	if err := a.makeIssuing(ctx, rootKey, now); err != nil {
		return err
	}
	return a.writeList(byRoot, signer{a.root, rootKey}, &x509.RevocationList{
		Number: one(), ThisUpdate: now.Add(-backdate), NextUpdate: a.root.NotAfter,
	})
}

// makeIssuing makes the issuing authority of the newest generation.
func (a *Authority) makeIssuing(ctx context.Context, rootKey crypto.Signer, now time.Time) (err error) {
	if a.issuing.key, err = a.newKey(ctx, a.name(byIssuing), elliptic.P384()); err != nil {
		return err
	}
	t := authorityTemplate(a.subject(a.file.Name), now, issuingLife)
	if t.NotAfter.After(a.root.NotAfter) {
		t.NotAfter = a.root.NotAfter
	}
	t.MaxPathLenZero = true
	t.ExtraExtensions = []pkix.Extension{{Id: oidPolicies, Value: derSeq(derSeq(derOID(asn1.ObjectIdentifier{2, 5, 29, 32, 0})))}} // anyPolicy
	if a.urls.base != "" {
		t.IssuingCertificateURL, t.CRLDistributionPoints = []string{a.urls.cert(byRoot)}, []string{a.urls.list(byRoot)}
	}
	a.issuing.cert, err = a.sign(t, a.root, a.issuing.key.Public(), rootKey)
	return err
}

// subject is the common name of a key of the newest generation: no two authorities have
// one name (RFC 5280, 4.1.2.6).
func (a *Authority) subject(name string) string {
	if a.number <= 1 {
		return name
	}
	return name + " " + strconv.Itoa(a.number)
}

// makePlatformKey makes the key that signs platform certificates. It is no
// authority's; the issuing authority certifies it.
func (a *Authority) makePlatformKey(ctx context.Context) error {
	if a.issuing.key == nil {
		return ErrNoKey
	}
	key, err := a.newKey(ctx, a.name(byPlatform), elliptic.P256())
	if err != nil {
		return err
	}
	now := a.cfg.Now().UTC()
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: a.subject(a.file.Name + " platforms")}, NotBefore: now.Add(-backdate), NotAfter: a.issuing.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign, BasicConstraintsValid: true,
		SubjectKeyId: keyID(key.Public()),
	}
	if a.urls.base != "" {
		t.IssuingCertificateURL, t.CRLDistributionPoints = []string{a.urls.cert(a.name(byIssuing))}, []string{a.urls.list(a.name(byIssuing))}
	}
	a.platform.key = key
	a.platform.cert, err = a.sign(t, a.issuing.cert, key.Public(), a.issuing.key)
	return err
}

func authorityTemplate(name string, now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true,
	}
}

func (a *Authority) sign(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	var err error
	if t.SerialNumber, err = pki.NewSerial(a.cfg.Random); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(a.cfg.Random, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyContext binds a sealed private key to its use and its authority.
func (a *Authority) keyContext(by string) seal.Context {
	return seal.Context{Purpose: "vTPM authority key " + by, Name: a.file.ID}
}

// newKey makes a private key and keeps it sealed. Since Go 1.26 the standard
// library draws from its own source and passes over Random.
func (a *Authority) newKey(ctx context.Context, by string, curve elliptic.Curve) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(curve, a.cfg.Random)
	if err != nil {
		return nil, err
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	sealed, err := keyprovider.Seal(ctx, a.cfg.Provider, a.cfg.Random, a.keyContext(by), text)
	if err != nil {
		return nil, err
	}
	return key, durable.CreateFile(a.path(by+keySuffix), sealed, 0o600)
}

// openKey unseals a private key.
func (a *Authority) openKey(ctx context.Context, p keyprovider.Provider, by string) (crypto.Signer, error) {
	sealed, err := readBounded(a.path(by+keySuffix), maxSealedKey)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("key %q: %w", by, ErrNoKey)
	}
	if err != nil {
		return nil, err
	}
	text, err := keyprovider.Open(ctx, p, a.keyContext(by), sealed)
	if err != nil {
		return nil, fmt.Errorf("open key %q of the authority: %w", by, err)
	}
	defer text.Destroy()
	key, err := x509.ParsePKCS8PrivateKey(text.Expose())
	if err != nil {
		return nil, fmt.Errorf("read key %q of the authority: %w", by, err)
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key %q signs nothing: %w", by, ErrAuthority)
	}
	return s, nil
}

// readBounded reads a regular file of at most limit bytes.
func readBounded(name string, limit int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%q has more than %d bytes", name, limit)
	}
	return b, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
