// Package collateral holds what verifiers need besides the evidence: the root
// certificates of TPM makers and of other CAs, from an offline bundle.
//
// It trusts nothing by itself: there is no built-in root, and a bundle counts
// only because the operator named its file. It proves nothing about the
// certificates in a bundle, and says how old each is. Start with [Parse].
//
// PEM is RFC 7468; the headers are those of RFC 1421, 4.4.
package collateral

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// A Usage is what a root certificate is trusted for.
type Usage string

// The usages.
const (
	EKCA Usage = "ek-ca" // issues endorsement key certificates
	AKCA Usage = "ak-ca" // issues attestation key certificates
)

// Limits of one bundle: the published roots of all TPM makers are fewer than 200.
const (
	MaxSize  = 1 << 20
	maxRoots = 512
)

// A Root is one certificate of a bundle.
type Root struct {
	Vendor      string
	Usage       Usage
	Fetched     time.Time // when the certificate was got from its vendor; zero when the bundle does not say
	Certificate *x509.Certificate
}

// A Store is the roots of the bundles that an operator named. It is immutable
// and safe for concurrent use; the zero Store trusts nobody.
type Store struct{ roots []Root }

// Parse reads a bundle: PEM certificates, each with a Vendor and a Usage header,
// and a Fetched header with the time in RFC 3339 form if that is known. Anything
// else in it is an error.
func Parse(text []byte) (*Store, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("bundle has %d bytes, at most %d are read", len(text), MaxSize)
	}
	s := new(Store)
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if len(s.roots) == maxRoots {
			return nil, fmt.Errorf("bundle has more than %d certificates", maxRoots)
		}
		r, err := parseRoot(block)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(s.roots)+1, err)
		}
		s.roots = append(s.roots, r)
	}
	if bytes.Contains(text, []byte("-----BEGIN")) {
		return nil, fmt.Errorf("after %d certificates: not PEM", len(s.roots))
	}
	if len(s.roots) == 0 {
		return nil, errors.New("bundle has no certificate")
	}
	return s, nil
}

func parseRoot(block *pem.Block) (Root, error) {
	var r Root
	if block.Type != "CERTIFICATE" {
		return r, fmt.Errorf("PEM block is %q", block.Type)
	}
	for name, value := range block.Headers {
		var err error
		switch name {
		case "Vendor":
			r.Vendor = value
		case "Usage":
			r.Usage = Usage(value)
		case "Fetched":
			r.Fetched, err = time.Parse(time.RFC3339, value)
		default:
			err = fmt.Errorf("unknown header %q", name)
		}
		if err != nil {
			return r, err
		}
	}
	if r.Vendor == "" {
		return r, errors.New("there is no Vendor header")
	}
	if r.Usage != EKCA && r.Usage != AKCA {
		return r, fmt.Errorf("usage is %q, want %q or %q", r.Usage, EKCA, AKCA)
	}
	var err error
	r.Certificate, err = x509.ParseCertificate(block.Bytes)
	return r, err
}

// ParseFS reads every file of a folder whose name ends in .pem as a bundle.
func ParseFS(fsys fs.FS) (*Store, error) {
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return nil, fmt.Errorf("read folder of root certificates: %w", err)
	}
	out := new(Store)
	for _, e := range entries {
		if path.Ext(e.Name()) != ".pem" || e.IsDir() {
			continue
		}
		text, err := fs.ReadFile(fsys, e.Name())
		if err != nil {
			return nil, fmt.Errorf("read root certificates: %w", err)
		}
		s, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("read root certificates of %q: %w", e.Name(), err)
		}
		out = out.Join(s)
	}
	if len(out.roots) == 0 {
		return nil, errors.New("folder has no .pem file")
	}
	return out, nil
}

// Join returns a store of the roots of both.
func (s *Store) Join(other *Store) *Store {
	return &Store{slices.Concat(s.roots, other.roots)}
}

// Roots lists the roots in the order of the bundles.
func (s *Store) Roots() []Root { return slices.Clone(s.roots) }

// Pool returns the certificates of one usage; nil when there is none.
func (s *Store) Pool(u Usage) *x509.CertPool {
	var pool *x509.CertPool
	for _, r := range s.roots {
		if r.Usage != u {
			continue
		}
		if pool == nil {
			pool = x509.NewCertPool()
		}
		pool.AddCert(r.Certificate)
	}
	return pool
}

// Age says in words how old the bundle is at a time: its oldest part, and which
// parts do not say.
func (s *Store) Age(at time.Time) string {
	var oldest time.Time
	var silent []string
	for _, r := range s.roots {
		if r.Fetched.IsZero() {
			silent = append(silent, r.Vendor)
		} else if oldest.IsZero() || r.Fetched.Before(oldest) {
			oldest = r.Fetched
		}
	}
	var words []string
	if !oldest.IsZero() {
		words = append(words, fmt.Sprintf("the oldest root certificate was fetched %d days before", int(at.Sub(oldest)/(24*time.Hour))))
	}
	if len(silent) > 0 {
		slices.Sort(silent)
		words = append(words, "the age is not known of the root certificates of "+strings.Join(slices.Compact(silent), ", "))
	}
	return strings.Join(words, "; ")
}
