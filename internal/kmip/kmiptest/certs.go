// Package kmiptest gives tests a KMIP server: one of our own that can fail in every
// way, and PyKMIP's, by other people.
//
// Our own server shows only that client and server agree with each other; PyKMIP's
// shows that they agree with someone else. Start with [Start] and [StartPyKMIP].
package kmiptest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Files are the names of PEM files: an authority, and a certificate and key that it
// certified for each side.
type Files struct{ CA, ServerCert, ServerKey, ClientCert, ClientKey string }

// NewFiles makes an authority and what it certifies.
func NewFiles(tb testing.TB) Files {
	tb.Helper()
	dir := tb.TempDir()
	f := Files{}
	for _, p := range []struct {
		to   *string
		name string
	}{{&f.CA, "ca.pem"}, {&f.ServerCert, "server.pem"}, {&f.ServerKey, "server.key"}, {&f.ClientCert, "client.pem"}, {&f.ClientKey, "client.key"}} {
		*p.to = filepath.Join(dir, p.name)
	}
	caKey, ca := certify(tb, "test authority", nil, nil, 0)
	write(tb, f.CA, "CERTIFICATE", ca.Raw)
	for _, side := range []struct {
		name, cert, key string
		usage           x509.ExtKeyUsage
	}{{"server", f.ServerCert, f.ServerKey, x509.ExtKeyUsageServerAuth}, {"assay", f.ClientCert, f.ClientKey, x509.ExtKeyUsageClientAuth}} {
		key, cert := certify(tb, side.name, ca, caKey, side.usage)
		write(tb, side.cert, "CERTIFICATE", cert.Raw)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			tb.Fatal(err)
		}
		write(tb, side.key, "PRIVATE KEY", der)
	}
	return f
}

// certify makes a certificate for 127.0.0.1; self-signed without a parent.
func certify(tb testing.TB, name string, parent *x509.Certificate, by *ecdsa.PrivateKey, usage x509.ExtKeyUsage) (*ecdsa.PrivateKey, *x509.Certificate) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if parent == nil {
		t.IsCA, t.KeyUsage, t.ExtKeyUsage, parent, by = true, x509.KeyUsageCertSign, nil, t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), by)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return key, cert
}

func write(tb testing.TB, name, kind string, der []byte) {
	tb.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		tb.Fatal(err)
	}
}

// Client is the configuration of the client's side.
func (f Files) Client(tb testing.TB) *tls.Config {
	tb.Helper()
	return f.config(tb, f.ClientCert, f.ClientKey)
}

// Server is the configuration of the server's side.
func (f Files) Server(tb testing.TB) *tls.Config {
	tb.Helper()
	cfg := f.config(tb, f.ServerCert, f.ServerKey)
	cfg.ClientCAs, cfg.ClientAuth = cfg.RootCAs, tls.RequireAndVerifyClientCert
	return cfg
}

func (f Files) config(tb testing.TB, cert, key string) *tls.Config {
	tb.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		tb.Fatal(err)
	}
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		tb.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, Certificates: []tls.Certificate{pair}}
}
