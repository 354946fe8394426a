package engine

import (
	"encoding/binary"
	"io"
	"math/big"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// checkAuthSize holds that an authValue, without trailing zeros, is no longer
// than a digest of the Name algorithm (Part 1, 19.6.4.3).
func checkAuthSize(auth []byte, nameAlg tpm2.Alg) bool {
	limit := nameAlg.DigestSize()
	if nameAlg == tpm2.AlgNull {
		limit = tpm2.MaxDigest
	}
	return len(trimAuth(auth)) <= limit
}

// clonePublic copies a public area whose parts alias a command.
func clonePublic(p *tpm2.Public) tpm2.Public {
	out := *p
	out.AuthPolicy = clone(p.AuthPolicy)
	out.Unique = tpm2.PublicID{
		RSA: clone(p.Unique.RSA), Digest: clone(p.Unique.Digest), MLKEM: clone(p.Unique.MLKEM), MLDSA: clone(p.Unique.MLDSA),
		ECC: tpm2.ECCPoint{X: clone(p.Unique.ECC.X), Y: clone(p.Unique.ECC.Y)},
	}
	return out
}

// primaryStream is the randomness from which a primary object is made: equal
// seed, template and data give the same object for ever (Part 3, 24.1; Part 1,
// 14.3). The Name of the template has all of it, also its unique.
func (t *TPM) primaryStream(h tpm2.Handle, template *tpm2.Public, data []byte) (io.Reader, error) {
	name, err := template.NameBy(&t.scratch)
	if err != nil {
		return nil, err
	}
	from := t.hierarchyOf(h)
	if t.profile.Libtpms {
		level := tpmcrypto.SeedPrimeFix
		if from.originalSeed {
			level = tpmcrypto.SeedOriginal
		}
		return tpmcrypto.Libtpms(level, from.seed, name, data), nil
	}
	return tpmcrypto.Seeded(tpm2.AlgSHA512, from.seed, "Primary Object Creation", name, data)
}

// generate makes the keys of o, whose public area is a checked template, from r
// (CryptCreateObject of the reference): the sensitive area, unique, and the Name.
// data is the secret to use, unless the TPM is its origin.
func (t *TPM) generate(o *object, auth, data []byte, r io.Reader) error {
	o.sensitive = tpm2.Sensitive{Type: o.public.Type, AuthValue: clone(trimAuth(auth))}
	if o.attr(tpm2.AttrSensitiveDataOrigin) {
		data = nil
	}
	var err error
	switch o.public.Type {
	case tpm2.AlgRSA:
		err = o.generateRSA(t, r)
	case tpm2.AlgECC:
		err = o.generateECC(r)
	case tpm2.AlgSymCipher:
		err = o.generateSymmetric(data, r)
	case tpm2.AlgKeyedHash:
		err = o.generateKeyedHash(data, r)
	case tpm2.AlgMLKEM:
		err = o.generateMLKEM(r)
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		err = o.generateMLDSA(r)
	default:
		err = tpm2.RCType
	}
	if err != nil {
		return err
	}
	if err := t.generateSeed(o, r); err != nil {
		return err
	}
	if isAsymmetric(o.public.Type) {
		// Only a parent has a seed; unique binds nothing here (Part 1, 27.6.4).
		if o.attr(tpm2.AttrSign) || !o.attr(tpm2.AttrRestricted) {
			o.sensitive.SeedValue = nil
		}
	} else {
		unique, err := symmetricUnique(&o.public, &o.sensitive)
		if err != nil {
			return err
		}
		o.public.Unique = tpm2.PublicID{Digest: unique}
	}
	o.name, err = o.public.NameBy(&t.scratch)
	return err
}

// generateSeed makes the seedValue: of a parent what protects its children, of a
// symmetric object what hides its secret behind unique (Part 1, 27.6.3).
func (t *TPM) generateSeed(o *object, r io.Reader) error {
	o.sensitive.SeedValue = make([]byte, o.public.NameAlg.DigestSize())
	stream, libtpms := r.(*tpmcrypto.LibtpmsStream)
	own := o.primary && o.hierarchy == tpm2.HandleEndorsement
	if libtpms && own {
		stream.Mix(t.permanent.owner.proof)
		stream.Mix(t.permanent.endorsement.proof)
	}
	if libtpms || !own {
		return readFull(r, o.sensitive.SeedValue)
	}
	// TPM2_Clear must end the use of what endorsement keys protect, though not the
	// keys themselves: their seeds take in the proofs that it changes (Part 3, 24.6).
	var drawn [seedSize]byte
	if err := readFull(r, drawn[:]); err != nil {
		return err
	}
	stirred, err := tpmcrypto.Seeded(tpm2.AlgSHA512, drawn[:], "Endorsement Seed Value", t.permanent.owner.proof, t.permanent.endorsement.proof)
	if err != nil {
		return err
	}
	return readFull(stirred, o.sensitive.SeedValue)
}

func readFull(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	return err
}

func (o *object) generateRSA(t *TPM, r io.Reader) error {
	p := &o.public.Parameters.RSA
	// The reference makes keys with prime exponents from 65537 only.
	if e := p.Exponent; e != 0 && (e < tpmcrypto.DefaultExponent || !big.NewInt(int64(e)).ProbablyPrime(0)) {
		return tpm2.RCRange
	}
	var k *tpmcrypto.RSAKey
	var err error
	if stream, ok := r.(*tpmcrypto.LibtpmsStream); ok {
		k, err = stream.GenerateRSA(t.cancelable(r), int(p.KeyBits), p.Exponent)
	} else {
		k, err = tpmcrypto.GenerateRSA(t.cancelable(r), int(p.KeyBits), p.Exponent)
	}
	if err != nil {
		return err
	}
	o.rsa, o.sensitive.Bits = k, k.Prime()
	o.public.Unique = tpm2.PublicID{RSA: k.Modulus()}
	return nil
}

func (o *object) generateECC(r io.Reader) error {
	k, err := tpmcrypto.GenerateECC(r, o.public.Parameters.ECC.CurveID)
	if err != nil {
		return err
	}
	o.ecc, o.sensitive.Bits = k, k.Scalar()
	o.public.Unique = tpm2.PublicID{ECC: k.Point()}
	return nil
}

func (o *object) generateSymmetric(data []byte, r io.Reader) error {
	size := int(o.public.Parameters.SymCipher.KeyBits) / 8
	if len(data) == 0 {
		o.sensitive.Bits = make([]byte, size)
		return readFull(r, o.sensitive.Bits)
	}
	if len(data) != size {
		return tpm2.RCKeySize
	}
	o.sensitive.Bits = clone(data)
	return nil
}

func (o *object) generateKeyedHash(data []byte, r io.Reader) error {
	p := &o.public
	hash := p.NameAlg
	if s := p.Parameters.KeyedHash; s.Scheme != tpm2.AlgNull {
		hash = s.HashAlg
	}
	if len(data) == 0 {
		o.sensitive.Bits = make([]byte, hash.DigestSize())
		return readFull(r, o.sensitive.Bits)
	}
	// A key beyond a block of its hash would be weaker than it looks.
	if p.Attributes&(tpm2.AttrSign|tpm2.AttrDecrypt) != 0 && len(data) > blockSize(hash) {
		return tpm2.RCSize
	}
	o.sensitive.Bits = clone(data)
	return nil
}

// settle sets what an object is once it is loaded, under a parent or, when that
// is nil, in a hierarchy (Part 1, 23.1; ObjectSetLoadedAttributes of the reference).
func (o *object) settle(parent *object, h tpm2.Handle) error {
	o.hierarchy = h
	o.stClear = o.attr(tpm2.AttrSTClear)
	o.primary = parent == nil && h != tpm2.HandleNull
	o.temporary = parent == nil && h == tpm2.HandleNull
	above := handleName(h)
	if parent != nil {
		o.hierarchy = parent.hierarchy
		o.stClear = o.stClear || parent.stClear
		o.temporary = parent.temporary || o.external
		above = parent.qualified
	}
	if o.external {
		o.qualified = o.name // Part 1, 26.6: nothing is above it
		return nil
	}
	o.setParent()
	var err error
	o.qualified, err = tpm2.QualifiedName(o.public.NameAlg, above, o.name)
	return err
}

// setParent says whether the object is a parent, and of which kind (Part 1, 23.1).
func (o *object) setParent() {
	if o.attr(tpm2.AttrRestricted|tpm2.AttrDecrypt) && !o.publicOnly && o.public.NameAlg != tpm2.AlgNull {
		o.derivation = o.public.Type == tpm2.AlgKeyedHash
		o.parent = !o.derivation
	}
}

// creation fills in the creation data of o and makes a ticket for it (Part 1, 27.8).
// The PCRs that are selected are those that exist.
func (c *call) creation(o, parent *object, data *tpm2.CreationData) (hash []byte, ticket tpm2.CreationTicket, err error) {
	data.PCRDigest, err = c.t.pcrDigest(nil, o.public.NameAlg, data.PCRSelect)
	if err != nil {
		return nil, ticket, err
	}
	data.Locality = tpm2.LocalitySet(c.locality)
	if parent == nil {
		// Part 1, 16: the Name of a hierarchy is its handle.
		data.ParentNameAlg = tpm2.AlgNull
		data.ParentName = handleName(o.hierarchy)
		data.ParentQualifiedName = data.ParentName
	} else {
		data.ParentNameAlg = parent.public.NameAlg
		data.ParentName, data.ParentQualifiedName = parent.name, parent.qualified
	}
	b, err := c.t.scratch.Encode(data)
	if err != nil {
		return nil, ticket, err
	}
	if hash, err = tpmcrypto.Hash(o.public.NameAlg, b); err != nil {
		return nil, ticket, err
	}
	ticket, err = c.t.creationTicket(o.hierarchy, o.name, hash)
	return hash, ticket, err
}

// handleName is the Name of a permanent entity: its handle.
func handleName(h tpm2.Handle) []byte { return binary.BigEndian.AppendUint32(nil, uint32(h)) }
