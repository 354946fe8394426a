package attest_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/tpm2"
)

// swtpmLimit is how long one test may talk to swtpm, which makes RSA keys by the second.
const swtpmLimit = 2 * time.Minute

// startSWTPM starts a TPM by other people, or skips the test where swtpm is not
// installed. The TPM talks over a pair of sockets, so that there is nothing to wait for.
func startSWTPM(t *testing.T) transport.TPM {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil && os.Getenv("ASSAY_REQUIRE_SWTPM") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("swtpm is not installed: a TPM by other people is not tried against enrolment (Debian: apt-get install swtpm)")
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(pair[0]), "theirs"), os.NewFile(uintptr(pair[1]), "ours")
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if err := conn.SetDeadline(time.Now().Add(swtpmLimit)); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "socket", "--tpm2", "--terminate", "--tpmstate", "dir="+t.TempDir(),
		"--fd", "3", "--flags", "not-need-init,startup-clear")
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{theirs}, &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		conn.Close() // with --terminate, swtpm ends with its connection
		if err := cmd.Wait(); err != nil {
			t.Logf("swtpm: %v: %s", err, &said)
		}
	})
	return transport.FromReadWriter(conn)
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// attestationTemplate is a restricted signing key.
func attestationTemplate(kind gotpm.TPMAlgID, parms gotpm.TPMUPublicParms, unique gotpm.TPMUPublicID) gotpm.TPMTPublic {
	return gotpm.TPMTPublic{
		Type: kind, NameAlg: gotpm.TPMAlgSHA256, Parameters: parms, Unique: unique,
		ObjectAttributes: gotpm.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true},
	}
}

func rsaAK(scheme gotpm.TPMAlgID, parms gotpm.TPMUAsymScheme) gotpm.TPMTPublic {
	return attestationTemplate(gotpm.TPMAlgRSA,
		gotpm.NewTPMUPublicParms(gotpm.TPMAlgRSA, &gotpm.TPMSRSAParms{KeyBits: 2048, Scheme: gotpm.TPMTRSAScheme{Scheme: scheme, Details: parms}}),
		gotpm.NewTPMUPublicID(gotpm.TPMAlgRSA, &gotpm.TPM2BPublicKeyRSA{}))
}

func eccAK(curve gotpm.TPMECCCurve, hash gotpm.TPMAlgID) gotpm.TPMTPublic {
	return attestationTemplate(gotpm.TPMAlgECC,
		gotpm.NewTPMUPublicParms(gotpm.TPMAlgECC, &gotpm.TPMSECCParms{CurveID: curve, Scheme: gotpm.TPMTECCScheme{
			Scheme: gotpm.TPMAlgECDSA, Details: gotpm.NewTPMUAsymScheme(gotpm.TPMAlgECDSA, &gotpm.TPMSSigSchemeECDSA{HashAlg: hash}),
		}}),
		gotpm.NewTPMUPublicID(gotpm.TPMAlgECC, &gotpm.TPMSECCPoint{}))
}

// A realTPM is a TPM with an endorsement and an attestation key.
type realTPM struct {
	t      *testing.T
	tpm    transport.TPM
	ek, ak gotpm.NamedHandle
	ekPub  []byte // TPMT_PUBLIC
	akPub  []byte
}

func (r *realTPM) create(template gotpm.TPMTPublic) (gotpm.NamedHandle, []byte) {
	r.t.Helper()
	key := must[*gotpm.CreatePrimaryResponse](r.t)(gotpm.CreatePrimary{PrimaryHandle: gotpm.TPMRHEndorsement, InPublic: gotpm.New2B(template)}.Execute(r.tpm))
	r.t.Cleanup(func() {
		if _, err := (gotpm.FlushContext{FlushHandle: key.ObjectHandle}).Execute(r.tpm); err != nil {
			r.t.Errorf("FlushContext: %v", err)
		}
	})
	return gotpm.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, key.OutPublic.Bytes()
}

