package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/pki"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/seal"
)

// tlsConfig returns nil for plain HTTP, and the certificates that the service
// makes for itself when it was given none.
func (o *serveOptions) tlsConfig(ctx context.Context, env *program.Env, w *wired) (*tls.Config, *certificates, error) {
	if o.plain() {
		return nil, nil, nil
	}
	if o.tlsCert != "" {
		pair, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
		if err != nil {
			return nil, nil, fmt.Errorf("load TLS certificate: %w", err)
		}
		return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}, nil, nil
	}
	ca, err := openCA(ctx, env, w.Keys, o.Data)
	if err != nil {
		return nil, nil, err
	}
	c := &certificates{env: env, ca: ca, hosts: o.hosts(), file: filepath.Join(o.Data, caFile)}
	if _, err := c.get(nil); err != nil {
		return nil, nil, err
	}
	return &tls.Config{GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}, c, nil
}

// hosts are the names that the self-made certificate is for.
func (o *serveOptions) hosts() []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}
	if host, _, err := net.SplitHostPort(o.listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			hosts = append(hosts, host)
		}
	}
	if u, err := url.Parse(o.Issuer); err == nil && u.Hostname() != "" {
		hosts = append(hosts, u.Hostname())
	}
	hosts = append(hosts, o.tlsHosts...)
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// The lives of what the service certifies for itself.
const (
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 30 * 24 * time.Hour
	backdate   = time.Hour // for clients whose clock is behind
	// caWarning is how long before the authority ends its operator is told: clients
	// must be given the next one.
	caWarning = 365 * 24 * time.Hour
)

// caContext is what the authority's key is sealed for.
func caContext() seal.Context { return seal.Context{Purpose: "TLS authority key", Name: "ca"} }

// openCA loads the authority of the data folder, or makes it. Its private key is
// sealed under the service's key and never on the disk in the clear.
func openCA(ctx context.Context, env *program.Env, keys keyprovider.Provider, data string) (*pki.CA, error) {
	sealContext := caContext()
	text, err := os.ReadFile(filepath.Join(data, caFile))
	if errors.Is(err, fs.ErrNotExist) {
		return makeCA(ctx, env, keys, data, sealContext)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	sealed, err := os.ReadFile(filepath.Join(data, caKeyFile))
	if err != nil || block == nil {
		return nil, errors.Join(err, fmt.Errorf("%s in %s cannot be used: remove it to have a new authority made", caFile, data))
	}
	der, err := keyprovider.Open(ctx, keys, sealContext, sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", caKeyFile, err)
	}
	defer der.Destroy()
	key, err := x509.ParseECPrivateKey(der.Expose())
	if err != nil {
		return nil, fmt.Errorf("%s does not hold a key", caKeyFile) // the cause could quote it
	}
	return pki.LoadCA(block.Bytes, key)
}

func makeCA(ctx context.Context, env *program.Env, keys keyprovider.Provider, data string, sealContext seal.Context) (*pki.CA, error) {
	key, err := pki.GenerateKey(env.Rand)
	if err != nil {
		return nil, err
	}
	now := env.Now()
	v, err := validity(env, now.Add(-backdate), now.Add(caLife))
	if err != nil {
		return nil, err
	}
	ca, err := pki.NewCA(env.Rand, key, "assay", v)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	sealed, err := keyprovider.Seal(ctx, keys, env.Rand, sealContext, der)
	if err != nil {
		return nil, err
	}
	// The certificate last: what has one has the key too.
	if err := durable.WriteFile(filepath.Join(data, caKeyFile), sealed, 0o600); err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate()})
	return ca, durable.WriteFile(filepath.Join(data, caFile), text, 0o644)
}

// certificates are the server's own, made at each start and anew before they end.
// Their keys live in memory only.
type certificates struct {
	env   *program.Env
	ca    *pki.CA
	file  string // of the authority's certificate
	hosts []string

	mu      sync.Mutex // guards current
	current *tls.Certificate
}

// get returns the certificate for a handshake. It is made anew when less than a
// third of its life is left, also when it has ended while nobody asked.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.env.Now()
	if c.current != nil && c.serves(c.current.Leaf, now) {
		return c.current, nil
	}
	key, der, err := c.issue(now)
	if err == nil {
		var leaf *x509.Certificate
		if leaf, err = x509.ParseCertificate(der); err == nil {
			c.current = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
			return c.current, nil
		}
	}
	if c.current != nil && now.Before(c.current.Leaf.NotAfter) {
		return c.current, nil // the next handshake tries again
	}
	return nil, fmt.Errorf("make server certificate: %w", err)
}

// serves reports whether a certificate has a third of its life left, or as much as
// any could have. One that begins later than now does not: the clock was set back.
func (c *certificates) serves(leaf *x509.Certificate, now time.Time) bool {
	if now.Before(leaf.NotBefore) || !now.Before(leaf.NotAfter) {
		return false
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotAfter.Sub(now) >= life/3 || leaf.NotAfter.Equal(c.ca.NotAfter())
}

func (c *certificates) issue(now time.Time) (*ecdsa.PrivateKey, []byte, error) {
	end := now.Add(serverLife)
	if last := c.ca.NotAfter(); end.After(last) {
		end = last
	}
	if !now.Before(end) {
		return nil, nil, fmt.Errorf("the service's own TLS authority ended at %s: remove %s and start again to have a new one made, and give it to the clients",
			end.Format(time.RFC3339), c.file)
	}
	key, err := pki.GenerateKey(c.env.Rand)
	if err != nil {
		return nil, nil, err
	}
	v, err := validity(c.env, now.Add(-backdate), end)
	if err != nil {
		return nil, nil, err
	}
	der, err := c.ca.Server(c.env.Rand, &key.PublicKey, c.hosts, v)
	return key, der, err
}

// fingerprint is the SHA-256 digest of the authority's certificate, in hex.
func (c *certificates) fingerprint() string {
	sum := sha256.Sum256(c.ca.Certificate())
	return hex.EncodeToString(sum[:])
}

// ending says that the authority ends soon, or "" while it does not.
func (c *certificates) ending() string {
	last := c.ca.NotAfter()
	if last.Sub(c.env.Now()) > caWarning {
		return ""
	}
	return fmt.Sprintf("the service's own TLS authority %s ends at %s; then no client can connect. Remove it and start again to have a new one made, and give that to the clients",
		c.file, last.Format(time.RFC3339))
}

// maintain renews the certificate before a client has to wait for it, and warns of
// the authority's end.
func (c *certificates) maintain(ctx context.Context, log *slog.Logger) error {
	if warning := c.ending(); warning != "" {
		log.WarnContext(ctx, "TLS authority ends", slog.String("warning", warning))
	}
	_, err := c.get(nil)
	return err
}
