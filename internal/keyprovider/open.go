package keyprovider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/tpm2/client"
)

// Env is what providers may touch of their process. Random must be there and safe
// for concurrent use; what else a kind needs and lacks is an error when it is opened.
type Env struct {
	Random io.Reader
	Now    func() time.Time
	Getenv func(string) string
	// Set resolves names; nil has none.
	Set *Set
	// FollowFiles has a provider over a key file hold the keys that are in the file when
	// it is used, and none once the file is removed, for processes that live long.
	// Without it the keys are read once, as for who gives up the right to read them.
	FollowFiles bool
	// OpenTPM reaches this machine's TPM; nil opens its device file.
	OpenTPM func(device string) (TPM, error)
	// PKCS11 is the program that speaks to tokens; empty means "assay-pkcs11" in $PATH.
	PKCS11 string
	// Releaser gives keys to an attested host; nil gives none.
	Releaser Releaser
}

// A TPM is a connection to this machine's TPM.
type TPM interface {
	client.Transport
	io.Closer
}

func (e *Env) getenv(name string) string {
	if e.Getenv == nil {
		return ""
	}
	return e.Getenv(name)
}

// A holder is what each kind makes of its spec.
type holder interface {
	Provider
	io.Closer
	// current names the key that wraps from now on.
	current(ctx context.Context) (id string, err error)
	// rotate makes a new key, which wraps from now on, and returns the spec that
	// names it; older keys still unwrap.
	rotate(ctx context.Context) (Spec, error)
}

// A renewer is a holder whose credential ends. An error may come with a time, too:
// then asking earlier does not help.
type renewer interface {
	renew(ctx context.Context) (next time.Duration, err error)
}

// An Opened provider can be used until it is closed. It is safe for concurrent use.
type Opened struct {
	holder
	name string
	spec Spec
}

// OpenSpec opens a provider: text is the name of one in env.Set, empty for the
// set's default, or a spec. What is opened may not be reached yet: the first use
// says so, with [ErrUnavailable].
func OpenSpec(ctx context.Context, text string, env Env) (*Opened, error) {
	spec, name, err := env.Set.Resolve(text)
	if err != nil {
		return nil, err
	}
	h, err := open(ctx, spec, &env)
	if err != nil {
		return nil, fmt.Errorf("key provider %q: %w", label(name, spec), err)
	}
	return &Opened{h, name, spec}, nil
}

// label is how messages name a provider.
func label(name string, spec Spec) string {
	if name != "" {
		return name
	}
	return spec.brief()
}

// open makes the holder of a spec.
func open(ctx context.Context, spec Spec, env *Env) (holder, error) {
	if env.Random == nil {
		return nil, errors.New("no random source")
	}
	switch spec.kind {
	case KindLocal:
		return openFile(ctx, spec, env)
	case KindVault:
		return openVault(spec, env)
	case KindKMIP:
		return openKMIP(spec, env)
	case KindPKCS11:
		return openPKCS11(spec, env)
	case KindTrusted:
		return openTrusted(spec, env)
	}
	return nil, fmt.Errorf("kind %q is not known", spec.kind)
}

// Name is the provider's name in the set; empty when it was opened by its spec.
func (o *Opened) Name() string { return o.name }

// Spec is what the provider was opened by.
func (o *Opened) Spec() Spec { return o.spec }

// Wrap encrypts a data key.
func (o *Opened) Wrap(ctx context.Context, c seal.Context, key seal.Secret) ([]byte, error) {
	wrapped, err := o.holder.Wrap(ctx, c, key)
	return wrapped, o.named(err)
}

// Unwrap decrypts a data key. The caller destroys it.
func (o *Opened) Unwrap(ctx context.Context, c seal.Context, wrapped []byte) (seal.Secret, error) {
	key, err := o.holder.Unwrap(ctx, c, wrapped)
	return key, o.named(err)
}

// KeyID names the key that wraps from now on: what [WrappedUnder] says of what is
// sealed next.
func (o *Opened) KeyID(ctx context.Context) (string, error) {
	id, err := o.current(ctx)
	return id, o.named(err)
}

