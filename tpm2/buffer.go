package tpm2

import "github.com/assay-project/assay/wire"

// Limits of the sized buffers and lists of Part 2, for the algorithms known here.
const (
	// MaxData is the size of a TPM2B_DATA: a TPMT_HA (10.4.3).
	MaxData = 2 + MaxDigest
	// MaxName is the size of a TPM2B_NAME: an algorithm and a digest (10.5.3).
	MaxName = 2 + MaxDigest
	// MaxRSAKeyBytes is that of a 4096-bit key (11.2.4.5).
	MaxRSAKeyBytes = 512
	// MaxECCKeyBytes is a coordinate of P-521 (11.2.5.1).
	MaxECCKeyBytes = 66
	// MaxMLKEMPublic and MaxMLKEMCiphertext are those of ML-KEM-1024 (FIPS 203, table 3).
	MaxMLKEMPublic     = 1568
	MaxMLKEMCiphertext = 1568
	// MaxMLDSAPublic and MaxMLDSASignature are those of ML-DSA-87 (FIPS 204, table 2).
	MaxMLDSAPublic    = 2592
	MaxMLDSASignature = 4627
	// MaxEncryptedSecret is the largest of an RSA block, a point and an ML-KEM ciphertext (11.4.33).
	MaxEncryptedSecret = MaxMLKEMCiphertext
	// MaxIDObject is two digests with their sizes (12.4.3).
	MaxIDObject = 2 * (2 + MaxDigest)
	// MaxNVBuffer bounds what one NV_Certify tells (10.4.9).
	MaxNVBuffer = 2048
	// MaxPublic bounds an encoded TPMT_PUBLIC: an ML-DSA-87 key with a policy
	// takes 2,674 bytes.
	MaxPublic = 2816
	// MaxAttest bounds an encoded TPMS_ATTEST: the largest carries an NV buffer.
	MaxAttest = MaxNVBuffer + 512
)

// Digest2B is a TPM2B_DIGEST, TPM2B_NONCE or TPM2B_AUTH (Part 2, 10.4.2).
type Digest2B []byte

// Wire lays out the size and the bytes.
func (b *Digest2B) Wire(c *wire.Codec) { c.Sized16((*[]byte)(b), MaxDigest) }

// Data2B is a TPM2B_DATA (Part 2, 10.4.3).
type Data2B []byte

// Wire lays out the size and the bytes.
func (b *Data2B) Wire(c *wire.Codec) { c.Sized16((*[]byte)(b), MaxData) }

// Name2B is a TPM2B_NAME (Part 2, 10.5.3).
type Name2B []byte

// Wire lays out the size and the bytes.
func (b *Name2B) Wire(c *wire.Codec) { c.Sized16((*[]byte)(b), MaxName) }

// EncryptedSecret2B is a TPM2B_ENCRYPTED_SECRET (Part 2, 11.4.33).
type EncryptedSecret2B []byte

// Wire lays out the size and the bytes.
func (b *EncryptedSecret2B) Wire(c *wire.Codec) { c.Sized16((*[]byte)(b), MaxEncryptedSecret) }

// HA is a TPMT_HA: a digest and its algorithm (Part 2, 10.3.2). AlgNull has no digest.
type HA struct {
	HashAlg Alg
	Digest  []byte
}

// Wire lays out a TPMT_HA.
func (h *HA) Wire(c *wire.Codec) {
	selector(c, (*algHashOrNull)(&h.HashAlg))
	c.Raw(&h.Digest, h.HashAlg.DigestSize())
}

// Public2B is a TPM2B_PUBLIC (Part 2, 12.2.5). An empty one is not a key.
type Public2B struct{ Public Public }

// Wire lays out the size and the TPMT_PUBLIC, which must fill it.
func (b *Public2B) Wire(c *wire.Codec) { c.Inner16(&b.Public, MaxPublic) }

// Attest2B is a TPM2B_ATTEST whose content is decoded (Part 2, 10.12.13).
type Attest2B struct{ Attest Attest }

// Wire lays out the size and the TPMS_ATTEST, which must fill it.
func (b *Attest2B) Wire(c *wire.Codec) { c.Inner16(&b.Attest, MaxAttest) }
