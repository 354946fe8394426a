package engine

import (
	"io"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Chapter 12 of Part 3: the object commands.

// create is TPM2_Create (Part 3, 12.1).
func create(c *call, in *command.CreateIn, out *command.CreateOut) error {
	t, parent := c.t, c.t.object(c.handles[0])
	if !parent.parent {
		return handleError(tpm2.RCType, 1)
	}
	// The reference makes the object in a slot, which it leaves again.
	if _, err := t.freeSlot(); err != nil {
		return err
	}
	if err := checkCreation(parent, &in.InPublic, len(in.InSensitive.Data)); err != nil {
		return parameter(responseCode(err), 2)
	}
	if !checkAuthSize(in.InSensitive.UserAuth, in.InPublic.NameAlg) {
		return parameter(tpm2.RCSize, 1)
	}
	o := &object{public: in.InPublic, hierarchy: parent.hierarchy}
	if err := t.generate(o, in.InSensitive.UserAuth, in.InSensitive.Data, t.random); err != nil {
		return err
	}
	var err error
	out.CreationData.PCRSelect, out.CreationData.OutsideInfo = in.CreationPCR, in.OutsideInfo
	out.CreationHash, out.CreationTicket, err = c.creation(o, parent, &out.CreationData)
	if err != nil {
		return err
	}
	out.OutPrivate, err = t.toPrivate(o, o.sensitive, parent)
	out.OutPublic = o.public
	return err
}

// load is TPM2_Load (Part 3, 12.2).
func load(c *call, in *command.LoadIn, out *command.LoadOut) error {
	t, parent := c.t, c.t.object(c.handles[0])
	if _, err := t.freeSlot(); err != nil {
		return err
	}
	if len(in.InPrivate) == 0 {
		return parameter(tpm2.RCSize, 1)
	}
	if !parent.parent {
		return handleError(tpm2.RCType, 1)
	}
	o := &object{public: clonePublic(&in.InPublic)}
	var err error
	if o.name, err = o.public.NameBy(&t.scratch); err != nil || len(o.name) == 0 {
		return parameter(tpm2.RCHash, 2)
	}
	if err := t.fromPrivate(in.InPrivate, o, parent); err != nil {
		return parameter(responseCode(err), 1)
	}
	if err := o.loadKeys(parent, blame{public: 2, sensitive: 1}); err != nil {
		return err
	}
	if err := o.settle(parent, parent.hierarchy); err != nil {
		return err
	}
	out.Name = o.name
	c.response, err = t.place(o)
	return err
}

// loadExternal is TPM2_LoadExternal (Part 3, 12.3).
func loadExternal(c *call, in *command.LoadExternalIn, out *command.LoadExternalOut) error {
	t := c.t
	if _, err := t.freeSlot(); err != nil {
		return err
	}
	if !t.enabled(in.Hierarchy) {
		return parameter(tpm2.RCHierarchy, 3)
	}
	o := &object{public: clonePublic(&in.InPublic), external: true, publicOnly: true}
	if s := in.InPrivate.Sensitive; s != nil {
		if in.Hierarchy != tpm2.HandleNull {
			return parameter(tpm2.RCHierarchy, 3)
		}
		// It must not look like an object of this TPM.
		if in.InPublic.Attributes&(tpm2.AttrFixedTPM|tpm2.AttrFixedParent|tpm2.AttrRestricted) != 0 {
			return parameter(tpm2.RCAttributes, 2)
		}
		o.publicOnly = false
		o.sensitive = tpm2.Sensitive{Type: s.Type, AuthValue: clone(s.AuthValue), SeedValue: clone(s.SeedValue), Bits: clone(s.Bits)}
	}
	var err error
	if o.name, err = o.public.NameBy(&t.scratch); err != nil {
		return parameter(tpm2.RCHash, 2)
	}
	if err := o.loadKeys(nil, blame{public: 2, sensitive: 1}); err != nil {
		return err
	}
	o.sensitive.AuthValue = trimAuth(o.sensitive.AuthValue)
	if err := o.settle(nil, in.Hierarchy); err != nil {
		return err
	}
	out.Name = o.name
	c.response, err = t.place(o)
	return err
}

// readPublic is TPM2_ReadPublic (Part 3, 12.4).
func readPublic(c *call, _ *command.None, out *command.ReadPublicOut) error {
	o := c.t.object(c.handles[0])
	if o.sequence != nil {
		return tpm2.RCSequence
	}
	out.OutPublic, out.Name, out.QualifiedName = o.public, o.name, o.qualified
	return nil
}

// protectsSecrets reports whether a secret may be encrypted to the key for an
// object: an asymmetric parent, as only those have an algorithm to protect with.
func protectsSecrets(o *object) bool {
	return isAsymmetric(o.public.Type) && o.attr(tpm2.AttrRestricted|tpm2.AttrDecrypt)
}

// activateCredential is TPM2_ActivateCredential (Part 3, 12.5).
func activateCredential(c *call, in *command.ActivateCredentialIn, out *command.ActivateCredentialOut) error {
	named, key := c.t.object(c.handles[0]), c.t.object(c.handles[1])
	if !protectsSecrets(key) {
		return handleError(tpm2.RCType, 2)
	}
	seed, err := c.t.decryptSecret(key, "IDENTITY", in.Secret)
	if err != nil {
		return parameter(responseCode(err), 2)
	}
	w := key.wrapping(seed)
	data, err := w.open(named.name, false, in.CredentialBlob)
	if err != nil {
		return parameter(responseCode(err), 1)
	}
	var id tpm2.Digest2B
	if err := wire.Decode(data, &id); err != nil {
		return parameter(tpm2.RCOf(err), 1)
	}
	out.CertInfo = id
	return nil
}

// makeCredential is TPM2_MakeCredential (Part 3, 12.6).
func makeCredential(c *call, in *command.MakeCredentialIn, out *command.MakeCredentialOut) error {
	key := c.t.object(c.handles[0])
	if !protectsSecrets(key) {
		return handleError(tpm2.RCType, 1)
	}
	if len(in.Credential) > key.public.NameAlg.DigestSize() {
		return parameter(tpm2.RCSize, 1)
	}
	seed, secret, err := c.t.encryptSecret(key, "IDENTITY")
	if err != nil {
		return err
	}
	w := key.wrapping(seed)
	out.Secret = secret
	out.CredentialBlob, err = w.seal(in.ObjectName, nil, appendSized(nil, in.Credential))
	return err
}

// unseal is TPM2_Unseal (Part 3, 12.7).
func unseal(c *call, _ *command.None, out *command.UnsealOut) error {
	o := c.t.object(c.handles[0])
	if o.public.Type != tpm2.AlgKeyedHash {
		return handleError(tpm2.RCType, 1)
	}
	if o.public.Attributes&(tpm2.AttrDecrypt|tpm2.AttrSign|tpm2.AttrRestricted) != 0 {
		return handleError(tpm2.RCAttributes, 1)
	}
	out.OutData = o.sensitive.Bits
	return nil
}

// objectChangeAuth is TPM2_ObjectChangeAuth (Part 3, 12.8): the loaded object
// keeps its authValue, the new blob has the new one.
func objectChangeAuth(c *call, in *command.ObjectChangeAuthIn, out *command.ObjectChangeAuthOut) error {
	o, parent := c.t.object(c.handles[0]), c.t.object(c.handles[1])
	if o.sequence != nil {
		return handleError(tpm2.RCType, 1)
	}
	if !checkAuthSize(in.NewAuth, o.public.NameAlg) {
		return parameter(tpm2.RCSize, 1)
	}
	// The parent is recognised by the Qualified Name. One that derives has no
	// blobs to wrap; the reference does not look for it.
	q, err := tpm2.QualifiedName(o.public.NameAlg, parent.qualified, o.name)
	if err != nil || !equal(q, o.qualified) || !parent.parent {
		return handleError(tpm2.RCType, 2)
	}
	s := o.sensitive
	s.AuthValue = in.NewAuth
	out.OutPrivate, err = c.t.toPrivate(o, s, parent)
	return err
}

// createLoaded is TPM2_CreateLoaded (Part 3, 12.9): a primary object when the
// parent is a hierarchy, a derived one under a derivation parent, else an ordinary one.
func createLoaded(c *call, in *command.CreateLoadedIn, out *command.CreateLoadedOut) error {
	t, h := c.t, c.handles[0]
	parent := t.object(h)
	if parent != nil && !parent.parent && !parent.derivation {
		return handleError(tpm2.RCType, 1)
	}
	if _, err := t.freeSlot(); err != nil {
		return err
	}
	template, err := t.template(parent, in.InPublic)
	if err != nil {
		return parameter(tpm2.RCOf(err), 2)
	}
	if !checkAuthSize(in.InSensitive.UserAuth, template.Public.NameAlg) {
		return parameter(tpm2.RCSize, 1)
	}
	r, err := c.creationStream(parent, template, in.InSensitive.Data)
	if err != nil {
		return err
	}
	o := &object{public: clonePublic(&template.Public), primary: parent == nil, hierarchy: h}
	data := in.InSensitive.Data
	if parent != nil && parent.derivation {
		data = nil // it was the label and the context
	}
	if err := t.generate(o, in.InSensitive.UserAuth, data, r); err != nil {
		return err
	}
	if err := o.settle(parent, h); err != nil {
		return err
	}
	if parent != nil && parent.parent {
		if out.OutPrivate, err = t.toPrivate(o, o.sensitive, parent); err != nil {
			return err
		}
	}
	out.OutPublic, out.Name = o.public, o.name
	c.response, err = t.place(o)
	return err
}

// template decodes a TPM2B_TEMPLATE; what the parent is decides its layout
// (Part 2, 12.2.6). Only under a derivation parent it has Unique.
func (t *TPM) template(parent *object, b []byte) (*tpm2.DeriveTemplate, error) {
	out := new(tpm2.DeriveTemplate)
	if parent != nil && parent.derivation {
		return out, wire.DecodeIn(t.profile, b, out)
	}
	return out, wire.DecodeIn(t.profile, b, (*tpm2.NamedPublic)(&out.Public))
}

// creationStream checks a template and returns the randomness for its object.
func (c *call) creationStream(parent *object, template *tpm2.DeriveTemplate, data []byte) (io.Reader, error) {
	p := &template.Public
	if parent == nil || !parent.derivation {
		if err := checkCreation(parent, p, len(data)); err != nil {
			return nil, parameter(responseCode(err), 2)
		}
		if parent != nil {
			return c.t.random, nil
		}
		return c.t.primaryStream(c.handles[0], p, data)
	}
	if p.Type == tpm2.AlgRSA {
		return nil, parameter(tpm2.RCType, 2) // Part 1, 28.1: RSA keys are not derived
	}
	// Its data come from the parent; the reference names no parameter here.
	if p.Attributes.Has(tpm2.AttrSensitiveDataOrigin) {
		return nil, tpm2.RCAttributes
	}
	if err := checkPublic(parent, p); err != nil {
		return nil, parameter(responseCode(err), 2)
	}
	if err := mergeDerive(&template.Unique, data); err != nil {
		return nil, err
	}
	return newDerivation(parent, &template.Unique), nil
}
