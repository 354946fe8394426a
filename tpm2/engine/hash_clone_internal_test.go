package engine

import (
	"bytes"
	"encoding"
	"hash"
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// A moduleHash is one as the validated module 1.0.0 has them: it can be saved and
// cannot be cloned.
type moduleHash struct {
	hash.Hash
	encoding.BinaryMarshaler
}

func TestAHashWithoutCloneIsCopied(t *testing.T) {
	for _, a := range []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512} {
		h, err := newBankHash(a)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := newBankHash(a)
		h.sum = moduleHash{h.sum, h.sum.(encoding.BinaryMarshaler)}
		h.sum.Write([]byte("one "))
		want.sum.Write([]byte("one two"))
		c := h.clone()
		h.sum.Write([]byte("other"))
		c.Write([]byte("two"))
		if got := c.Sum(nil); !bytes.Equal(got, want.sum.Sum(nil)) {
			t.Errorf("%s: the copy goes on to %x", a.BankName(), got)
		}
	}
}
