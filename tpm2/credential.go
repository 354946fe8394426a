package tpm2

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/assay-project/assay/wire"
)

// ErrNotStorage is a key under which no credential can be made: not a
// restricted decryption key with AES in CFB mode (Part 1, 24).
var ErrNotStorage = errors.New("not a storage key")

// IDObject is a TPMS_ID_OBJECT (Part 2, 12.4.2). EncIdentity is the encrypted
// TPM2B_DIGEST of the credential; its size is inside the encryption.
type IDObject struct {
	IntegrityHMAC []byte
	EncIdentity   []byte
}

// Wire lays out a TPMS_ID_OBJECT, which ends with its buffer.
func (o *IDObject) Wire(c *wire.Codec) {
	c.Sized16(&o.IntegrityHMAC, MaxDigest)
	c.Rest(&o.EncIdentity)
}

// A Credential is what TPM2_MakeCredential returns (Part 3, 12.6): contents of
// a TPM2B_ID_OBJECT and of a TPM2B_ENCRYPTED_SECRET, without their sizes.
type Credential struct {
	Blob   []byte
	Secret []byte
}

// MakeCredential encrypts secret so that only the TPM that holds ek recovers it,
// and only while an object of the given Name is loaded there (Part 1, 24). The
// secret is at most a digest of ek's Name algorithm. The caller must know that
// ek is a TPM's endorsement key, and check the attributes of the named object.
func MakeCredential(rand io.Reader, ek *Public, name, secret []byte) (*Credential, error) {
	sym := ek.symmetric()
	hashSize := ek.NameAlg.DigestSize()
	switch {
	case !ek.Attributes.Has(AttrRestricted | AttrDecrypt), sym.Algorithm != AlgAES, sym.Mode != AlgCFB:
		return nil, ErrNotStorage
	case len(secret) == 0 || len(secret) > hashSize:
		return nil, fmt.Errorf("secret has %d bytes, want 1 to %d", len(secret), hashSize)
	case len(name) == 0 || len(name) > MaxName:
		return nil, fmt.Errorf("name has %d bytes, want 1 to %d", len(name), MaxName)
	}
	seed, encrypted, err := NewSeed(rand, ek, "IDENTITY")
	if err != nil {
		return nil, fmt.Errorf("encrypt seed: %w", err)
	}
	blob, err := protectIdentity(ek.NameAlg, int(sym.KeyBits), seed, name, secret)
	if err != nil {
		return nil, err
	}
	return &Credential{Blob: blob, Secret: encrypted}, nil
}

// symmetric returns the symmetric algorithm with which a parent protects its children.
func (p *Public) symmetric() SymDefObject {
	switch p.Type {
	case AlgRSA:
		return p.Parameters.RSA.Symmetric
	case AlgECC:
		return p.Parameters.ECC.Symmetric
	}
	return SymDefObject{Algorithm: AlgNull}
}

// protectIdentity encrypts and authenticates secret under seed (Part 1, 24.4, 24.5).
func protectIdentity(a Alg, keyBits int, seed, name, secret []byte) ([]byte, error) {
	symKey, err := KDFa(a, seed, "STORAGE", name, nil, keyBits)
	if err != nil {
		return nil, err
	}
	id := Digest2B(secret)
	enc, err := wire.Encode(&id)
	if err != nil {
		return nil, fmt.Errorf("encode secret: %w", err)
	}
	if err := encryptCFB(symKey, enc); err != nil {
		return nil, err
	}
	macKey, err := KDFa(a, seed, "INTEGRITY", nil, nil, 8*a.DigestSize())
	if err != nil {
		return nil, err
	}
	h, _ := a.Hash() // KDFa has used it
	mac := hmac.New(h.New, macKey)
	mac.Write(enc)
	mac.Write(name)
	return wire.Encode(&IDObject{IntegrityHMAC: mac.Sum(nil), EncIdentity: enc})
}

// encryptCFB encrypts b in place in full-block CFB mode with a zero IV, which
// is what Part 1, 24.4 asks for: each key serves once.
func encryptCFB(key, b []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return fmt.Errorf("make AES key: %w", err)
	}
	var pad [aes.BlockSize]byte // the previous ciphertext block, at first the IV
	for len(b) > 0 {
		block.Encrypt(pad[:], pad[:])
		n := min(len(b), aes.BlockSize)
		for i := range n {
			b[i] ^= pad[i]
		}
		copy(pad[:], b[:n])
		b = b[n:]
	}
	return nil
}

// NewSeed makes a secret and encrypts it to the key of p (Part 1, B.10.3 for RSA,
// C.6.1 for ECC). The purpose is the label of the protocol: "IDENTITY",
// "DUPLICATE" or "SECRET". Errors wrap [ErrKey] when p is no key for it.
func NewSeed(rand io.Reader, p *Public, purpose string) (seed, encrypted []byte, err error) {
	h, ok := p.NameAlg.Hash()
	if !ok {
		return nil, nil, fmt.Errorf("hash %s of the key is not supported", p.NameAlg.BankName())
	}
	key, err := p.Key()
	if err != nil {
		return nil, nil, err
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		seed = make([]byte, h.Size())
		if _, err := io.ReadFull(rand, seed); err != nil {
			return nil, nil, fmt.Errorf("read random seed: %w", err)
		}
		// Part 1, B.4: the label of OAEP includes its terminating zero.
		encrypted, err = rsa.EncryptOAEP(h.New(), rand, key, seed, []byte(purpose+"\x00"))
		return seed, encrypted, err
	case *ecdsa.PublicKey:
		return newSharedSeed(rand, p, key, purpose)
	}
	return nil, nil, ErrKey
}

// newSharedSeed agrees on a seed by one-pass Diffie-Hellman with a new key (Part 1, C.6.1).
func newSharedSeed(rand io.Reader, p *Public, key *ecdsa.PublicKey, purpose string) (seed, encrypted []byte, err error) {
	static, err := key.ECDH()
	if err != nil {
		return nil, nil, err
	}
	id := p.Parameters.ECC.CurveID
	ephemeral, err := id.ecdh().GenerateKey(rand)
	if err != nil {
		return nil, nil, fmt.Errorf("make ephemeral key: %w", err)
	}
	z, err := ephemeral.ECDH(static)
	if err != nil {
		return nil, nil, err
	}
	point := pointOf(ephemeral.PublicKey())
	seed, err = KDFe(p.NameAlg, z, purpose, point.X, pointOf(static).X, 8*p.NameAlg.DigestSize())
	if err != nil {
		return nil, nil, err
	}
	encrypted, err = wire.Encode(&point)
	return seed, encrypted, err
}

// pointOf splits the SEC 1 encoding of a public key into padded coordinates.
func pointOf(k *ecdh.PublicKey) ECCPoint {
	b := k.Bytes()
	size := (len(b) - 1) / 2
	return ECCPoint{X: b[1 : 1+size], Y: b[1+size:]}
}
