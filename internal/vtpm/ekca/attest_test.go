package ekca

import (
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"

	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// quoteBy has the guest quote by a key at a handle, and bundles that with the key's
// certificate and chain.
func (m *module) quoteBy(t *testing.T, k *IssuedKey, chain [][]byte, nonce []byte) []byte {
	t.Helper()
	var out command.QuoteOut
	_, err := m.tpm.Run(&client.Command{
		Code: tpm2.CCQuote, Handles: []client.Entity{{Handle: k.Handle}}, Out: &out,
		In: &command.QuoteIn{
			QualifyingData: nonce, InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull},
			PCRSelect: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 1, 2, 3, 4, 5, 6, 7)}},
		},
	})
	if err != nil {
		t.Fatalf("%s: %v", k.Kind, err)
	}
	signature, err := wire.Encode(&out.Signature)
	if err != nil {
		t.Fatal(err)
	}
	public, err := wire.Encode(&k.Public)
	if err != nil {
		t.Fatal(err)
	}
	zero := strings.Repeat("00", 32)
	pcrs := map[string]string{}
	for _, n := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
		pcrs[n] = zero
	}
	bundle, err := json.Marshal(map[string]any{
		"type": "tpm", "quotes": []any{map[string]any{"attest": out.Quoted, "signature": signature}}, "pcrs": map[string]any{"sha256": pcrs},
		"akPublic": public, "akCert": k.Certificate, "caCerts": chain,
	})
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

// A quote by the initial attestation key is believed under the root alone: the
// verifier enrolled nothing. What it lacks here is a boot log.
func TestQuoteByTheIAKIsBelievedByItsCertificate(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	engine := newEngine(t)
	made := mustManufacture(t, engine, ca, Options{Keys: []Kind{P256}, DeviceIdentity: true})
	m := restart(t, engine)
	nonce := []byte("0123456789abcdef0123456789abcdef")
	roots := x509.NewCertPool()
	roots.AddCert(ca.root)
	appraise := func(k *IssuedKey) string {
		o := tpm.Options{}
		o.Nonce, o.AKRoots, o.At = nonce, roots, noon
		var codes []string
		for _, r := range tpm.AppraiseBundle(m.quoteBy(t, k, made.Chain, nonce), o).Reasons {
			codes = append(codes, string(r.Code))
		}
		return strings.Join(codes, " ")
	}
	byKind := map[Kind]*IssuedKey{}
	for i := range made.Keys {
		byKind[made.Keys[i].Kind] = &made.Keys[i]
	}
	if codes := appraise(byKind[IAK]); codes != "eventlog.absent" {
		t.Errorf("IAK: refused for %s", codes)
	}
	// The IDevID signs anything it is given: it makes no evidence.
	if codes := appraise(byKind[IDevID]); !strings.Contains(codes, "ak.") {
		t.Errorf("IDevID: refused for %s", codes)
	}
}
