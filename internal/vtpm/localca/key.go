package localca

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/pkcs8"
)

// ReadKey reads a private key in PEM, with its password if it has one. Text before
// the key, as certtool writes it, is passed over.
func ReadKey(name string, password []byte) (crypto.Signer, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	key, err := parseKey(text, password)
	if err != nil {
		return nil, fmt.Errorf("signing key %q: %w", name, err)
	}
	return key, nil
}

// errPassword is a key without the password that it needs.
var errPassword = errors.New("the key is encrypted, and no password was given")

func parseKey(text, password []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no private key in PEM")
	}
	der, err := decrypt(block, password)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := parsePlain(block.Type, der)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("a key of type %T does not sign certificates here", key)
}

// decrypt opens a block: of PKCS #8, or of openssl's old form, which says in a
// header how it is encrypted.
func decrypt(block *pem.Block, password []byte) ([]byte, error) {
	old := x509.IsEncryptedPEMBlock(block) //lint:ignore SA1019 keys of sites that exist have this form; none is written
	if block.Type != pkcs8.BlockType && !old {
		return block.Bytes, nil
	}
	if len(password) == 0 {
		return nil, errPassword
	}
	if old {
		return x509.DecryptPEMBlock(block, password) //lint:ignore SA1019 as above; the certificate is compared with the key
	}
	return pkcs8.Decrypt(block.Bytes, password)
}

func parsePlain(kind string, der []byte) (any, error) {
	switch kind {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(der)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(der)
	case "PRIVATE KEY", pkcs8.BlockType:
		return x509.ParsePKCS8PrivateKey(der)
	}
	return nil, fmt.Errorf("%q is no private key", kind)
}

// writeKey writes a private key for its owner alone.
func (f *Folder) writeKey(name string, key crypto.Signer, password []byte) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	defer clear(der)
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	if len(password) > 0 {
		sealed, err := pkcs8.Encrypt(f.Random, der, password, cmp.Or(f.rounds, pkcs8.Iterations))
		if err != nil {
			return err
		}
		block = &pem.Block{Type: pkcs8.BlockType, Bytes: sealed}
	}
	return durable.CreateFile(name, pem.EncodeToMemory(block), 0o600)
}

// ReadPublicKey reads a public key in PEM.
func ReadPublicKey(name string) (crypto.PublicKey, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%q is no public key in PEM", name)
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}
