package tpm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/assay-project/assay/evidence/evidencetest"
)

func TestPreparedKeyIsThatOfItsBytesAndProof(t *testing.T) {
	public := evidencetest.Recorded(t, "good-shim-grub", "rsa").AKPublic
	var cache KeyCache
	kept, err := cache.Key(public, ProofRegistered)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := cache.Key(bytes.Clone(public), ProofRegistered); err != nil || again != kept {
		t.Errorf("the same key again: %p, want %p (%v)", again, kept, err)
	}
	if other, err := cache.Key(public, ProofActivation); err != nil || other == kept || other.proof != ProofActivation {
		t.Errorf("another proof: %+v (%v)", other, err)
	}
	made := 0
	for i := range public {
		changed := bytes.Clone(public)
		changed[i] ^= 1
		got, err := cache.Key(changed, ProofRegistered)
		want, wantErr := (*KeyCache)(nil).Key(changed, ProofRegistered)
		if got == kept || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("byte %d changed: %p, %v; without a cache %v", i, got, err, wantErr)
		}
		if err != nil {
			continue
		}
		if made++; !bytes.Equal(got.Name(), want.Name()) || bytes.Equal(got.Name(), kept.Name()) {
			t.Errorf("byte %d changed: key has the Name %x, want %x", i, got.Name(), want.Name())
		}
	}
	if made == 0 || made == len(public) {
		t.Errorf("%d of %d changed keys can be used", made, len(public))
	}
	for n := range len(public) {
		if got, err := cache.Key(public[:n], ProofRegistered); err == nil {
			t.Errorf("%d bytes of a key make %+v", n, got)
		}
	}
}

func TestPreparedKeysAreBounded(t *testing.T) {
	var cache KeyCache
	often := keyID{"often", ""}
	for i := range 5 * maxKeys {
		cache.mu.Lock()
		cache.keep(keyID{fmt.Sprint(i), ""}, new(Key))
		if i == 0 {
			cache.keep(often, new(Key))
		}
		cache.mu.Unlock()
		if n := len(cache.newer) + len(cache.older); n > 2*maxKeys {
			t.Fatalf("%d keys kept, at most %d allowed", n, 2*maxKeys)
		}
		if k, err := cache.Key([]byte("often"), ""); err != nil || k == nil {
			t.Fatalf("a key used before each of %d others is gone: %v", i, err)
		}
	}
	if _, err := cache.Key([]byte("0"), ""); err == nil {
		t.Error("a key is kept for ever")
	}
}
