package keyprovider

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/assay-project/assay/internal/seal"
)

// ErrPassphrase is returned, wrapped, when a file needs a passphrase and none, or
// a wrong one, is given.
var ErrPassphrase = errors.New("key file does not open: the passphrase is missing or wrong, or the file was altered")

// maxFile bounds a key file in bytes, maxKeys the keys in it.
const (
	maxFile = 64 << 10
	maxKeys = 256
)

// plainHeader and protectedHeader are the first lines of the two forms of a key
// file (docs/formats/key-file.md).
const (
	plainHeader     = "assay-keys 1"
	protectedHeader = "assay-keys-passphrase 1"
)

// CreateFile makes a key file with one new key; it fails when the file exists.
// An empty passphrase leaves the keys in the clear, readable by the owner alone.
func CreateFile(name string, random io.Reader, passphrase seal.Secret) error {
	return createLocked(name, random, lock{passphrase: passphrase})
}

// AddKey puts a new key at the head of a key file: it wraps from now on, and the
// older ones still unwrap. A crash leaves the old file or the new one.
func AddKey(name string, random io.Reader, passphrase seal.Secret) error {
	return addKeyLocked(name, random, lock{passphrase: passphrase})
}

// DropOldKeys leaves only the newest key in a key file. What the others wrapped is
// lost then: the caller has seen to it that nothing which matters is
// ([WrappedUnder]).
func DropOldKeys(name string, random io.Reader, passphrase seal.Secret) error {
	return rewrite(name, random, lock{passphrase: passphrase}, func(keys []seal.Key) []seal.Key { return keys[:1] })
}

// ReadFile opens a key file. It must be a regular file, not a link, that belongs
// to the user who runs the program or to root, and that nobody else may read.
func ReadFile(name string, random io.Reader, passphrase seal.Secret) (*Local, error) {
	return readLocked(name, 0o077, random, lock{passphrase: passphrase})
}

// ReadCredential opens a key file that systemd passes as a credential: name in the
// folder that $CREDENTIALS_DIRECTORY names. systemd lends it by an access list,
// which shows as a group that may read.
func ReadCredential(dir, name string, random io.Reader, passphrase seal.Secret) (*Local, error) {
	path, err := credentialFile(dir, name)
	if err != nil {
		return nil, err
	}
	return readLocked(path, 0o037, random, lock{passphrase: passphrase})
}

func checkFile(f *os.File, forbidden fs.FileMode) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return fmt.Errorf("mode is %#o; others may read or change it: chmod 600", mode)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !mayOwn(st.Uid, os.Geteuid()) {
		return errors.New("belongs to another user: chown it to the one who runs the program")
	}
	return nil
}

// mayOwn reports whether a key file may belong to uid when euid runs the program.
func mayOwn(uid uint32, euid int) bool { return uid == 0 || int64(uid) == int64(euid) }

// Parse reads the text of a key file. Keys are newest first. The error is
// [ErrPassphrase] when the passphrase does not open it; a passphrase for a file
// that has none is an error too, because its owner believes the file protected.
func Parse(text []byte, passphrase seal.Secret) ([]seal.Key, error) {
	return parse(text, lock{passphrase: passphrase})
}

func parse(text []byte, l lock) ([]seal.Key, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	head, rest, _ := bytes.Cut(text, []byte("\n"))
	if string(head) == plainHeader {
		if l.tpm != nil || l.passphrase.Len() > 0 {
			return nil, errors.New("a passphrase or a TPM is given, and the keys in the file are in the clear")
		}
		return parseKeys(rest)
	}
	inner, err := l.open(string(head), rest)
	if err != nil {
		return nil, err
	}
	defer inner.Destroy()
	head, rest, _ = bytes.Cut(inner.Expose(), []byte("\n"))
	if string(head) != plainHeader {
		return nil, errors.New("protected text is no key file")
	}
	return parseKeys(rest)
}

// parseKeys reads lines of a name, a space, and the key in base64.
func parseKeys(text []byte) ([]seal.Key, error) {
	var keys []seal.Key
	for line := range bytes.Lines(text) {
		line, ended := bytes.CutSuffix(line, []byte("\n"))
		id, key, ok := bytes.Cut(line, []byte(" "))
		// base64 passes over a carriage return; one spelling only.
		if !ended || !ok || len(id) == 0 || len(id) > 64 || bytes.IndexByte(key, '\r') >= 0 {
			return nil, fmt.Errorf("line %d: want a name, a space, and a key", len(keys)+2)
		}
		secret := make([]byte, base64.StdEncoding.DecodedLen(len(key)))
		n, err := base64.StdEncoding.Strict().Decode(secret, key)
		if err != nil || n != seal.KeySize || len(keys) == maxKeys {
			clear(secret)
			return nil, fmt.Errorf("line %d: want %d bytes in base64, in at most %d lines", len(keys)+2, seal.KeySize, maxKeys)
		}
		keys = append(keys, seal.Key{ID: string(id), Secret: seal.NewSecret(secret[:n])})
	}
	if len(keys) == 0 {
		return nil, errors.New("no key")
	}
	return keys, nil
}

// encode writes the text of a key file, protected by l.
func encode(keys []seal.Key, random io.Reader, l lock) ([]byte, error) {
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("more than %d keys in a file", maxKeys)
	}
	text := append(make([]byte, 0, maxFile), plainHeader+"\n"...) // one array: no copies left behind
	for _, k := range keys {
		text = append(text, k.ID...)
		text = append(text, ' ')
		text = base64.StdEncoding.AppendEncode(text, k.Secret.Expose())
		text = append(text, '\n')
	}
	defer clear(text)
	return l.protect(text, random)
}
