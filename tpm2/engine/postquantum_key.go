package engine

import (
	"bytes"
	"io"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// The keys of version 1.85: like the keys of other types, but that their private part
// is a seed (FIPS 203, 7.1; FIPS 204, 6.1), and that they have one use. ML-KEM keys
// decrypt; ML-DSA and HashML-DSA keys sign, by the scheme that is their type.

// signsMessages reports whether keys of a type sign message representatives.
func signsMessages(t tpm2.Alg) bool { return t == tpm2.AlgMLDSA || t == tpm2.AlgHashMLDSA }

// checkPostQuantumParms checks what only parameters of these keys can have wrong: a
// parameter set that there is not (Part 2, 1.85, 11.2.6.1), and a hash by which there
// is no HashML-DSA.
func checkPostQuantumParms(t tpm2.Alg, p *tpm2.PublicParms) error {
	switch {
	case t == tpm2.AlgMLKEM && mlkemPublicSize(p.MLKEM.ParameterSet) == 0:
		return tpm2.RCParms
	case t == tpm2.AlgHashMLDSA && !offersHashMLDSA(p.MLDSA.HashAlg):
		return tpm2.RCHash
	}
	return nil
}

// checkPostQuantum checks the parameters of these keys, and that they have their use.
func checkPostQuantum(p *tpm2.Public) error {
	if err := checkPostQuantumParms(p.Type, &p.Parameters); err != nil {
		return err
	}
	sign, decrypt := p.Attributes.Has(tpm2.AttrSign), p.Attributes.Has(tpm2.AttrDecrypt)
	if p.Type == tpm2.AlgMLKEM && sign || signsMessages(p.Type) && (!sign || decrypt) {
		return tpm2.RCAttributes
	}
	return nil
}

// mlkemPublicSize is the size of an encapsulation key (FIPS 203, table 3), 0 for a
// set that is not implemented.
func mlkemPublicSize(set tpm2.MLKEMSet) int {
	switch set {
	case tpm2.MLKEM768:
		return 1184
	case tpm2.MLKEM1024:
		return 1568
	}
	return 0
}

// The bits of TPMA_ML_PARAMETER_SET of the sets that are implemented (Part 2, 1.85,
// 8.13): ML-KEM-768 and 1024; ML-DSA-44, 65 and 87, and external μ.
const (
	mlkemSets = 1<<1 | 1<<2
	mldsaSets = 1<<3 | 1<<4 | 1<<5 | 1<<6
)

// parameterSets returns the property that tells the post-quantum parameter sets.
func (p *Profile) parameterSets() []tpm2.TaggedProperty {
	value := uint32(0)
	if p.OffersAlg(tpm2.AlgMLKEM) {
		value |= mlkemSets
	}
	if p.OffersAlg(tpm2.AlgMLDSA) {
		value |= mldsaSets
	}
	if value == 0 {
		return nil
	}
	return []tpm2.TaggedProperty{{Property: tpm2.PTMLParameterSets, Value: value}}
}

func (o *object) generateMLKEM(r io.Reader) error {
	k, err := tpmcrypto.GenerateMLKEM(r, o.public.Parameters.MLKEM.ParameterSet)
	if err != nil {
		return err
	}
	o.mlkem, o.sensitive.Bits = k, clone(k.Seed())
	o.public.Unique = tpm2.PublicID{MLKEM: clone(k.Public())}
	return nil
}

// mlkemKey returns the private ML-KEM key of an object, made on first use.
func (o *object) mlkemKey() (*tpmcrypto.MLKEMKey, error) {
	if o.mlkem == nil {
		k, err := tpmcrypto.LoadMLKEM(o.public.Parameters.MLKEM.ParameterSet, o.sensitive.Bits)
		if err != nil {
			return nil, err
		}
		o.mlkem = k
	}
	return o.mlkem, nil
}

func (o *object) validateMLKEM(at blame) error {
	set, public := o.public.Parameters.MLKEM.ParameterSet, o.public.Unique.MLKEM
	if len(public) != mlkemPublicSize(set) || tpmcrypto.CheckMLKEM(set, public) != nil {
		return parameter(tpm2.RCKey, at.public)
	}
	if o.publicOnly {
		return nil
	}
	k, err := o.mlkemKey()
	if err != nil {
		return parameter(tpm2.RCKeySize, at.sensitive)
	}
	if !bytes.Equal(k.Public(), public) {
		return tpm2.RCBinding
	}
	return nil
}

// encapsulateSecret makes a secret for the holder of an ML-KEM key and what brings
// it there (Part 1, 1.85, 47.4: the labelled KEM).
func (t *TPM) encapsulateSecret(key *object, label string) (data, secret []byte, err error) {
	secret, shared, err := tpmcrypto.EncapsulateMLKEM(t.random, key.public.Parameters.MLKEM.ParameterSet, key.public.Unique.MLKEM)
	if err != nil {
		return nil, nil, tpm2.RCKey
	}
	data, err = key.labelled(shared, label, secret)
	return data, secret, err
}

// decapsulatedSecret is the inverse of encapsulateSecret.
func (o *object) decapsulatedSecret(label string, secret []byte) ([]byte, error) {
	k, err := o.mlkemKey()
	if err != nil {
		return nil, err
	}
	shared, err := k.Decapsulate(secret)
	if err != nil {
		return nil, err
	}
	return o.labelled(shared, label, secret)
}

func (o *object) labelled(shared []byte, label string, ciphertext []byte) ([]byte, error) {
	nameAlg := o.public.NameAlg
	s, err := tpm2.KDFa(nameAlg, shared, label, ciphertext, o.public.Unique.MLKEM, 8*nameAlg.DigestSize())
	if err != nil {
		return nil, tpm2.RCHash
	}
	return s, nil
}
