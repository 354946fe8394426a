package attest

import (
	"context"
	"encoding/base64"
	"errors"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/evidence"
)

// open recognises a challenge. One of the right length that no key here made may be
// of a key that another process has just made: for it the configuration is read
// again, but no more often than refreshPause, so that garbage costs no reads.
func (s *Service) open(ctx context.Context, challenge string, p Purpose) (Opened, error) {
	opened, err := s.challenges.Open(ctx, challenge, p)
	var refusal *evidence.Refusal
	if !errors.As(err, &refusal) || refusal.Code != "challenge.malformed" ||
		len(challenge) != base64.RawURLEncoding.EncodedLen(challengeSize) || !s.refreshes.due(s.now()) {
		return opened, err
	}
	if err := s.Refresh(ctx); err != nil {
		return Opened{}, err
	}
	return s.challenges.Open(ctx, challenge, p)
}

// refreshPause is how long after a read that a challenge asked for none is made
// for another.
const refreshPause = time.Second

// A pace says when something is due again. Its zero value is ready.
type pace struct{ last atomic.Int64 } // nanoseconds since 1970

// due reports whether refreshPause has passed since it last said yes. A clock that
// was set back is no reason to wait.
func (p *pace) due(now time.Time) bool {
	last, at := p.last.Load(), now.UnixNano()
	if last != 0 && at >= last && at-last < int64(refreshPause) {
		return false
	}
	return p.last.CompareAndSwap(last, at)
}
