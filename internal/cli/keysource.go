package cli

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

// A keySource says where the key-encryption keys are.
type keySource struct {
	file       string // empty for keyFile in the data folder
	credential string // name of a systemd credential, in place of file
	passphrase string // file
}

// keyFile is the key file that a service makes for itself.
const keyFile = "service.key"

// path is the key file's name.
func (k keySource) path(data string) string {
	if k.file != "" {
		return k.file
	}
	return filepath.Join(data, keyFile)
}

// phrase reads the passphrase; the zero Secret is none. The caller destroys it.
func (k keySource) phrase() (seal.Secret, error) {
	if k.passphrase == "" {
		return seal.Secret{}, nil
	}
	text, err := os.ReadFile(k.passphrase)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("read passphrase: %w", err)
	}
	return seal.NewSecret([]byte(strings.TrimRight(string(text), "\r\n"))), nil
}

// open reads the keys; the service's own file is made when it is missing.
func (k keySource) open(env *Env, data string) (*keyprovider.Local, error) {
	passphrase, err := k.phrase()
	if err != nil {
		return nil, err
	}
	defer passphrase.Destroy()
	if k.credential != "" {
		return keyprovider.ReadCredential(env.Getenv("CREDENTIALS_DIRECTORY"), k.credential, env.Rand, passphrase)
	}
	name := k.path(data)
	if k.file == "" {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			if err := keyprovider.CreateFile(name, env.Rand, passphrase); err != nil {
				return nil, err
			}
		}
	}
	return keyprovider.ReadFile(name, env.Rand, passphrase)
}

// change rewrites the key file.
func (k keySource) change(env *Env, data string, do func(string, io.Reader, seal.Secret) error) error {
	passphrase, err := k.phrase()
	if err != nil {
		return err
	}
	defer passphrase.Destroy()
	return do(k.path(data), env.Rand, passphrase)
}
