package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// errNothing ends a transaction in which no decision was kept.
var errNothing = errors.New("nothing to store")

var (
	challengesUsed = bulk{head: "SELECT id FROM challenge WHERE id IN"}
	appraisalsHeld = bulk{head: "SELECT id FROM appraisal WHERE id IN"}
	revisions      = bulk{head: "SELECT ak_name, revision, seen, clock, reset_count, restart_count, safe FROM attester_state WHERE ak_name IN"}

	putChallenges = bulk{"INSERT INTO challenge (id, expires) VALUES", 2, ""}
	putAppraisals = bulk{"INSERT INTO appraisal (id, made, kind, attester, machine, verdict, policy, policy_version, evidence, token_id, findings) VALUES", 11, ""}
	putEvidence   = bulk{"INSERT INTO evidence (digest, size, recipe) VALUES", 3, " ON CONFLICT (digest) DO NOTHING"}
	putParts      = bulk{"INSERT INTO evidence_part (digest, body) VALUES", 2, " ON CONFLICT (digest) DO NOTHING"}
	putAudit      = bulk{"INSERT INTO audit (seq, made, actor, action, subject, outcome, detail, prev, hash) VALUES", 9, ""}
	putCounters   = bulk{
		"INSERT INTO attester_state (ak_name, revision, seen, clock, reset_count, restart_count, safe) VALUES", 7,
		" ON CONFLICT (ak_name) DO UPDATE SET revision = excluded.revision, seen = excluded.seen, clock = excluded.clock, reset_count = excluded.reset_count, restart_count = excluded.restart_count, safe = excluded.safe",
	}
)

// hotStatements are those that a group of decisions runs.
func hotStatements() []string {
	out := []string{lockState, setState}
	for _, b := range []bulk{challengesUsed, appraisalsHeld, revisions, keysRecorded, putChallenges, putAppraisals, putEvidence, putParts, putAudit, putCounters} {
		out = append(out, b.texts()...)
	}
	return out
}

// A revision is the changing part of an attester.
type revision struct {
	number uint64
	last   *attest.Counters
	moved  bool // by this group
}

// A batch decides which of a group are kept, and keeps them. All checks come
// before the first row is written, so that one decision's failure undoes nothing
// of another's.
type batch struct {
	state state
	group []*pending
	errs  []error // by index in group
	epoch uint64  // of the memory that says what is stored

	challenges map[string]bool // used, before or in this group
	ids        map[string]bool // appraisals that exist
	attesters  map[string]*revision
	keys       map[string]bool // of Decision.Unrecorded that have a record
	audit      []any           // rows, in order
}

func newBatch(st state, group []*pending, epoch uint64) *batch {
	return &batch{
		state: st, group: group, epoch: epoch, errs: make([]error, len(group)),
		challenges: map[string]bool{}, ids: map[string]bool{}, attesters: map[string]*revision{}, keys: map[string]bool{},
	}
}

// check reads the premises of the whole group at once and judges each decision
// in the order in which it came.
func (b *batch) check(ctx context.Context, t *txn) error {
	if err := b.premises(ctx, t); err != nil {
		return err
	}
	for i, p := range b.group {
		if b.errs[i] = b.judge(p); b.errs[i] == nil {
			b.accept(p)
		}
	}
	return nil
}

func (b *batch) premises(ctx context.Context, t *txn) error {
	var challenges, ids, attesters []any
	for _, p := range b.group {
		d := p.decision
		ids = append(ids, d.Appraisal.ID)
		if d.Challenge != nil {
			challenges = append(challenges, d.Challenge)
		}
		if d.Attester != nil {
			attesters = append(attesters, d.Attester.AKName)
		}
	}
	err := t.among(ctx, challengesUsed, challenges, func(row scanner) error {
		var id []byte
		err := row.Scan(&id)
		b.challenges[string(id)] = true
		return err
	})
	if err != nil {
		return fmt.Errorf("read challenges: %w", err)
	}
	err = t.among(ctx, appraisalsHeld, ids, func(row scanner) error {
		var id string
		err := row.Scan(&id)
		b.ids[id] = true
		return err
	})
	if err != nil {
		return fmt.Errorf("read appraisals: %w", err)
	}
	err = t.among(ctx, revisions, attesters, func(row scanner) error {
		var name string
		r, err := scanRevision(row, &name)
		b.attesters[name] = r
		return err
	})
	if err != nil {
		return fmt.Errorf("read attesters: %w", err)
	}
	return b.recorded(ctx, t)
}

