package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 13 of Part 3: duplication commands. What a duplicate looks like is in
// duplication_blob.go.

// canReceive reports whether a duplicate can be made for the key, of which the
// public area is enough: an asymmetric storage key (ObjectIsStorage of the reference).
func canReceive(o *object) bool {
	return protectsSecrets(o) && o.public.Attributes&tpm2.AttrSign == 0
}

// duplicate is TPM2_Duplicate (Part 3, 13.1). Only a policy authorizes it.
func duplicate(c *call, in *command.DuplicateIn, out *command.DuplicateOut) error {
	t, o, parent := c.t, c.t.object(c.handles[0]), c.t.object(c.handles[1])
	if err := checkDuplicate(o, parent, in); err != nil {
		return err
	}
	var seed []byte
	if parent != nil {
		var err error
		if seed, out.OutSymSeed, err = t.encryptSecret(parent, "DUPLICATE"); err != nil {
			return err
		}
	}
	inner := innerWrap{in.SymmetricAlg, in.EncryptionKeyIn}
	if inner.used() && len(inner.key) == 0 {
		inner.key = t.newBytes(int(in.SymmetricAlg.KeyBits) / 8)
		out.EncryptionKeyOut = inner.key
	}
	var err error
	out.Duplicate, err = t.toDuplicate(o, parent, seed, inner)
	return err
}

// checkDuplicate checks what the object, its new parent (nil is TPM_RH_NULL) and the
// inner protection must be.
func checkDuplicate(o, parent *object, in *command.DuplicateIn) error {
	switch {
	case o.attr(tpm2.AttrFixedParent):
		return handleError(tpm2.RCAttributes, 1)
	case o.public.NameAlg == tpm2.AlgNull:
		return handleError(tpm2.RCType, 1)
	case parent != nil && !canReceive(parent):
		return handleError(tpm2.RCType, 2)
	}
	// Part 1, 23.3: an object with encryptedDuplication has both protections.
	if o.attr(tpm2.AttrEncryptedDuplication) {
		if in.SymmetricAlg.Algorithm == tpm2.AlgNull {
			return parameter(tpm2.RCSymmetric, 2)
		}
		if parent == nil {
			return handleError(tpm2.RCHierarchy, 2)
		}
	}
	inner := innerWrap{in.SymmetricAlg, in.EncryptionKeyIn}
	if len(inner.key) != 0 && len(inner.key) != inner.keySize() {
		return parameter(tpm2.RCSize, 1)
	}
	return nil
}

// rewrap is TPM2_Rewrap (Part 3, 13.2): it changes the outer protection of a
// duplicate, or adds or removes it. What is inside stays as it is.
func rewrap(c *call, in *command.RewrapIn, out *command.RewrapOut) error {
	t, from, to := c.t, c.t.object(c.handles[0]), c.t.object(c.handles[1])
	if (len(in.InSymSeed) == 0) != (from == nil) {
		return handleError(tpm2.RCHandleValue, 1)
	}
	content := clone(in.InDuplicate)
	if from != nil {
		if !canReceive(from) {
			return handleError(tpm2.RCType, 1)
		}
		seed, err := t.decryptSecret(from, "DUPLICATE", in.InSymSeed)
		if err != nil {
			return parameter(tpm2.RCValue, 3)
		}
		w := from.wrapping(seed)
		if content, err = w.open(in.Name, false, in.InDuplicate); err != nil {
			return parameter(responseCode(err), 1)
		}
	}
	if to == nil {
		out.OutDuplicate = content
		return nil
	}
	if !canReceive(to) {
		return handleError(tpm2.RCType, 2)
	}
	seed, secret, err := t.encryptSecret(to, "DUPLICATE")
	if err != nil {
		return err
	}
	if len(content)+2+to.public.NameAlg.DigestSize() > tpm2.MaxPrivate {
		return parameter(tpm2.RCValue, 1)
	}
	w := to.wrapping(seed)
	out.OutSymSeed = secret
	out.OutDuplicate, err = w.seal(in.Name, nil, content)
	return err
}

// importObject is TPM2_Import (Part 3, 13.3): it makes of a duplicate the private
// area of a child of the parent.
func importObject(c *call, in *command.ImportIn, out *command.ImportOut) error {
	t, parent := c.t, c.t.object(c.handles[0])
	if err := checkImport(parent, in); err != nil {
		return err
	}
	var seed []byte
	if len(in.InSymSeed) != 0 {
		// A symmetric parent has children, but nothing can be encrypted to it.
		if !isAsymmetric(parent.public.Type) {
			return handleError(tpm2.RCType, 1)
		}
		var err error
		if seed, err = t.decryptSecret(parent, "DUPLICATE", in.InSymSeed); err != nil {
			return parameter(responseCode(err), 4)
		}
	} else if in.ObjectPublic.Attributes.Has(tpm2.AttrEncryptedDuplication) {
		return parameter(tpm2.RCAttributes, 4)
	}
	o := &object{public: clonePublic(&in.ObjectPublic)}
	var err error
	if o.name, err = o.public.NameBy(&t.scratch); err != nil || len(o.name) == 0 {
		return parameter(tpm2.RCHash, 2)
	}
	if err := t.fromDuplicate(o, parent, seed, innerWrap{in.SymmetricAlg, in.EncryptionKey}, in.Duplicate); err != nil {
		return parameter(responseCode(err), 3)
	}
	// What a fixedTPM parent vouches for is not checked again when it is loaded.
	if parent.attr(tpm2.AttrFixedTPM) {
		if err := o.loadKeys(nil, blame{public: 2, sensitive: 3}); err != nil {
			return err
		}
	}
	out.OutPrivate, err = t.toPrivate(o, o.sensitive, parent)
	return err
}

// checkImport checks the attributes of what is imported, the parent, and the key of
// the inner protection.
func checkImport(parent *object, in *command.ImportIn) error {
	if in.ObjectPublic.Attributes&(tpm2.AttrFixedTPM|tpm2.AttrFixedParent) != 0 {
		return parameter(tpm2.RCAttributes, 2)
	}
	if !parent.parent {
		return handleError(tpm2.RCType, 1)
	}
	inner := innerWrap{in.SymmetricAlg, in.EncryptionKey}
	if len(inner.key) != inner.keySize() {
		return parameter(tpm2.RCSize, 1)
	}
	if !inner.used() && in.ObjectPublic.Attributes.Has(tpm2.AttrEncryptedDuplication) {
		return parameter(tpm2.RCAttributes, 1)
	}
	return nil
}