// activate answers a credential with TPM2_ActivateCredential.
func (r *realTPM) activate(ak gotpm.NamedHandle, c attest.CredentialChallenge) ([]byte, error) {
	byPolicy := gotpm.Policy(gotpm.TPMAlgSHA256, 16, func(tpm transport.TPM, session gotpm.TPMISHPolicy, nonce gotpm.TPM2BNonce) error {
		// EK Credential Profile, B.3: PolicyA is PolicySecret of the endorsement hierarchy.
		_, err := gotpm.PolicySecret{AuthHandle: gotpm.TPMRHEndorsement, PolicySession: session, NonceTPM: nonce}.Execute(tpm)
		return err
	})
	out, err := gotpm.ActivateCredential{
		ActivateHandle: ak,
		KeyHandle:      gotpm.AuthHandle{Handle: r.ek.Handle, Name: r.ek.Name, Auth: byPolicy},
		CredentialBlob: gotpm.TPM2BIDObject{Buffer: c.CredentialBlob},
		Secret:         gotpm.TPM2BEncryptedSecret{Buffer: c.EncryptedSecret},
	}.Execute(r.tpm)
	if err != nil {
		return nil, err
	}
	return out.CertInfo.Buffer, nil
}

// boot extends the SHA-256 registers as the log says.
func (r *realTPM) boot(log []byte) {
	r.t.Helper()
	for e := range must[*eventlog.Log](r.t)(eventlog.Parse(log)).All() {
		if !e.Measured() {
			continue
		}
		extend := gotpm.PCRExtend{
			PCRHandle: gotpm.AuthHandle{Handle: gotpm.TPMHandle(e.PCR), Auth: gotpm.PasswordAuth(nil)},
			Digests:   gotpm.TPMLDigestValues{Digests: []gotpm.TPMTHA{{HashAlg: gotpm.TPMAlgSHA256, Digest: e.Digest(tpm2.AlgSHA256)}}},
		}
		if _, err := extend.Execute(r.tpm); err != nil {
			r.t.Fatal(err)
		}
	}
}

// bundle quotes PCR 0 to 9 and 11 to 14 over a nonce.
func (r *realTPM) bundle(nonce, log []byte) evidencetest.Parts {
	r.t.Helper()
	pcrs := []uint{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14}
	selection := func(pcrs ...uint) gotpm.TPMLPCRSelection {
		return gotpm.TPMLPCRSelection{PCRSelections: []gotpm.TPMSPCRSelection{{Hash: gotpm.TPMAlgSHA256, PCRSelect: gotpm.PCClientCompatible.PCRs(pcrs...)}}}
	}
	p := evidencetest.Parts{Type: evidence.TypeTPM, AKPublic: r.akPub, EventLog: log, PCRs: map[string]map[string]string{"sha256": {}}}
	for _, pcr := range pcrs {
		read := must[*gotpm.PCRReadResponse](r.t)(gotpm.PCRRead{PCRSelectionIn: selection(pcr)}.Execute(r.tpm))
		p.PCRs["sha256"][strconv.Itoa(int(pcr))] = hex.EncodeToString(read.PCRValues.Digests[0].Buffer)
	}
	q := must[*gotpm.QuoteResponse](r.t)(gotpm.Quote{
		SignHandle:     gotpm.AuthHandle{Handle: r.ak.Handle, Name: r.ak.Name, Auth: gotpm.PasswordAuth(nil)},
		QualifyingData: gotpm.TPM2BData{Buffer: nonce}, PCRSelect: selection(pcrs...),
	}.Execute(r.tpm))
	p.Quotes = []evidencetest.Quote{{Attest: q.Quoted.Bytes(), Signature: gotpm.Marshal(q.Signature)}}
	return p
}

