package ekca

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/pkcs8"
	"github.com/assay-project/assay/internal/seal"
)

// ErrPassphrase is an encrypted key that does not open.
var ErrPassphrase = pkcs8.ErrPassphrase

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
	der, err := pkcs8.Encrypt(a.cfg.Random, text, passphrase.Expose(), pkcs8.Iterations)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pkcs8.BlockType, Bytes: der}), nil
}

// minPassphrase is what a passphrase for the root must have, in bytes.
const minPassphrase = 12

// HasRoot reports whether the root's private key is in the folder.
func (a *Authority) HasRoot() bool {
	_, err := os.Lstat(a.path(byRoot + keySuffix))
	return err == nil
}

// RemoveRoot removes the root's private key from the folder, after a check that
// exported, in PEM, opens with the passphrase and is that key. What the disk keeps
// of the sealed file is worth what the key provider is.
func (a *Authority) RemoveRoot(exported []byte, passphrase seal.Secret) error {
	key, err := ParseRootKey(exported, passphrase)
	if err != nil {
		return fmt.Errorf("remove root key: %w", err)
	}
	if !sameKey(key.Public(), a.root.PublicKey) {
		return errors.New("remove root key: what was exported is another key")
	}
	if err := os.Remove(a.path(byRoot + keySuffix)); err != nil {
		return err
	}
	return syncDir(a.dir)
}

// ParseRootKey reads what [Authority.ExportRoot] wrote.
func ParseRootKey(exported []byte, passphrase seal.Secret) (crypto.Signer, error) {
	block, _ := pem.Decode(exported)
	if block == nil || block.Type != pkcs8.BlockType {
		return nil, fmt.Errorf("what was exported is no PEM block %q", pkcs8.BlockType)
	}
	text, err := pkcs8.Decrypt(block.Bytes, passphrase.Expose())
	if err != nil {
		return nil, err
	}
	defer clear(text)
	key, err := x509.ParsePKCS8PrivateKey(text)
	s, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, fmt.Errorf("no private key that signs (%v): %w", err, ErrPassphrase)
	}
	return s, nil
}
