package vmbackup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/backup"
)

// A Protection says for whom a file is encrypted: one of the three.
type Protection struct {
	Recipients []string // of age (age1…)
	// Passphrase is one that a person chose, of at least [MinPassphrase] bytes.
	Passphrase seal.Secret
	Provider   string // name or URI of a key provider
}

// MinPassphrase is the least length of a passphrase in bytes.
const MinPassphrase = 12

// The work of scrypt, as a power of two: what is written, and the most that a file may
// ask for, whose header anybody may have written.
const (
	passphraseWork    = 18
	maxPassphraseWork = 20
)

func (p *Protection) method() (Method, error) {
	var m []Method
	if len(p.Recipients) > 0 {
		m = append(m, Recipients)
	}
	if p.Passphrase.Len() > 0 {
		m = append(m, Passphrase)
	}
	if p.Provider != "" {
		m = append(m, Provider)
	}
	if len(m) != 1 {
		return 0, errors.New("a backup is for recipients, under a passphrase or by a key provider: want one of the three")
	}
	if m[0] == Passphrase && p.Passphrase.Len() < MinPassphrase {
		return 0, fmt.Errorf("the passphrase has %d bytes, want at least %d", p.Passphrase.Len(), MinPassphrase)
	}
	if len(p.Provider) > maxProvider {
		return 0, fmt.Errorf("key provider %.80q: want a name of at most %d bytes", p.Provider, maxProvider)
	}
	return m[0], nil
}

// A lock encrypts one file, and opens it once more before it counts.
type lock struct {
	to  []age.Recipient
	key []byte // of the file, once there is one
}

// newLock tries that the protection works, before there is anything to protect.
func (s *Store) newLock(ctx context.Context, p *Protection, method Method, id string) (_ *lock, closing func() error, err error) {
	l, closing := &lock{}, func() error { return nil }
	switch method {
	case Provider:
		provider, err := s.cfg.Provider(ctx, p.Provider)
		if err != nil {
			return nil, closing, fmt.Errorf("key provider %q: %w", p.Provider, err)
		}
		if err := backup.CheckProvider(ctx, provider, s.cfg.Random); err != nil {
			return nil, closing, errors.Join(fmt.Errorf("key provider %q: %w", p.Provider, err), provider.Close())
		}
		wrap := func(key []byte) ([]byte, error) {
			return keyprovider.Seal(ctx, provider, s.cfg.Random, sealContext(id), key)
		}
		l.to, closing = []age.Recipient{&keeper{wrapper(wrap), l}}, provider.Close
	case Passphrase:
		r, err := age.NewScryptRecipient(string(p.Passphrase.Expose()))
		if err != nil {
			return nil, closing, err
		}
		r.SetWorkFactor(s.work)
		l.to = []age.Recipient{&keeper{r, l}}
	default:
		list, err := backup.ParseRecipients(p.Recipients)
		if err != nil {
			return nil, closing, err
		}
		for _, r := range list {
			l.to = append(l.to, &keeper{r, l})
		}
	}
	return l, closing, nil
}

// A keeper is a recipient that keeps the file's key.
type keeper struct {
	age.Recipient
	in *lock
}

// Wrap encrypts the file's key.
func (k *keeper) Wrap(key []byte) ([]*age.Stanza, error) {
	stanzas, _, err := k.WrapWithLabels(key)
	return stanzas, err
}

// WrapWithLabels encrypts the file's key, and keeps the labels by which age refuses
// recipients that do not go together.
func (k *keeper) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	k.in.key = bytes.Clone(key)
	if l, ok := k.Recipient.(age.RecipientWithLabels); ok {
		return l.WrapWithLabels(key)
	}
	stanzas, err := k.Recipient.Wrap(key)
	return stanzas, nil, err
}

// providerStanza is the kind of recipient that a key provider is in the file.
const providerStanza = "assay-key-provider"

// sealContext binds a file's key to its machine.
func sealContext(id string) seal.Context {
	return seal.Context{Purpose: "backup of a machine", Name: id}
}

// A wrapper is a key provider as a recipient.
type wrapper func(key []byte) ([]byte, error)

// Wrap has the provider seal the file's key.
func (w wrapper) Wrap(key []byte) ([]*age.Stanza, error) {
	body, err := w(key)
	return []*age.Stanza{{Type: providerStanza, Body: body}}, err
}

// An unwrapper is a key provider as an identity.
type unwrapper func(body []byte) (seal.Secret, error)

// Unwrap has the provider open the file's key.
func (u unwrapper) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type == providerStanza {
			key, err := u(s.Body)
			if err != nil {
				return nil, err
			}
			return key.Expose(), nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// Keys are what may open a file.
type Keys struct {
	Identities [][]byte // contents of files of age identities; secret
	Passphrase seal.Secret
	// Provider replaces the key provider that the file names, as at a site where it is
	// called otherwise.
	Provider string
}

// identities are the keys in age's form, for the method of a file.
func (s *Store) identities(ctx context.Context, c *Card, k *Keys) (_ []age.Identity, closing func() error, err error) {
	closing = func() error { return nil }
	switch c.Method {
	case Provider:
		spec := c.Provider
		if k.Provider != "" {
			spec = k.Provider
		}
		p, err := s.cfg.Provider(ctx, spec)
		if err != nil {
			return nil, closing, fmt.Errorf("%w: key provider %q: %w", ErrKey, spec, err)
		}
		open := func(body []byte) (seal.Secret, error) {
			key, err := keyprovider.Open(ctx, p, sealContext(c.ID), body)
			if err != nil {
				err = fmt.Errorf("%w: key provider %q: %w", ErrKey, spec, err)
			}
			return key, err
		}
		return []age.Identity{unwrapper(open)}, p.Close, nil
	case Passphrase:
		if k.Passphrase.Len() == 0 {
			return nil, closing, fmt.Errorf("%w: it needs a passphrase", ErrKey)
		}
		i, err := age.NewScryptIdentity(string(k.Passphrase.Expose()))
		if err != nil {
			return nil, closing, err
		}
		i.SetMaxWorkFactor(maxPassphraseWork)
		return []age.Identity{i}, closing, nil
	}
	var out []age.Identity
	for _, text := range k.Identities {
		ids, err := backup.ParseIdentities(text)
		if err != nil {
			return nil, closing, err
		}
		out = append(out, ids...)
	}
	if len(out) == 0 {
		return nil, closing, fmt.Errorf("%w: it needs an age identity", ErrKey)
	}
	return out, closing, nil
}

// decrypt begins to read a body.
func decrypt(body io.Reader, ids []age.Identity) (io.Reader, error) {
	r, err := age.Decrypt(body, ids...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, ErrKey
	case errors.Is(err, ErrKey):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}
