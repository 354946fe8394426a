package engine_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// sequences are objects of each kind of sequence.
func sequences(m *machine) map[string]tpm2.Handle {
	m.store(sceneHMACKey, keyedHashTemplate(signing|tpm2.AttrNoDA))
	return map[string]tpm2.Handle{"hash": m.hashSequence(tpm2.AlgSHA256, ""), "HMAC": m.macSequence(sceneHMACKey, "")}
}

// A sequence has neither public area nor Name. Part 3, 18.2 has no refusal for it, and
// the reference certifies it; so do we, with both Names empty, as for a key without
// nameAlg: such an attestation is of no key at all.
func TestASequenceIsCertifiedWithoutAName(t *testing.T) {
	m := newMachine(t)
	key := m.primary(tpm2.HandleEndorsement, ecdsaKey(), "")
	for name, h := range sequences(m) {
		for range 2 { // it tells nothing of what was hashed
			var out command.CertifyOut
			m.do(tpm2.CCCertify, handles(h, key), password("", ""), &command.CertifyIn{InScheme: noScheme()}, &out)
			at, err := tpm2.ParseAttest(out.CertifyInfo)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tpm2.CertifyInfo{Name: []byte{}, QualifiedName: []byte{}}, at.Attested.Certify); diff != "" {
				t.Errorf("attestation of a sequence of %s (-want +got):\n%s", name, diff)
			}
			m.update(h, "", "data")
		}
	}
}

// A creation ticket of an object is none of a sequence, and a sequence certifies nothing.
func TestASequenceHasNoCreationAndSignsNothing(t *testing.T) {
	m := newMachine(t)
	key := m.primary(tpm2.HandleEndorsement, ecdsaKey(), "")
	var made command.CreatePrimaryOut
	m.do(tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), &command.CreatePrimaryIn{InPublic: ecdsaKey()}, &made)
	m.flush(m.handle)
	creation := &command.CertifyCreationIn{CreationHash: made.CreationHash, InScheme: noScheme(), CreationTicket: made.CreationTicket}
	for name, h := range sequences(m) {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			m.fails(parameterRC(tpm2.RCTicket, 4), tpm2.CCCertifyCreation, handles(key, h), password(""), creation)
			one, two := password(""), password("", "")
			m.fails(handleRC(tpm2.RCKey, 2), tpm2.CCCertify, handles(key, h), two, &command.CertifyIn{InScheme: noScheme()})
			m.fails(handleRC(tpm2.RCKey, 1), tpm2.CCCertifyCreation, handles(h, key), one, creation)
			m.fails(handleRC(tpm2.RCKey, 1), tpm2.CCQuote, handles(h), one, &command.QuoteIn{InScheme: noScheme()})
			m.fails(handleRC(tpm2.RCKey, 2), tpm2.CCGetTime, handles(tpm2.HandleEndorsement, h), two, &command.GetTimeIn{InScheme: noScheme()})
			m.fails(handleRC(tpm2.RCKey, 2), tpm2.CCGetCommandAuditDigest, handles(tpm2.HandleEndorsement, h), two, &command.GetCommandAuditDigestIn{InScheme: noScheme()})
			m.fails(handleRC(tpm2.RCKey, 1), tpm2.CCSign, handles(h), one, signIn(sum()))
		})
	}
}
