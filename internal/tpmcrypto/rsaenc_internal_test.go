package tpmcrypto

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"fmt"
	"hash"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
)

// notedHash is SHA-256 that notes what is done with it, and to how many bytes.
type notedHash struct {
	hash.Hash
	notes *[]string
}

func (h notedHash) Write(b []byte) (int, error) {
	*h.notes = append(*h.notes, fmt.Sprintf("write %d", len(b)))
	return h.Hash.Write(b)
}

func (h notedHash) Sum(b []byte) []byte {
	*h.notes = append(*h.notes, "sum")
	return h.Hash.Sum(b)
}

// notedHashID is a hash of 32 bytes that nothing here uses.
const notedHashID = crypto.BLAKE2s_256

// An oaepPlain is an OAEP block of SHA-256 before it is masked. A good one has the
// first byte 0, the label's digest, zeros, a 1 and the message.
type oaepPlain struct {
	first byte
	db    []byte
}

// newOAEPPlain is the good block of a message.
func newOAEPPlain(size int, label, message []byte) *oaepPlain {
	sum := sha256.Sum256(label)
	db := append(sum[:], make([]byte, size-1-2*sha256.Size-len(message))...)
	db[len(db)-1] = 1
	return &oaepPlain{db: append(db, message...)}
}

// masked is the block as it is encrypted.
func (p *oaepPlain) masked() []byte {
	seed, db := bytes.Repeat([]byte{0xA5}, sha256.Size), bytes.Clone(p.db)
	mgf(crypto.SHA256, db, seed, 0)
	mgf(crypto.SHA256, seed, db, 0)
	return append(append([]byte{p.first}, seed...), db...)
}

// oaepFaults are blocks with one fault each. The message of the good one has 32 bytes.
var oaepFaults = map[string]func(p *oaepPlain){
	"first byte":            func(p *oaepPlain) { p.first = 1 },
	"first byte, high bit":  func(p *oaepPlain) { p.first = 0x80 },
	"label, first byte":     func(p *oaepPlain) { p.db[0] ^= 1 },
	"label, last byte":      func(p *oaepPlain) { p.db[31] ^= 0x80 },
	"padding, first byte":   func(p *oaepPlain) { p.db[32] = 2 },
	"padding, last byte":    func(p *oaepPlain) { p.db[len(p.db)-34] = 0xff },
	"another end":           func(p *oaepPlain) { p.db[len(p.db)-33] = 2 },
	"no end and no message": func(p *oaepPlain) { clear(p.db[32:]) },
	"everything": func(p *oaepPlain) {
		p.first = 0xff
		for i := range p.db {
			p.db[i] ^= 0xff
		}
	},
}

// CVE-2026-6727: the reference decoded OAEP in a time that told what was wrong with the
// block, which is the oracle of Manger for whoever may have a salt or a seed decrypted.
// Here each block, good or with any one fault, is hashed in the same steps: nothing ends
// early. What is left of the decoding are the constant-time functions of crypto/subtle.
func TestCVE2026x6727EveryOAEPBlockTakesTheSameSteps(t *testing.T) {
	var notes []string
	crypto.RegisterHash(notedHashID, func() hash.Hash { return notedHash{sha256.New(), &notes} })
	label, message := []byte("SECRET\x00"), bytes.Repeat([]byte{9}, 32)
	good, ok := decodeOAEP(notedHashID, label, newOAEPPlain(256, label, message).masked())
	if ok != 1 || !bytes.Equal(good, message) {
		t.Fatalf("decodeOAEP = %x, %d, want %x", good, ok, message)
	}
	steps := notes
	for name, spoil := range oaepFaults {
		notes = nil
		p := newOAEPPlain(256, label, message)
		spoil(p)
		if got, ok := decodeOAEP(notedHashID, label, p.masked()); ok != 0 || got != nil {
			t.Errorf("%s: decodeOAEP = %x, %d, want nothing", name, got, ok)
		}
		if diff := cmp.Diff(steps, notes); diff != "" {
			t.Errorf("%s: other steps than for a good block (-good +this):\n%s", name, diff)
		}
	}
}

// CVE-2026-6727: no word and no code tells the faults apart either.
func TestCVE2026x6727EveryOAEPFaultHasOneAnswer(t *testing.T) {
	seeded, err := Seeded(tpm2.AlgSHA256, make([]byte, 64), "rsa", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := GenerateRSA(seeded, 1024, 0)
	if err != nil {
		t.Fatal(err)
	}
	label, scheme := []byte("SECRET\x00"), tpm2.RSAScheme{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
	answers := map[string][]string{}
	for name, spoil := range oaepFaults {
		p := newOAEPPlain(k.Size(), label, make([]byte, 32))
		spoil(p)
		c, ok := k.public(p.masked())
		if !ok {
			continue // it is not below the modulus: nobody can send it
		}
		_, err := k.Decrypt(scheme, label, c)
		answers[fmt.Sprint(err)] = append(answers[fmt.Sprint(err)], name)
	}
	if want := "ciphertext does not decrypt: " + tpm2.RCValue.Error(); len(answers) != 1 || len(answers[want]) < 7 {
		t.Errorf("answers to blocks with one fault = %q, want %q for all", answers, want)
	}
}
