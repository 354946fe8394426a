package vtpmcli

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/ekca"
)

// authorityDir is the folder of the certificate authority in a root of TPMs.
const authorityDir = "ca"

// A rootIssuer certifies for a root of TPMs by whatever its folder says when it is
// asked first: the built-in authority, a program, or nobody.
type rootIssuer struct {
	env      *program.Env
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
	var out *ekca.Certificates
	err = r.ask(ctx, func(a *ekca.Authority) error {
		out, err = a.Issue(ctx, b)
		return err
	})
	if errors.Is(err, ekca.ErrNoAuthority) {
		return ekca.None{}.Issue(ctx, b)
	}
	return out, err
}

// ask does something by the built-in authority, and once more by the one that is there
// by then when another process has given it its next key.
func (r *rootIssuer) ask(ctx context.Context, do func(*ekca.Authority) error) error {
	for again := range 2 {
		a, err := r.authority(ctx)
		if err == nil {
			err = do(a)
		}
		if again == 1 || !errors.Is(err, ekca.ErrStale) {
			return err
		}
		r.mu.Lock()
		r.opened = nil
		r.mu.Unlock()
	}
	panic("unreachable")
}

// Revoke revokes one certificate.
func (r *rootIssuer) Revoke(ctx context.Context, serial string, reason ekca.Reason) error {
	return r.ask(ctx, func(a *ekca.Authority) error { return a.Revoke(ctx, serial, reason) })
}

// RevokeTPM revokes the certificates of a TPM.
func (r *rootIssuer) RevokeTPM(ctx context.Context, tpm string, reason ekca.Reason, keep ...string) (n int, err error) {
	err = r.ask(ctx, func(a *ekca.Authority) error {
		n, err = a.RevokeTPM(ctx, tpm, reason, keep...)
		return err
	})
	return n, err
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
func (f *rootFlags) authority(ctx context.Context, env *program.Env) (*ekca.Authority, error) {
	cfg, err := f.config(env)
	if err != nil {
		return nil, err
	}
	return (&rootIssuer{env: env, dir: filepath.Join(cfg.Dir, authorityDir), provider: cfg.Provider}).authority(ctx)
}

// publicAuthority is the same without its keys.
func (f *rootFlags) publicAuthority(ctx context.Context, env *program.Env) (*ekca.Authority, error) {
	dir, err := f.path(env)
	if err != nil {
		return nil, err
	}
	return ekca.OpenAuthority(ctx, filepath.Join(dir, authorityDir), ekca.AuthorityConfig{Random: env.Rand, Now: env.Now})
}

// makeAuthority makes the certificate authority of a root.
func (f *rootFlags) makeAuthority(ctx context.Context, env *program.Env, o ekca.AuthorityOptions) (_ *ekca.Authority, err error) {
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

// nextAuthority gives the authority of a root its next issuing key. The root's key is
// read from a file that ca export-root wrote, or is in the folder when there is none.
func (f *rootFlags) nextAuthority(ctx context.Context, env *program.Env, rootKey string, keys program.KeySource) (_ *ekca.Authority, err error) {
	cfg, err := f.config(env)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.Dir, authorityDir)
	spec, err := ekca.ProviderOf(dir)
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	if rootKey != "" {
		if key, err = readRootKey(rootKey, keys); err != nil {
			return nil, err
		}
	}
	p, err := cfg.Provider(ctx, spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	return ekca.NextAuthority(ctx, dir, key, ekca.AuthorityConfig{Provider: p, Random: env.Rand, Now: env.Now})
}

func readRootKey(name string, keys program.KeySource) (crypto.Signer, error) {
	passphrase, err := keys.Phrase()
	if err != nil {
		return nil, err
	}
	defer passphrase.Destroy()
	text, err := readFile(name, maxCertificates)
	if err != nil {
		return nil, err
	}
	key, err := ekca.ParseRootKey(text, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}
