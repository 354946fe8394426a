package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// BootLog is where Linux shows what was measured before it ran.
const BootLog = "/sys/kernel/security/tpm0/binary_bios_measurements"

// ErrOther is a credential that was answered with something else: the attestation
// key is not in the TPM of the endorsement key.
var ErrOther = errors.New("the credential was answered wrongly")

// A Prover is a TPM in a guest, with an attestation key, as a verifier's partner.
type Prover struct {
	tpm    *client.TPM
	random io.Reader
	ak     client.Entity
	akPub  tpm2.Public
}

// storage is the template of primary storage keys.
func storage() tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256, Attributes: tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth | tpm2.AttrNoDA | tpm2.AttrRestricted | tpm2.AttrDecrypt}
	p.Parameters.ECC = tpm2.ECCParms{
		Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB},
		Scheme:    tpm2.ECCScheme{Scheme: tpm2.AlgNull}, CurveID: tpm2.CurveNISTP256, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull},
	}
	return p
}

// attestation is the template of attestation keys.
func attestation() tpm2.Public {
	p := storage()
	p.Attributes = p.Attributes&^tpm2.AttrDecrypt | tpm2.AttrSign
	p.Parameters.ECC.Symmetric = tpm2.SymDefObject{Algorithm: tpm2.AlgNull}
	p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	return p
}

// NewProver makes an attestation key in the TPM behind t, the same each time.
func NewProver(t client.Transport, random io.Reader) (*Prover, error) {
	p := &Prover{tpm: client.New(t, random), random: random}
	var err error
	p.ak, p.akPub, err = p.primary(tpm2.HandleEndorsement, attestation())
	return p, err
}

func (p *Prover) primary(hierarchy tpm2.Handle, template tpm2.Public) (client.Entity, tpm2.Public, error) {
	out := new(command.CreatePrimaryOut)
	h, err := p.tpm.Run(&client.Command{
		Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: hierarchy}}, In: &command.CreatePrimaryIn{InPublic: template}, Out: out,
	})
	return client.Entity{Handle: h, Name: out.Name}, out.OutPublic, err
}

// Enrol proves that the attestation key is in the TPM of the endorsement key, by a
// credential that only both together open (Part 1, 24).
func (p *Prover) Enrol() (_ *tpm.Key, err error) {
	ek, ekPub, err := p.primary(tpm2.HandleEndorsement, tpm2.EKTemplates()[1].Public)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.tpm.Flush(ek.Handle)) }()
	secret := make([]byte, 32)
	if _, err := io.ReadFull(p.random, secret); err != nil {
		return nil, err
	}
	credential, err := tpm2.MakeCredential(p.random, &ekPub, p.ak.Name, secret)
	if err != nil {
		return nil, err
	}
	got, err := p.activate(ek, credential)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(got, secret) {
		return nil, ErrOther
	}
	return tpm.NewKey(&p.akPub, tpm.ProofActivation)
}

func (p *Prover) activate(ek client.Entity, c *tpm2.Credential) ([]byte, error) {
	s, err := p.tpm.StartSession(client.SessionConfig{Type: tpm2.SessionPolicy})
	if err != nil {
		return nil, err
	}
	// EK Credential Profile, B.6: policy A.
	_, err = p.tpm.Run(&client.Command{
		Code: tpm2.CCPolicySecret, Handles: []client.Entity{{Handle: tpm2.HandleEndorsement}, {Handle: s.Handle()}},
		In: new(command.PolicySecretIn), Out: new(command.PolicySecretOut),
	})
	if err != nil {
		return nil, err
	}
	out := new(command.ActivateCredentialOut)
	_, err = p.tpm.Run(&client.Command{
		Code: tpm2.CCActivateCredential, Handles: []client.Entity{p.ak, ek}, Uses: []client.Use{{}, {Session: s}},
		In: &command.ActivateCredentialIn{CredentialBlob: c.Blob, Secret: c.Secret}, Out: out,
	})
	return out.CertInfo, err
}

// quoted are the registers that are proven.
func quoted() []int { return []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9} }

// Evidence quotes the registers over a nonce.
func (p *Prover) Evidence(nonce, log []byte) (*tpm.Evidence, error) {
	values, err := p.PCRs(quoted()...)
	if err != nil {
		return nil, err
	}
	out := new(command.QuoteOut)
	_, err = p.tpm.Run(&client.Command{Code: tpm2.CCQuote, Handles: []client.Entity{p.ak}, In: &command.QuoteIn{
		QualifyingData: nonce, InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull},
		PCRSelect: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(quoted()...)}},
	}, Out: out})
	if err != nil {
		return nil, err
	}
	signature, err := wire.Encode(&out.Signature)
	if err != nil {
		return nil, err
	}
	public, err := wire.Encode(&p.akPub)
	if err != nil {
		return nil, err
	}
	return tpm.FromParts(tpm.Parts{
		Quotes: []tpm.Quote{{Attest: out.Quoted, Signature: signature}}, AKPublic: public, EventLog: log,
		PCRs: map[tpm2.Alg]map[int][]byte{tpm2.AlgSHA256: values},
	})
}

// PCRs reads registers of the SHA-256 bank.
func (p *Prover) PCRs(which ...int) (map[int][]byte, error) {
	values := map[int][]byte{}
	for _, pcr := range which {
		out := new(command.PCRReadOut)
		in := &command.PCRReadIn{PCRSelectionIn: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(pcr)}}}
		if _, err := p.tpm.Run(&client.Command{Code: tpm2.CCPCRRead, In: in, Out: out}); err != nil {
			return nil, err
		}
		if len(out.PCRValues) != 1 {
			return nil, fmt.Errorf("PCR %d has %d values", pcr, len(out.PCRValues))
		}
		values[pcr] = out.PCRValues[0]
	}
	return values, nil
}

// Seal keeps a secret in a new object of the TPM, takes it out again and says if it
// is the same. The object and its parent are gone afterwards.
func (p *Prover) Seal(secret []byte) (err error) {
	parent, _, err := p.primary(tpm2.HandleOwner, storage())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.tpm.Flush(parent.Handle)) }()
	in := &command.CreateIn{InSensitive: tpm2.SensitiveCreate{Data: secret}}
	in.InPublic = tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrUserWithAuth | tpm2.AttrNoDA}
	in.InPublic.Parameters.KeyedHash.Scheme = tpm2.AlgNull
	made := new(command.CreateOut)
	if _, err := p.tpm.Run(&client.Command{Code: tpm2.CCCreate, Handles: []client.Entity{parent}, In: in, Out: made}); err != nil {
		return err
	}
	loaded := new(command.LoadOut)
	h, err := p.tpm.Run(&client.Command{
		Code: tpm2.CCLoad, Handles: []client.Entity{parent}, In: &command.LoadIn{InPrivate: made.OutPrivate, InPublic: made.OutPublic}, Out: loaded,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.tpm.Flush(h)) }()
	out := new(command.UnsealOut)
	_, err = p.tpm.Run(&client.Command{Code: tpm2.CCUnseal, Handles: []client.Entity{{Handle: h, Name: loaded.Name}}, Out: out})
	if err == nil && !bytes.Equal(out.OutData, secret) {
		err = errors.New("unsealed something else")
	}
	return err
}

// Extend adds a digest to a register.
func (p *Prover) Extend(pcr int, digest []byte) error {
	_, err := p.tpm.Run(&client.Command{
		Code: tpm2.CCPCRExtend, Handles: []client.Entity{{Handle: tpm2.Handle(pcr)}}, // a register's number
		In: &command.PCRExtendIn{Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: digest}}},
	})
	return err
}
