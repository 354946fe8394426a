package ekca

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// ErrPassphrase is an encrypted key that does not open.
var ErrPassphrase = errors.New("key does not open: the passphrase is wrong, or the file was altered")

// ExportRoot returns the root's private key, encrypted under a passphrase as PKCS
// #8 has it (RFC 5958, 3; RFC 8018, 6.2), which openssl reads. With the key in a
// safe place [Authority.RemoveRoot] takes the root off this machine. The provider is
// the one that sealed the key.
func (a *Authority) ExportRoot(ctx context.Context, p keyprovider.Provider, passphrase seal.Secret) ([]byte, error) {
	if passphrase.Len() < minPassphrase {
		return nil, fmt.Errorf("passphrase has %d bytes, want at least %d", passphrase.Len(), minPassphrase)
	}
	key, err := a.openKey(ctx, p, byRoot)
	if err != nil {
		return nil, err
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	der, err := encryptKey(a.cfg.Random, text, passphrase)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: encryptedKey, Bytes: der}), nil
}

// minPassphrase is what a passphrase for the root must have, in bytes.
const minPassphrase = 12

const encryptedKey = "ENCRYPTED PRIVATE KEY"

// HasRoot reports whether the root's private key is in the folder.
func (a *Authority) HasRoot() bool {
	_, err := os.Lstat(a.path(byRoot + keySuffix))
	return err == nil
}

// RemoveRoot removes the root's private key from the folder, after a check that
// exported, in PEM, opens with the passphrase and is that key. What the disk keeps
// of the sealed file is worth what the key provider is.
func (a *Authority) RemoveRoot(exported []byte, passphrase seal.Secret) error {
	block, _ := pem.Decode(exported)
	if block == nil || block.Type != encryptedKey {
		return fmt.Errorf("remove root key: what was exported is no PEM block %q", encryptedKey)
	}
	text, err := decryptKey(block.Bytes, passphrase)
	if err != nil {
		return fmt.Errorf("remove root key: %w", err)
	}
	defer clear(text)
	key, err := x509.ParsePKCS8PrivateKey(text)
	if err != nil {
		return fmt.Errorf("remove root key: %w: %w", err, ErrPassphrase)
	}
	if s, ok := key.(crypto.Signer); !ok || !sameKey(s.Public(), a.root.PublicKey) {
		return errors.New("remove root key: what was exported is another key")
	}
	if err := os.Remove(a.path(byRoot + keySuffix)); err != nil {
		return err
	}
	return syncDir(a.dir)
}

// The structures of PBES2 (RFC 8018, A.4, A.2).
type (
	encryptedKeyInfo struct {
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters pbes2
		}
		Data []byte
	}
	pbes2 struct {
		Derivation struct {
			ID         asn1.ObjectIdentifier
			Parameters pbkdf2Parameters
		}
		Encryption struct {
			ID asn1.ObjectIdentifier
			IV []byte
		}
	}
	pbkdf2Parameters struct {
		Salt       []byte
		Iterations int
		KeyLength  int `asn1:"optional"`
		Hash       pkix.AlgorithmIdentifier
	}
)

// Algorithms of an exported key.
var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// Iterations of PBKDF2: what is written, and the most that is read.
const (
	iterations    = 600_000
	maxIterations = 10_000_000
)

func encryptKey(random io.Reader, text []byte, passphrase seal.Secret) ([]byte, error) {
	var info encryptedKeyInfo
	p := &info.Algorithm.Parameters
	info.Algorithm.ID, p.Derivation.ID, p.Encryption.ID = oidPBES2, oidPBKDF2, oidAES256CBC
	p.Derivation.Parameters = pbkdf2Parameters{
		Salt: make([]byte, 16), Iterations: iterations,
		Hash: pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256, Parameters: asn1.NullRawValue},
	}
	p.Encryption.IV = make([]byte, aes.BlockSize)
	for _, b := range [][]byte{p.Derivation.Parameters.Salt, p.Encryption.IV} {
		if _, err := io.ReadFull(random, b); err != nil {
			return nil, err
		}
	}
	block, err := p.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	n := aes.BlockSize - len(text)%aes.BlockSize
	info.Data = make([]byte, 0, len(text)+n)
	info.Data = append(info.Data, text...)
	for range n { // RFC 8018, 6.1.1, step 4
		info.Data = append(info.Data, byte(n))
	}
	cipher.NewCBCEncrypter(block, p.Encryption.IV).CryptBlocks(info.Data, info.Data)
	return asn1.Marshal(info)
}

func (p *pbes2) cipher(passphrase seal.Secret) (cipher.Block, error) {
	key, err := pbkdf2.Key(sha256.New, string(passphrase.Expose()), p.Derivation.Parameters.Salt, p.Derivation.Parameters.Iterations, 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return aes.NewCipher(key)
}

// decryptKey opens what encryptKey made. It returns [ErrPassphrase] for all that is
// not that: the padding tells nobody more.
func decryptKey(der []byte, passphrase seal.Secret) ([]byte, error) {
	var info encryptedKeyInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("no encrypted key of the form that is exported here: %w", ErrPassphrase)
	}
	p := &info.Algorithm.Parameters
	d := &p.Derivation.Parameters
	switch {
	case !info.Algorithm.ID.Equal(oidPBES2), !p.Derivation.ID.Equal(oidPBKDF2), !p.Encryption.ID.Equal(oidAES256CBC), !d.Hash.Algorithm.Equal(oidHMACSHA256),
		d.Iterations < 1, d.Iterations > maxIterations, len(p.Encryption.IV) != aes.BlockSize,
		len(info.Data) == 0, len(info.Data)%aes.BlockSize != 0:
		return nil, fmt.Errorf("no encrypted key of the form that is exported here: %w", ErrPassphrase)
	}
	block, err := p.cipher(passphrase)
	if err != nil {
		return nil, err
	}
	cipher.NewCBCDecrypter(block, p.Encryption.IV).CryptBlocks(info.Data, info.Data)
	n := int(info.Data[len(info.Data)-1])
	if n == 0 || n > aes.BlockSize {
		return nil, ErrPassphrase
	}
	return info.Data[:len(info.Data)-n], nil
}
