package ekca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"path/filepath"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/strictjson"
)

// Files of an authority.
const (
	metaFile    = "authority.json"
	journalFile = "issued.jsonl"
	publicDir   = "public" // what anybody may read, for any web server
	chainFile   = "chain.pem"
	keySuffix   = ".key.sealed"
	certSuffix  = ".cer"
	listSuffix  = ".crl"
)

// Bounds of what is read.
const (
	maxSealedKey   = 16 << 10
	maxCertificate = 16 << 10
	maxMeta        = 16 << 10
)

// Formats of the folder: an authority of one generation is what programs of the first
// format know.
const (
	firstVersion     = 1
	authorityVersion = 2 // the newest that is known here
)

// maxGenerations bounds the issuing authorities below one root.
const maxGenerations = 99

// An authorityFile is the content of authority.json.
type authorityFile struct {
	Version int    `json:"version"`
	Oldest  int    `json:"oldestReader"`
	ID      string `json:"id"` // UUID; the policy's identifier is 2.25 and its value
	Name    string `json:"name"`
	URL     string `json:"url,omitempty"`
	CPS     string `json:"cps,omitempty"`
	Policy  string `json:"policy"`
	// Provider names the key provider that unseals the keys.
	Provider string    `json:"provider,omitempty"`
	Created  time.Time `json:"created"`
	// Foreign says that the issuing key is not in this folder, Signer which program
	// signs by it.
	Foreign bool     `json:"foreignKey,omitempty"`
	Signer  []string `json:"signer,omitempty"`
	// Generation counts the issuing authorities; missing for the first.
	Generation int `json:"generation,omitempty"`
}

// newest is the number of the newest generation.
func (f *authorityFile) newest() int { return max(f.Generation, 1) }

// foreignSigner is what signs by a key that is not in the folder; nil for nothing.
func (a *Authority) foreignSigner(cert *x509.Certificate) crypto.Signer {
	if a.cfg.Signer != nil {
		return a.cfg.Signer
	}
	if len(a.file.Signer) == 0 {
		return nil
	}
	return &ProgramSigner{Command: a.file.Signer, Key: cert.PublicKey}
}

func newAuthorityFile(o *AuthorityOptions, cfg *AuthorityConfig) (*authorityFile, error) {
	var id [16]byte
	if _, err := io.ReadFull(cfg.Random, id[:]); err != nil {
		return nil, err
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562, 5.4
	return &authorityFile{
		Version: firstVersion, Oldest: firstVersion,
		ID:   fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		Name: o.Name, URL: o.URL, CPS: o.CPS, Provider: o.Provider, Foreign: o.IssuingCert != nil, Signer: o.SignerCommand,
		// ITU-T X.667: an identifier that a UUID gives, without asking anybody.
		Policy:  "2.25." + new(big.Int).SetBytes(id[:]).String(),
		Created: cfg.Now().UTC().Truncate(time.Second),
	}, nil
}

func (a *Authority) path(name string) string   { return filepath.Join(a.dir, name) }
func (a *Authority) public(name string) string { return filepath.Join(a.dir, publicDir, name) }

func (a *Authority) writeFile(f *authorityFile) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(a.path(metaFile), append(text, '\n'), 0o600)
}

// ProviderOf returns the name of the key provider that an authority was made with,
// which whoever opens it needs first. All of the file is a claim.
func ProviderOf(dir string) (string, error) {
	a := &Authority{dir: dir}
	err := a.readFile()
	return a.file.Provider, err
}

// Info is what authority.json says.
type Info struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	URL      string    `json:"url,omitempty"`
	CPS      string    `json:"cps,omitempty"`
	Policy   string    `json:"policy"`
	Provider string    `json:"provider,omitempty"`
	Created  time.Time `json:"created"`
	Foreign  bool      `json:"foreignKey"`
	// Generation counts the issuing authorities, from 1.
	Generation int `json:"generation"`
}

// Info returns what the authority was made with.
func (a *Authority) Info() Info {
	f := &a.file
	return Info{f.ID, f.Name, f.URL, f.CPS, f.Policy, f.Provider, f.Created, f.Foreign, f.newest()}
}

// OpenAuthority opens the authority of a folder. With a provider in cfg its keys
// are unsealed, so that an authority which opens can issue.
func OpenAuthority(ctx context.Context, dir string, cfg AuthorityConfig) (*Authority, error) {
	a := &Authority{dir: dir, cfg: cfg}
	if err := a.readFile(); err != nil {
		return nil, err
	}
	var err error
	if a.root, err = a.readCertificate(byRoot); err != nil {
		return nil, err
	}
	for n := 1; n <= a.file.newest(); n++ {
		g, err := a.readGeneration(n)
		if err != nil {
			return nil, err
		}
		if n > 1 {
			a.older = append(a.older, a.generation)
		}
		a.generation = *g
	}
	if cfg.Provider == nil {
		return a, nil
	}
	if err := a.openKeys(ctx); err != nil {
		return nil, fmt.Errorf("certificate authority in %q: %w", dir, err)
	}
	return a, nil
}

