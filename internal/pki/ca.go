package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// A CA is a certificate authority of the service's own, for TLS servers. Its
// certificate says so, and a verifier that heeds extended key usage in chains
// accepts it for nothing else.
type CA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes a self-signed authority. It certifies end entities only.
func NewCA(random io.Reader, key crypto.Signer, name string, v Validity) (*CA, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("authority %q: %w", name, err)
	}
	if name == "" || len(name) > 64 { // RFC 5280, A.1: ub-common-name
		return nil, fmt.Errorf("authority %q: name has %d bytes, want 1 to 64", name, len(name))
	}
	tmpl := &x509.Certificate{
		SerialNumber: v.Serial, NotBefore: v.NotBefore, NotAfter: v.NotAfter,
		Subject:               pkix.Name{CommonName: name},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := create(random, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return LoadCA(der, key)
}

// LoadCA takes up an authority that NewCA made: DER and private key must belong
// together.
func LoadCA(der []byte, key crypto.Signer) (*CA, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case key == nil || !ok || !pub.Equal(key.Public()):
		return nil, fmt.Errorf("authority %q: certificate is of another key", cert.Subject.CommonName)
	case !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("%q is no authority", cert.Subject.CommonName)
	case !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(cert.UnknownExtKeyUsage) > 0:
		return nil, fmt.Errorf("authority %q is for another purpose", cert.Subject.CommonName)
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return nil, fmt.Errorf("authority %q: %w", cert.Subject.CommonName, err)
	}
	return &CA{cert, key}, nil
}

// Certificate returns the authority's own certificate, in DER.
func (ca *CA) Certificate() []byte { return slices.Clone(ca.cert.Raw) }

// NotAfter is when the authority ends; nothing it certifies lives longer.
func (ca *CA) NotAfter() time.Time { return ca.cert.NotAfter }

// issue certifies pub as a server.
func (ca *CA) issue(random io.Reader, tmpl *x509.Certificate, pub crypto.PublicKey) ([]byte, error) {
	if ca == nil || ca.cert == nil {
		return nil, errors.New("no authority")
	}
	if tmpl.NotBefore.Before(ca.cert.NotBefore) || tmpl.NotAfter.After(ca.cert.NotAfter) {
		return nil, errors.New("certificate lives outside the life of its authority")
	}
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.BasicConstraintsValid = true
	return create(random, tmpl, ca.cert, pub, ca.key)
}

// maxServerLife is what browsers and TLS libraries accept of a server certificate
// (CA/Browser Forum Baseline Requirements, 6.3.2, until March 2026; a private
// authority may keep to it).
const maxServerLife = 398 * 24 * time.Hour

// maxHosts bounds the names of one server.
const maxHosts = 64

// Server certifies a TLS server for the names and addresses in hosts. The first
// is the common name too.
func (ca *CA) Server(random io.Reader, pub *ecdsa.PublicKey, hosts []string, v Validity) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("server certificate: %w", err)
	}
	if len(hosts) == 0 || len(hosts) > maxHosts {
		return nil, fmt.Errorf("server certificate: %d hosts, want 1 to %d", len(hosts), maxHosts)
	}
	if v.NotAfter.Sub(v.NotBefore) > maxServerLife {
		return nil, fmt.Errorf("server certificate: lives longer than %s", maxServerLife)
	}
	tmpl := &x509.Certificate{SerialNumber: v.Serial, NotBefore: v.NotBefore, NotAfter: v.NotAfter}
	if len(hosts[0]) <= 64 { // ub-common-name; the alternative names say it all
		tmpl.Subject.CommonName = hosts[0]
	}
	for _, h := range hosts {
		if addr, err := netip.ParseAddr(h); err == nil && addr.Zone() == "" {
			tmpl.IPAddresses = append(tmpl.IPAddresses, addr.Unmap().AsSlice())
			continue
		}
		if !isHostName(h) {
			return nil, fmt.Errorf("server certificate: %q is neither a host name nor an address", h)
		}
		tmpl.DNSNames = append(tmpl.DNSNames, strings.ToLower(h))
	}
	return ca.issue(random, tmpl, pub)
}

// isHostName accepts the names of RFC 1123, 2.1; a pattern ("*.example.org") is none.
func isHostName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
				return false
			}
		}
	}
	return true
}
