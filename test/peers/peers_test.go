package peers

import (
	"crypto"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-attestation/attest"
	pb "github.com/google/go-tpm-tools/proto/attest"
	tpmpb "github.com/google/go-tpm-tools/proto/tpm"
	"github.com/google/go-tpm-tools/server"
	legacy "github.com/google/go-tpm/legacy/tpm2"
	"google.golang.org/protobuf/proto"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
)

// cosNonce is the qualifying data of the recorded quotes.
var cosNonce = []byte{0x90, 0x09}

// recorded returns the COS-85 attestation with the SHA-256 quote only, as one bank.
func recorded(b *testing.B) (raw []byte, att *pb.Attestation, quote *tpmpb.Quote) {
	b.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/go-tpm-tools").Output()
	if err != nil {
		b.Fatal(err)
	}
	raw, err = os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "internal/test/attestations/gce-cos-85-nonce9009.pb"))
	if err != nil {
		b.Fatal(err)
	}
	att = new(pb.Attestation)
	if err := proto.Unmarshal(raw, att); err != nil {
		b.Fatal(err)
	}
	for _, q := range att.GetQuotes() {
		if q.GetPcrs().GetHash() == tpmpb.HashAlgo_SHA256 {
			quote = q
		}
	}
	att.Quotes = []*tpmpb.Quote{quote}
	if raw, err = proto.Marshal(att); err != nil {
		b.Fatal(err)
	}
	return raw, att, quote
}

func BenchmarkVerifyQuoteAndLog(b *testing.B) {
	raw, att, quote := recorded(b)
	b.Run("assay", func(b *testing.B) { benchAssay(b, bundleOf(b, att, quote)) })
	b.Run("assay-verify", func(b *testing.B) { benchAssayVerify(b, bundleOf(b, att, quote)) })
	b.Run("assay-parsed", func(b *testing.B) { benchAssayParsed(b, bundleOf(b, att, quote), nil) })
	b.Run("assay-fleet", func(b *testing.B) { benchAssayParsed(b, bundleOf(b, att, quote), new(eventlog.Cache)) })
	b.Run("go-attestation", func(b *testing.B) { benchGoAttestation(b, att, quote) })
	b.Run("go-tpm-tools", func(b *testing.B) { benchGoTPMTools(b, raw) })
}

// bundleOf is the recorded evidence as a bundle.
func bundleOf(b *testing.B, att *pb.Attestation, quote *tpmpb.Quote) []byte {
	b.Helper()
	pcrs := map[string]string{}
	for i, v := range quote.GetPcrs().GetPcrs() {
		pcrs[strconv.Itoa(int(i))] = hex.EncodeToString(v)
	}
	text, err := json.Marshal(map[string]any{
		"type": "tpm", "quotes": []map[string][]byte{{"attest": quote.GetQuote(), "signature": quote.GetRawSig()}},
		"pcrs": map[string]any{"sha256": pcrs}, "akPublic": att.GetAkPub(), "eventLog": att.GetEventLog(),
	})
	if err != nil {
		b.Fatal(err)
	}
	return text
}

func expectation(b *testing.B, bundle []byte) tpm.Options {
	b.Helper()
	var members struct {
		AKPublic []byte `json:"akPublic"`
	}
	if err := json.Unmarshal(bundle, &members); err != nil {
		b.Fatal(err)
	}
	key, err := tpm.ParseKey(members.AKPublic)
	if err != nil {
		b.Fatal(err)
	}
	return tpm.Options{Expect: tpm.Expect{Nonce: cosNonce, Keys: []*tpm.Key{key}}}
}

// benchAssay is the whole appraisal from the text of the bundle: JSON, quote,
// log, claims, the strict default.
func benchAssay(b *testing.B, bundle []byte) {
	o := expectation(b, bundle)
	for b.Loop() {
		if a := tpm.AppraiseBundle(bundle, o); a.Verdict != evidence.Trusted {
			b.Fatalf("%v", a.Reasons)
		}
	}
}

// benchAssayVerify is quote and log alone: what is proven, before claims are made of it.
func benchAssayVerify(b *testing.B, bundle []byte) {
	o := expectation(b, bundle)
	parsed, err := evidence.ParseBundle(bundle)
	if err != nil {
		b.Fatal(err)
	}
	e, err := tpm.Parse(parsed)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := tpm.Verify(e, o.Expect); err != nil {
			b.Fatal(err)
		}
	}
}

// benchAssayParsed is the same from evidence in memory, as the peers get it; with
// a cache, as a service that has seen such a machine before.
func benchAssayParsed(b *testing.B, bundle []byte, cache *eventlog.Cache) {
	o := expectation(b, bundle)
	o.Cache = cache
	parsed, err := evidence.ParseBundle(bundle)
	if err != nil {
		b.Fatal(err)
	}
	e, err := tpm.Parse(parsed)
	if err != nil {
		b.Fatal(err)
	}
	start, n := cpu(b), 0
	for b.Loop() {
		if a := tpm.Appraise(e, o); a.Verdict != evidence.Trusted {
			b.Fatalf("%v", a.Reasons)
		}
		n++
	}
	b.ReportMetric(float64((cpu(b)-start).Microseconds())/float64(n), "cpu-µs/op")
}

func benchGoAttestation(b *testing.B, att *pb.Attestation, quote *tpmpb.Quote) {
	var pcrs []attest.PCR
	for i, v := range quote.GetPcrs().GetPcrs() {
		pcrs = append(pcrs, attest.PCR{Index: int(i), Digest: v, DigestAlg: crypto.SHA256})
	}
	for b.Loop() {
		ak, err := attest.ParseAKPublic(att.GetAkPub())
		if err != nil {
			b.Fatal(err)
		}
		q := attest.Quote{Quote: quote.GetQuote(), Signature: quote.GetRawSig()}
		if err := ak.VerifyAll([]attest.Quote{q}, pcrs, cosNonce); err != nil {
			b.Fatal(err)
		}
		log, err := attest.ParseEventLog(att.GetEventLog())
		if err != nil {
			b.Fatal(err)
		}
		events, err := log.Verify(pcrs)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := attest.ParseSecurebootState(events); err != nil {
			b.Fatal(err)
		}
	}
}

func benchGoTPMTools(b *testing.B, raw []byte) {
	att := new(pb.Attestation)
	if err := proto.Unmarshal(raw, att); err != nil {
		b.Fatal(err)
	}
	public, err := legacy.DecodePublic(att.GetAkPub())
	if err != nil {
		b.Fatal(err)
	}
	key, err := public.Key()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		att := new(pb.Attestation)
		if err := proto.Unmarshal(raw, att); err != nil {
			b.Fatal(err)
		}
		if _, err := server.VerifyAttestation(att, server.VerifyOpts{Nonce: cosNonce, TrustedAKs: []crypto.PublicKey{key}, Loader: server.GRUB}); err != nil {
			b.Fatal(err)
		}
	}
}