// Rotate has the provider make a new key. What is opened by the spec that it returns
// wraps under it and still unwraps what older keys wrapped; whoever keeps specs keeps
// it before anything is wrapped so.
func (o *Opened) Rotate(ctx context.Context) (Spec, error) {
	spec, err := o.rotate(ctx)
	return spec, o.named(err)
}

// Renew prolongs the credential that the provider is asked with, where it has one
// that ends, and returns when to do so again; 0 for never. [KeepRenewed] does so for a
// process that lives long and asks seldom.
func (o *Opened) Renew(ctx context.Context) (time.Duration, error) {
	r, ok := o.holder.(renewer)
	if !ok {
		return 0, nil
	}
	next, err := r.renew(ctx)
	return next, o.named(err)
}

func (o *Opened) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("key provider %q: %w", label(o.name, o.spec), err)
}

// Create makes the key that a spec names, where its provider can, and returns the
// spec by which it is opened, which may say more than the one given.
func Create(ctx context.Context, spec Spec, env Env) (Spec, error) {
	made, err := create(ctx, spec, &env)
	if err != nil {
		return Spec{}, fmt.Errorf("create key of %q: %w", spec.brief(), err)
	}
	return made, nil
}

func create(ctx context.Context, spec Spec, env *Env) (Spec, error) {
	switch spec.kind {
	case KindLocal:
		return spec, createFile(ctx, spec, env)
	case KindVault:
		return spec, createVault(ctx, spec, env)
	case KindKMIP:
		return createKMIP(ctx, spec, env, true)
	case KindPKCS11:
		return createPKCS11(ctx, spec, env, true)
	}
	return Spec{}, fmt.Errorf("kind %q makes no keys", spec.kind)
}

// Find completes a spec that names its key otherwise than it is opened by: a key of a
// KMIP server by name=NAME, that of a token by its label alone. Other specs come back
// as they are.
func Find(ctx context.Context, spec Spec, env Env) (found Spec, err error) {
	switch {
	case spec.kind == KindKMIP && spec.query.Has("name"):
		found, err = createKMIP(ctx, spec, &env, false)
	case spec.kind == KindPKCS11 && !strings.Contains(spec.place, "id="):
		found, err = createPKCS11(ctx, spec, &env, false)
	default:
		return spec, nil
	}
	if err != nil {
		return Spec{}, fmt.Errorf("find key of %q: %w", spec.brief(), err)
	}
	return found, nil
}

// A Round is what [Test] found.
type Round struct {
	KeyID        string
	Wrap, Unwrap time.Duration
}

// Test wraps a key, unwraps it again and compares, and sees that it does not unwrap
// for anything else.
func Test(ctx context.Context, p *Opened, env Env) (Round, error) {
	key, err := seal.Random(env.Random, seal.KeySize)
	if err != nil {
		return Round{}, err
	}
	defer key.Destroy()
	c := seal.Context{Purpose: "test of a key provider", Name: p.name}
	start := env.Now()
	wrapped, err := p.Wrap(ctx, c, key)
	if err != nil {
		return Round{}, err
	}
	r := Round{Wrap: env.Now().Sub(start)}
	start = env.Now()
	again, err := p.Unwrap(ctx, c, wrapped)
	if err != nil {
		return Round{}, err
	}
	r.Unwrap = env.Now().Sub(start)
	defer again.Destroy()
	if !again.Equal(key) {
		return Round{}, p.named(fmt.Errorf("%w: what it wrapped unwraps to another key", ErrGarbage))
	}
	other := seal.Context{Purpose: c.Purpose, Name: c.Name + "x"}
	if wrong, err := p.Unwrap(ctx, other, wrapped); err == nil {
		wrong.Destroy()
		return Round{}, p.named(fmt.Errorf("%w: what it wrapped for one use unwraps for another", ErrGarbage))
	}
	r.KeyID, err = p.KeyID(ctx)
	return r, err
}
