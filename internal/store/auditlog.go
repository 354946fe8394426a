package store

import (
	"context"
	"fmt"

	"github.com/assay-project/assay/internal/audit"
)

// AuditEntries reads the chain in order, above the sequence number after, at
// most n (0 means 100). It returns what is stored; [audit.Verifier] checks it. An
// entry that cannot even be read ends the page with an [*audit.BreakError], and
// the entries before it are returned too.
func (s *Store) AuditEntries(ctx context.Context, after uint64, n int) ([]audit.Entry, error) {
	if int64(after) < 0 {
		return nil, nil // past the last number that the database can hold
	}
	var out []audit.Entry
	const query = `SELECT seq, made, actor, action, subject, outcome, detail, prev, hash
		FROM audit WHERE seq > ? ORDER BY seq LIMIT ?`
	err := s.read.query(ctx, query, []any{int64(after), limit(n)}, func(row scanner) error {
		e, err := scanEntry(row)
		if err == nil {
			out = append(out, e)
		}
		return err
	})
	if err != nil {
		return out, fmt.Errorf("read audit chain: %w", err)
	}
	return out, nil
}

// RecordAudit links an entry that no other write carries, as for a request that
// was denied.
func (s *Store) RecordAudit(ctx context.Context, e audit.Entry) error {
	return s.change(ctx, "record in audit chain", &e, keeps, func(*txn) error { return nil })
}

func scanEntry(row scanner) (audit.Entry, error) {
	var e audit.Entry
	var seq, made int64
	var prev, hash, detail []byte
	if err := row.Scan(&seq, &made, &e.Actor, &e.Action, &e.Subject, &e.Outcome, &detail, &prev, &hash); err != nil {
		return audit.Entry{}, err
	}
	e.Seq, e.Time, e.Detail = uint64(seq), fromMoment(made), fromOctets(detail)
	if len(prev) != len(e.Prev) || len(hash) != len(e.Hash) {
		return audit.Entry{}, &audit.BreakError{Seq: e.Seq, Why: "was altered: a hash in it is not 32 bytes"}
	}
	copy(e.Prev[:], prev)
	copy(e.Hash[:], hash)
	return e, nil
}

// AuditHead returns the head that the next entry will be linked to. A chain that
// ends before it has lost its tail.
func (s *Store) AuditHead(ctx context.Context) (audit.Head, error) {
	var seq int64
	var hash []byte
	const query = "SELECT audit_seq, audit_hash FROM state WHERE id = ?"
	err := s.one(ctx, query, 1, func(row scanner) error { return row.Scan(&seq, &hash) })
	if err != nil {
		return audit.Head{}, fmt.Errorf("read head of the audit chain: %w", err)
	}
	h := audit.Head{Seq: uint64(seq)}
	if copy(h.Hash[:], hash) != len(h.Hash) || len(hash) != len(h.Hash) {
		return audit.Head{}, fmt.Errorf("head of the audit chain: %w", ErrCorrupt)
	}
	return h, nil
}
