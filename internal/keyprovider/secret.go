package keyprovider

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/assay-project/assay/internal/seal"
)

// maxSecret bounds a secret that is read from outside, in bytes.
const maxSecret = 8 << 10

// A secretRef says where a secret is; the zero secretRef is none. It is read anew
// at each use, so that a secret may be changed under a running process.
type secretRef struct {
	what                  string // "token", for messages
	file, credential, env string
}

// secret takes the options that say where a secret is: one of NAME-file,
// NAME-credential and NAME-env.
func (o *options) secret(name string) secretRef {
	r := secretRef{what: name, file: o.text(name + "-file"), credential: o.text(name + "-credential"), env: o.text(name + "-env")}
	n := 0
	for _, s := range []string{r.file, r.credential, r.env} {
		if s != "" {
			n++
		}
	}
	if n > 1 {
		o.fail("more than one of %[1]s-file, %[1]s-credential and %[1]s-env", name)
	}
	if n == 0 {
		return secretRef{}
	}
	return r
}

func (r secretRef) isZero() bool { return r == secretRef{} }

// read fetches the secret; of several lines the first. The caller destroys it. The
// error is [ErrRefused] when there is none.
func (r secretRef) read(getenv func(string) string) (seal.Secret, error) {
	text, err := r.fetch(getenv)
	if err != nil {
		return seal.Secret{}, fmt.Errorf("%s: %w: %w", r.what, ErrRefused, err)
	}
	defer clear(text)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); len(line) == 0 {
		return seal.Secret{}, fmt.Errorf("%s: %w: it is empty", r.what, ErrRefused)
	}
	return seal.NewSecret(bytes.Clone(line)), nil
}

func (r secretRef) fetch(getenv func(string) string) ([]byte, error) {
	switch {
	case r.file != "":
		return readPrivate(r.file, 0o077, maxSecret)
	case r.credential != "":
		name, err := credentialFile(getenv("CREDENTIALS_DIRECTORY"), r.credential)
		if err != nil {
			return nil, err
		}
		return readPrivate(name, 0o037, maxSecret)
	case r.env != "":
		if v := getenv(r.env); v != "" {
			return []byte(v), nil
		}
		return nil, fmt.Errorf("environment variable %q is not set", r.env)
	}
	return nil, errors.New("nothing says where it is")
}

// credentialFile is where systemd puts a credential.
func credentialFile(dir, name string) (string, error) {
	if dir == "" || name == "" || name == "." || name == ".." || strings.ContainsRune(name, filepath.Separator) {
		return "", fmt.Errorf("credential %q in folder %q: want a folder and a plain name", name, dir)
	}
	return filepath.Join(dir, name), nil
}

// readPrivate reads a file that is a regular one, not a link, belongs to the user
// who runs the program or to root, and whose mode has none of the bits in forbidden.
func readPrivate(name string, forbidden fs.FileMode, limit int64) ([]byte, error) {
	// One open file is checked and read: a name could lead elsewhere in between.
	// O_NONBLOCK keeps a named pipe from stalling us until its mode is seen.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer f.Close()
	if err := checkFile(f, forbidden); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%q: more than %d bytes", name, limit)
	}
	if err != nil {
		clear(text)
		return nil, err
	}
	return text, nil
}
