package cli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/httpapi"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/pki"
	"github.com/assay-project/assay/internal/program"
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
	Keys        program.KeySource
	Issuer      string
	// Challenges replaces the service's own; only assay demo does that.
	Challenges      attest.Challenges
	OpenAttestation bool
	Limits          apiserver.Limits
	CommitTimeout   time.Duration // of one group of decisions; 0 means the store's own
	Log             *slog.Logger
	Machines        machineOptions
}

// A wired service runs; Close stops it.
type wired struct {
	Store   *openedStore
	Service *attest.Service
	API     http.Handler
	Metrics *httpapi.Metrics
	Keys    *keyprovider.Local

	machines *servedMachines
}

// Close ends operations, waits for what the store was told, and forgets the keys.
func (w *wired) Close() error {
	return errors.Join(w.machines.Close(), w.Store.Close(), w.Keys.Close())
}

// wire puts the service together. It is the one place that knows all parts.
func wire(ctx context.Context, env *program.Env, c wiring) (_ *wired, err error) {
	w := &wired{Metrics: httpapi.NewMetrics()}
	if w.Store, err = openStore(ctx, c, store.Config{Committed: w.Metrics.ObserveGroup}); err != nil {
		return nil, err
	}
	if w.Keys, err = c.Keys.Open(env, c.Data); err != nil {
		return nil, errors.Join(err, w.Store.Close())
	}
	if err := w.serve(ctx, env, c); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *wired) serve(ctx context.Context, env *program.Env, c wiring) error {
	keys, err := attest.NewKeys(attest.KeysConfig{
		Issuer: c.Issuer, Provider: w.Keys, Now: env.Now, Rand: env.Rand, Certify: certifier(env, c.Issuer), Build: "assay " + program.Version(),
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
	if w.machines, err = c.Machines.open(ctx, env, c.Data, w.Store, c.Log); err != nil {
		return err
	}
	if err := w.machines.count(w.Metrics.Registry()); err != nil {
		return fmt.Errorf("metrics of machines: %w", err)
	}
	w.API, err = httpapi.New(ctx, httpapi.Config{
		Service: w.Service, Principals: principals, Audit: w.Store, Now: env.Now, Rand: env.Rand, Log: c.Log,
		OpenAttestation: c.OpenAttestation, Limits: c.Limits, Metrics: w.Metrics,
	}, w.machines.routes()...)
	return err
}

// openStore opens the database of a data folder.
func openStore(ctx context.Context, c wiring, cfg store.Config) (*openedStore, error) {
	cfg.WithoutSync, cfg.Timeout = c.WithoutSync, c.CommitTimeout
	if c.Database == "" {
		s, err := sqlite.Open(ctx, c.Data, cfg) // it takes the folder too
		return &openedStore{Store: s}, err
	}
	lock, err := takeFolder(c.Data)
	if err != nil {
		return nil, fmt.Errorf("open data folder: %w", err)
	}
	s, err := postgres.Open(ctx, c.Database, cfg)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &openedStore{s, lock}, nil
}

// An openedStore is a store with the data folder that is its service's alone.
type openedStore struct {
	*store.Store
	folder *durable.Lock // nil when the store itself holds it
}

// Close closes the store, then gives the folder back.
func (s *openedStore) Close() error {
	err := s.Store.Close()
	if s.folder != nil {
		err = errors.Join(err, s.folder.Close())
	}
	return err
}

// takeFolder makes a data folder the service's own, so that no second one shares
// its key file and TLS authority by mistake, and sweeps what a crash left unfinished.
func takeFolder(dir string) (*durable.Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(dir)
	if err != nil {
		return nil, err
	}
	if err := durable.Sweep(dir); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// certifier makes the certificates that Azure's clients read token keys from.
func certifier(env *program.Env, issuer string) func(crypto.Signer, time.Time, time.Time) ([]byte, error) {
	return func(key crypto.Signer, notBefore, notAfter time.Time) ([]byte, error) {
		v, err := validity(env, notBefore, notAfter)
		if err != nil {
			return nil, err
		}
		return pki.TokenSigning(env.Rand, key, issuer, v)
	}
}

func validity(env *program.Env, notBefore, notAfter time.Time) (pki.Validity, error) {
	serial, err := pki.NewSerial(env.Rand)
	return pki.Validity{Serial: serial, NotBefore: notBefore, NotAfter: notAfter}, err
}
