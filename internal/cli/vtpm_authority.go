package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

// authorityDir is the folder of the certificate authority in a root of TPMs.
const authorityDir = "ca"

// A rootIssuer certifies for a root of TPMs by whatever its folder says when it is
// asked first: the built-in authority, a program, or nobody.
type rootIssuer struct {
	env      *Env
	dir      string
	provider func(ctx context.Context, spec string) (vtpm.Provider, error)

	mu     sync.Mutex
	opened *ekca.Authority
}

// Issue certifies a batch.
func (r *rootIssuer) Issue(ctx context.Context, b *ekca.Batch) (*ekca.Certificates, error) {
	program, err := ekca.ReadProgram(r.dir)
	if err != nil {
		return nil, err
	}
	if program != nil {
		return program.Issue(ctx, b)
	}
	a, err := r.authority(ctx)
	if errors.Is(err, ekca.ErrNoAuthority) {
		return ekca.None{}.Issue(ctx, b)
	}
	if err != nil {
		return nil, err
	}
	return a.Issue(ctx, b)
}

// Revoke revokes one certificate.
func (r *rootIssuer) Revoke(ctx context.Context, serial string, reason ekca.Reason) error {
	a, err := r.authority(ctx)
	if err != nil {
		return err
	}
	return a.Revoke(ctx, serial, reason)
}

// RevokeTPM revokes the certificates of a TPM.
func (r *rootIssuer) RevokeTPM(ctx context.Context, tpm string, reason ekca.Reason, keep ...string) (int, error) {
	a, err := r.authority(ctx)
	if err != nil {
		return 0, err
	}
	return a.RevokeTPM(ctx, tpm, reason, keep...)
}

// authority opens the built-in authority with its keys, once.
func (r *rootIssuer) authority(ctx context.Context) (*ekca.Authority, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened != nil {
		return r.opened, nil
	}
	spec, err := ekca.ProviderOf(r.dir)
	if err != nil {
		return nil, err
	}
	p, err := r.provider(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("open key provider %q of the certificate authority: %w", spec, err)
	}
	a, err := ekca.OpenAuthority(ctx, r.dir, ekca.AuthorityConfig{Provider: p, Random: r.env.Rand, Now: r.env.Now})
	if err = errors.Join(err, p.Close()); err != nil { // its keys are unsealed: it is not asked again
		return nil, err
	}
	r.opened = a
	return a, nil
}

// authority is the certificate authority of a root, with its keys.
func (f *rootFlags) authority(ctx context.Context, env *Env) (*ekca.Authority, error) {
	cfg, err := f.config(env)
	if err != nil {
		return nil, err
	}
	return (&rootIssuer{env: env, dir: filepath.Join(cfg.Dir, authorityDir), provider: cfg.Provider}).authority(ctx)
}

// publicAuthority is the same without its keys.
func (f *rootFlags) publicAuthority(ctx context.Context, env *Env) (*ekca.Authority, error) {
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	return ekca.OpenAuthority(ctx, filepath.Join(dir, authorityDir), ekca.AuthorityConfig{Random: env.Rand, Now: env.Now})
}

// makeAuthority makes the certificate authority of a root.
func (f *rootFlags) makeAuthority(ctx context.Context, env *Env, o ekca.AuthorityOptions) (_ *ekca.Authority, err error) {
	cfg, err := f.config(env)
	if err != nil {
		return nil, err
	}
	if o.Provider == "" {
		o.Provider = cfg.DefaultProvider()
	}
	if o.Provider == "" {
		return nil, errors.New("which key provider seals the authority's keys? give --key-provider, or make one by \"assay key-provider add\"")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	p, err := cfg.Provider(ctx, o.Provider)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return ekca.CreateAuthority(ctx, filepath.Join(cfg.Dir, authorityDir), o, ekca.AuthorityConfig{Provider: p, Random: env.Rand, Now: env.Now})
}
