package engine_test

import (
	"bytes"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Two TPMs that go on from one snapshot derive one key for their next saved contexts:
// the XOR of two ciphertexts would be that of two sessions' keys.
func TestContextsOfTwoTPMsOfOneSnapshotDifferFromTheFirstByte(t *testing.T) {
	m := newMachine(t)
	permanent, volatile := m.tpm.MustPermanent(), m.tpm.MustVolatile()
	var encrypted [2][]byte
	for i := range encrypted {
		c := restored(t, permanent, volatile)
		if i == 1 {
			if err := c.tpm.Reseed(); err != nil {
				t.Fatal(err)
			}
		}
		s := c.session(sessionConfig{})
		x := c.save(s.handle)
		var data tpm2.ContextData
		if err := wire.Decode(x.ContextBlob, &data); err != nil {
			t.Fatal(err)
		}
		encrypted[i] = data.Encrypted[16:] // behind the initial value
		// In the context of a session its number, the handle and the flags are alike.
		if i == 1 && bytes.Equal(encrypted[0][:8], encrypted[1][:8]) {
			t.Error("the contexts of two sessions begin alike: they have one key and one initial value")
		}
	}
}
