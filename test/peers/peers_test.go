package peers

import (
	"crypto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-attestation/attest"
	pb "github.com/google/go-tpm-tools/proto/attest"
	tpmpb "github.com/google/go-tpm-tools/proto/tpm"
	"github.com/google/go-tpm-tools/server"
	legacy "github.com/google/go-tpm/legacy/tpm2"
	"google.golang.org/protobuf/proto"
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
	b.Run("go-attestation", func(b *testing.B) { benchGoAttestation(b, att, quote) })
	b.Run("go-tpm-tools", func(b *testing.B) { benchGoTPMTools(b, raw) })
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
