package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// A Method says how a file is encrypted.
type Method uint8

// The methods.
const (
	Age      Method = 1 // for age recipients
	Provider Method = 2 // by a key provider
)

func (m Method) String() string {
	switch m {
	case Age:
		return "age"
	case Provider:
		return "provider"
	}
	return fmt.Sprintf("method %d", uint8(m))
}

// A Protection says for whom a file is encrypted: either recipients or a provider.
type Protection struct {
	Recipients   []age.Recipient
	Provider     keyprovider.Provider
	ProviderName string // by which a restore finds it
}

func (p *Protection) method() Method {
	if p.Provider != nil {
		return Provider
	}
	return Age
}

// Check sees that the protection works, before there is anything to protect: a
// provider wraps a key and gives it back. Recipients were checked when parsed.
func (p *Protection) Check(ctx context.Context, random io.Reader) error {
	switch {
	case (p.Provider != nil) == (len(p.Recipients) > 0):
		return errors.New("a backup is for recipients or by a key provider: want one of the two")
	case p.Provider == nil:
		return nil
	case p.ProviderName == "" || len(p.ProviderName) > maxProvider:
		return fmt.Errorf("key provider %.80q: want a name of at most %d bytes", p.ProviderName, maxProvider)
	}
	return CheckProvider(ctx, p.Provider, random)
}

// CheckProvider has a provider wrap a key and give it back.
func CheckProvider(ctx context.Context, p keyprovider.Provider, random io.Reader) error {
	c := seal.Context{Purpose: "test of a key provider", Name: "vTPM backup"}
	text := []byte("is there")
	sealed, err := keyprovider.Seal(ctx, p, random, c, text)
	if err != nil {
		return err
	}
	again, err := keyprovider.Open(ctx, p, c, sealed)
	if err != nil {
		return fmt.Errorf("key provider does not give back what it wrapped: %w", err)
	}
	defer again.Destroy()
	if !bytes.Equal(again.Expose(), text) {
		return fmt.Errorf("key provider does not give back what it wrapped: %w", keyprovider.ErrGarbage)
	}
	return nil
}

// ParseRecipients reads age recipients as age prints them: age1…
func ParseRecipients(texts []string) ([]age.Recipient, error) {
	var out []age.Recipient
	for _, text := range texts {
		rs, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(rs) != 1 {
			return nil, fmt.Errorf("recipient %.120q is none of age's (age1…): %v", text, err)
		}
		out = append(out, rs...)
	}
	return out, nil
}

// ParseIdentities reads a file of age identities, as age-keygen writes it.
func ParseIdentities(text []byte) ([]age.Identity, error) {
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		// The error may quote the file, which is a secret.
		return nil, errors.New("not a file of age identities (AGE-SECRET-KEY-1…)")
	}
	return ids, nil
}

// Keys are what may open a file.
type Keys struct {
	Identities []age.Identity
	Provider   keyprovider.Provider
}

// sealContext binds a file to the TPM that is in it.
func sealContext(id state.ID) seal.Context {
	return seal.Context{Purpose: "vTPM backup", Name: id.String()}
}

// encrypt returns the ciphertext; with recipients the key of this file, too, which
// opens it once more before it counts.
func (p *Protection) encrypt(ctx context.Context, id state.ID, text []byte, random io.Reader) (out, key []byte, err error) {
	if p.method() == Provider {
		out, err = keyprovider.Seal(ctx, p.Provider, random, sealContext(id), text)
		return out, nil, err
	}
	var kept []byte
	recipients := make([]age.Recipient, len(p.Recipients))
	for i, r := range p.Recipients {
		recipients[i] = &keeper{r, &kept}
	}
	var b bytes.Buffer
	b.Grow(len(text) + 1<<12)
	w, err := age.Encrypt(&b, recipients...)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), kept, err
}

// A keeper is a recipient that keeps the file's key.
type keeper struct {
	age.Recipient
	key *[]byte
}

// Wrap encrypts the file's key.
func (k *keeper) Wrap(key []byte) ([]*age.Stanza, error) {
	stanzas, _, err := k.WrapWithLabels(key)
	return stanzas, err
}

// WrapWithLabels encrypts the file's key, and keeps the labels by which age refuses
// recipients that do not go together.
func (k *keeper) WrapWithLabels(key []byte) ([]*age.Stanza, []string, error) {
	*k.key = bytes.Clone(key)
	if l, ok := k.Recipient.(age.RecipientWithLabels); ok {
		return l.WrapWithLabels(key)
	}
	stanzas, err := k.Recipient.Wrap(key)
	return stanzas, nil, err
}

// decrypt returns the text, which the caller clears.
func (f *File) decrypt(ctx context.Context, k Keys) ([]byte, error) {
	if f.Method == Provider {
		if k.Provider == nil {
			return nil, fmt.Errorf("%w: it needs key provider %q", ErrKey, f.Provider)
		}
		text, err := keyprovider.Open(ctx, k.Provider, sealContext(f.ID), f.body)
		switch {
		case errors.Is(err, keyprovider.ErrUnknownKey):
			return nil, fmt.Errorf("%w: key provider %q: %w", ErrKey, f.Provider, err)
		case errors.Is(err, seal.ErrOpen), errors.Is(err, seal.ErrFormat), errors.Is(err, seal.ErrVersion):
			return nil, fmt.Errorf("%w, or key provider %q is another: %w", ErrDamaged, f.Provider, err)
		case err != nil:
			return nil, err
		}
		return text.Expose(), nil
	}
	if len(k.Identities) == 0 {
		return nil, fmt.Errorf("%w: it needs an age identity", ErrKey)
	}
	r, err := age.Decrypt(bytes.NewReader(f.body), k.Identities...)
	var none *age.NoIdentityMatchError
	switch {
	case errors.As(err, &none):
		return nil, fmt.Errorf("%w: none of %d age identities", ErrKey, len(k.Identities))
	case err != nil:
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	text := make([]byte, 0, len(f.body)) // one array: the text is shorter
	buf := bytes.NewBuffer(text)
	if _, err := buf.ReadFrom(io.LimitReader(r, MaxSize)); err != nil {
		clear(text[:cap(text)])
		return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return buf.Bytes(), nil
}
