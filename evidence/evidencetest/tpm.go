package evidencetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"strconv"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// A TPM is a fake TPM: it quotes whatever it is told to, with a key of its own.
// Its PCRs and log are those of a recorded boot.
type TPM struct {
	tb     testing.TB
	Key    crypto.Signer
	Public tpm2.Public
	Hash   tpm2.Alg // of the signing scheme
	Scheme tpm2.Alg
	Clock  tpm2.ClockInfo
	Boot   Parts
}

// Kinds of key that [NewTPM] makes.
const (
	RSA2048 = "rsa2048"
	RSAPSS  = "rsapss"
	P256    = "p256"
	P384    = "p384"
	P521    = "p521"
)

// NewTPM makes a TPM with a new attestation key of the given kind, in the state
// of a recorded boot.
func NewTPM(tb testing.TB, kind string, boot Parts) *TPM {
	tb.Helper()
	t := &TPM{
		tb: tb, Hash: tpm2.AlgSHA256, Scheme: tpm2.AlgECDSA, Boot: boot.Clone(),
		Clock: tpm2.ClockInfo{Clock: 100_000, ResetCount: 5, RestartCount: 1, Safe: true},
	}
	var err error
	switch kind {
	case RSA2048, RSAPSS:
		t.Key, err = rsa.GenerateKey(rand.Reader, 2048)
		t.Scheme = map[string]tpm2.Alg{RSA2048: tpm2.AlgRSASSA, RSAPSS: tpm2.AlgRSAPSS}[kind]
	case P256:
		t.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		t.Key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		t.Hash = tpm2.AlgSHA384
	case P521:
		t.Key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
		t.Hash = tpm2.AlgSHA512
	default:
		tb.Fatalf("no kind of key %q", kind)
	}
	if err != nil {
		tb.Fatal(err)
	}
	t.Public = AKOf(tb, t.Key.Public(), t.Scheme, t.Hash)
	return t
}

// AKOf returns the public area of a good attestation key.
func AKOf(tb testing.TB, key crypto.PublicKey, scheme, hash tpm2.Alg) tpm2.Public {
	tb.Helper()
	p, err := tpm2.NewPublic(key)
	if err != nil {
		tb.Fatal(err)
	}
	p.NameAlg = tpm2.AlgSHA256
	p.Attributes = tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth | tpm2.AttrRestricted | tpm2.AttrSign
	p.Parameters.RSA.Scheme = tpm2.RSAScheme{Scheme: scheme, HashAlg: hash}
	p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: scheme, HashAlg: hash}
	return *p
}

// Encode encodes a structure or fails the test.
func Encode(tb testing.TB, v wire.Layout) []byte {
	tb.Helper()
	b, err := wire.Encode(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Select is PCRs of a bank, for [TPM.Attest].
func Select(bank tpm2.Alg, pcrs ...int) tpm2.PCRSelection {
	return tpm2.PCRSelection{Hash: bank, Select: tpm2.SelectPCRs(pcrs...)}
}

// BootPCRs are 0 to 14, the selection of all recorded quotes.
var BootPCRs = [...]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}

// Attest returns what the TPM says of the selected PCRs: PCRs 0 to 14 of the
// SHA-256 bank when none are named. It is not signed yet.
func (t *TPM) Attest(nonce []byte, selections ...tpm2.PCRSelection) *tpm2.Attest {
	t.tb.Helper()
	if len(selections) == 0 {
		selections = []tpm2.PCRSelection{Select(tpm2.AlgSHA256, BootPCRs[:]...)}
	}
	a := &tpm2.Attest{Type: tpm2.AttestQuote, QualifiedSigner: make([]byte, 34), ExtraData: nonce, ClockInfo: t.Clock, FirmwareVersion: 7}
	a.Attested.Quote = tpm2.QuoteInfo{PCRSelect: selections, PCRDigest: t.Digest(selections)}
	return a
}

// Digest is the digest of the selected PCRs of the boot, by the hash of the scheme.
func (t *TPM) Digest(selections []tpm2.PCRSelection) []byte {
	t.tb.Helper()
	h, _ := t.Hash.Hash()
	sum := h.New()
	for _, s := range selections {
		for pcr := range s.Select.All() {
			b, err := hex.DecodeString(t.Boot.PCRs[s.Hash.BankName()][strconv.Itoa(pcr)])
			if err != nil {
				t.tb.Fatal(err)
			}
			sum.Write(b)
		}
	}
	return sum.Sum(nil)
}

// Sign signs what the TPM says.
func (t *TPM) Sign(a *tpm2.Attest) Quote {
	t.tb.Helper()
	return t.SignBytes(Encode(t.tb, a))
}

// SignBytes signs any bytes, as no TPM would with a restricted key.
func (t *TPM) SignBytes(b []byte) Quote {
	t.tb.Helper()
	s := tpm2.Signature{SigAlg: t.Scheme, Hash: t.Hash}
	h, _ := t.Hash.Hash()
	sum := h.New()
	sum.Write(b)
	digest := sum.Sum(nil)
	var err error
	switch key := t.Key.(type) {
	case *rsa.PrivateKey:
		if t.Scheme == tpm2.AlgRSAPSS {
			s.RSA, err = rsa.SignPSS(rand.Reader, key, h, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			s.RSA, err = rsa.SignPKCS1v15(nil, key, h, digest)
		}
	case *ecdsa.PrivateKey:
		r, v, e := ecdsa.Sign(rand.Reader, key, digest)
		s.R, s.S, err = r.Bytes(), v.Bytes(), e
	}
	if err != nil {
		t.tb.Fatal(err)
	}
	return Quote{Attest: b, Signature: Encode(t.tb, &s)}
}

// Bundle returns the recorded boot's bundle with quotes by this TPM. Without a
// quote it makes a good one over the nonce.
func (t *TPM) Bundle(nonce []byte, quotes ...Quote) Parts {
	t.tb.Helper()
	if len(quotes) == 0 {
		quotes = []Quote{t.Sign(t.Attest(nonce))}
	}
	p := t.Boot.Clone()
	p.Quotes, p.AKPublic, p.EKPublic, p.EKCert, p.Nonce = quotes, Encode(t.tb, &t.Public), nil, nil, nonce
	return p
}
