package engine_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/wire"
)

// goldenTemplates are primary objects of every kind and size.
func goldenTemplates(p *engine.Profile) map[string]tpm2.Public {
	out := map[string]tpm2.Public{
		"keyedhash-hmac":   keyedHashTemplate(fixed | ordinary | tpm2.AttrSign),
		"keyedhash-derive": keyedHashTemplate(fixed | ordinary | storageUse),
		"symcipher-128":    symTemplate(fixed | ordinary | tpm2.AttrDecrypt),
		"symcipher-parent": symTemplate(fixed | ordinary | storageUse),
		"p256":             eccTemplate(fixed | ordinary | storageUse),
		"p256-sign":        eccTemplate(fixed | ordinary | tpm2.AttrSign),
		"rsa2048":          rsaTemplate(fixed | ordinary | storageUse),
	}
	if p.OffersAlg(tpm2.AlgMLKEM) {
		out["mlkem768"] = mlkemTemplate(tpm2.MLKEM768, fixed|ordinary|storageUse)
		out["mlkem1024"] = mlkemTemplate(tpm2.MLKEM1024, fixed|ordinary|tpm2.AttrDecrypt)
	}
	if p.OffersAlg(tpm2.AlgMLDSA) {
		out["mldsa44"] = mldsaTemplate(tpm2.MLDSA44, fixed|ordinary|tpm2.AttrSign)
		out["mldsa65"] = externalMu(mldsaTemplate(tpm2.MLDSA65, fixed|ordinary|tpm2.AttrSign|tpm2.AttrRestricted))
		out["mldsa87"] = mldsaTemplate(tpm2.MLDSA87, fixed|ordinary|tpm2.AttrSign)
		out["hashmldsa65"] = hashMLDSATemplate(tpm2.MLDSA65, tpm2.AlgSHA512, fixed|ordinary|tpm2.AttrSign)
	}
	if !p.OffersAlg(tpm2.AlgXOR) {
		delete(out, "keyedhash-derive")
	}
	out = withHashes(withCurves(out))
	for name, template := range out {
		if !goldenOffered(p, &template) {
			delete(out, name)
		}
	}
	return out
}

// goldenOffered reports whether a profile has the template's algorithms, and what is slow
// and no different in it is to be made.
func goldenOffered(p *engine.Profile, t *tpm2.Public) bool {
	switch t.Type {
	case tpm2.AlgECC:
		if !p.OffersCurve(t.Parameters.ECC.CurveID) {
			return false
		}
	case tpm2.AlgRSA:
		bits := t.Parameters.RSA.KeyBits
		if !p.OffersKeyBits(tpm2.AlgRSA, bits) || bits == 3072 && p.Version > 1 || bits == 4096 && p.Name != "default" && p.Name != "libtpms" {
			return false
		}
	}
	return p.OffersAlg(t.NameAlg)
}

// withHashes adds objects whose Names are by the other hashes, on which all that is made
// of a seed depends.
func withHashes(out map[string]tpm2.Public) map[string]tpm2.Public {
	for name, a := range map[string]tpm2.Alg{"sha1": tpm2.AlgSHA1, "sha512": tpm2.AlgSHA512, "sha3-256": tpm2.AlgSHA3x256, "sha3-384": tpm2.AlgSHA3x384, "sha3-512": tpm2.AlgSHA3x512} {
		t := eccTemplate(fixed | ordinary | tpm2.AttrSign)
		t.NameAlg = a
		out["p256-"+name] = t
	}
	return out
}

func withCurves(out map[string]tpm2.Public) map[string]tpm2.Public {
	for name, curve := range map[string]tpm2.ECCCurve{"p384": tpm2.CurveNISTP384, "p521": tpm2.CurveNISTP521} {
		t := eccTemplate(fixed | ordinary | storageUse)
		t.Parameters.ECC.CurveID, t.NameAlg = curve, tpm2.AlgSHA384
		out[name] = t
	}
	bn := eccTemplate(fixed | ordinary | tpm2.AttrSign)
	bn.Parameters.ECC.CurveID = tpm2.CurveBNP256
	out["bnp256-sign"] = bn
	for name, bits := range map[string]uint16{"rsa1024": 1024, "rsa3072": 3072, "rsa4096": 4096} {
		t := rsaTemplate(fixed | ordinary | storageUse)
		if t.Parameters.RSA.KeyBits = bits; bits > 2048 {
			t.NameAlg = tpm2.AlgSHA384
		}
		out[name] = t
	}
	for name, bits := range map[string]uint16{"symcipher-192": 192, "symcipher-256": 256} {
		t := symTemplate(fixed | ordinary | tpm2.AttrDecrypt)
		t.Parameters.SymCipher.KeyBits = bits
		out[name] = t
	}
	return out
}

// Primary objects are a promise for ever: they are made anew at each start of a
// machine, and data protected by them must come back. A line of this file may
// never change; the seeds are "seed", and the proofs "proof", repeated to 64 bytes.
func TestPrimaryObjectsNeverChange(t *testing.T) {
	want := readGolden(t, "testdata/primaries.txt")
	for _, p := range engine.Profiles() {
		m := manufactureBy(t, p)
		m.startup(tpm2.StartupClear)
		for _, h := range []tpm2.Handle{tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform} {
			m.tpm.SetSeed(h, bytes.Repeat([]byte("seed"), 16))
			m.tpm.SetProof(h, bytes.Repeat([]byte("proof---"), 8))
		}
		for name, template := range goldenTemplates(p) {
			for hname, h := range map[string]tpm2.Handle{"owner": tpm2.HandleOwner, "endorsement": tpm2.HandleEndorsement} {
				if h == tpm2.HandleEndorsement && (name == "rsa3072" || name == "rsa4096") {
					continue // slow, and no different
				}
				key := fmt.Sprintf("%s/%d %s %s", p.Name, p.Version, hname, name)
				got := m.fingerprint(m.primary(h, template, ""))
				if got != want[key] {
					t.Errorf("%s\n got %s\nwant %s", key, got, want[key])
				}
				delete(want, key)
			}
		}
	}
	for key := range want {
		t.Errorf("%s is no longer made", key)
	}
}

// fingerprint is the Name of an object and the digest of its sensitive area. It
// flushes the object.
func (m *machine) fingerprint(h tpm2.Handle) string {
	m.Helper()
	b, err := wire.Encode(m.tpm.Sensitive(h))
	if err != nil {
		m.Fatal(err)
	}
	sum := sha256.Sum256(b)
	out := hex.EncodeToString(m.name(h)) + " " + hex.EncodeToString(sum[:])
	m.flush(h)
	return out
}

// readGolden reads lines of a key of three words and what belongs to it.
func readGolden(t *testing.T, name string) map[string]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) != 5 {
			t.Fatalf("%s: line %q has %d words, want 5", name, s.Text(), len(w))
		}
		out[strings.Join(w[:3], " ")] = strings.Join(w[3:], " ")
	}
	return out
}