func (b *batch) judge(p *pending) error {
	d := p.decision
	switch {
	case d.Challenge != nil && b.challenges[string(d.Challenge)]:
		return attest.ErrChallengeUsed
	case d.Generation != b.state.generation:
		return attest.ErrStale
	case b.ids[d.Appraisal.ID]:
		return attest.ErrExists
	case d.Unrecorded != nil && b.keys[string(d.Unrecorded)]:
		return attest.ErrStale // the key was enrolled meanwhile
	case p.epoch != b.epoch:
		return errForgotten
	}
	if d.Attester == nil {
		return nil
	}
	if r := b.attesters[d.Attester.AKName]; r == nil || r.number != d.Attester.Revision {
		return attest.ErrStale
	}
	return nil
}

// accept makes a decision part of what the next ones are judged by.
func (b *batch) accept(p *pending) {
	d := p.decision
	if d.Challenge != nil {
		b.challenges[string(d.Challenge)] = true
	}
	b.ids[d.Appraisal.ID] = true
	if d.Attester != nil {
		if r := b.attesters[d.Attester.AKName]; !sameCounters(r.last, d.Attester.Last) {
			r.number, r.last, r.moved = r.number+1, d.Attester.Last, true
		}
	}
	e := audit.Link(b.state.head, d.Audit)
	b.state.head = e.Head()
	b.audit = append(b.audit, auditRow(e)...)
}

func sameCounters(a, b *attest.Counters) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// store writes what was accepted.
func (b *batch) store(ctx context.Context, t *txn) error {
	var challenges, appraisals, bundles, parts, counters []any
	seen := map[held]bool{}
	share := func(list []part) {
		for _, part := range list {
			if !seen[held{true, part.digest}] {
				seen[held{true, part.digest}] = true
				parts = append(parts, part.digest[:], part.body)
			}
		}
	}
	for i, p := range b.group {
		if b.errs[i] != nil {
			continue
		}
		if d := p.decision; d.Challenge != nil {
			challenges = append(challenges, d.Challenge, moment(d.Expires))
		}
		appraisals = append(appraisals, p.row...)
		if e := p.evidence; e != nil && !e.known && !seen[held{false, e.digest}] {
			seen[held{false, e.digest}] = true
			bundles = append(bundles, e.digest[:], int64(e.size), e.recipe)
			share(e.parts)
		}
		share(p.parts)
	}
	for name, r := range b.attesters {
		if r.moved {
			counters = append(counters, revisionRow(name, *r)...)
		}
	}
	for _, rows := range []struct {
		into bulk
		args []any
	}{
		{putChallenges, challenges},
		{putParts, parts},
		{putEvidence, bundles},
		{putAppraisals, appraisals},
		{putCounters, counters},
		{putAudit, b.audit},
	} {
		if err := t.insert(ctx, rows.into, rows.args); err != nil {
			return fmt.Errorf("%.30s: %w", rows.into.head, err)
		}
	}
	return t.setState(ctx, b.state)
}

// scanRevision reads a row of attester_state, whose name goes to name.
func scanRevision(row scanner, name *string) (*revision, error) {
	var number, seen, clock, reset, restart, safe int64
	if err := row.Scan(name, &number, &seen, &clock, &reset, &restart, &safe); err != nil {
		return nil, err
	}
	r := &revision{number: uint64(number)}
	if seen != 0 {
		r.last = &attest.Counters{Clock: uint64(clock), Reset: uint32(reset), Restart: uint32(restart), Safe: safe != 0}
	}
	return r, nil
}

func revisionRow(name string, r revision) []any {
	last := attest.Counters{}
	if r.last != nil {
		last = *r.last
	}
	return []any{
		name, int64(r.number), flag(r.last != nil), int64(last.Clock),
		int64(last.Reset), int64(last.Restart), flag(last.Safe),
	}
}

func auditRow(e audit.Entry) []any {
	return []any{
		int64(e.Seq), moment(e.Time), e.Actor, e.Action, e.Subject, e.Outcome,
		octets(e.Detail), e.Prev[:], e.Hash[:],
	}
}
