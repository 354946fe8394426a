package vtpm

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/frontend"
)

// Two hosts that agree on a key for one journey need no key provider that both have; who
// has another key, or none, gets nothing.
func TestATPMTravelsUnderAKeyOfItsJourney(t *testing.T) {
	f, g := newFixture(t), newFixture(t) // each with a provider of its own
	ctx := context.Background()
	f.create("web")
	src, c := f.started("web")
	if _, err := c.Run(extend(16)); err != nil {
		t.Fatal(err)
	}
	want := pcr(t, c, 16)
	secret, err := seal.Random(rand.Reader, seal.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	key := seal.Key{ID: "journey", Secret: secret}
	if _, err := g.Create(ctx, tester, CreateOptions{Name: "web", ID: src.id}); err != nil {
		t.Fatal(err)
	}
	dst, err := g.Prepare(ctx, "web", tester)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	src.TravelUnder(key)
	permanent, volatile := blobs(t, src)
	take := func() error { return dst.Machine().SetStateBlob(frontend.BlobPermanent, permanent) }
	if err := take(); !errors.Is(err, ErrTransit) {
		t.Errorf("without the key: %v", err)
	}
	other, err := seal.Random(rand.Reader, seal.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	dst.TravelUnder(seal.Key{ID: "journey", Secret: other})
	if err := take(); !errors.Is(err, ErrTransit) {
		t.Errorf("under another key: %v", err)
	}
	dst.TravelAsEver()
	if err := take(); !errors.Is(err, ErrTransit) {
		t.Errorf("with the journey over: %v", err)
	}
	dst.TravelUnder(key)
	if err := arrive(dst, permanent, volatile); err != nil {
		t.Fatal(err)
	}
	if got := pcr(t, newClient(dst), 16); got != want {
		t.Errorf("PCR 16 is %s there, want %s", got, want)
	}
}
