package ekca

import (
	"bytes"
	"testing"
)

func TestManufacturedTPMHasItsIdentity(t *testing.T) {
	ca := newAuthority(t, AuthorityOptions{})
	tpm := newEngine(t)
	got := mustManufacture(t, tpm, ca, Options{DeviceIdentity: true, Platform: testPlatform()})
	m := restart(t, tpm)
	for _, k := range got.Keys {
		in, err := m.readIndex(k.Index)
		if err != nil || !bytes.Equal(in, k.Certificate) {
			t.Errorf("%s: index %#x has %d bytes, %v", k.Kind, uint32(k.Index), len(in), err)
		}
	}
}

func BenchmarkManufacture(b *testing.B) {
	ca := newAuthority(b, AuthorityOptions{})
	for b.Loop() {
		mustManufacture(b, newEngine(b), ca, Options{DeviceIdentity: true, Platform: testPlatform()})
	}
}
