package store

import (
	"context"
	"fmt"
	"time"

	"github.com/assay-project/assay/internal/audit"
)

// Whether a write changes what appraisals are made with.
type effect bool

const (
	raises effect = true  // the configuration's generation
	keeps  effect = false // the generation as it is
)

// change runs an administrator's write: fn, its audit entry, and the generation,
// in one transaction under the state lock. What fn read before it wrote cannot
// have changed, so checks need no unique violation to fall back on.
func (s *Store) change(ctx context.Context, what string, e *audit.Entry, g effect, fn func(*txn) error) error {
	if err := s.changeIn(ctx, e, g, fn); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *Store) changeIn(ctx context.Context, e *audit.Entry, g effect, fn func(*txn) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock() // Close waits for writes under way
	if s.closed {
		return ErrClosed
	}
	return s.write.transact(ctx, serialised(), func(t *txn) error {
		st, err := t.lock(ctx)
		if err != nil {
			return err
		}
		if err := fn(t); err != nil {
			return err
		}
		if g == raises {
			st.generation++
		}
		if e != nil {
			linked := audit.Link(st.head, *e)
			st.head = linked.Head()
			if err := t.insert(ctx, putAudit, auditRow(linked)); err != nil {
				return err
			}
		}
		return t.setState(ctx, st)
	})
}

// pruneRows are deleted in one transaction, so that decisions get their turn.
const pruneRows = 1000

// Prune drops used challenges and enrolments that expired before before, and gives
// rows of older programs what they lack. It leaves no audit entry: a challenge that
// has expired is refused without it.
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	if err := s.digestKeys(ctx); err != nil {
		return err
	}
	for _, query := range []string{
		"DELETE FROM challenge WHERE id IN (SELECT id FROM challenge WHERE expires < ? LIMIT ?)",
		"DELETE FROM enrolment WHERE id IN (SELECT id FROM enrolment WHERE expires < ? LIMIT ?)",
	} {
		for more := true; more; {
			err := s.change(ctx, "prune", nil, keeps, func(t *txn) error {
				n, err := t.exec(ctx, query, moment(before), pruneRows)
				more = n == pruneRows
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
