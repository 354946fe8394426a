package engine

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
)

// After a TPM Reset the first saved object was encrypted by the key and initial
// value of the first one before it: two contexts of an object whose authValue had
// changed in between told the difference of the authValues. The key is one for each
// number, handle and count of TPM Resets.
func TestContextsOfTwoBootsShareNoKey(t *testing.T) {
	m := keptTPM(t)
	x := tpm2.Context{Sequence: 1, SavedHandle: tpm2.SavedObject, Hierarchy: tpm2.HandleOwner}
	key := func() []byte {
		t.Helper()
		k, err := m.contextKey(&x)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := key()
	if !bytes.Equal(first, key()) {
		t.Fatal("one context has two keys")
	}
	m.permanent.totalResetCount++
	next := key()
	x.Sequence++
	other := key()
	x.SavedHandle = tpm2.SavedSTClearObject
	last := key()
	for name, pair := range map[string][2][]byte{"TPM Reset": {first, next}, "number": {next, other}, "handle": {other, last}} {
		if bytes.Equal(pair[0], pair[1]) {
			t.Errorf("another %s does not change the key", name)
		}
	}
}
