package peers

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-tpm-tools/client"
	"github.com/google/go-tpm-tools/quote"
	"github.com/google/go-tpm-tools/server"
	legacy "github.com/google/go-tpm/legacy/tpm2"

	"github.com/assay-project/assay/tpm2/tpmtest"
)

// toolsKeys are the keys that go-tpm-tools makes by its own templates.
var toolsKeys = map[string]func(io.ReadWriter) (*client.Key, error){
	"endorsement RSA": client.EndorsementKeyRSA, "endorsement ECC": client.EndorsementKeyECC,
	"storage RSA": client.StorageRootKeyRSA, "storage ECC": client.StorageRootKeyECC,
	"attestation RSA": client.AttestationKeyRSA, "attestation ECC": client.AttestationKeyECC,
}

// made is a key of go-tpm-tools, which is closed when the test ends.
func made(t *testing.T, tpm *tpmtest.TPM, name string) *client.Key {
	t.Helper()
	k, err := toolsKeys[name](tpm)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(k.Close)
	return k
}

// docs/tpm-testing.md says that go-tpm-tools takes the TPM of a test. Here all that its
// client offers on any machine runs over one, and its server and verifier judge what
// comes out.
func TestGoTPMToolsTakesTheTPM(t *testing.T) {
	for name := range toolsKeys {
		t.Run(name, func(t *testing.T) {
			tpm := tpmtest.Open(t)
			first, again := made(t, tpm, name), made(t, tpm, name)
			if !bytes.Equal(first.Name().Digest.Value, again.Name().Digest.Value) {
				t.Error("the key is another when it is made again")
			}
		})
	}
}

func TestGoTPMToolsQuotes(t *testing.T) {
	for _, name := range []string{"attestation RSA", "attestation ECC"} {
		t.Run(name, func(t *testing.T) {
			tpm := tpmtest.Open(t)
			k := made(t, tpm, name)
			for _, bank := range []legacy.Algorithm{legacy.AlgSHA1, legacy.AlgSHA256, legacy.AlgSHA384} {
				q, err := k.Quote(client.FullPcrSel(bank), []byte("nonce"))
				if err != nil {
					t.Fatalf("bank %v: %v", bank, err)
				}
				if err := quote.Verify(q, k.PublicKey(), []byte("nonce")); err != nil {
					t.Errorf("bank %v: %v", bank, err)
				}
				if err := quote.Verify(q, k.PublicKey(), []byte("another")); err == nil {
					t.Errorf("bank %v: the quote is good for another nonce", bank)
				}
			}
		})
	}
}

// Secrets come back while the registers are as they were, and not after.
func TestGoTPMToolsSealsAndImports(t *testing.T) {
	tpm := tpmtest.Open(t)
	sel := legacy.PCRSelection{Hash: legacy.AlgSHA256, PCRs: []int{7, 16}}
	secret := []byte("secret")
	for _, kind := range []string{"RSA", "ECC"} {
		storage, endorsement := made(t, tpm, "storage "+kind), made(t, tpm, "endorsement "+kind)
		sealed, err := storage.Seal(secret, client.SealOpts{Current: sel})
		if err != nil {
			t.Fatal(err)
		}
		registers, err := client.ReadPCRs(tpm, sel)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := server.CreateImportBlob(endorsement.PublicKey(), secret, registers)
		if err != nil {
			t.Fatal(err)
		}
		for _, changed := range []bool{false, true} {
			if changed {
				if err := legacy.PCREvent(tpm, 16, []byte("change")); err != nil {
					t.Fatal(err)
				}
			}
			got, err := storage.Unseal(sealed, client.UnsealOpts{CertifyCurrent: legacy.PCRSelection{Hash: legacy.AlgSHA256, PCRs: []int{7}}})
			if (err == nil) == changed || !changed && !bytes.Equal(got, secret) {
				t.Errorf("%s: Unseal = %q, %v; registers changed: %t", kind, got, err, changed)
			}
			got, err = endorsement.Import(blob)
			if (err == nil) == changed || !changed && !bytes.Equal(got, secret) {
				t.Errorf("%s: Import = %q, %v; registers changed: %t", kind, got, err, changed)
			}
		}
	}
}
