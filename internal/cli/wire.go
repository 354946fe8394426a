package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/httpapi"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/pki"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/sqlite"
)

// wiring is what a service is put together from.
type wiring struct {
	Data     string // folder
	Database string // URL of PostgreSQL; empty for SQLite in Data
	// WithoutSync is store.Config's: a server that may lose what was acknowledged.
	WithoutSync bool
	Keys        keySource
	Issuer      string
	// Challenges replaces the service's own; only assay demo does that.
	Challenges      attest.Challenges
	OpenAttestation bool
	Limits          httpapi.Limits
	CommitTimeout   time.Duration // of one group of decisions; 0 means the store's own
	Log             *slog.Logger
}

// A wired service runs; Close stops it.
type wired struct {
	Store   *store.Store
	Service *attest.Service
	API     http.Handler
	Metrics *httpapi.Metrics
	Keys    *keyprovider.Local
}

// Close waits for what the store was told, and forgets the keys.
func (w *wired) Close() error { return errors.Join(w.Store.Close(), w.Keys.Close()) }

// wire puts the service together. It is the one place that knows all parts.
func wire(ctx context.Context, env *Env, c wiring) (_ *wired, err error) {
	w := &wired{Metrics: httpapi.NewMetrics()}
	if w.Store, err = openStore(ctx, c.Data, c.Database, store.Config{Committed: w.Metrics.ObserveGroup, WithoutSync: c.WithoutSync, Timeout: c.CommitTimeout}); err != nil {
		return nil, err
	}
	if w.Keys, err = c.Keys.open(env, c.Data); err != nil {
		return nil, errors.Join(err, w.Store.Close())
	}
	if err := w.serve(ctx, env, c); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *wired) serve(ctx context.Context, env *Env, c wiring) error {
	keys, err := attest.NewKeys(attest.KeysConfig{
		Issuer: c.Issuer, Provider: w.Keys, Now: env.Now, Rand: env.Rand, Certify: certifier(env, c.Issuer), Build: "assay " + version,
	})
	if err != nil {
		return err
	}
	w.Service, err = attest.New(ctx, attest.Config{
		Store: w.Store, Kinds: []attest.Kind{attest.TPM{Cache: new(eventlog.Cache), Keys: new(tpm.KeyCache)}}, Keys: keys, Challenges: c.Challenges,
		Now: env.Now, Rand: env.Rand, Log: c.Log,
	})
	if err != nil {
		return err
	}
	if err := w.Service.MaintainKeys(ctx); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	var principals access.Store = w.Store
	if c.Database == "" { // SQLite in a locked folder: nobody else writes
		principals = httpapi.CachePrincipals(w.Store)
	}
	w.API, err = httpapi.New(ctx, httpapi.Config{
		Service: w.Service, Principals: principals, Audit: w.Store, Now: env.Now, Rand: env.Rand, Log: c.Log,
		OpenAttestation: c.OpenAttestation, Limits: c.Limits, Metrics: w.Metrics,
	})
	return err
}

func openStore(ctx context.Context, dir, database string, cfg store.Config) (*store.Store, error) {
	if database == "" {
		return sqlite.Open(ctx, dir, cfg)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return postgres.Open(ctx, database, cfg)
}

// certifier makes the certificates that Azure's clients read token keys from.
func certifier(env *Env, issuer string) func(crypto.Signer, time.Time, time.Time) ([]byte, error) {
	return func(key crypto.Signer, notBefore, notAfter time.Time) ([]byte, error) {
		v, err := validity(env, notBefore, notAfter)
		if err != nil {
			return nil, err
		}
		return pki.TokenSigning(env.Rand, key, issuer, v)
	}
}

func validity(env *Env, notBefore, notAfter time.Time) (pki.Validity, error) {
	serial, err := pki.NewSerial(env.Rand)
	return pki.Validity{Serial: serial, NotBefore: notBefore, NotAfter: notAfter}, err
}

// A keySource says where the key-encryption keys are.
type keySource struct {
	file       string // empty for keyFile in the data folder
	credential string // name of a systemd credential, in place of file
	passphrase string // file
}

// keyFile is the key file that a service makes for itself.
const keyFile = "service.key"

func (k keySource) open(env *Env, data string) (*keyprovider.Local, error) {
	var passphrase seal.Secret
	if k.passphrase != "" {
		text, err := os.ReadFile(k.passphrase)
		if err != nil {
			return nil, fmt.Errorf("read passphrase: %w", err)
		}
		passphrase = seal.NewSecret([]byte(strings.TrimRight(string(text), "\r\n")))
		defer passphrase.Destroy()
	}
	if k.credential != "" {
		return keyprovider.ReadCredential(env.Getenv("CREDENTIALS_DIRECTORY"), k.credential, env.Rand, passphrase)
	}
	name := k.file
	if name == "" {
		name = filepath.Join(data, keyFile)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			if err := keyprovider.CreateFile(name, env.Rand, passphrase); err != nil {
				return nil, err
			}
		}
	}
	return keyprovider.ReadFile(name, env.Rand, passphrase)
}
