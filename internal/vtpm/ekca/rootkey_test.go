package ekca

import (
	"context"
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
