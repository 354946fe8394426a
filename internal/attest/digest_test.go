package attest

import (
	"bytes"
	"crypto/sha256"
	"testing"
)

func TestDigestIsOfItsBundleAlone(t *testing.T) {
	bundle := []byte(`{"type":"tpm"}`)
	d := DigestOf(bundle)
	if sum, ok := d.Of(bundle); !ok || sum != sha256.Sum256(bundle) {
		t.Errorf("of its bundle: %x, %v", sum, ok)
	}
	for name, other := range map[string][]byte{
		"equal bytes elsewhere": bytes.Clone(bundle), "shorter": bundle[:5], "its end": bundle[1:], "empty": {}, "none": nil,
	} {
		if sum, ok := d.Of(other); ok || sum != [sha256.Size]byte{} {
			t.Errorf("%s: %x, %v", name, sum, ok)
		}
	}
	if _, ok := (Digest{}).Of(nil); ok {
		t.Error("the zero Digest is of something")
	}
	if _, ok := DigestOf(nil).Of(nil); ok {
		t.Error("nothing has a digest")
	}
}