// A TPM that is not ours enrols its keys, is trusted for its quotes afterwards, and
// answers no credential that was made for another key.
func TestATPMByOtherPeopleEnrolsAndIsTrusted(t *testing.T) {
	log := member(t, read(t, "good.json"), "eventLog")
	eks := map[string]gotpm.TPMTPublic{"RSA-2048": gotpm.RSAEKTemplate, "P-256": gotpm.ECCEKTemplate}
	aks := map[string]gotpm.TPMTPublic{
		"RSASSA":      rsaAK(gotpm.TPMAlgRSASSA, gotpm.NewTPMUAsymScheme(gotpm.TPMAlgRSASSA, &gotpm.TPMSSigSchemeRSASSA{HashAlg: gotpm.TPMAlgSHA256})),
		"RSAPSS":      rsaAK(gotpm.TPMAlgRSAPSS, gotpm.NewTPMUAsymScheme(gotpm.TPMAlgRSAPSS, &gotpm.TPMSSigSchemeRSAPSS{HashAlg: gotpm.TPMAlgSHA256})),
		"RSAPSS-384":  rsaAK(gotpm.TPMAlgRSAPSS, gotpm.NewTPMUAsymScheme(gotpm.TPMAlgRSAPSS, &gotpm.TPMSSigSchemeRSAPSS{HashAlg: gotpm.TPMAlgSHA384})),
		"ECDSA P-256": eccAK(gotpm.TPMECCNistP256, gotpm.TPMAlgSHA256),
		"ECDSA P-384": eccAK(gotpm.TPMECCNistP384, gotpm.TPMAlgSHA384),
	}
	tpm := startSWTPM(t)
	(&realTPM{t: t, tpm: tpm}).boot(log)
	for ekName, ekTemplate := range eks {
		for akName, akTemplate := range aks {
			t.Run("EK "+ekName+", AK "+akName, func(t *testing.T) {
				r := &realTPM{t: t, tpm: tpm}
				r.ek, r.ekPub = r.create(ekTemplate)
				r.ak, r.akPub = r.create(akTemplate)
				r.enrolAndAttest(log)
			})
		}
	}
}

func (r *realTPM) enrolAndAttest(log []byte) {
	t, ctx, f := r.t, context.Background(), newFixture(r.t, false)
	c := must[attest.CredentialChallenge](t)(f.BeginEnrolment(ctx, "tester", attest.EnrolmentRequest{
		Registration: attest.Registration{Machine: "web-1", AKPublic: r.akPub}, EKPublic: r.ekPub, TrustEK: true,
	}))
	other, _ := r.create(eccAK(gotpm.TPMECCNistP521, gotpm.TPMAlgSHA512))
	if _, err := r.activate(other, c); !errors.Is(err, gotpm.TPMRCIntegrity) {
		t.Errorf("ActivateCredential with another key = %v, want TPM_RC_INTEGRITY", err)
	}
	secret := must[[]byte](t)(r.activate(r.ak, c))
	ask := func() attest.Challenge {
		return must[attest.Challenge](t)(f.NewChallenge(ctx, attest.Purpose{Type: "tpm"}))
	}
	answer := func(ch attest.Challenge, p evidencetest.Parts) attest.Result {
		return must[attest.Result](t)(f.Attest(ctx, "tester", attest.Request{Challenge: ch.Challenge, Type: "tpm", Bundle: p.JSON(t)}))
	}
	ch := ask()
	if got := answer(ch, r.bundle(ch.Nonce, log)); got.Verdict != evidence.Refused || !slices.Equal(codes(got), []evidence.Code{"ak.untrusted"}) {
		t.Errorf("Attest before the TPM has answered = %v for %v, want ak.untrusted", got.Verdict, got.Reasons)
	}
	must[attest.Attester](t)(f.FinishEnrolment(ctx, "tester", c.ID, secret))
	ch = ask()
	good := r.bundle(ch.Nonce, log)
	if got := answer(ch, good); got.Verdict != evidence.Trusted {
		t.Errorf("Attest = %v for %v, want trusted", got.Verdict, got.Reasons)
	}
	if got := answer(ask(), good); got.Verdict != evidence.Refused || !slices.Equal(codes(got), []evidence.Code{"quote.nonce-mismatch"}) {
		t.Errorf("the same quote for another challenge = %v for %v, want quote.nonce-mismatch", got.Verdict, got.Reasons)
	}
}