func (a *Authority) readFile() error {
	text, err := readBounded(a.path(metaFile), maxMeta)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q: %w", a.dir, ErrNoAuthority)
	}
	if err != nil {
		return err
	}
	if err := decodeStrict(text, &a.file); err != nil {
		return fmt.Errorf("read %q: %v: %w", a.path(metaFile), err, ErrAuthority)
	}
	if a.file.Generation < 0 || a.file.Generation > maxGenerations || a.file.Foreign && a.file.newest() > 1 {
		return fmt.Errorf("read %q: generation %d: %w", a.path(metaFile), a.file.Generation, ErrAuthority)
	}
	if a.file.Version < 1 || a.file.Oldest > authorityVersion {
		return fmt.Errorf("read %q: format %d is newer than this program: %w", a.path(metaFile), a.file.Version, ErrAuthority)
	}
	oid, err := x509.ParseOID(a.file.Policy)
	if err != nil {
		return fmt.Errorf("read %q: policy %q: %w", a.path(metaFile), a.file.Policy, ErrAuthority)
	}
	id, err := oid.MarshalBinary()
	if err != nil {
		return err
	}
	a.policy, a.urls = policy{id, a.file.CPS}, urls{a.file.URL}
	return nil
}

func decodeStrict(text []byte, to any) error {
	rules := strictjson.Rules{Bytes: maxMeta, Depth: 4, Members: 64, Values: 256, FoldNames: true}
	if _, err := strictjson.Parse(text, rules); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

func (a *Authority) readCertificate(by string) (*x509.Certificate, error) {
	der, err := readBounded(a.public(by+certSuffix), maxCertificate)
	if err != nil {
		return nil, fmt.Errorf("read certificate %q of the authority: %w: %w", by, err, ErrAuthority)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate %q of the authority: %w: %w", by, err, ErrAuthority)
	}
	return cert, nil
}

// readGeneration reads the certificates of a generation, and holds that they are of this
// authority.
func (a *Authority) readGeneration(number int) (*generation, error) {
	g := &generation{number: number}
	for by, s := range g.signers() {
		cert, err := a.readCertificate(by)
		if err != nil {
			return nil, err
		}
		s.cert = cert
	}
	if err := g.issuing.cert.CheckSignatureFrom(a.root); err != nil {
		return nil, fmt.Errorf("issuing authority is not below its root: %v: %w", err, ErrAuthority)
	}
	if err := g.platform.cert.CheckSignatureFrom(g.issuing.cert); err != nil {
		return nil, fmt.Errorf("platform key is not below the issuing authority: %v: %w", err, ErrAuthority)
	}
	return g, nil
}

// openKeys unseals the keys of all generations: old ones sign lists.
func (a *Authority) openKeys(ctx context.Context) error {
	for _, g := range a.generations() {
		for by, s := range g.signers() {
			if by == byIssuing && a.file.Foreign {
				s.key = a.foreignSigner(s.cert) // nil: nothing is issued
				continue
			}
			key, err := a.openKey(ctx, a.cfg.Provider, by)
			if err != nil {
				return err
			}
			s.key = key
			if !sameKey(key.Public(), s.cert.PublicKey) {
				return fmt.Errorf("key %q is not that of its certificate: %w", by, ErrAuthority)
			}
		}
	}
	return nil
}

// publishCertificates writes the certificates where anybody may read them.
func (a *Authority) publishCertificates() error {
	certs := map[string]*x509.Certificate{byRoot: a.root}
	var chain []byte
	for _, g := range a.generations() {
		for by, s := range g.signers() {
			certs[by] = s.cert
		}
		chain = append(chain, encodePEM(g.issuing.cert.Raw)...)
	}
	for by, cert := range certs {
		if err := durable.WriteFile(a.public(by+certSuffix), cert.Raw, 0o644); err != nil {
			return err
		}
	}
	return durable.WriteFile(a.public(chainFile), append(chain, encodePEM(a.root.Raw)...), 0o644)
}

func encodePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// keyID identifies the key of a certificate that is no authority's (RFC 7093, 2,
// method 4); Go makes one for authorities only.
func keyID(pub crypto.PublicKey) []byte {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		panic("unreachable: a key of ours does not encode: " + err.Error())
	}
	sum := sha256.Sum256(spki)
	return sum[:20]
}
