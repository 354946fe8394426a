package attest_test

import (
	"context"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// activate is what TPM2_ActivateCredential does with an RSA endorsement key
// (Part 1, 24): it fails for an object of another Name.
func activate(t *testing.T, ek *rsa.PrivateKey, akName []byte, c attest.CredentialChallenge) ([]byte, bool) {
	t.Helper()
	seed, err := rsa.DecryptOAEP(sha256.New(), nil, ek, c.EncryptedSecret, []byte("IDENTITY\x00"))
	if err != nil {
		t.Fatal(err)
	}
	symKey, _ := tpm2.KDFa(tpm2.AlgSHA256, seed, "STORAGE", akName, nil, 128)
	macKey, _ := tpm2.KDFa(tpm2.AlgSHA256, seed, "INTEGRITY", nil, nil, 256)
	mac, sealed := c.CredentialBlob[2:34], c.CredentialBlob[34:]
	h := hmac.New(sha256.New, macKey)
	h.Write(sealed)
	h.Write(akName)
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil, false
	}
	return cfbDecrypt(t, symKey, sealed)[2:], true
}

// cfbDecrypt is AES in CFB mode with an IV of zeroes, as TPMs use it.
func cfbDecrypt(t *testing.T, key, in []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	register := make([]byte, aes.BlockSize)
	for len(in) > 0 {
		stream := make([]byte, aes.BlockSize)
		block.Encrypt(stream, register)
		n := min(len(in), aes.BlockSize)
		for i := range n {
			out = append(out, in[i]^stream[i])
		}
		copy(register, in[:n])
		in = in[n:]
	}
	return out
}

func encode(t *testing.T, v wire.Layout) []byte {
	t.Helper()
	b, err := wire.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newEK makes an endorsement key of the standard RSA template.
func newEK(t *testing.T) (*rsa.PrivateKey, []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public := tpm2.EKTemplates()[0].Public
	public.Unique.RSA = key.N.Bytes()
	return key, encode(t, &public)
}

func TestCredentialActivationEnrolsAKey(t *testing.T) {
	f := newFixture(t, true)
	ctx, good := context.Background(), read(t, "good.json")
	key, ek := newEK(t)
	request := attest.EnrolmentRequest{
		Registration: attest.Registration{Machine: "web-1", AKPublic: member(t, good, "akPublic")}, EKPublic: ek, TrustEK: true,
	}
	begin := func() (attest.CredentialChallenge, []byte) {
		t.Helper()
		c, err := f.BeginEnrolment(ctx, "tester", request)
		if err != nil {
			t.Fatal(err)
		}
		ak, _ := tpm2.ParsePublic(request.AKPublic)
		name, _ := ak.Name()
		secret, ok := activate(t, key, name, c)
		if !ok {
			t.Fatal("the credential is not for this key's Name")
		}
		if _, ok := activate(t, key, append(slices.Clone(name[:33]), name[33]^1), c); ok {
			t.Fatal("the credential opens for another Name")
		}
		return c, secret
	}
	c, secret := begin()
	var input *attest.InputError
	if _, err := f.FinishEnrolment(ctx, "tester", c.ID, slices.Repeat([]byte{1}, 32)); !errors.As(err, &input) || input.Code != "enrolment.secret-mismatch" {
		t.Errorf("FinishEnrolment with a guess = %v, want enrolment.secret-mismatch", err)
	}
	if r := f.attest(good); r.Verdict == evidence.Trusted {
		t.Fatal("a key counts as enrolled before its TPM has answered")
	}
	a, err := f.FinishEnrolment(ctx, "tester", c.ID, secret)
	if err != nil || a.Proof != "credential-activation" {
		t.Fatalf("FinishEnrolment = %+v, %v", a, err)
	}
	if r := f.attest(good); r.Verdict != evidence.Trusted || r.Attester != a.AKName {
		t.Errorf("Attest = %v for %v, want trusted as %s", r.Verdict, codes(r), a.AKName)
	}
	if _, err := f.FinishEnrolment(ctx, "tester", c.ID, secret); !errors.Is(err, attest.ErrNotFound) {
		t.Errorf("the same enrolment again = %v, want ErrNotFound", err)
	}
}

func TestAnEnrolmentExpires(t *testing.T) {
	f := newFixture(t, true)
	ctx, good := context.Background(), read(t, "good.json")
	_, ek := newEK(t)
	c, err := f.BeginEnrolment(ctx, "tester", attest.EnrolmentRequest{
		Registration: attest.Registration{Machine: "web-1", AKPublic: member(t, good, "akPublic")}, EKPublic: ek, TrustEK: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.clock.advance(10 * time.Minute)
	var input *attest.InputError
	if _, err := f.FinishEnrolment(ctx, "tester", c.ID, make([]byte, 32)); !errors.As(err, &input) || input.Code != "enrolment.expired" {
		t.Errorf("FinishEnrolment after ten minutes = %v, want enrolment.expired", err)
	}
}

func TestEnrolmentNeedsACertificateOfATrustedCA(t *testing.T) {
	f := newFixture(t, true)
	ctx, good := context.Background(), read(t, "good.json")
	request := attest.EnrolmentRequest{
		Registration: attest.Registration{Machine: "web-1", AKPublic: member(t, good, "akPublic")},
		EKPublic:     member(t, good, "ekPublic"), EKCert: member(t, good, "ekCert"),
	}
	code := func(r attest.EnrolmentRequest) evidence.Code {
		t.Helper()
		_, err := f.BeginEnrolment(ctx, "tester", r)
		var input *attest.InputError
		if err != nil && !errors.As(err, &input) {
			t.Fatal(err)
		}
		if err == nil {
			return ""
		}
		return input.Code
	}
	if got := code(request); got != "ek.certificate-foreign" {
		t.Errorf("without an anchor: %q, want ek.certificate-foreign", got)
	}
	if _, err := f.AddAnchors(ctx, "tester", attest.AnchorEKCA, append(read(t, "issuercert.pem"), read(t, "swtpm-localca-rootca-cert.pem")...)); err != nil {
		t.Fatal(err)
	}
	if got := code(request); got != "" {
		t.Errorf("under its CA: %q, want a credential", got)
	}
	other := request
	other.EKPublic = member(t, read(t, "foreign-key.json"), "ekPublic")
	if got := code(other); got != "ek.key-mismatch" {
		t.Errorf("another TPM's key under this certificate: %q, want ek.key-mismatch", got)
	}
	notAK := request
	notAK.AKPublic = request.EKPublic
	if got := code(notAK); got != "ak.attributes" {
		t.Errorf("an endorsement key as attestation key: %q, want ak.attributes", got)
	}
	name, _ := hex.DecodeString("00")
	notAK.AKPublic = name
	if got := code(notAK); got != "request.invalid" {
		t.Errorf("garbage as attestation key: %q, want request.invalid", got)
	}
}
