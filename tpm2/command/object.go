package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// CreateIn is the parameters of TPM2_Create. OutsideInfo goes into the creation
// data.
type CreateIn struct {
	InSensitive tpm2.SensitiveCreate // TPM2B_SENSITIVE_CREATE
	InPublic    tpm2.Public          // TPM2B_PUBLIC
	OutsideInfo []byte               // TPM2B_DATA
	CreationPCR tpm2.PCRSelections
}

// Wire lays the parameters out.
func (in *CreateIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Inner16(&in.InSensitive, tpm2.MaxSensitiveCreate)
	c.Part(2)
	c.Inner16((*tpm2.NamedPublic)(&in.InPublic), tpm2.MaxPublic)
	c.Part(3)
	c.Sized16(&in.OutsideInfo, tpm2.MaxData)
	c.Part(4)
	in.CreationPCR.Wire(c)
}

// CreateOut is what is returned by TPM2_Create.
type CreateOut struct {
	OutPrivate     []byte            // TPM2B_PRIVATE
	OutPublic      tpm2.Public       // TPM2B_PUBLIC
	CreationData   tpm2.CreationData // TPM2B_CREATION_DATA
	CreationHash   []byte            // TPM2B_DIGEST
	CreationTicket tpm2.CreationTicket
}

// Wire lays the parameters out.
func (out *CreateOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutPrivate, tpm2.MaxPrivate)
	c.Inner16(&out.OutPublic, tpm2.MaxPublic)
	c.Inner16(&out.CreationData, tpm2.MaxCreationData)
	c.Sized16(&out.CreationHash, tpm2.MaxDigest)
	out.CreationTicket.Wire(c)
}

// LoadIn is the parameters of TPM2_Load. InPrivate is encrypted by the parent.
type LoadIn struct {
	InPrivate []byte      // TPM2B_PRIVATE
	InPublic  tpm2.Public // TPM2B_PUBLIC
}

// Wire lays the parameters out.
func (in *LoadIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.InPrivate, tpm2.MaxPrivate)
	c.Part(2)
	c.Inner16((*tpm2.NamedPublic)(&in.InPublic), tpm2.MaxPublic)
}

// LoadOut is what is returned by TPM2_Load.
type LoadOut struct {
	Name []byte // TPM2B_NAME
}

// Wire lays the parameters out.
func (out *LoadOut) Wire(c *wire.Codec) {
	c.Sized16(&out.Name, tpm2.MaxName)
}

// LoadExternalIn is the parameters of TPM2_LoadExternal. Without InPrivate only
// the public part is loaded; then any hierarchy may be named, else TPM_RH_NULL.
type LoadExternalIn struct {
	InPrivate tpm2.Sensitive2B // may be empty: only the public part is loaded
	InPublic  tpm2.Public      // TPM2B_PUBLIC+: NameAlg may be AlgNull
	Hierarchy tpm2.Handle      // may be HandleNull
}

// Wire lays the parameters out.
func (in *LoadExternalIn) Wire(c *wire.Codec) {
	c.Part(1)
	in.InPrivate.Wire(c)
	c.Part(2)
	c.Inner16(&in.InPublic, tpm2.MaxPublic)
	c.Part(3)
	handle(c, &in.Hierarchy, HandleHierarchyOrNull)
}

// LoadExternalOut is what is returned by TPM2_LoadExternal.
type LoadExternalOut struct {
	Name []byte // TPM2B_NAME
}

// Wire lays the parameters out.
func (out *LoadExternalOut) Wire(c *wire.Codec) {
	c.Sized16(&out.Name, tpm2.MaxName)
}

// ReadPublicOut is what is returned by TPM2_ReadPublic.
type ReadPublicOut struct {
	OutPublic     tpm2.Public // TPM2B_PUBLIC
	Name          []byte      // TPM2B_NAME
	QualifiedName []byte      // TPM2B_NAME
}

// Wire lays the parameters out.
func (out *ReadPublicOut) Wire(c *wire.Codec) {
	c.Inner16(&out.OutPublic, tpm2.MaxPublic)
	c.Sized16(&out.Name, tpm2.MaxName)
	c.Sized16(&out.QualifiedName, tpm2.MaxName)
}

