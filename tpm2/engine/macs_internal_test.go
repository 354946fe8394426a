package engine

import (
	"bytes"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// A kept key gives what a new one gives, in whatever order keys come, also when
// there are more than are kept, and when its bytes change afterwards.
func TestKeptMACsAreThoseOfTheirKeys(t *testing.T) {
	var m macs
	keys := make([][]byte, maxMACs+3)
	for i := range keys {
		keys[i] = bytes.Repeat([]byte{byte(i)}, 20+i%2)
	}
	for round := range 3 * len(keys) * len(keys) {
		key := keys[round*round%len(keys)]
		a := []tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA512}[round%2]
		if round%7 == 0 {
			key[0]++
		}
		want, err := tpmcrypto.HMAC(a, key, []byte("a"), []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := m.sum(nil, a, key, []byte("a"), []byte("message")); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: %x, %v, want %x", round, got, err, want)
		}
		derived, err := m.derive(a, key, "LABEL", []byte("u"), []byte("v"), 600)
		if again, _ := tpm2.KDFa(a, key, "LABEL", []byte("u"), []byte("v"), 600); err != nil || !bytes.Equal(derived, again) {
			t.Fatalf("round %d: derives %x, %v, want %x", round, derived, err, again)
		}
		if len(m.kept) > maxMACs {
			t.Fatalf("round %d: %d keys are kept", round, len(m.kept))
		}
	}
	if _, err := m.sum(nil, tpm2.AlgNull, keys[0]); !errors.Is(err, tpm2.RCHash) {
		t.Errorf("without a hash: %v, want TPM_RC_HASH", err)
	}
}

// A message that was begun and left is no part of the next.
func TestAKeptMACForgetsWhatWasLeft(t *testing.T) {
	var m macs
	key := []byte("key")
	for range 3 {
		mac, err := m.under(tpm2.AlgSHA256, key)
		if err != nil {
			t.Fatal(err)
		}
		mac.Write([]byte("half of"))
	}
	want, _ := tpmcrypto.HMAC(tpm2.AlgSHA256, key, []byte("all"))
	if got, err := m.sum(nil, tpm2.AlgSHA256, key, []byte("all")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v, want %x", got, err, want)
	}
}

// What held a key is gone, or has other keys: so does what was prepared of them.
func TestKeysAreForgottenWithWhatTheyWereFor(t *testing.T) {
	for name, end := range map[string]func(*TPM){
		"power":     (*TPM).PowerOn,
		"hierarchy": func(x *TPM) { x.dropHierarchy(tpm2.HandleOwner) },
	} {
		x := keptTPM(t)
		if _, err := x.ticketDigest(tpm2.HandleOwner, tpm2.TagCreation); err != nil {
			t.Fatal(err)
		}
		if len(x.macs.kept) == 0 {
			t.Fatal("no key is kept")
		}
		if end(x); len(x.macs.kept) != 0 {
			t.Errorf("%s: %d keys are kept", name, len(x.macs.kept))
		}
	}
}

// The sensitive area of a duplicate without protection stays nowhere else.
func TestADuplicateLeavesNothingBehind(t *testing.T) {
	x := keptTPM(t)
	o := &object{public: tpm2.Public{NameAlg: tpm2.AlgSHA256}}
	o.sensitive = tpm2.Sensitive{Type: tpm2.AlgKeyedHash, Bits: []byte("what nobody may know")}
	b, err := x.toDuplicate(o, nil, nil, innerWrap{sym: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}})
	if err != nil || !bytes.Contains(b, o.sensitive.Bits) {
		t.Fatalf("duplicate %x, %v", b, err)
	}
	left, err := x.scratch.Encode(nothing{})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(left[:cap(left)], o.sensitive.Bits) {
		t.Error("the sensitive area is still in the scratch memory")
	}
}

type nothing struct{}

func (nothing) Wire(*wire.Codec) {}
