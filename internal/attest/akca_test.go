package attest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/tpm2"
)

// certified returns a bundle with a certificate of its attestation key, and the CA in PEM.
func certified(t *testing.T, f *fixture, bundle []byte) (withCert, ca []byte) {
	t.Helper()
	public, err := tpm2.ParsePublic(member(t, bundle, "akPublic"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := public.Key()
	if err != nil {
		t.Fatal(err)
	}
	cert, authority := certify(t, f.clock.Now(), key)
	withCert = append([]byte(`{"akCert":"`+base64.StdEncoding.EncodeToString(cert)+`",`), bytes.TrimPrefix(bytes.TrimSpace(bundle), []byte("{"))...)
	return withCert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority})
}

// A removed attestation key was still trusted when a CA certified it.
func TestARemovedKeyIsNotTrustedByItsCertificate(t *testing.T) {
	f := newFixture(t, true)
	ctx := context.Background()
	good := read(t, "good.json")
	bundle, ca := certified(t, f, good)
	if r := f.attest(bundle); r.Verdict != evidence.Refused {
		t.Fatalf("before the CA is named: %v", r.Verdict)
	}
	if _, err := f.AddAnchors(ctx, "tester", attest.AnchorAKCA, ca); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(bundle); r.Verdict != evidence.Trusted {
		t.Fatalf("under the CA: %v for %v", r.Verdict, codes(r))
	}
	a := f.register("web-1", good, "")
	if err := f.RemoveAttester(ctx, "tester", a.AKName); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(bundle); r.Verdict != evidence.Refused || !slices.Equal(codes(r), []evidence.Code{"ak.removed"}) {
		t.Errorf("after its removal: %v for %v, want a refusal for ak.removed", r.Verdict, codes(r))
	}
}
