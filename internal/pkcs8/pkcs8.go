// Package pkcs8 keeps private keys under a passphrase, in the form that openssl
// and certtool read and write: PBES2 with PBKDF2 and AES in CBC mode.
//
// What is opened is not authenticated: whoever can write the file can put another
// key in its place, and a wrong passphrase may give bytes that are no key. The
// caller parses them and compares the key with its certificate.
//
// Start with [Encrypt] and [Decrypt]. RFC 5958, 3; RFC 8018, 6.2 and A.
package pkcs8

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // RFC 8018, A.2: the default, in HMAC
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"io"
)

// BlockType is the type of PEM blocks with encrypted keys (RFC 7468, 11).
const BlockType = "ENCRYPTED PRIVATE KEY"

// ErrPassphrase is a key that does not open.
var ErrPassphrase = errors.New("key does not open: the passphrase is wrong, or the file was altered")

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
		KeyLength  int                      `asn1:"optional"`
		Hash       pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// Algorithms that are written, and what they belong to.
var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// Iterations of PBKDF2 make a guess at a passphrase dear.
const Iterations = 600_000

// maxIterations is the most that is read.
const maxIterations = 10_000_000

// Encrypt returns a private key, the DER of a PrivateKeyInfo, under a passphrase.
// Other iterations than [Iterations] are for tests.
func Encrypt(random io.Reader, key, passphrase []byte, iterations int) ([]byte, error) {
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
	n := aes.BlockSize - len(key)%aes.BlockSize
	info.Data = make([]byte, 0, len(key)+n)
	info.Data = append(info.Data, key...)
	for range n { // RFC 8018, 6.1.1, step 4
		info.Data = append(info.Data, byte(n))
	}
	cipher.NewCBCEncrypter(block, p.Encryption.IV).CryptBlocks(info.Data, info.Data)
	return asn1.Marshal(info)
}

// Decrypt opens an encrypted key. It returns [ErrPassphrase], wrapped, for all that
// does not open: the padding tells nobody more.
func Decrypt(der, passphrase []byte) ([]byte, error) {
	var info encryptedKeyInfo
	if rest, err := asn1.Unmarshal(der, &info); err != nil || len(rest) != 0 {
		return nil, fmt.Errorf("no encrypted key of a form that is read here: %w", ErrPassphrase)
	}
	p := &info.Algorithm.Parameters
	if !info.Algorithm.ID.Equal(oidPBES2) || !p.Derivation.ID.Equal(oidPBKDF2) || len(p.Encryption.IV) != aes.BlockSize ||
		len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("no encrypted key of a form that is read here: %w", ErrPassphrase)
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
	for _, b := range info.Data[len(info.Data)-n:] {
		if int(b) != n {
			return nil, ErrPassphrase
		}
	}
	return info.Data[:len(info.Data)-n], nil
}

// cipher derives the key of the block cipher from the passphrase.
func (p *pbes2) cipher(passphrase []byte) (cipher.Block, error) {
	d := &p.Derivation.Parameters
	size, newHash := keySize(p.Encryption.ID), d.hash()
	if size == 0 || newHash == nil || d.Iterations < 1 || d.Iterations > maxIterations || d.KeyLength != 0 && d.KeyLength != size {
		return nil, fmt.Errorf("no encrypted key of a form that is read here: %w", ErrPassphrase)
	}
	key, err := pbkdf2.Key(newHash, string(passphrase), d.Salt, d.Iterations, size)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return aes.NewCipher(key)
}

// keySize is the size of the key of AES in CBC mode by its identifier (RFC 8018,
// B.2.5), in bytes; 0 for any other cipher.
func keySize(id asn1.ObjectIdentifier) int {
	switch id.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16
	case "2.16.840.1.101.3.4.1.22":
		return 24
	case "2.16.840.1.101.3.4.1.42":
		return 32
	}
	return 0
}

// hash is the hash of the pseudo-random function (RFC 8018, B.1); nil for any other.
func (p *pbkdf2Parameters) hash() func() hash.Hash {
	switch p.Hash.Algorithm.String() {
	case "", "1.2.840.113549.2.7": // RFC 8018, A.2: algid-hmacWithSHA1 is the default
		return sha1.New
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	}
	return nil
}
