package keyprovider

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/seal"
)

// A lock is what protects the text of a key file: a passphrase, the TPM, or, in the
// zero lock, nothing but the file's mode.
type lock struct {
	passphrase seal.Secret
	tpm        *hostTPM
}

// protect encrypts the text.
func (l lock) protect(text []byte, random io.Reader) ([]byte, error) {
	switch {
	case l.tpm != nil:
		return l.tpm.protect(text, random)
	case l.passphrase.Len() > 0:
		return protect(text, random, l.passphrase)
	}
	return append([]byte(nil), text...), nil
}

// open returns the text that begins with plainHeader. The caller destroys it.
func (l lock) open(header string, rest []byte) (seal.Secret, error) {
	switch header {
	case protectedHeader:
		if l.tpm != nil {
			return seal.Secret{}, errors.New("the file has a passphrase, and the option tpm is given")
		}
		return unprotect(rest, l.passphrase)
	case tpmHeader:
		if l.passphrase.Len() > 0 {
			return seal.Secret{}, errors.New("a TPM has sealed the file, and a passphrase is given")
		}
		return l.tpm.unprotect(rest)
	}
	return seal.Secret{}, errors.New("not a key file of a version known here")
}

func createLocked(name string, random io.Reader, l lock) error {
	key, err := NewKey(random)
	if err != nil {
		return err
	}
	defer key.Secret.Destroy()
	text, err := encode([]seal.Key{key}, random, l)
	if err != nil {
		return err
	}
	defer clear(text)
	if err := durable.CreateFile(name, text, 0o600); err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	return nil
}

func addKeyLocked(name string, random io.Reader, l lock) error {
	key, err := NewKey(random)
	if err != nil {
		return err
	}
	defer key.Secret.Destroy()
	return rewrite(name, random, l, func(keys []seal.Key) []seal.Key { return append([]seal.Key{key}, keys...) })
}

// rewrite puts other keys into a key file, in place of what it holds.
func rewrite(name string, random io.Reader, l lock, change func([]seal.Key) []seal.Key) error {
	old, err := readLocked(name, 0o077, random, l)
	if err != nil {
		return err
	}
	defer old.Close()
	text, err := encode(change(old.keys), random, l)
	if err != nil {
		return err
	}
	defer clear(text)
	if err := durable.WriteFile(name, text, 0o600); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	return nil
}

// readLocked opens a key file whose mode has none of the bits in forbidden.
func readLocked(name string, forbidden fs.FileMode, random io.Reader, l lock) (*Local, error) {
	text, err := readPrivate(name, forbidden, maxFile)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	defer clear(text)
	keys, err := parse(text, l)
	if err != nil {
		return nil, fmt.Errorf("key file %q: %w", name, err)
	}
	return NewLocal(random, keys...)
}
