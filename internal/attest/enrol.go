package attest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

// EnrolmentRequest asks for the proof that an attestation key lives in the TPM
// of a known endorsement key (Part 1, 24: credential protection).
type EnrolmentRequest struct {
	Registration
	EKPublic []byte   // TPMT_PUBLIC
	EKCert   []byte   // DER; empty only with TrustEK
	Chain    [][]byte // DER of intermediates
	// TrustEK takes the endorsement key on the operator's word instead of a
	// certificate. Only who may register attesters may set it.
	TrustEK bool
}

// A CredentialChallenge is what only the right TPM can answer: the secret in it,
// recovered by TPM2_ActivateCredential, finishes the enrolment.
type CredentialChallenge struct {
	ID              string    `json:"id"`
	CredentialBlob  []byte    `json:"credentialBlob"`  // content of a TPM2B_ID_OBJECT
	EncryptedSecret []byte    `json:"encryptedSecret"` // content of a TPM2B_ENCRYPTED_SECRET
	Expires         time.Time `json:"expires"`
}

// enrolmentLifetime is how long a TPM has to answer.
const enrolmentLifetime = 10 * time.Minute

// credentialSize is that of the secret: the digest size of the SHA-256 Name
// algorithm that every standard EK template has.
const credentialSize = 32

// BeginEnrolment checks the keys and makes a credential challenge for them.
func (s *Service) BeginEnrolment(ctx context.Context, actor string, r EnrolmentRequest) (CredentialChallenge, error) {
	a, err := s.newAttester(actor, r.Registration)
	if err != nil {
		return CredentialChallenge{}, err
	}
	ek, err := tpm2.ParsePublic(r.EKPublic)
	if err != nil {
		return CredentialChallenge{}, badInput("ekPublic", "%v", err)
	}
	if err := s.checkEK(ek, r); err != nil {
		return CredentialChallenge{}, err
	}
	secret := make([]byte, credentialSize)
	if _, err := io.ReadFull(s.rand, secret); err != nil {
		return CredentialChallenge{}, fmt.Errorf("make credential: %w", err)
	}
	akName, _ := hex.DecodeString(a.AKName)
	cred, err := tpm2.MakeCredential(s.rand, ek, akName, secret)
	if err != nil {
		return CredentialChallenge{}, badInput("ekPublic", "make credential: %v", err)
	}
	return s.keepEnrolment(ctx, a, r.EKPublic, secret, cred)
}

func (s *Service) keepEnrolment(ctx context.Context, a Attester, ek, secret []byte, cred *tpm2.Credential) (CredentialChallenge, error) {
	id, err := newID(s.now(), s.rand)
	if err != nil {
		return CredentialChallenge{}, err
	}
	hash := sha256.Sum256(secret)
	e := Enrolment{
		ID: id, Machine: a.Machine, AKPublic: a.AKPublic, EKPublic: ek, Baseline: a.Baseline,
		SecretHash: hash[:], By: a.AddedBy, Expires: s.now().Add(enrolmentLifetime).UTC(),
	}
	if err := s.store.PutEnrolment(ctx, e); err != nil {
		return CredentialChallenge{}, err
	}
	return CredentialChallenge{id, cred.Blob, cred.Secret, e.Expires}, nil
}

func (s *Service) checkEK(ek *tpm2.Public, r EnrolmentRequest) error {
	if r.TrustEK && len(r.EKCert) == 0 {
		return refusedInput("ekPublic", tpm.CheckEK(ek))
	}
	return refusedInput("ekCert", tpm.VerifyEKCertificate(r.EKCert, ek, tpm.EKTrust{Roots: s.configuration().ekRoots, Intermediates: r.Chain, At: s.now()}))
}

// refusedInput makes the first refusal in err an InputError; nil stays nil.
func refusedInput(field string, err error) error {
	if err == nil {
		return nil
	}
	if reasons := evidence.Reasons(err); len(reasons) > 0 {
		return &InputError{Code: reasons[0].Code, Field: field, Detail: reasons[0].Message}
	}
	return badInput(field, "%v", err)
}

// FinishEnrolment trusts the key when secret is the one of the challenge.
func (s *Service) FinishEnrolment(ctx context.Context, actor, id string, secret []byte) (Attester, error) {
	e, err := s.store.Enrolment(ctx, id)
	if err != nil {
		return Attester{}, err
	}
	if !s.now().Before(e.Expires) {
		return Attester{}, &InputError{Code: "enrolment.expired", Detail: fmt.Sprintf("the enrolment expired at %s: begin again", e.Expires.Format(time.RFC3339))}
	}
	hash := sha256.Sum256(secret)
	if subtle.ConstantTimeCompare(hash[:], e.SecretHash) != 1 {
		return Attester{}, &InputError{Code: "enrolment.secret-mismatch", Field: "secret", Detail: "this is not the secret of the credential: the attestation key is not in the TPM of that endorsement key"}
	}
	a, err := s.newAttester(e.By, Registration{e.Machine, e.AKPublic, e.Baseline})
	if err != nil {
		return Attester{}, err
	}
	a.EKPublic, a.Proof = e.EKPublic, tpm.ProofActivation
	entry := s.entry(actor, "attester.enrol", a.AKName, "done")
	return s.admit(ctx, a, entry, s.store.FinishEnrolment(ctx, id, a, entry))
}
