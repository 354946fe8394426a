package engine

import "github.com/assay-project/assay/tpm2"

// The checks that creation, loading and import make of a public area. Their
// order, and with it the code of an area with several faults, is the reference's.
// A nil parent is a primary seed, or the outside of the TPM.

// checkCreation checks what only creation asks of attributes (Part 3, 12.1): who
// makes the sensitive data, of which the caller gave dataSize bytes.
func checkCreation(parent *object, p *tpm2.Public, dataSize int) error {
	origin := p.Attributes.Has(tpm2.AttrSensitiveDataOrigin)
	if !origin && dataSize == 0 {
		return tpm2.RCAttributes
	}
	// Of a primary object, data that the TPM does not use sets the key apart.
	if parent != nil && origin && dataSize != 0 {
		return tpm2.RCAttributes
	}
	switch p.Type {
	case tpm2.AlgKeyedHash, tpm2.AlgSymCipher:
		sealed := p.Type == tpm2.AlgKeyedHash && p.Attributes&(tpm2.AttrSign|tpm2.AttrDecrypt) == 0
		if sealed && origin {
			return tpm2.RCAttributes // the TPM has nothing to seal
		}
		// A parent from outside must not look like one of this TPM.
		if p.Attributes.Has(tpm2.AttrRestricted) && !origin && p.Attributes&(tpm2.AttrFixedParent|tpm2.AttrFixedTPM) != 0 {
			return tpm2.RCAttributes
		}
	default:
		if !origin {
			return tpm2.RCAttributes // asymmetric keys are made here
		}
	}
	return checkPublic(parent, p)
}

// checkPublic checks the attributes of an object against each other and against
// its parent's (Part 2, 8.3.3; Part 1, 27.5).
func checkPublic(parent *object, p *tpm2.Public) error {
	if p.NameAlg == tpm2.AlgNull {
		return tpm2.RCHash
	}
	if n := len(p.AuthPolicy); n != 0 && n != p.NameAlg.DigestSize() {
		return tpm2.RCSize
	}
	if !fixedConsistent(parent, p.Attributes) || !useConsistent(p) {
		return tpm2.RCAttributes
	}
	// Part 2, 8.3.3.8: what cannot be duplicated needs no encrypted duplication,
	// and children of a parent that can have what it has.
	encrypted := p.Attributes & tpm2.AttrEncryptedDuplication
	if encrypted != 0 && p.Attributes.Has(tpm2.AttrFixedTPM) {
		return tpm2.RCAttributes
	}
	if parent != nil && !parent.attr(tpm2.AttrFixedTPM) && encrypted != parent.public.Attributes&tpm2.AttrEncryptedDuplication {
		return tpm2.RCAttributes
	}
	// Part 2, 8.3.3.12: there is no hierarchy here that is limited to a firmware.
	if p.Attributes&(tpm2.AttrFirmwareLimited|tpm2.AttrSVNLimited) != 0 {
		return tpm2.RCAttributes
	}
	if parent != nil && parent.derivation && !derivedConsistent(parent, p.Attributes) {
		return tpm2.RCAttributes
	}
	return checkSchemes(parent, p)
}

// fixedConsistent holds Part 2, 8.3.3.2 and 8.3.3.4: under a parent that is
// fixedTPM, as the seeds are, fixedParent and fixedTPM are the same.
func fixedConsistent(parent *object, a tpm2.ObjectAttributes) bool {
	if parent == nil || parent.attr(tpm2.AttrFixedTPM) {
		return a.Has(tpm2.AttrFixedTPM) == a.Has(tpm2.AttrFixedParent)
	}
	return !a.Has(tpm2.AttrFixedTPM)
}

// useConsistent holds Part 2, 8.3.3.9 to 8.3.3.11: a restricted object signs or
// decrypts, but not both; only a data object does neither.
func useConsistent(p *tpm2.Public) bool {
	if p.Attributes.Has(tpm2.AttrSign) != p.Attributes.Has(tpm2.AttrDecrypt) {
		return true
	}
	return !p.Attributes.Has(tpm2.AttrRestricted) && (p.Type == tpm2.AlgKeyedHash || p.Attributes.Has(tpm2.AttrSign))
}

// derivedConsistent holds Part 1, 28.2: a derived object is bound to its parent.
func derivedConsistent(parent *object, a tpm2.ObjectAttributes) bool {
	return a.Has(tpm2.AttrFixedTPM) == parent.attr(tpm2.AttrFixedTPM) && a.Has(tpm2.AttrFixedParent)
}

