package ekca

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/seal"
)

func phrase(s string) seal.Secret { return seal.NewSecret([]byte(s)) }

const goodPhrase = "correct horse battery staple"

func TestRootGoesOffline(t *testing.T) {
	ctx := context.Background()
	a, other := newAuthority(t, AuthorityOptions{}), newAuthority(t, AuthorityOptions{})
	if _, err := a.ExportRoot(ctx, a.cfg.Provider, phrase("short")); err == nil {
		t.Error("a short passphrase is taken")
	}
	exported, err := a.ExportRoot(ctx, a.cfg.Provider, phrase(goodPhrase))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.ExportRoot(ctx, other.cfg.Provider, phrase(goodPhrase))
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]error{
		"a wrong passphrase": a.RemoveRoot(exported, phrase("incorrect horse battery")),
		"another's key":      a.RemoveRoot(foreign, phrase(goodPhrase)),
		"no PEM":             a.RemoveRoot([]byte("x"), phrase(goodPhrase)),
		"half of it":         a.RemoveRoot(exported[:len(exported)/2], phrase(goodPhrase)),
	} {
		if try == nil || !a.HasRoot() {
			t.Errorf("%s: %v, and the key is there: %v", name, try, a.HasRoot())
		}
	}
	if err := a.RemoveRoot(exported, phrase(goodPhrase)); err != nil || a.HasRoot() {
		t.Fatalf("RemoveRoot = %v, and the key is there: %v", err, a.HasRoot())
	}
	if _, err := a.ExportRoot(ctx, a.cfg.Provider, phrase(goodPhrase)); !errors.Is(err, ErrNoKey) {
		t.Errorf("ExportRoot without it = %v", err)
	}
	b := reopen(t, a, a.cfg)
	mustManufacture(t, newEngine(t), b, Options{Keys: []Kind{P256}})
}

func TestExportedKeyOpensOnlyWhole(t *testing.T) {
	text := []byte("not a key, but a text")
	der, err := encryptKey(rand.Reader, text, phrase(goodPhrase))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decryptKey(der, phrase(goodPhrase)); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("decryptKey = %q, %v", got, err)
	}
	for n := range der {
		if _, err := decryptKey(der[:n], phrase(goodPhrase)); !errors.Is(err, ErrPassphrase) {
			t.Fatalf("%d of %d bytes: %v", n, len(der), err)
		}
	}
	if _, err := decryptKey(append(bytes.Clone(der), 0), phrase(goodPhrase)); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a byte more: %v", err)
	}
}

func FuzzDecryptKey(f *testing.F) {
	der, err := encryptKey(rand.Reader, []byte("text"), phrase(goodPhrase))
	if err != nil {
		f.Fatal(err)
	}
	// One iteration, so that the fuzzer is not kept waiting.
	f.Add(bytes.Replace(der, []byte{2, 3, 0x09, 0x27, 0xc0}, []byte{2, 3, 0, 0x80, 1}, 1))
	f.Fuzz(func(t *testing.T, in []byte) {
		var info encryptedKeyInfo
		if _, err := asn1.Unmarshal(in, &info); err == nil && info.Algorithm.Parameters.Derivation.Parameters.Iterations > 1000 {
			return // it would take what it says
		}
		got, err := decryptKey(in, phrase("x"))
		if err != nil && (!errors.Is(err, ErrPassphrase) || got != nil) {
			t.Errorf("%x, %v", got, err)
		}
	})
}
