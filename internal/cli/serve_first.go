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
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/pki"
	"github.com/assay-project/assay/internal/seal"
)

// What a first start makes in the data folder.
const (
	firstAdmin = "admin"
	tokenFile  = "admin-token"
	caFile     = "ca.pem"
	caKeyFile  = "ca.key.sealed"
)

// firstAdministrator makes the administrator of a service that has no principal,
// and returns the file with the API token, or "" when there was one already. The
// token goes into a file that the owner alone may read, never to a log or a
// terminal's memory. It is written first: a crash in between leaves a token that
// nobody honours, and the next start makes another.
func firstAdministrator(ctx context.Context, env *Env, w *wired, data string) (string, error) {
	have, err := w.Store.Principals(ctx)
	if err != nil {
		return "", err
	}
	name := filepath.Join(data, tokenFile)
	if len(have) > 0 {
		if _, err := os.Stat(name); err != nil {
			return "", nil //nolint:nilerr // the administrator has moved it, as is wise
		}
		return name, nil
	}
	token, hash, tail, err := access.NewToken(env.Rand)
	if err != nil {
		return "", err
	}
	if err := durable.WriteFile(name, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write API token: %w", err)
	}
	now := env.Now().UTC()
	p := access.Principal{Name: firstAdmin, Roles: []access.Role{access.Admin}, TokenHash: hash, TokenTail: tail, Added: now, AddedBy: "service"}
	err = w.Store.AddPrincipal(ctx, p, audit.Entry{Time: now, Actor: "service", Action: "principal.add", Subject: p.Name, Outcome: "done"})
	if errors.Is(err, access.ErrExists) { // another service of this database was first
		return "", os.Remove(name)
	}
	return name, err
}

// firstPolicy makes a file the default policy of a service that has only the
// built-in one. Later starts leave what administrators set alone.
func (o *serveOptions) firstPolicy(ctx context.Context, s *attest.Service) error {
	if o.policyFile == "" {
		return nil
	}
	text, err := os.ReadFile(o.policyFile)
	if err != nil {
		return err
	}
	history, err := s.PolicyHistory(ctx, attest.DefaultPolicy)
	if err != nil || history[0].Version > 0 {
		return err
	}
	_, _, err = s.PutPolicy(ctx, "service", attest.PolicyChange{Name: attest.DefaultPolicy, Text: string(text), Comment: "from " + filepath.Base(o.policyFile)})
	if err != nil {
		return fmt.Errorf("%s: %w", o.policyFile, err)
	}
	return nil
}

// madeCA is the authority that a service made for itself.
type madeCA struct{ file, fingerprint string }

// tlsConfig returns nil for plain HTTP, and an authority when the service made it.
func (o *serveOptions) tlsConfig(ctx context.Context, env *Env, w *wired) (*tls.Config, *madeCA, error) {
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
	c := &certificates{env: env, ca: ca, hosts: o.hosts()}
	if _, err := c.get(nil); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(ca.Certificate())
	return &tls.Config{GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}},
		&madeCA{filepath.Join(o.Data, caFile), hex.EncodeToString(sum[:])}, nil
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
)

// openCA loads the authority of the data folder, or makes it. Its private key is
// sealed under the service's key and never on the disk in the clear.
func openCA(ctx context.Context, env *Env, keys keyprovider.Provider, data string) (*pki.CA, error) {
	sealContext := seal.Context{Purpose: "TLS authority key", Name: "ca"}
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
	return pki.LoadCA(block.Bytes, key, pki.PurposeTLS)
}

func makeCA(ctx context.Context, env *Env, keys keyprovider.Provider, data string, sealContext seal.Context) (*pki.CA, error) {
	key, err := pki.GenerateKey(env.Rand)
	if err != nil {
		return nil, err
	}
	now := env.Now()
	v, err := validity(env, now.Add(-backdate), now.Add(caLife))
	if err != nil {
		return nil, err
	}
	ca, err := pki.NewCA(env.Rand, key, pki.PurposeTLS, "assay", v)
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

// certificates are the server's own, made anew before they end. Their keys live
// in memory only.
type certificates struct {
	env   *Env
	ca    *pki.CA
	hosts []string

	mu      sync.Mutex // guards current and renew
	current *tls.Certificate
	renew   time.Time
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.env.Now()
	if c.current != nil && now.Before(c.renew) {
		return c.current, nil
	}
	key, der, err := c.issue(now)
	if err != nil {
		return nil, fmt.Errorf("make server certificate: %w", err)
	}
	c.current = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	c.renew = now.Add(serverLife / 2)
	return c.current, nil
}

func (c *certificates) issue(now time.Time) (*ecdsa.PrivateKey, []byte, error) {
	key, err := pki.GenerateKey(c.env.Rand)
	if err != nil {
		return nil, nil, err
	}
	end := now.Add(serverLife)
	if last := c.ca.NotAfter(); end.After(last) {
		end = last
	}
	v, err := validity(c.env, now.Add(-backdate), end)
	if err != nil {
		return nil, nil, err
	}
	der, err := c.ca.Server(c.env.Rand, &key.PublicKey, c.hosts, v)
	return key, der, err
}
