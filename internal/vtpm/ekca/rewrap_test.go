package ekca

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// dying is a provider that ends after a number of wraps.
type dying struct {
	keyprovider.Provider
	left int
}

func (d *dying) Wrap(ctx context.Context, c seal.Context, k seal.Secret) ([]byte, error) {
	if d.left--; d.left < 0 {
		return nil, keyprovider.ErrUnavailable
	}
	return d.Provider.Wrap(ctx, c, k)
}

func TestTheAuthoritysKeysMoveToAnotherProvider(t *testing.T) {
	ctx := context.Background()
	a := newAuthority(t, AuthorityOptions{Provider: "old"})
	from, to := a.cfg.Provider, newProvider(t)
	r := Rewrapping{From: from, To: &dying{to, 1}, Name: "new", KeyID: to.(*keyprovider.Local).KeyIDs()[0], Random: rand.Reader}
	done, err := Rewrap(ctx, a.dir, r)
	if !errors.Is(err, keyprovider.ErrUnavailable) || done != 1 {
		t.Errorf("Rewrap by a provider that ends = %d, %v", done, err)
	}
	if by, err := ProviderOf(a.dir); by != "old" || err != nil {
		t.Errorf("half way the authority is of %q, %v", by, err)
	}
	r.To = to
	more, err := Rewrap(ctx, a.dir, r)
	if err != nil || more == 0 {
		t.Fatalf("Rewrap again = %d, %v", more, err)
	}
	if again, err := Rewrap(ctx, a.dir, r); err != nil || again != 0 {
		t.Errorf("a third time: %d, %v", again, err)
	}
	if by, err := ProviderOf(a.dir); by != "new" || err != nil {
		t.Errorf("the authority is of %q, %v", by, err)
	}
	cfg := a.cfg
	cfg.Provider = to
	reopen(t, a, cfg)
	cfg.Provider = from
	if _, err := OpenAuthority(ctx, a.dir, cfg); !errors.Is(err, keyprovider.ErrUnknownKey) {
		t.Errorf("with the old provider: %v", err)
	}
	if _, err := Rewrap(ctx, t.TempDir(), r); !errors.Is(err, ErrNoAuthority) {
		t.Errorf("without an authority: %v", err)
	}
}
