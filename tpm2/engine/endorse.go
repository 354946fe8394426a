package engine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/assay-project/assay/tpm2"
)

// What the owner of a TPM's state may ask of its endorsement hierarchy beside
// commands. No guest reaches this: these are methods, not commands.

// ErrRequest is a text that an endorsement key does not sign: no request for a
// certificate of this very key.
var ErrRequest = errors.New("not a certification request for this endorsement key")

// EndorsementKey returns the public area of the asymmetric key that a template
// makes in the endorsement hierarchy, whatever a guest did with authorizations and
// persistent objects: a handle may hold another key, the seed gives this one. The
// TPM does not change. It takes as long as TPM2_CreatePrimary.
func (t *TPM) EndorsementKey(template *tpm2.Public) (public *tpm2.Public, err error) {
	defer contain(&err)
	o, err := t.endorsement(template)
	if err != nil {
		return nil, err
	}
	return &o.public, nil
}

// SignRequest signs a CertificationRequestInfo (RFC 2986, 4.1) by the endorsement
// key of a template: RSASSA with SHA-256 for RSA, ECDSA with the hash of the
// curve's strength, as DER has it, for ECC.
//
// A TPM signs nothing by such a key, which is a restricted decryption key. The
// owner of a software TPM holds the state and could do so anyway; SP 800-57 Part
// 1, 5.2, allows a private key of key establishment this one signature, to
// request its certificate. Therefore it is made over nothing but a request that
// has the key itself; anything else is [ErrRequest].
func (t *TPM) SignRequest(template *tpm2.Public, info []byte) (signature []byte, err error) {
	defer contain(&err)
	const attributes = tpm2.AttrRestricted | tpm2.AttrDecrypt | tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin
	if !template.Attributes.Has(attributes) || template.Attributes.Has(tpm2.AttrSign) {
		return nil, fmt.Errorf("template is not of an endorsement key: %w", tpm2.RCAttributes)
	}
	o, err := t.endorsement(template)
	if err != nil {
		return nil, err
	}
	if !requestFor(&o.public, info) {
		return nil, ErrRequest
	}
	hash := requestHash(&o.public)
	h, ok := hash.Hash()
	if !ok {
		return nil, fmt.Errorf("sign certification request: %w", tpm2.RCHash)
	}
	sum := h.New()
	sum.Write(info)
	if o.rsa != nil {
		return o.rsa.Sign(t.random, tpm2.AlgRSASSA, hash, sum.Sum(nil))
	}
	r, s, err := o.ecc.SignECDSA(t.random, sum.Sum(nil))
	if err != nil {
		return nil, err
	}
	return der(derSequence, derUint(r), derUint(s)), nil
}

// requestHash is the hash by which an endorsement key signs its request.
func requestHash(p *tpm2.Public) tpm2.Alg {
	if p.Type == tpm2.AlgECC {
		switch p.Parameters.ECC.CurveID {
		case tpm2.CurveNISTP384:
			return tpm2.AlgSHA384
		case tpm2.CurveNISTP521:
			return tpm2.AlgSHA512
		}
	}
	return tpm2.AlgSHA256
}

// contain makes a fault of ours, as of a random source that fails, an error. The
// state is whole: nothing here changes it.
func contain(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("fault of this program: %v", v)
	}
}

// endorsement makes the primary object of a template in the endorsement hierarchy.
func (t *TPM) endorsement(template *tpm2.Public) (*object, error) {
	if !isAsymmetric(template.Type) {
		return nil, fmt.Errorf("template is of no asymmetric key: %w", tpm2.RCType)
	}
	if err := checkCreation(nil, template, 0); err != nil {
		return nil, fmt.Errorf("template of an endorsement key: %w", err)
	}
	r, err := t.primaryStream(tpm2.HandleEndorsement, template, nil)
	if err != nil {
		return nil, err
	}
	o := &object{public: clonePublic(template), primary: true, hierarchy: tpm2.HandleEndorsement}
	if err := t.generate(o, nil, nil, r); err != nil {
		return nil, fmt.Errorf("make endorsement key: %w", err)
	}
	if o.rsa == nil && o.ecc == nil {
		return nil, fmt.Errorf("endorsement key is neither RSA nor ECC: %w", tpm2.RCType)
	}
	return o, nil
}

// requestFor reports whether info is a CertificationRequestInfo: version 0, a
// name, the key, and attributes.
func requestFor(p *tpm2.Public, info []byte) bool {
	key, ok := subjectPublicKey(p)
	if !ok {
		return false
	}
	tag, b, _, rest, ok := derNext(info)
	if !ok || tag != derSequence || len(rest) != 0 {
		return false
	}
	_, _, version, b, ok := derNext(b)
	if !ok || !bytes.Equal(version, []byte{derInteger, 1, 0}) {
		return false
	}
	tag, _, _, b, ok = derNext(b)
	if !ok || tag != derSequence {
		return false
	}
	_, _, spki, b, ok := derNext(b)
	if !ok || !bytes.Equal(spki, key) {
		return false
	}
	tag, _, _, b, ok = derNext(b)
	return ok && tag == derExplicit && len(b) == 0
}
