package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 20 of Part 3: signing and signature verification.

// signs reports whether the key can sign; no key at all, TPM_RH_NULL, may stand
// where a signature is asked for.
func signs(o *object) bool {
	return o == nil || o.sequence == nil && o.attr(tpm2.AttrSign) && o.public.Type != tpm2.AlgSymCipher
}

// ownScheme returns the signing scheme that the key was made for; AlgNull leaves
// the choice to the caller.
func (o *object) ownScheme() tpm2.SigScheme {
	switch p := &o.public.Parameters; o.public.Type {
	case tpm2.AlgRSA:
		return tpm2.SigScheme{Scheme: p.RSA.Scheme.Scheme, HashAlg: p.RSA.Scheme.HashAlg}
	case tpm2.AlgECC:
		return tpm2.SigScheme{Scheme: p.ECC.Scheme.Scheme, HashAlg: p.ECC.Scheme.HashAlg}
	case tpm2.AlgKeyedHash:
		return tpm2.SigScheme{Scheme: p.KeyedHash.Scheme, HashAlg: p.KeyedHash.HashAlg}
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		return o.ownMLDSA()
	}
	return tpm2.SigScheme{Scheme: tpm2.AlgNull}
}

// signScheme settles the scheme of a signature: the key's, the caller's, or both
// where they agree (CryptSelectSignScheme of the reference). Without a key there
// is no signature, and no hash whatever the caller named.
func signScheme(o *object, in tpm2.SigScheme) (tpm2.SigScheme, bool) {
	if o == nil {
		return tpm2.SigScheme{Scheme: tpm2.AlgNull, HashAlg: tpm2.AlgNull}, true
	}
	own := o.ownScheme()
	switch {
	case own.Scheme == tpm2.AlgNull:
	case in.Scheme == tpm2.AlgNull:
		in = own
		if own.Scheme == tpm2.AlgECDAA {
			return in, false // a split scheme needs the count that TPM2_Commit returned
		}
	case own.Scheme != in.Scheme || own.HashAlg != in.HashAlg:
		return in, false
	}
	// CVE-2025-2884: the scheme must be one of the key's type, with a hash.
	return in, signsBy(o.public.Type, in.Scheme) && in.HashAlg.DigestSize() != 0
}

// signsBy reports whether keys of a type sign by a scheme.
func signsBy(key, scheme tpm2.Alg) bool {
	switch scheme {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		return key == tpm2.AlgRSA
	case tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECSchnorr:
		return key == tpm2.AlgECC
	case tpm2.AlgHMAC:
		return key == tpm2.AlgKeyedHash
	}
	return false
}

// sign makes a signature of a digest by the scheme that signScheme settled for the key.
func (t *TPM) sign(o *object, s tpm2.SigScheme, digest []byte) (tpm2.Signature, error) {
	sig := tpm2.Signature{SigAlg: s.Scheme, Hash: s.HashAlg}
	var err error
	switch o.public.Type {
	case tpm2.AlgRSA:
		sig.RSA, err = t.signRSA(o, s, digest)
	case tpm2.AlgECC:
		sig.R, sig.S, err = t.signECC(o, s, digest)
	case tpm2.AlgKeyedHash:
		sig.HMAC, err = t.macs.sum(nil, s.HashAlg, o.sensitive.Bits, digest)
	default:
		err = tpm2.RCScheme
	}
	return sig, err
}

func (t *TPM) signRSA(o *object, s tpm2.SigScheme, digest []byte) ([]byte, error) {
	k, err := o.rsaKey()
	if err != nil {
		return nil, err
	}
	return k.Sign(t.random, s.Scheme, s.HashAlg, digest)
}

func (t *TPM) signECC(o *object, s tpm2.SigScheme, digest []byte) (sigR, sigS []byte, err error) {
	k, err := o.eccKey()
	if err != nil {
		return nil, nil, err
	}
	switch s.Scheme {
	case tpm2.AlgECDSA:
		return k.SignECDSA(t.random, digest)
	case tpm2.AlgECSchnorr:
		return k.SignSchnorr(t.random, s.HashAlg, digest)
	case tpm2.AlgECDAA:
		r, err := t.commitment(s.Count, o)
		if err != nil {
			return nil, nil, err
		}
		sigR, sigS, err = k.SignECDAA(t.random, s.HashAlg, r, digest)
		if err == nil {
			t.endCommitment(s.Count)
		}
		return sigR, sigS, err
	}
	return nil, nil, tpm2.RCScheme
}

