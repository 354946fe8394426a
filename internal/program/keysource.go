package program

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// A KeySource says where the key-encryption keys are.
type KeySource struct {
	File       string // empty for KeyFile in the data folder
	Credential string // name of a systemd credential, in place of file
	Passphrase string // file
}

// KeyFile is the key file that a service makes for itself.
const KeyFile = "service.key"

// Path is the key file's name.
func (k KeySource) Path(data string) string {
	if k.File != "" {
		return k.File
	}
	return filepath.Join(data, KeyFile)
}

// Phrase reads the passphrase; the zero Secret is none. The caller destroys it.
func (k KeySource) Phrase() (seal.Secret, error) {
	if k.Passphrase == "" {
		return seal.Secret{}, nil
	}
	text, err := os.ReadFile(k.Passphrase)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("read passphrase: %w", err)
	}
	return seal.NewSecret([]byte(strings.TrimRight(string(text), "\r\n"))), nil
}

// Open reads the keys; the service's own file is made when it is missing.
func (k KeySource) Open(env *Env, data string) (*keyprovider.Local, error) {
	passphrase, err := k.Phrase()
	if err != nil {
		return nil, err
	}
	defer passphrase.Destroy()
	if k.Credential != "" {
		return keyprovider.ReadCredential(env.Getenv("CREDENTIALS_DIRECTORY"), k.Credential, env.Rand, passphrase)
	}
	name := k.Path(data)
	if k.File == "" {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			if err := keyprovider.CreateFile(name, env.Rand, passphrase); err != nil {
				return nil, err
			}
		}
	}
	return keyprovider.ReadFile(name, env.Rand, passphrase)
}

// Change rewrites the key file.
func (k KeySource) Change(env *Env, data string, do func(string, io.Reader, seal.Secret) error) error {
	passphrase, err := k.Phrase()
	if err != nil {
		return err
	}
	defer passphrase.Destroy()
	return do(k.Path(data), env.Rand, passphrase)
}
