package attest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
)

// expiring answers like recorded, with challenges that have the usual life.
type expiring struct {
	recorded
	expires time.Time
}

func (e *expiring) Open(ctx context.Context, c string, p attest.Purpose) (attest.Opened, error) {
	o, err := e.recorded.Open(ctx, c, p)
	o.Expires = e.expires
	return o, err
}

func TestUsedChallengeDoesNotServeAgainByAClockThatIsBehind(t *testing.T) {
	challenges := &expiring{recorded: recorded{nonce: read(t, "nonce.bin")}}
	f := newFixtureWith(t, challenges)
	challenges.expires = f.clock.Now().Add(5 * time.Minute)
	good := read(t, "good.json")
	f.register("web-1", good, "")
	ctx := context.Background()
	ch, err := f.NewChallenge(ctx, attest.Purpose{Type: "tpm"})
	if err != nil {
		t.Fatal(err)
	}
	request := attest.Request{Challenge: ch.Challenge, Type: "tpm", Bundle: good}
	if _, err := f.Attest(ctx, "tester", request); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(6 * time.Minute) // this process prunes; to the other one it is earlier
	if err := f.Prune(ctx); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(-2 * time.Minute)
	_, err = f.Attest(ctx, "tester", request)
	var refusal *evidence.Refusal
	if !errors.As(err, &refusal) || refusal.Code != "challenge.used" {
		t.Errorf("Attest = %v, want challenge.used", err)
	}
}
