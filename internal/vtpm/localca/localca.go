// Package localca is the certificate authority of files that swtpm_cert and
// swtpm_localca keep: two private keys in PEM, two certificates and a counter. A
// site that has one goes on with it.
//
// Its keys are worth what the permissions of their files and a passphrase are
// worth. Package ekca has the authority of this product, whose keys a provider
// seals, which revokes, and which writes down what it issued.
//
// Nothing here proves that a key is in a TPM: whoever asks says so.
//
// Start with [Issuer.Issue] and [Folder.Issue]. TCG EK Credential Profile 2.0; RFC
// 5280; the manual pages of swtpm 0.10.1.
package localca

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/assay-project/assay/internal/durable"
)

// A Folder says where the files of an authority are, and what they open with.
type Folder struct {
	StateDir     string // of the lock
	SigningKey   string // PEM
	IssuerCert   string // PEM
	Serial       string // a decimal number: the last that was given
	Password     []byte // of SigningKey; nil for none
	RootPassword []byte // of the root's key; nil for none
	Random       io.Reader
	Now          func() time.Time

	bits   int // of keys that are made; 0 for keyBits
	rounds int // of their passwords; 0 for pkcs8.Iterations
}

// The files of the root, beside the signing key, and the lock, by swtpm's names.
const (
	rootKeyName  = "swtpm-localca-rootca-privkey.pem"
	rootCertName = "swtpm-localca-rootca-cert.pem"
	lockName     = ".lock.swtpm-localca"
)

// Issue makes a certificate with the next serial number, and the authority before
// that if there is none. made says so.
func (f *Folder) Issue(r *Request) (der []byte, made bool, err error) {
	unlock, err := f.lock()
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	if made, err = f.ensure(); err != nil {
		return nil, made, fmt.Errorf("make the authority: %w", err)
	}
	key, err := ReadKey(f.SigningKey, f.Password)
	if err != nil {
		return nil, made, err
	}
	cert, err := ReadCertificate(f.IssuerCert)
	if err != nil {
		return nil, made, err
	}
	numbered := *r
	if numbered.Serial, err = f.nextSerial(); err != nil {
		return nil, made, err
	}
	issuer := &Issuer{Certificate: cert, Key: key, Random: f.Random, Now: f.Now}
	der, err = issuer.Issue(&numbered)
	return der, made, err
}

// lock waits until no other process issues by this authority.
func (f *Folder) lock() (unlock func(), err error) {
	if err := os.MkdirAll(f.StateDir, 0o750); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(f.StateDir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock: %w", err), file.Close())
	}
	return func() { file.Close() }, nil //nolint:errcheck // it only unlocks
}

// ensure makes the authority when it has no signing key. A root that is there is
// used again.
func (f *Folder) ensure() (made bool, err error) {
	if _, err := os.Lstat(f.SigningKey); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	dir := filepath.Dir(f.SigningKey)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return false, err
	}
	root, err := f.root(filepath.Join(dir, rootKeyName), filepath.Join(dir, rootCertName))
	if err != nil {
		return false, err
	}
	key, err := f.newKey()
	if err != nil {
		return false, err
	}
	cert, err := f.authority("swtpm-localca", key.Public(), root)
	if err != nil {
		return false, err
	}
	// A certificate without its key is of an authority whose key is elsewhere, or of a
	// run that ended here: nobody but its owner knows.
	if _, err := os.Lstat(f.IssuerCert); !errors.Is(err, fs.ErrNotExist) {
		return false, errors.Join(fmt.Errorf("%q is there and its key %q is not: put the key back, or remove the certificate to have a new authority", f.IssuerCert, f.SigningKey), err)
	}
	// The key is written last: with it the authority is there.
	if err := writeCertificate(f.IssuerCert, cert); err != nil {
		return false, err
	}
	return true, f.writeKey(f.SigningKey, key, f.Password)
}

// keyBits is the size of the keys of an authority that is made, as swtpm's.
const keyBits = 3072

func (f *Folder) newKey() (*rsa.PrivateKey, error) {
	return rsa.GenerateKey(f.Random, cmp.Or(f.bits, keyBits))
}

// root reads the root, or makes it.
func (f *Folder) root(keyName, certName string) (*Issuer, error) {
	if _, err := os.Lstat(keyName); err == nil {
		key, err := ReadKey(keyName, f.RootPassword)
		if err != nil {
			return nil, err
		}
		cert, err := ReadCertificate(certName)
		if err != nil {
			return nil, err
		}
		return &Issuer{Certificate: cert, Key: key, Random: f.Random, Now: f.Now}, nil
	}
	key, err := f.newKey()
	if err != nil {
		return nil, err
	}
	root := &Issuer{Key: key, Random: f.Random, Now: f.Now}
	der, err := f.authority("swtpm-localca-rootca", key.Public(), root)
	if err != nil {
		return nil, err
	}
	if root.Certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if err := writeCertificate(certName, der); err != nil {
		return nil, err
	}
	return root, f.writeKey(keyName, key, f.RootPassword)
}

// authority makes the certificate of an authority, by itself when the issuer has
// none.
func (f *Folder) authority(name string, key crypto.PublicKey, issuer *Issuer) ([]byte, error) {
	serial, err := RandomSerial(f.Random)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: f.Now().UTC().Truncate(time.Second), NotAfter: forever(),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	parent := issuer.Certificate
	if parent == nil {
		parent = c
	}
	return x509.CreateCertificate(f.Random, c, parent, key, issuer.Key)
}

// nextSerial counts the serial number up, and writes it down before it is used.
func (f *Folder) nextSerial() (*big.Int, error) {
	text, err := readSmall(f.Serial)
	var next *big.Int
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		last, ok := new(big.Int).SetString(strings.TrimSpace(string(text)), 10)
		if !ok || last.Sign() < 0 {
			return nil, fmt.Errorf("%q holds no serial number", f.Serial)
		}
		next = last.Add(last, big.NewInt(1))
	}
	if next == nil || next.Cmp(MaxSerial()) > 0 {
		if next, err = RandomSerial(f.Random); err != nil {
			return nil, err
		}
	}
	return next, durable.WriteFile(f.Serial, []byte(next.String()), 0o644)
}

// RandomSerial is a number of 20 decimal digits, as swtpm's begin with.
func RandomSerial(random io.Reader) (*big.Int, error) {
	low := new(big.Int).Exp(big.NewInt(10), big.NewInt(19), nil)
	n, err := rand.Int(random, new(big.Int).Mul(low, big.NewInt(9)))
	if err != nil {
		return nil, err
	}
	return n.Add(n, low), nil
}

// ReadCertificate reads one certificate in PEM.
func ReadCertificate(name string) (*x509.Certificate, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%q is no certificate in PEM", name)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return c, nil
}

func writeCertificate(name string, der []byte) error {
	return durable.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}

// maxFile bounds the files of keys, certificates and numbers, in bytes.
const maxFile = 64 << 10

func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%q has more than %d bytes", name, maxFile)
	}
	return text, err
}
