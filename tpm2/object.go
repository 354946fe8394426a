package tpm2

import (
	"slices"

	"github.com/assay-project/assay/wire"
)

// Sensitive is a TPMT_SENSITIVE: the secret area of an object (Part 2, 12.3.2.4).
type Sensitive struct {
	Type      Alg // of the object, a TPMI_ALG_PUBLIC
	AuthValue []byte
	SeedValue []byte // of a parent, or the obfuscation value of another object
	Bits      []byte // TPMU_SENSITIVE_COMPOSITE: a prime, a private key, a seed, or the sealed data
}

// maxSensitive are the sizes of TPMU_SENSITIVE_COMPOSITE (Part 2, 12.3.2.3).
func maxSensitive(t Alg) int {
	switch t {
	case AlgRSA:
		return MaxRSAPrivate
	case AlgECC:
		return MaxECCKeyBytes
	case AlgSymCipher:
		return MaxSymKey
	case AlgMLKEM:
		return 64
	case AlgMLDSA, AlgHashMLDSA:
		return 32
	}
	return MaxSymData
}

// Wire lays out a TPMT_SENSITIVE.
func (s *Sensitive) Wire(c *wire.Codec) {
	selector(c, (*algPublic)(&s.Type))
	c.Sized16(&s.AuthValue, MaxDigest)
	c.Sized16(&s.SeedValue, MaxDigest)
	c.Sized16(&s.Bits, maxSensitive(s.Type))
}

// Sensitive2B is a TPM2B_SENSITIVE; it may be empty (Part 2, 12.3.3).
type Sensitive2B struct{ Sensitive *Sensitive }

// Wire lays out the size and the TPMT_SENSITIVE.
func (b *Sensitive2B) Wire(c *wire.Codec) {
	if c.Decoding() {
		b.Sensitive = nil
	}
	c.Inner16(optional{b}, MaxPrivate)
}

// optional lays out the content of a [Sensitive2B], which is nothing or a structure.
type optional struct{ b *Sensitive2B }

func (o optional) Wire(c *wire.Codec) {
	if c.Decoding() && c.Remaining() > 0 {
		o.b.Sensitive = new(Sensitive)
	}
	if o.b.Sensitive != nil {
		o.b.Sensitive.Wire(c)
	}
}

// SensitiveCreate is a TPMS_SENSITIVE_CREATE (Part 2, 11.1.15).
type SensitiveCreate struct {
	UserAuth []byte
	Data     []byte // sealed data, a key from outside, or a TPMS_DERIVE
}

// Wire lays out a TPMS_SENSITIVE_CREATE.
func (s *SensitiveCreate) Wire(c *wire.Codec) {
	c.Sized16(&s.UserAuth, MaxDigest)
	c.Sized16(&s.Data, MaxSymData)
}

// Derive is a TPMS_DERIVE: what sets derived objects apart (Part 2, 11.1.11).
type Derive struct{ Label, Context []byte }

// Wire lays out a TPMS_DERIVE.
func (d *Derive) Wire(c *wire.Codec) {
	c.Sized16(&d.Label, MaxLabel)
	c.Sized16(&d.Context, MaxLabel)
}

// DeriveTemplate is the TPMT_TEMPLATE of an object under a derivation parent: a
// TPMT_PUBLIC in whose place of unique is a TPMS_DERIVE (Part 2, 12.2.6; Part 3, 12.9).
type DeriveTemplate struct {
	Public Public // without Unique
	Unique Derive
}

// Wire lays out the TPMT_TEMPLATE.
func (t *DeriveTemplate) Wire(c *wire.Codec) {
	t.Public.wireHead(c, false)
	t.Unique.Wire(c)
}

// CreationData is a TPMS_CREATION_DATA: the circumstances in which an object was
// made (Part 2, 15.1).
type CreationData struct {
	PCRSelect           PCRSelections
	PCRDigest           []byte
	Locality            Locality
	ParentNameAlg       Alg // AlgNull for a primary object
	ParentName          []byte
	ParentQualifiedName []byte
	OutsideInfo         []byte
}

// Wire lays out a TPMS_CREATION_DATA.
func (d *CreationData) Wire(c *wire.Codec) {
	d.PCRSelect.Wire(c)
	c.Sized16(&d.PCRDigest, MaxDigest)
	wire.U8(c, &d.Locality)
	wire.U16(c, &d.ParentNameAlg)
	c.Sized16(&d.ParentName, MaxName)
	c.Sized16(&d.ParentQualifiedName, MaxName)
	c.Sized16(&d.OutsideInfo, MaxData)
}

// CreationTicket is a TPMT_TK_CREATION: the TPM made the object with that
// creation data (Part 2, 10.7.3). An empty digest is a NULL ticket.
type CreationTicket struct {
	Hierarchy Handle
	Digest    []byte
}

// Wire lays out a TPMT_TK_CREATION.
func (t *CreationTicket) Wire(c *wire.Codec) {
	tag := TagCreation
	wireTag(c, &tag, TagCreation)
	wireHierarchy(c, &t.Hierarchy)
	c.Sized16(&t.Digest, MaxDigest)
}

