package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// DuplicateIn is the parameters of TPM2_Duplicate.
type DuplicateIn struct {
	EncryptionKeyIn []byte            // TPM2B_DATA
	SymmetricAlg    tpm2.SymDefObject // may be AlgNull
}

// Wire lays the parameters out.
func (in *DuplicateIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.EncryptionKeyIn, tpm2.MaxData)
	c.Part(2)
	in.SymmetricAlg.Wire(c)
}

// DuplicateOut is what is returned by TPM2_Duplicate.
type DuplicateOut struct {
	EncryptionKeyOut []byte // TPM2B_DATA
	Duplicate        []byte // TPM2B_PRIVATE
	OutSymSeed       []byte // TPM2B_ENCRYPTED_SECRET
}

// Wire lays the parameters out.
func (out *DuplicateOut) Wire(c *wire.Codec) {
	c.Sized16(&out.EncryptionKeyOut, tpm2.MaxData)
	c.Sized16(&out.Duplicate, tpm2.MaxPrivate)
	c.Sized16(&out.OutSymSeed, tpm2.MaxEncryptedSecret)
}

// RewrapIn is the parameters of TPM2_Rewrap.
type RewrapIn struct {
	InDuplicate []byte // TPM2B_PRIVATE
	Name        []byte // TPM2B_NAME
	InSymSeed   []byte // TPM2B_ENCRYPTED_SECRET
}

// Wire lays the parameters out.
func (in *RewrapIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.InDuplicate, tpm2.MaxPrivate)
	c.Part(2)
	c.Sized16(&in.Name, tpm2.MaxName)
	c.Part(3)
	c.Sized16(&in.InSymSeed, tpm2.MaxEncryptedSecret)
}

// RewrapOut is what is returned by TPM2_Rewrap.
type RewrapOut struct {
	OutDuplicate []byte // TPM2B_PRIVATE
	OutSymSeed   []byte // TPM2B_ENCRYPTED_SECRET
}

// Wire lays the parameters out.
func (out *RewrapOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutDuplicate, tpm2.MaxPrivate)
	c.Sized16(&out.OutSymSeed, tpm2.MaxEncryptedSecret)
}

// ImportIn is the parameters of TPM2_Import.
type ImportIn struct {
	EncryptionKey []byte            // TPM2B_DATA
	ObjectPublic  tpm2.Public       // TPM2B_PUBLIC
	Duplicate     []byte            // TPM2B_PRIVATE
	InSymSeed     []byte            // TPM2B_ENCRYPTED_SECRET
	SymmetricAlg  tpm2.SymDefObject // may be AlgNull
}

// Wire lays the parameters out.
func (in *ImportIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.EncryptionKey, tpm2.MaxData)
	c.Part(2)
	c.Inner16((*tpm2.NamedPublic)(&in.ObjectPublic), tpm2.MaxPublic)
	c.Part(3)
	c.Sized16(&in.Duplicate, tpm2.MaxPrivate)
	c.Part(4)
	c.Sized16(&in.InSymSeed, tpm2.MaxEncryptedSecret)
	c.Part(5)
	in.SymmetricAlg.Wire(c)
}

// ImportOut is what is returned by TPM2_Import.
type ImportOut struct {
	OutPrivate []byte // TPM2B_PRIVATE
}

// Wire lays the parameters out.
func (out *ImportOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutPrivate, tpm2.MaxPrivate)
}
