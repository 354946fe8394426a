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
	// MaxBuffer is MAX_DIGEST_BUFFER, the size of a TPM2B_MAX_BUFFER and TPM2B_EVENT (10.4.7, 10.4.8).
	MaxBuffer = 1024
	// MaxNVIndex is MAX_NV_INDEX_SIZE.
	MaxNVIndex = 2048
	// MaxSymData is MAX_SYM_DATA: what may be sealed (11.1.14).
	MaxSymData = 128
	// MaxSymKey is a 256-bit key (11.1.8).
	MaxSymKey = 32
	// MaxIV is the block of a cipher (10.4.11).
	MaxIV = 16
	// MaxLabel is LABEL_MAX_BUFFER (11.1.10).
	MaxLabel = 32
	// MaxTimeout is the size of a TPM2B_TIMEOUT (10.4.10).
	MaxTimeout = 8
	// MaxRSAPrivate is RSA_PRIVATE_SIZE: a prime, or all five numbers of a private key (11.2.4.7).
	MaxRSAPrivate = MaxRSAKeyBytes * 5 / 2
	// MaxPrivate bounds a TPM2B_PRIVATE: two digests and a TPMT_SENSITIVE (12.3.7).
	MaxPrivate = 2 + 4*(2+MaxDigest) + 2 + 2 + MaxRSAPrivate
	// MaxSensitiveCreate is a TPMS_SENSITIVE_CREATE with both buffers full (11.1.16).
	MaxSensitiveCreate = 2 + MaxDigest + 2 + MaxSymData
	// MaxCreationData is a TPMS_CREATION_DATA with all its members full (15.2).
	MaxCreationData = 4 + 6*MaxPCRSelections + 2 + MaxDigest + 1 + 2 + 2*(2+MaxName) + 2 + MaxData
	// MaxECCPoint is two coordinates of P-521 (11.2.5.3).
	MaxECCPoint = 2 * (2 + MaxECCKeyBytes)
	// MaxNVPublic is a TPMT_NV_PUBLIC_2 of an external index with a policy (13.10).
	MaxNVPublic = 1 + 4 + 2 + 8 + 2 + MaxDigest + 2
	// MaxContext bounds a TPM2B_CONTEXT_DATA; it leaves room for an ML-DSA key (14.4).
	MaxContext = 6144
	// MaxCCs is MAX_CAP_CC (10.9.1).
	MaxCCs = 256
	// MaxAlgs is MAX_ALG_LIST_SIZE (10.9.2).
	MaxAlgs = 64
	// MaxCapList bounds what TPM2_GetCapability tells at once: MAX_CAP_BUFFER is
	// 1024 bytes, the smallest element has two.
	MaxCapList = 508
	// MaxSignatureContext and MaxSignatureHint are those of version 1.85 (11.3.8, 11.3.9).
	MaxSignatureContext = 255
	MaxSignatureHint    = 256
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

// DigestValue is a TPMT_HA that names its hash: an element of a TPML_DIGEST_VALUES.
type DigestValue struct {
	HashAlg Alg
	Digest  []byte
}

// Wire lays out a TPMT_HA whose algorithm is not AlgNull.
func (v *DigestValue) Wire(c *wire.Codec) {
	selector(c, (*algHash)(&v.HashAlg))
	c.Raw(&v.Digest, v.HashAlg.DigestSize())
}

// DigestValues is a TPML_DIGEST_VALUES: a digest for each of some banks (Part 2, 10.9.6).
type DigestValues []DigestValue

// Wire lays out a TPML_DIGEST_VALUES.
func (l *DigestValues) Wire(c *wire.Codec) { wire.List32(c, (*[]DigestValue)(l), maxBanks(c)) }

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

// NamedPublic is a TPMT_PUBLIC where Part 2 has no "+": its Name algorithm is
// not AlgNull. All commands but TPM2_LoadExternal take such.
type NamedPublic Public

// Wire lays out a TPMT_PUBLIC.
func (p *NamedPublic) Wire(c *wire.Codec) {
	(*Public)(p).wireHead(c, false)
	p.Unique.wire(c, p.Type)
}

// Attest2B is a TPM2B_ATTEST whose content is decoded (Part 2, 10.12.13).
type Attest2B struct{ Attest Attest }

// Wire lays out the size and the TPMS_ATTEST, which must fill it.
func (b *Attest2B) Wire(c *wire.Codec) { c.Inner16(&b.Attest, MaxAttest) }