// verify checks a signature of a digest. Its errors are response codes.
func (t *TPM) verify(o *object, digest []byte, sig *tpm2.Signature) error {
	switch o.public.Type {
	case tpm2.AlgRSA:
		k, err := o.rsaPublicKey()
		if err != nil {
			return err
		}
		return k.Verify(sig.SigAlg, sig.Hash, digest, sig.RSA)
	case tpm2.AlgECC:
		if sig.SigAlg == tpm2.AlgECDAA {
			return tpm2.RCScheme // no TPM verifies it: CryptEccValidateSignature of the reference
		}
		k, err := o.eccPublicKey()
		if err != nil {
			return err
		}
		return k.Verify(sig.SigAlg, sig.Hash, digest, sig.R, sig.S)
	case tpm2.AlgKeyedHash:
		return t.verifyHMAC(o, digest, sig)
	}
	return tpm2.RCScheme
}

func (t *TPM) verifyHMAC(o *object, digest []byte, sig *tpm2.Signature) error {
	own := o.ownScheme()
	switch {
	case o.publicOnly:
		return tpm2.RCHandleValue
	// CVE-2025-2884: an asymmetric scheme has no HMAC to compare.
	case sig.SigAlg != tpm2.AlgHMAC:
		return tpm2.RCScheme
	case own.Scheme != tpm2.AlgNull && (own.Scheme != tpm2.AlgHMAC || own.HashAlg != sig.Hash):
		return tpm2.RCSignature
	}
	want, err := t.macs.sum(nil, sig.Hash, o.sensitive.Bits, digest)
	if err != nil {
		return err
	}
	if !equal(want, sig.HMAC) {
		return tpm2.RCSignature
	}
	return nil
}

// verifySignature is TPM2_VerifySignature (Part 3, 20.1).
func verifySignature(c *call, in *command.VerifySignatureIn, out *command.VerifySignatureOut) error {
	t, o := c.t, c.t.object(c.handles[0])
	if o.sequence != nil || !o.attr(tpm2.AttrSign) {
		return handleError(tpm2.RCAttributes, 1)
	}
	if err := t.verify(o, in.Digest, &in.Signature); err != nil {
		return parameter(responseCode(err), 2)
	}
	out.Validation = tpm2.VerifiedTicket{Tag: tpm2.TagVerified, Hierarchy: tpm2.HandleNull}
	if o.hierarchy == tpm2.HandleNull || o.public.NameAlg == tpm2.AlgNull {
		return nil
	}
	var err error
	out.Validation, err = t.verifiedTicket(o.hierarchy, in.Digest, o.name)
	return err
}

// signCommand is TPM2_Sign (Part 3, 20.2).
func signCommand(c *call, in *command.SignIn, out *command.SignOut) error {
	t, o := c.t, c.t.object(c.handles[0])
	if !signs(o) {
		return handleError(tpm2.RCKey, 1)
	}
	if o.attr(tpm2.AttrX509Sign) {
		return handleError(tpm2.RCAttributes, 1)
	}
	scheme, ok := signScheme(o, in.InScheme)
	if !ok {
		return parameter(tpm2.RCScheme, 2)
	}
	if err := c.checkDigest(o, scheme.HashAlg, in); err != nil {
		return err
	}
	var err error
	out.Signature, err = t.sign(o, scheme, in.Digest)
	return err
}

// checkDigest checks that a restricted key signs only what the TPM hashed, and
// that the digest is one of the scheme's hash.
func (c *call) checkDigest(o *object, a tpm2.Alg, in *command.SignIn) error {
	if len(in.Validation.Digest) == 0 && !o.attr(tpm2.AttrRestricted) {
		if len(in.Digest) != a.DigestSize() {
			return parameter(tpm2.RCSize, 1)
		}
		return nil
	}
	want, err := c.t.hashCheckTicket(in.Validation.Hierarchy, a, in.Digest)
	if err != nil {
		return err
	}
	if !equal(want.Digest, in.Validation.Digest) {
		return parameter(tpm2.RCTicket, 3)
	}
	return nil
}
