package engine_test

import (
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// TCG's reference keeps all five numbers of an RSA key in its blobs (Part 2,
// 11.2.4.7), and clients know that size. A blob with the prime alone, as a TPM
// without the numbers would write it, loads as well.
func TestABlobHasTheFiveNumbersOfAnRSAKeyOrThePrime(t *testing.T) {
	m := newMachine(t)
	srk := m.storage("")
	o := m.create(srk, rsaTemplate(ordinary|tpm2.AttrSign), "", "")
	if want := 2 + 32 + 2 + 16 + 2 + 2 + 2 + 32 + 2 + 2 + 640; len(o.OutPrivate) != want {
		t.Errorf("private blob has %d bytes, want %d", len(o.OutPrivate), want)
	}
	key := m.load(srk, o)
	prime := m.tpm.Sensitive(key).Bits
	if len(prime) != 128 {
		t.Fatalf("a loaded key has %d bytes, want the prime", len(prime))
	}
	m.flush(key)
	name, err := o.OutPublic.Name()
	if err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		bits []byte
		want tpm2.RC
	}{
		"prime": {prime, tpm2.RCSuccess},
		"numbers of no key": {
			append(append([]byte{}, prime[:127]...), append([]byte{prime[127] ^ 2}, make([]byte, 512)...)...), tpm2.RCBinding,
		},
	} {
		t.Run(what, func(t *testing.T) {
			m.in(t)
			s := tpm2.Sensitive{Type: tpm2.AlgRSA, AuthValue: make([]byte, 32), Bits: tc.bits}
			b, err := wire.Encode(&tpm2.Sensitive2B{Sensitive: &s})
			if err != nil {
				t.Fatal(err)
			}
			private, err := m.tpm.Wrap(srk, name, make([]byte, 16), b)
			if err != nil {
				t.Fatal(err)
			}
			rc := m.run(tpm2.CCLoad, handles(srk), password(""), &command.LoadIn{InPrivate: private, InPublic: o.OutPublic}, nil)
			if rc.Base() != tc.want {
				t.Errorf("TPM2_Load = %v, want %v", rc, tc.want)
			}
			if rc == tpm2.RCSuccess {
				m.flush(tpm2.KindTransient.First() + 1)
			}
		})
	}
}
