package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// A pending decision waits for the group that commits it.
type pending struct {
	decision attest.Decision
	row      []any   // of the table appraisal
	evidence *parcel // nil for none
	parts    []part  // of the findings, that are not stored yet
	epoch    uint64  // of the memory that says what is stored
	weight   int64
	state    atomic.Int32
	done     chan error // one answer
}

// The states of a pending decision. Only one side wins the step from waiting:
// a caller that gives up, or the goroutine that commits.
const (
	waiting int32 = iota
	taken
	abandoned
)

// Decide keeps a decision: challenge, appraisal, evidence, counters, audit. It
// returns when all of that is durable, or has kept nothing: ErrChallengeUsed,
// ErrStale, ErrExists for the appraisal's id, [ErrInvalid], [ErrOverloaded],
// [ErrClosed]. After any other error from the database's commit the outcome is
// unknown. A ctx that ends while the decision waits withdraws it; once its group
// is being committed, Decide waits for the outcome.
//
// An attester's revision must be the stored one; it rises when the counters
// differ from the stored ones. The caller must not change d while Decide runs.
func (s *Store) Decide(ctx context.Context, d attest.Decision) error {
	err := s.decideOnce(ctx, d)
	for tries := 1; err == errForgotten && tries < maxTries; tries++ { //nolint:errorlint // our own, never wrapped
		err = s.decideOnce(ctx, d)
	}
	if err != nil {
		return fmt.Errorf("decide %.40q: %w", d.Appraisal.ID, err)
	}
	return nil
}

// errForgotten is a decision that leaves out what was stored when it was prepared and
// may be stored no longer. Nothing was kept.
var errForgotten = fmt.Errorf("%w: its connections are being replaced", ErrUnavailable)

const maxTries = 4 // each but the first for a database that was away meanwhile

func (s *Store) decideOnce(ctx context.Context, d attest.Decision) error {
	p, err := s.prepare(ctx, d)
	if err != nil {
		return err
	}
	if err := s.enqueue(p); err != nil {
		return err
	}
	select {
	case err = <-p.done:
		return err
	case <-ctx.Done():
		if p.state.CompareAndSwap(waiting, abandoned) {
			return ctx.Err()
		}
		return <-p.done
	}
}

// challengeSize is that of the ids in attest.Decision. An empty id that counted
// as none would leave a challenge unspent.
const challengeSize = 16

// prepare does all that needs no lock: checks, encodings, digests.
func (s *Store) prepare(ctx context.Context, d attest.Decision) (*pending, error) {
	a := d.Appraisal
	if a.ID == "" {
		return nil, fmt.Errorf("%w: appraisal without id", ErrInvalid)
	}
	if d.Challenge != nil && len(d.Challenge) != challengeSize {
		return nil, fmt.Errorf("%w: challenge of %d bytes", ErrInvalid, len(d.Challenge))
	}
	if err := texts(a.ID, a.Type, a.Attester, a.Machine, a.Policy, a.TokenID); err != nil {
		return nil, err
	}
	evidenceDigest, err := fromHex(a.Evidence)
	if err != nil {
		return nil, err
	}
	epoch := s.recent.epoch() // before the memory is asked
	if d.Findings == nil {
		d.Findings = a.Findings()
	}
	found, parts, err := s.packFindings(ctx, d.Findings)
	if err != nil {
		return nil, err
	}
	p := &pending{decision: d, parts: parts, epoch: epoch, done: make(chan error, 1), weight: int64(len(d.Findings))}
	p.row = []any{
		a.ID, moment(a.Time), a.Type, a.Attester, a.Machine, int64(a.Verdict),
		a.Policy, int64(a.PolicyRev), octets(evidenceDigest), a.TokenID, found,
	}
	if d.Bundle == nil {
		return p, nil
	}
	if p.evidence, err = s.pack(ctx, a.Evidence, d.Bundle, d.Digest); err != nil {
		return nil, err
	}
	p.weight += p.evidence.weight()
	return p, nil
}

// enqueue never waits: a queue that is full is an answer.
func (s *Store) enqueue(p *pending) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if s.queuedBytes.Add(p.weight) > s.cfg.QueueBytes {
		s.queuedBytes.Add(-p.weight)
		return ErrOverloaded
	}
	select {
	case s.queue <- p:
		return nil
	default:
		s.queuedBytes.Add(-p.weight)
		return ErrOverloaded
	}
}

// commitGroups is the store's goroutine. While one group is being committed the
// next one gathers, so the group grows with the load and a lone caller never waits
// for company.
func (s *Store) commitGroups() {
	defer close(s.committed)
	for first := range s.queue {
		// Those that are about to join run first, as long as any does: on a busy machine a
		// group is then all that can be, and nobody waits for who does not come.
		for before := -1; len(s.queue) > before; {
			before = len(s.queue)
			runtime.Gosched()
		}
		group := s.gather(first)
		if len(group) == 0 {
			continue
		}
		errs := s.commit(group)
		if s.cfg.Committed != nil {
			s.cfg.Committed(len(group))
		}
		for i, p := range group {
			if errs[i] == nil {
				s.remember(p)
			}
			p.done <- errs[i]
		}
	}
}