// checkSchemes checks the schemes and the symmetric algorithm of a key against
// its attributes (Part 2, 12.2.3; Part 1, 27.2).
func checkSchemes(parent *object, p *tpm2.Public) error {
	var err error
	switch p.Type {
	case tpm2.AlgSymCipher:
		// A key that decrypts has a mode that does; CMAC is for signing.
		if p.Attributes.Has(tpm2.AttrDecrypt) && p.Parameters.SymCipher.Mode == tpm2.AlgCMAC {
			err = tpm2.RCScheme
		}
	case tpm2.AlgKeyedHash:
		return checkKeyedHashScheme(p)
	default:
		err = checkAsymmetric(p)
	}
	if err != nil {
		return err
	}
	if !p.Attributes.Has(tpm2.AttrRestricted | tpm2.AttrDecrypt) {
		return nil
	}
	sym := symmetricOf(p)
	if sym.Algorithm == tpm2.AlgNull {
		return tpm2.RCSymmetric // a storage parent must encrypt
	}
	// Part 1, 27.2.4: a storage key that stays with its parent protects as it does.
	if parent == nil || !p.Attributes.Has(tpm2.AttrFixedParent) {
		return nil
	}
	if p.NameAlg != parent.public.NameAlg {
		return tpm2.RCHash
	}
	if sym != symmetricOf(&parent.public) {
		return tpm2.RCSymmetric
	}
	return nil
}

// checkKeyedHashScheme checks that an HMAC key signs, an XOR key decrypts, and
// what does both or neither leaves the scheme open (Part 2, 11.1.23).
func checkKeyedHashScheme(p *tpm2.Public) error {
	s := &p.Parameters.KeyedHash
	want := tpm2.AlgNull
	switch sign, decrypt := p.Attributes.Has(tpm2.AttrSign), p.Attributes.Has(tpm2.AttrDecrypt); {
	case sign && !decrypt:
		want = tpm2.AlgHMAC
	case decrypt && !sign:
		want = tpm2.AlgXOR
	}
	if s.Scheme != want {
		return tpm2.RCScheme
	}
	// Part 1, 28.3: KDFa is what objects are derived by.
	if want == tpm2.AlgXOR && p.Attributes.Has(tpm2.AttrRestricted) && s.KDF != tpm2.AlgKDFa {
		return tpm2.RCScheme
	}
	return nil
}

// checkAsymmetric checks the scheme of an asymmetric key, that only a parent
// has a symmetric algorithm, and that no key derivation is asked for.
func checkAsymmetric(p *tpm2.Public) error {
	if err := checkPostQuantum(p); err != nil {
		return err
	}
	scheme := asymmetricScheme(p)
	sign, decrypt, restricted := p.Attributes.Has(tpm2.AttrSign), p.Attributes.Has(tpm2.AttrDecrypt), p.Attributes.Has(tpm2.AttrRestricted)
	var ok bool
	switch {
	case sign == decrypt:
		ok = scheme == tpm2.AlgNull // one scheme cannot serve both
	case sign:
		ok = isSignScheme(p.Type, scheme) || !restricted && scheme == tpm2.AlgNull
	default:
		ok = scheme == tpm2.AlgNull || !restricted && isDecryptScheme(p.Type, scheme)
	}
	if !ok {
		return tpm2.RCScheme
	}
	if !(restricted && decrypt) && symmetricOf(p).Algorithm != tpm2.AlgNull {
		return tpm2.RCSymmetric
	}
	// Part 2, 12.2.3.6: no use of kdf is defined.
	if p.Type == tpm2.AlgECC && p.Parameters.ECC.KDF.Scheme != tpm2.AlgNull {
		return tpm2.RCKDF
	}
	return nil
}

// asymmetricScheme returns the scheme of an asymmetric key; AlgNull when it has none.
func asymmetricScheme(p *tpm2.Public) tpm2.Alg {
	switch p.Type {
	case tpm2.AlgRSA:
		return p.Parameters.RSA.Scheme.Scheme
	case tpm2.AlgECC:
		return p.Parameters.ECC.Scheme.Scheme
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		return p.Type // its only scheme
	}
	return tpm2.AlgNull
}

// isSignScheme reports whether keys of the type sign by the scheme.
func isSignScheme(t, scheme tpm2.Alg) bool {
	switch scheme {
	case tpm2.AlgRSASSA, tpm2.AlgRSAPSS:
		return t == tpm2.AlgRSA
	case tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECSchnorr:
		return t == tpm2.AlgECC
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		return t == scheme
	}
	return false
}

// isDecryptScheme reports whether keys of the type decrypt or agree by the scheme.
func isDecryptScheme(t, scheme tpm2.Alg) bool {
	switch scheme {
	case tpm2.AlgRSAES, tpm2.AlgOAEP:
		return t == tpm2.AlgRSA
	case tpm2.AlgECDH, tpm2.AlgECMQV:
		return t == tpm2.AlgECC
	}
	return false
}

// isAsymmetric reports whether the type has a public and a private key.
func isAsymmetric(t tpm2.Alg) bool { return t != tpm2.AlgKeyedHash && t != tpm2.AlgSymCipher }

// symmetricOf returns the algorithm by which a parent protects its children.
//
//go:noinline
func symmetricOf(p *tpm2.Public) tpm2.SymDefObject {
	switch p.Type {
	case tpm2.AlgRSA:
		return p.Parameters.RSA.Symmetric
	case tpm2.AlgECC:
		return p.Parameters.ECC.Symmetric
	case tpm2.AlgSymCipher:
		return p.Parameters.SymCipher
	case tpm2.AlgMLKEM:
		return p.Parameters.MLKEM.Symmetric
	}
	return tpm2.SymDefObject{Algorithm: tpm2.AlgNull}
}