// ActivateCredentialIn is the parameters of TPM2_ActivateCredential.
type ActivateCredentialIn struct {
	CredentialBlob []byte // TPM2B_ID_OBJECT; see tpm2.IDObject
	Secret         []byte // TPM2B_ENCRYPTED_SECRET
}

// Wire lays the parameters out.
func (in *ActivateCredentialIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.CredentialBlob, tpm2.MaxIDObject)
	c.Part(2)
	c.Sized16(&in.Secret, tpm2.MaxEncryptedSecret)
}

// ActivateCredentialOut is what is returned by TPM2_ActivateCredential.
type ActivateCredentialOut struct {
	CertInfo []byte // TPM2B_DIGEST
}

// Wire lays the parameters out.
func (out *ActivateCredentialOut) Wire(c *wire.Codec) {
	c.Sized16(&out.CertInfo, tpm2.MaxDigest)
}

// MakeCredentialIn is the parameters of TPM2_MakeCredential.
type MakeCredentialIn struct {
	Credential []byte // TPM2B_DIGEST
	ObjectName []byte // TPM2B_NAME
}

// Wire lays the parameters out.
func (in *MakeCredentialIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.Credential, tpm2.MaxDigest)
	c.Part(2)
	c.Sized16(&in.ObjectName, tpm2.MaxName)
}

// MakeCredentialOut is what is returned by TPM2_MakeCredential.
type MakeCredentialOut struct {
	CredentialBlob []byte // TPM2B_ID_OBJECT; see tpm2.IDObject
	Secret         []byte // TPM2B_ENCRYPTED_SECRET
}

// Wire lays the parameters out.
func (out *MakeCredentialOut) Wire(c *wire.Codec) {
	c.Sized16(&out.CredentialBlob, tpm2.MaxIDObject)
	c.Sized16(&out.Secret, tpm2.MaxEncryptedSecret)
}

// UnsealOut is what is returned by TPM2_Unseal.
type UnsealOut struct {
	OutData []byte // TPM2B_SENSITIVE_DATA
}

// Wire lays the parameters out.
func (out *UnsealOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutData, tpm2.MaxSymData)
}

// ObjectChangeAuthIn is the parameters of TPM2_ObjectChangeAuth.
type ObjectChangeAuthIn struct {
	NewAuth []byte // TPM2B_AUTH
}

// Wire lays the parameters out.
func (in *ObjectChangeAuthIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Sized16(&in.NewAuth, tpm2.MaxDigest)
}

// ObjectChangeAuthOut is what is returned by TPM2_ObjectChangeAuth.
type ObjectChangeAuthOut struct {
	OutPrivate []byte // TPM2B_PRIVATE
}

// Wire lays the parameters out.
func (out *ObjectChangeAuthOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutPrivate, tpm2.MaxPrivate)
}

// CreateLoadedIn is the parameters of TPM2_CreateLoaded. InPublic stays encoded,
// as only the parent says which layout it has.
type CreateLoadedIn struct {
	InSensitive tpm2.SensitiveCreate // TPM2B_SENSITIVE_CREATE
	InPublic    []byte               // TPM2B_TEMPLATE: a tpm2.Public, or a tpm2.DeriveTemplate under a derivation parent
}

// Wire lays the parameters out.
func (in *CreateLoadedIn) Wire(c *wire.Codec) {
	c.Part(1)
	c.Inner16(&in.InSensitive, tpm2.MaxSensitiveCreate)
	c.Part(2)
	c.Sized16(&in.InPublic, tpm2.MaxPublic)
}

// CreateLoadedOut is what is returned by TPM2_CreateLoaded. OutPrivate is empty
// for a primary object and a derived one.
type CreateLoadedOut struct {
	OutPrivate []byte      // TPM2B_PRIVATE
	OutPublic  tpm2.Public // TPM2B_PUBLIC
	Name       []byte      // TPM2B_NAME
}

// Wire lays the parameters out.
func (out *CreateLoadedOut) Wire(c *wire.Codec) {
	c.Sized16(&out.OutPrivate, tpm2.MaxPrivate)
	c.Inner16(&out.OutPublic, tpm2.MaxPublic)
	c.Sized16(&out.Name, tpm2.MaxName)
}
