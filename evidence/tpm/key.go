package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// How an attestation key came to be trusted.
const (
	ProofRegistered    = "registered"            // the operator vouches for the key
	ProofAKCertificate = "ak-certificate"        // a CA that the operator named certifies the key
	ProofActivation    = "credential-activation" // the key is in the TPM of a proven endorsement key
)

// MinRSABits is the size of the shortest RSA key that may attest or endorse.
const MinRSABits = 2048

// akAttributes are those without which a signature proves nothing about a TPM:
// the key signs only what the TPM made (restricted), and has never been outside
// this TPM (the others; Part 1, 36.2.1).
const akAttributes = tpm2.AttrSign | tpm2.AttrRestricted | tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin

// CheckAK reports whether p may be an attestation key: a restricted signing key
// that was made in, and cannot leave, its TPM, of sufficient strength. Whether
// a TPM holds it at all is another question. Failures are [*evidence.Refusal]s.
func CheckAK(p *tpm2.Public) error {
	var errs []error
	if missing := akAttributes &^ p.Attributes; missing != 0 {
		errs = append(errs, evidence.Refuse(codeAKAttributes, "the attestation key is not %v", missing).About("akPublic"))
	}
	if p.Attributes.Has(tpm2.AttrDecrypt) {
		errs = append(errs, evidence.Refuse(codeAKAttributes, "the attestation key may also decrypt").About("akPublic"))
	}
	if p.Attributes.Has(tpm2.AttrX509Sign) {
		errs = append(errs, evidence.Refuse(codeAKAttributes, "the attestation key may sign certificates only").About("akPublic"))
	}
	if err := checkStrength(p, codeAKWeak, "attestation"); err != nil {
		errs = append(errs, err.About("akPublic"))
	}
	return errors.Join(errs...)
}

// checkStrength refuses short keys, unusual exponents, other curves, and a Name
// by a broken hash: a Name must identify one key.
func checkStrength(p *tpm2.Public, code evidence.Code, what string) *evidence.Refusal {
	switch p.NameAlg {
	case tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512:
	default:
		return evidence.Refuse(code, "the %s key is named by hash %s", what, p.NameAlg.BankName())
	}
	switch p.Type {
	case tpm2.AlgRSA:
		parms := p.Parameters.RSA
		if parms.KeyBits < MinRSABits {
			return evidence.Refuse(code, "the %s key is RSA of %d bits, less than %d", what, parms.KeyBits, MinRSABits)
		}
		if parms.Exponent != 0 && parms.Exponent != 65537 {
			return evidence.Refuse(code, "the %s key has exponent %d, want 65537", what, parms.Exponent)
		}
	case tpm2.AlgECC:
		switch p.Parameters.ECC.CurveID {
		case tpm2.CurveNISTP256, tpm2.CurveNISTP384, tpm2.CurveNISTP521:
		default:
			return evidence.Refuse(code, "the %s key is on curve %v", what, p.Parameters.ECC.CurveID)
		}
	default:
		return evidence.Refuse(code, "the %s key is neither RSA nor ECC", what)
	}
	if _, err := p.Key(); err != nil {
		return evidence.Refuse(code, "the %s key: %v", what, err)
	}
	return nil
}

// A Key is an attestation key that the operator trusts, ready to verify with.
// It is immutable and safe for concurrent use.
type Key struct {
	proof    string
	name     []byte           // of the TPMT_PUBLIC; nil when only the public key is known
	key      crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	verifier *tpm2.Verifier   // nil as for name
}

// NewKey makes a trusted key of a public area that passes [CheckAK]. The proof
// says why it is trusted: one of the Proof constants.
func NewKey(p *tpm2.Public, proof string) (*Key, error) {
	if err := CheckAK(p); err != nil {
		return nil, err
	}
	name, err := p.Name()
	if err != nil {
		return nil, err
	}
	v, err := tpm2.NewVerifier(p)
	if err != nil {
		return nil, err
	}
	key, err := p.Key()
	if err != nil {
		return nil, err
	}
	return &Key{proof: proof, name: name, key: key, verifier: v}, nil
}

// ParseKey reads a key that the operator registers: a TPMT_PUBLIC, a
// TPM2B_PUBLIC, or PEM of a public key or of a certificate, whose signature is
// not looked at. A PEM file does not say that the key is restricted to a TPM: by
// registering one, the operator vouches for that too.
func ParseKey(file []byte) (*Key, error) {
	if block, _ := pem.Decode(file); block != nil {
		return parsePEMKey(block)
	}
	p, err := tpm2.ParsePublic(file)
	if err != nil {
		var sized tpm2.Public2B
		if wire.Decode(file, &sized) != nil {
			return nil, err
		}
		p = &sized.Public
	}
	return NewKey(p, ProofRegistered)
}

func parsePEMKey(block *pem.Block) (*Key, error) {
	var key crypto.PublicKey
	switch block.Type {
	case "PUBLIC KEY":
		k, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read public key: %w", err)
		}
		key = k
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		key = c.PublicKey
	default:
		return nil, fmt.Errorf("PEM block is %q, want a public key or a certificate", block.Type)
	}
	p, err := tpm2.NewPublic(key)
	if err != nil {
		return nil, err
	}
	p.NameAlg = tpm2.AlgSHA256 // a Name is not what this key is known by
	if err := checkStrength(p, codeAKWeak, "attestation"); err != nil {
		return nil, err
	}
	return &Key{proof: ProofRegistered, key: key}, nil
}

// Name returns the key's Name (Part 1, 16); nil when the key was registered without one.
func (k *Key) Name() []byte { return k.name }

// is reports whether k is the key that the evidence says to be signed by. A Name
// covers all attributes; without one, the numbers of the key must be equal.
func (k *Key) is(name []byte, p *tpm2.Public) bool {
	if k.name != nil {
		return bytes.Equal(k.name, name)
	}
	key, err := p.Key()
	return err == nil && sameKey(k.key, key)
}

func sameKey(a, b crypto.PublicKey) bool {
	switch a := a.(type) {
	case *rsa.PublicKey:
		return a.Equal(b)
	case *ecdsa.PublicKey:
		return a.Equal(b)
	}
	return false
}