// HashCheckTicket is a TPMT_TK_HASHCHECK: the TPM hashed a message that does not
// begin with [Generated] (Part 2, 10.7.6). An empty digest is a NULL ticket.
type HashCheckTicket struct {
	Hierarchy Handle
	Digest    []byte
}

// Wire lays out a TPMT_TK_HASHCHECK.
func (t *HashCheckTicket) Wire(c *wire.Codec) {
	tag := TagHashCheck
	wireTag(c, &tag, TagHashCheck)
	wireHierarchy(c, &t.Hierarchy)
	c.Sized16(&t.Digest, MaxDigest)
}

// AuthTicket is a TPMT_TK_AUTH: an authorization of a policy was good (Part 2, 10.7.5).
type AuthTicket struct {
	Tag       Tag // TagAuthSecret or TagAuthSigned
	Hierarchy Handle
	Digest    []byte
}

// Wire lays out a TPMT_TK_AUTH.
func (t *AuthTicket) Wire(c *wire.Codec) {
	wireTag(c, &t.Tag, TagAuthSecret, TagAuthSigned)
	wireHierarchy(c, &t.Hierarchy)
	c.Sized16(&t.Digest, MaxDigest)
}

// VerifiedTicket is a TPMT_TK_VERIFIED: the TPM verified a signature (Part 2,
// 10.7.4). An empty digest is a NULL ticket.
type VerifiedTicket struct {
	Tag       Tag // TagVerified; in version 1.85 also TagMessageVerified and TagDigestVerified
	Hierarchy Handle
	DigestAlg Alg // of TagDigestVerified only (version 1.85, TPMU_TK_VERIFIED_META)
	Digest    []byte
}

// Wire lays out a TPMT_TK_VERIFIED.
func (t *VerifiedTicket) Wire(c *wire.Codec) {
	wireTag(c, &t.Tag, TagVerified, TagMessageVerified, TagDigestVerified)
	wireHierarchy(c, &t.Hierarchy)
	if t.Tag == TagDigestVerified {
		selector(c, (*algHashOrNull)(&t.DigestAlg))
	}
	c.Sized16(&t.Digest, MaxDigest)
}

// wireTag lays out the tag of a ticket, which must be one of these.
func wireTag(c *wire.Codec, tag *Tag, of ...Tag) {
	wire.U16(c, tag)
	if c.Err() != nil {
		return
	}
	if !slices.Contains(of, *tag) {
		c.Fail(refusal{RCTag, wire.ErrSelector})
	}
}

// Context is a TPMS_CONTEXT: what TPM2_ContextSave gives away (Part 2, 14.5).
type Context struct {
	Sequence    uint64
	SavedHandle Handle // a TPMI_DH_SAVED
	Hierarchy   Handle
	ContextBlob []byte // a TPMS_CONTEXT_DATA, see [ContextData]
}

// Wire lays out a TPMS_CONTEXT.
func (x *Context) Wire(c *wire.Codec) {
	wire.U64(c, &x.Sequence)
	x.SavedHandle.Wire(c)
	if c.Err() == nil && !limits(c).IsSaved(x.SavedHandle) {
		c.Fail(refusal{RCValue, wire.ErrRange})
	}
	wireHierarchy(c, &x.Hierarchy)
	c.Sized16(&x.ContextBlob, MaxContext)
}

// ContextData is a TPMS_CONTEXT_DATA (Part 2, 14.4).
type ContextData struct {
	Integrity []byte
	Encrypted []byte // the encrypted TPM2B_CONTEXT_SENSITIVE, which ends the structure
}

// Wire lays out a TPMS_CONTEXT_DATA, which ends with its buffer.
func (d *ContextData) Wire(c *wire.Codec) {
	c.Sized16(&d.Integrity, MaxDigest)
	c.Rest(&d.Encrypted)
}

// AuthCommand is a TPMS_AUTH_COMMAND: one authorization of a command (Part 2, 10.13.2).
type AuthCommand struct {
	SessionHandle Handle // TPMI_SH_AUTH_SESSION+; the dispatcher checks it
	Nonce         []byte
	Attributes    SessionAttributes
	HMAC          []byte
}

// Wire lays out a TPMS_AUTH_COMMAND.
func (a *AuthCommand) Wire(c *wire.Codec) {
	a.SessionHandle.Wire(c)
	c.Sized16(&a.Nonce, MaxDigest)
	a.Attributes.Wire(c)
	c.Sized16(&a.HMAC, MaxDigest)
}

// AuthResponse is a TPMS_AUTH_RESPONSE (Part 2, 10.13.3).
type AuthResponse struct {
	Nonce      []byte
	Attributes SessionAttributes
	HMAC       []byte
}

// Wire lays out a TPMS_AUTH_RESPONSE.
func (a *AuthResponse) Wire(c *wire.Codec) {
	c.Sized16(&a.Nonce, MaxDigest)
	a.Attributes.Wire(c)
	c.Sized16(&a.HMAC, MaxDigest)
}
