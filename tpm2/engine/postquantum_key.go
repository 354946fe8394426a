package engine

import (
	"bytes"
	"io"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// ML-KEM keys of version 1.85: like the keys of other types, but that their
// private part is the seed of FIPS 203, 7.1, and that they only decrypt.

// checkMLKEM checks what only ML-KEM keys can have wrong: a parameter set that
// there is not (Part 2, 1.85, 11.2.6.1), and a use for signing.
func checkMLKEM(p *tpm2.Public) error {
	if p.Type != tpm2.AlgMLKEM {
		return nil
	}
	if mlkemPublicSize(p.Parameters.MLKEM.ParameterSet) == 0 {
		return tpm2.RCParms
	}
	if p.Attributes.Has(tpm2.AttrSign) {
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
// 8.13).
const mlkemSets = 1<<1 | 1<<2

// parameterSets returns the property that tells the post-quantum parameter sets.
func (p *Profile) parameterSets() []tpm2.TaggedProperty {
	if !p.OffersAlg(tpm2.AlgMLKEM) {
		return nil
	}
	return []tpm2.TaggedProperty{{Property: tpm2.PTMLParameterSets, Value: mlkemSets}}
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