// gather takes what waits, up to the limits of a group.
func (s *Store) gather(first *pending) []*pending {
	var group []*pending
	var weight int64
	for p := first; ; {
		s.queuedBytes.Add(-p.weight)
		if p.state.CompareAndSwap(waiting, taken) {
			group, weight = append(group, p), weight+p.weight
		}
		if len(group) >= s.cfg.Group || weight >= groupBytes {
			return group
		}
		var ok bool
		select {
		case p, ok = <-s.queue:
			if !ok {
				return group
			}
		default:
			return group
		}
	}
}

// remember notes what a decision has stored.
func (s *Store) remember(p *pending) {
	for _, part := range p.parts {
		s.recent.add(held{true, part.digest}, p.epoch)
	}
	if p.evidence == nil || p.evidence.known {
		return
	}
	s.recent.add(held{false, p.evidence.digest}, p.epoch)
	for _, part := range p.evidence.parts {
		s.recent.add(held{true, part.digest}, p.epoch)
	}
}

// commit stores a group in one transaction. When the database refuses it as a
// whole, each decision is tried alone, so that one cannot fail its neighbours; not
// when it is the database that fails.
func (s *Store) commit(group []*pending) []error {
	errs, err := s.commitOnce(group)
	if err == nil {
		return errs
	}
	errs = make([]error, len(group))
	var lost *commitError
	hopeless := errors.As(err, &lost) || isAway(err)
	for i := range group {
		if errs[i] = err; hopeless {
			continue
		}
		var one []error
		if one, errs[i] = s.commitOnce(group[i : i+1]); errs[i] == nil {
			errs[i] = one[0]
			continue
		}
		// A database that is away would keep each of the others waiting in turn.
		err, hopeless = errs[i], isAway(errs[i]) || s.ping() != nil
	}
	return errs
}

// isAway reports whether a group failed for the database, not for what is in it.
func isAway(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

func (s *Store) ping() error {
	ctx, cancel := s.commitContext()
	defer cancel()
	return s.write.db.PingContext(ctx)
}

// commitContext bounds one group; it is no caller's, since a group has many.
func (s *Store) commitContext() (context.Context, context.CancelFunc) {
	if s.cfg.Timeout > 0 {
		return context.WithTimeout(context.Background(), s.cfg.Timeout)
	}
	return context.Background(), func() {}
}

// commitOnce returns the outcome of each decision, or the error that kept all of
// them from being stored.
func (s *Store) commitOnce(group []*pending) ([]error, error) {
	ctx, cancel := s.commitContext()
	defer cancel()
	var errs []error
	err := s.write.transact(ctx, serialised(), func(t *txn) error {
		st, err := t.lock(ctx)
		if err != nil {
			return err
		}
		// By now the connection is there that commits.
		b := newBatch(st, group, s.recent.epoch())
		if err := b.check(ctx, t); err != nil {
			return err
		}
		errs = b.errs
		if len(b.audit) == 0 {
			return errNothing
		}
		return b.store(ctx, t)
	})
	if err == errNothing { //nolint:errorlint // our own, never wrapped
		err = nil
	}
	return errs, err
}

// A state is the row that serialises all writes.
type state struct {
	generation uint64
	head       audit.Head
}

// lock waits for the right to write: the update takes the row in PostgreSQL and
// the file in SQLite, until the transaction ends.
func (t *txn) lock(ctx context.Context) (state, error) {
	var st state
	err := t.query(ctx, lockState, nil, func(row scanner) error {
		var generation, seq int64
		var hash []byte
		if err := row.Scan(&generation, &seq, &hash); err != nil {
			return err
		}
		st = state{uint64(generation), audit.Head{Seq: uint64(seq)}}
		if copy(st.head.Hash[:], hash) != len(st.head.Hash) {
			return fmt.Errorf("%w: head of the audit chain", ErrCorrupt)
		}
		return nil
	})
	if err == nil && st.generation == 0 {
		err = fmt.Errorf("%w: the state row is missing", ErrCorrupt)
	}
	return st, err
}

const (
	lockState = "UPDATE state SET generation = generation WHERE id = 1 RETURNING generation, audit_seq, audit_hash"
	setState  = "UPDATE state SET generation = ?, audit_seq = ?, audit_hash = ? WHERE id = 1"
)

func (t *txn) setState(ctx context.Context, st state) error {
	_, err := t.exec(ctx, setState, int64(st.generation), int64(st.head.Seq), st.head.Hash[:])
	return err
}
