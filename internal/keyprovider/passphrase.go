package keyprovider

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/seal"
)

// The cost of a guess (SP 800-132; OWASP's figure of 2023 for HMAC-SHA-256). A
// file may ask for more, up to what opens within seconds.
const (
	iterations    = 600_000
	maxIterations = 10_000_000
)

// saltSize is the length of the salt in bytes (SP 800-132, 5.1: at least 16).
const saltSize = 16

// minPassphrase is the least length of a passphrase in bytes.
const minPassphrase = 12

var fileContext = seal.Context{Purpose: "key file", Name: "passphrase"}

// protect seals text under a key made from the passphrase:
// header, then lines with the iterations, the salt and the envelope.
func protect(text []byte, random io.Reader, passphrase seal.Secret) ([]byte, error) {
	if passphrase.Len() < minPassphrase {
		return nil, fmt.Errorf("passphrase of %d bytes, want at least %d", passphrase.Len(), minPassphrase)
	}
	salt := make([]byte, saltSize)
	if _, err := io.ReadFull(random, salt); err != nil {
		return nil, fmt.Errorf("make salt: %w", err)
	}
	key, err := derive(passphrase, salt, iterations)
	if err != nil {
		return nil, err
	}
	defer key.Secret.Destroy()
	sealed, err := seal.Seal(random, key, fileContext, text)
	if err != nil {
		return nil, err
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "%s\n%d %s %s\n", protectedHeader, iterations, b64(salt), b64(sealed)), nil
}

// unprotect opens what follows the header.
func unprotect(rest []byte, passphrase seal.Secret) (seal.Secret, error) {
	line, ended := strings.CutSuffix(string(rest), "\n")
	fields := strings.Split(line, " ")
	if !ended || len(fields) != 3 {
		return seal.Secret{}, errors.New("line 2: want the iterations, the salt, and the sealed keys, and no more")
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil || n < iterations || n > maxIterations {
		return seal.Secret{}, fmt.Errorf("iterations: want %d to %d", iterations, maxIterations)
	}
	salt, err := base64.StdEncoding.Strict().DecodeString(fields[1])
	if err != nil || len(salt) != saltSize {
		return seal.Secret{}, fmt.Errorf("salt: want %d bytes in base64", saltSize)
	}
	sealed, err := base64.StdEncoding.Strict().DecodeString(fields[2])
	if err != nil {
		return seal.Secret{}, errors.New("sealed keys: want base64")
	}
	e, err := seal.Parse(sealed)
	if err != nil {
		return seal.Secret{}, err
	}
	if passphrase.Len() == 0 {
		return seal.Secret{}, ErrPassphrase
	}
	key, err := derive(passphrase, salt, n)
	if err != nil {
		return seal.Secret{}, err
	}
	defer key.Secret.Destroy()
	text, err := e.Open(key, fileContext)
	if errors.Is(err, seal.ErrOpen) {
		return seal.Secret{}, ErrPassphrase
	}
	return text, err
}

func derive(passphrase seal.Secret, salt []byte, n int) (seal.Key, error) {
	key, err := pbkdf2.Key(sha256.New, string(passphrase.Expose()), salt, n, seal.KeySize)
	if err != nil {
		return seal.Key{}, fmt.Errorf("derive key: %w", err)
	}
	return seal.Key{ID: "passphrase", Secret: seal.NewSecret(key)}, nil
}
