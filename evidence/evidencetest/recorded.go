package evidencetest

import (
	"bytes"
	_ "embed" // the recorded files
	"encoding/json"
	"encoding/pem"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/assay-project/assay/internal/sampletest"
)

//go:embed testdata/vmboot.zip
var archive []byte

//go:embed testdata/quotes.json
var quotes []byte

//go:embed testdata/trustee-tpm_evidence.json
var trustee []byte

var files = sync.OnceValues(func() (map[string][]byte, error) { return sampletest.Unpack(archive) })

// File returns a recorded file by its name in the archive, such as
// "good-uki/nonce.bin"; nil when there is none.
func File(tb testing.TB, name string) []byte {
	tb.Helper()
	all, err := files()
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.Clone(all[name])
}

// Scenarios lists the recorded boots that have quotes, sorted.
func Scenarios(tb testing.TB) []string {
	tb.Helper()
	return dirs(tb, true)
}

// Denied lists the recorded boots that the firmware or boot loader refused, so
// that there is no quote, sorted.
func Denied(tb testing.TB) []string {
	tb.Helper()
	return dirs(tb, false)
}

func dirs(tb testing.TB, quoted bool) []string {
	tb.Helper()
	var out []string
	all, err := files()
	if err != nil {
		tb.Fatal(err)
	}
	for name := range all {
		if dir, file := path.Split(name); file == "pcrs.json" {
			dir = strings.TrimSuffix(dir, "/")
			if _, ok := all[dir+"/nonce.bin"]; ok == quoted {
				out = append(out, dir)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Recorded returns the bundle of a recorded boot, quoted by its "rsa" or "ecc"
// attestation key over the given banks; none means sha256.
func Recorded(tb testing.TB, scenario, key string, banks ...string) Parts {
	tb.Helper()
	file := func(name string) []byte { return File(tb, scenario+"/"+name) }
	if len(banks) == 0 {
		banks = []string{"sha256"}
	}
	p := Parts{
		Type: "tpm", AKPublic: file("ak-" + key + ".tpmt_public"), EKPublic: file("ek-rsa2048.tpmt_public"), EKCert: file("ek-cert-rsa2048.der"),
		EventLog: file("eventlog.bin"), IMALog: file("ima.bin"), Nonce: file("nonce.bin"), Time: "2026-11-22T03:00:00Z",
	}
	for _, bank := range banks {
		p.Quotes = append(p.Quotes, Quote{file("quote-" + key + "-" + bank + ".attest"), file("quote-" + key + "-" + bank + ".sig")})
	}
	p.PCRs = readPCRs(tb, file("pcrs.json"))
	return p
}

func readPCRs(tb testing.TB, text []byte) (out map[string]map[string]string) {
	tb.Helper()
	if err := json.Unmarshal(text, &out); err != nil {
		tb.Fatal(err)
	}
	return out
}

// A DerivedCase is a recorded boot in which one file was replaced.
type DerivedCase struct {
	Name     string `json:"name"`
	Base     string `json:"base_scenario"`
	Replaces string `json:"replaces_file"`
	With     string `json:"with_file"`
	Expected string `json:"expected"`
	// Bundle is the result, quoted by the RSA key; its nonce is the one that the
	// verifier of this case expects.
	Bundle Parts `json:"-"`
}

// Derived returns the cases of the archive's folder derived, with bundles over the given banks.
func Derived(tb testing.TB, banks ...string) []DerivedCase {
	tb.Helper()
	var manifest struct {
		Cases []DerivedCase `json:"cases"`
	}
	if err := json.Unmarshal(File(tb, "derived/MANIFEST.json"), &manifest); err != nil {
		tb.Fatal(err)
	}
	for i := range manifest.Cases {
		c := &manifest.Cases[i]
		c.Bundle = Recorded(tb, c.Base, "rsa", banks...)
		with := File(tb, "derived/"+c.With)
		switch c.Replaces {
		case "eventlog.bin":
			c.Bundle.EventLog = with
		case "nonce.bin":
			c.Bundle.Nonce = with
		case "ak-rsa.tpmt_public":
			c.Bundle.AKPublic = with
		case "ek-cert-rsa2048.der":
			c.Bundle.EKCert = with
		case "quote-rsa-sha256.sig":
			c.Bundle.Quotes[0].Signature = with
		case "pcrs.json":
			c.Bundle.PCRs = readPCRs(tb, with)
		default:
			tb.Fatalf("%s replaces %s, which no bundle has", c.Name, c.Replaces)
		}
	}
	return manifest.Cases
}

// CA returns the certificates of the CA that issued the recorded endorsement key
// certificates, DER: the one that issued them, and its root.
func CA(tb testing.TB) (issuer, root []byte) {
	tb.Helper()
	der := func(name string) []byte {
		block, _ := pem.Decode(File(tb, "ca/"+name))
		if block == nil {
			tb.Fatalf("ca/%s is not PEM", name)
		}
		return block.Bytes
	}
	return der("issuercert.pem"), der("swtpm-localca-rootca-cert.pem")
}

// A FieldQuote is a quote from a public collection of logs; AKPublic is known for one only.
type FieldQuote struct {
	File      string                       `json:"file"`
	Attest    []byte                       `json:"quote"`
	Signature []byte                       `json:"sig"`
	AKPublic  []byte                       `json:"akpub"`
	KnownPCRs map[string]map[string]string `json:"known_pcrs"`
}

// FieldQuotes returns the quotes that came with public event logs.
func FieldQuotes(tb testing.TB) (out []FieldQuote) {
	tb.Helper()
	if err := json.Unmarshal(quotes, &out); err != nil {
		tb.Fatal(err)
	}
	return out
}

// Trustee returns the TPM evidence of another verifier's tests: a public key
// (SubjectPublicKeyInfo), a quote, and 24 PCR values of the SHA-256 bank in hex.
func Trustee(tb testing.TB) (spki []byte, q Quote, pcrs []string) {
	tb.Helper()
	var doc struct {
		AK    []byte `json:"ak_public"`
		Quote struct {
			Message   []byte   `json:"message"`
			PCRs      []string `json:"pcrs"`
			Signature []byte   `json:"signature"`
		} `json:"tpm_quote"`
	}
	if err := json.Unmarshal(trustee, &doc); err != nil {
		tb.Fatal(err)
	}
	return doc.AK, Quote{doc.Quote.Message, doc.Quote.Signature}, doc.Quote.PCRs
}
