package attest_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
)

// countedStore counts the reads that look for a change of the configuration.
type countedStore struct {
	attest.Store
	reads atomic.Int64
}

func (c *countedStore) Generation(ctx context.Context) (uint64, error) {
	c.reads.Add(1)
	return c.Store.Generation(ctx)
}

// replicas are two services of one store, both started before there was a key.
func replicas(t *testing.T) (c *clock, first, second *attest.Service, reads *atomic.Int64) {
	t.Helper()
	opened, err := sqlite.Open(t.Context(), t.TempDir(), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	counted := &countedStore{Store: opened}
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		t.Fatal(err)
	}
	c = &clock{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	start := func(s attest.Store) *attest.Service {
		keys, err := attest.NewKeys(attest.KeysConfig{Issuer: issuer, Provider: provider, Now: c.Now, Rand: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		service, err := attest.New(t.Context(), attest.Config{Store: s, Kinds: []attest.Kind{attest.TPM{}}, Keys: keys, Now: c.Now, Rand: rand.Reader})
		if err != nil {
			t.Fatal(err)
		}
		return service
	}
	first, second = start(opened), start(counted)
	if err := first.MaintainKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, first, second, &counted.reads
}

func answerTo(t *testing.T, s *attest.Service, challenge string) error {
	t.Helper()
	_, err := s.Attest(t.Context(), "tester", attest.Request{Challenge: challenge, Type: "tpm", Bundle: read(t, "good.json")})
	return err
}

func TestChallengeOfAnotherReplicasNewKeyIsAccepted(t *testing.T) {
	_, first, second, _ := replicas(t)
	ch, err := first.NewChallenge(t.Context(), attest.Purpose{Type: "tpm"})
	if err != nil {
		t.Fatal(err)
	}
	if err := answerTo(t, second, ch.Challenge); err != nil {
		t.Errorf("a challenge of the other replica: %v", err)
	}
	var refusal *evidence.Refusal
	if err := answerTo(t, first, ch.Challenge); !errors.As(err, &refusal) || refusal.Code != "challenge.used" {
		t.Errorf("the same at the other replica: %v, want challenge.used", err)
	}
}

func TestForgedChallengesCostFewReads(t *testing.T) {
	c, _, second, reads := replicas(t)
	var refusal *evidence.Refusal
	forge := func(size int) {
		t.Helper()
		b := make([]byte, size)
		rand.Read(b)
		b[0] = 1
		if err := answerTo(t, second, base64.RawURLEncoding.EncodeToString(b)); !errors.As(err, &refusal) || refusal.Code != "challenge.malformed" {
			t.Errorf("a forged challenge: %v, want challenge.malformed", err)
		}
	}
	const size = 1 + 8 + 16 + 16 + 32
	for range 100 {
		forge(size - 1)
		forge(size + 1)
	}
	if n := reads.Load(); n != 0 {
		t.Errorf("200 challenges of another length cost %d reads, want 0", n)
	}
	for range 200 {
		forge(size)
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("200 forged challenges cost %d reads, want 1", n)
	}
	c.advance(time.Second)
	for range 200 {
		forge(size)
	}
	if n := reads.Load(); n != 2 {
		t.Errorf("as many a second later cost %d reads, want 2 in all", n)
	}
}
