package store

import (
	"context"
	"fmt"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

const selectAttester = `SELECT s.ak_name, s.revision, s.seen, s.clock, s.reset_count, s.restart_count, s.safe,
	a.machine, a.ak_public, a.ek_public, a.proof, a.baseline, a.added, a.added_by, a.removed
	FROM attester a JOIN attester_state s ON s.ak_name = a.ak_name`

// columns lets scanRevision take the first columns of a longer row.
type columns struct {
	scanner
	rest []any
}

func (c columns) Scan(dest ...any) error { return c.scanner.Scan(append(dest, c.rest...)...) }

func scanAttester(row scanner) (attest.Attester, error) {
	var a attest.Attester
	var added, removed int64
	r, err := scanRevision(columns{row, []any{
		&a.Machine, &a.AKPublic, &a.EKPublic, &a.Proof, &a.Baseline, &added, &a.AddedBy, &removed,
	}}, &a.AKName)
	if err != nil {
		return attest.Attester{}, err
	}
	a.Revision, a.Last = r.number, r.last
	a.AKPublic, a.EKPublic = fromOctets(a.AKPublic), fromOctets(a.EKPublic)
	a.Added, a.Removed = fromMoment(added), removed != 0
	return a, nil
}

func checkAttester(a attest.Attester) error {
	if a.AKName == "" {
		return fmt.Errorf("%w: attester without a key's name", ErrInvalid)
	}
	return texts(a.AKName, a.Machine, a.Proof, a.Baseline, a.AddedBy)
}

// AddAttester adds a key with revision 1, whatever a.Revision is. It answers
// ErrExists when the key, under this or another Name, or a live attester's machine
// name, is taken; a key that was removed is taken, and comes back by SetAttester.
func (s *Store) AddAttester(ctx context.Context, a attest.Attester, e audit.Entry) error {
	if err := checkAttester(a); err != nil {
		return fmt.Errorf("add attester: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("add attester %q", a.AKName), &e, keeps, func(t *txn) error {
		return t.addAttester(ctx, a)
	})
}

const machineTaken = "SELECT 1 FROM attester WHERE machine = ? AND removed = 0 AND ak_name <> ?"

func (t *txn) addAttester(ctx context.Context, a attest.Attester) error {
	if err := t.free(ctx, "SELECT 1 FROM attester WHERE ak_name = ?", a.AKName); err != nil {
		return err
	}
	digest := attest.KeyDigest(a.AKPublic)
	if err := t.free(ctx, keyRecorded, digest, a.AKName); err != nil {
		return fmt.Errorf("under another Name: %w", err)
	}
	if err := t.machineFree(ctx, a); err != nil {
		return err
	}
	const query = `INSERT INTO attester (ak_name, machine, ak_public, ek_public, proof, baseline, added, added_by, removed, key_digest)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	_, err := t.exec(ctx, query, a.AKName, a.Machine, octets(a.AKPublic), octets(a.EKPublic), a.Proof, a.Baseline,
		moment(a.Added), a.AddedBy, flag(a.Removed), digest)
	if err != nil {
		return err
	}
	return t.insert(ctx, putCounters, revisionRow(a.AKName, revision{number: 1, last: a.Last}))
}

func (t *txn) machineFree(ctx context.Context, a attest.Attester) error {
	if a.Removed {
		return nil
	}
	if err := t.free(ctx, machineTaken, a.Machine, a.AKName); err != nil {
		return fmt.Errorf("machine %q: %w", a.Machine, err)
	}
	return nil
}

// SetAttester replaces the record when its Revision is still the stored one, else
// ErrStale; the stored revision is then one higher. Of a key that is not there it
// says ErrNotFound, and ErrExists when the machine's name is taken. A removal raises
// the generation: a decision about the same key under another Name, or by its
// certificate, must not be kept that was made before.
func (s *Store) SetAttester(ctx context.Context, a attest.Attester, e audit.Entry) error {
	if err := checkAttester(a); err != nil {
		return fmt.Errorf("set attester: %w", err)
	}
	moves := keeps
	if a.Removed {
		moves = raises
	}
	return s.change(ctx, fmt.Sprintf("set attester %q", a.AKName), &e, moves, func(t *txn) error {
		var stored *revision
		err := t.among(ctx, revisions, []any{a.AKName}, func(row scanner) (err error) {
			stored, err = scanRevision(row, new(string))
			return err
		})
		switch {
		case err != nil:
			return err
		case stored == nil:
			return attest.ErrNotFound
		case stored.number != a.Revision:
			return fmt.Errorf("revision %d, stored is %d: %w", a.Revision, stored.number, attest.ErrStale)
		}
		if err := t.machineFree(ctx, a); err != nil {
			return err
		}
		const query = `UPDATE attester SET machine = ?, ak_public = ?, ek_public = ?, proof = ?, baseline = ?,
			added = ?, added_by = ?, removed = ?, key_digest = ? WHERE ak_name = ?`
		_, err = t.exec(ctx, query, a.Machine, octets(a.AKPublic), octets(a.EKPublic), a.Proof, a.Baseline,
			moment(a.Added), a.AddedBy, flag(a.Removed), attest.KeyDigest(a.AKPublic), a.AKName)
		if err != nil {
			return err
		}
		return t.insert(ctx, putCounters, revisionRow(a.AKName, revision{number: a.Revision + 1, last: a.Last}))
	})
}

// Attester returns one key's record.
func (s *Store) Attester(ctx context.Context, akName string) (a attest.Attester, err error) {
	if texts(akName) != nil {
		return a, fmt.Errorf("attester %.80q: %w", akName, attest.ErrNotFound)
	}
	err = s.one(ctx, selectAttester+" WHERE a.ak_name = ?", akName, func(row scanner) (err error) {
		a, err = scanAttester(row)
		return err
	})
	if err != nil {
		return attest.Attester{}, fmt.Errorf("attester %q: %w", akName, err)
	}
	return a, nil
}

// Attesters lists by AKName, above after, at most n (0 means 100).
func (s *Store) Attesters(ctx context.Context, after string, n int) ([]attest.Attester, error) {
	if texts(after) != nil {
		return nil, nil // no stored name can come after
	}
	var out []attest.Attester
	query := selectAttester + " WHERE a.ak_name > ? ORDER BY a.ak_name LIMIT ?"
	err := s.read.query(ctx, query, []any{after, limit(n)}, func(row scanner) error {
		a, err := scanAttester(row)
		out = append(out, a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list attesters: %w", err)
	}
	return out, nil
}

const selectEnrolment = "SELECT id, machine, ak_public, ek_public, baseline, secret_hash, added_by, expires FROM enrolment"

// PutEnrolment keeps a credential challenge; ErrExists for a taken ID.
func (s *Store) PutEnrolment(ctx context.Context, e attest.Enrolment) error {
	if err := texts(e.ID, e.Machine, e.Baseline, e.By); err != nil {
		return fmt.Errorf("put enrolment: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("put enrolment %q", e.ID), nil, keeps, func(t *txn) error {
		if err := t.free(ctx, "SELECT 1 FROM enrolment WHERE id = ?", e.ID); err != nil {
			return err
		}
		const query = `INSERT INTO enrolment (id, machine, ak_public, ek_public, baseline, secret_hash, added_by, expires)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`
		_, err := t.exec(ctx, query, e.ID, e.Machine, octets(e.AKPublic), octets(e.EKPublic), e.Baseline,
			octets(e.SecretHash), e.By, moment(e.Expires))
		return err
	})
}

// FinishEnrolment removes the enrolment and adds its attester, in one step.
func (s *Store) FinishEnrolment(ctx context.Context, id string, a attest.Attester, e audit.Entry) error {
	if err := checkAttester(a); err != nil {
		return fmt.Errorf("finish enrolment: %w", err)
	}
	if texts(id) != nil {
		return fmt.Errorf("finish enrolment %.80q: %w", id, attest.ErrNotFound)
	}
	return s.change(ctx, fmt.Sprintf("finish enrolment %q", id), &e, keeps, func(t *txn) error {
		n, err := t.exec(ctx, "DELETE FROM enrolment WHERE id = ?", id)
		if err != nil {
			return err
		}
		if n == 0 {
			return attest.ErrNotFound
		}
		return t.addAttester(ctx, a)
	})
}

// Enrolment returns an enrolment that waits for its answer.
func (s *Store) Enrolment(ctx context.Context, id string) (e attest.Enrolment, err error) {
	if texts(id) != nil {
		return e, fmt.Errorf("enrolment %.80q: %w", id, attest.ErrNotFound)
	}
	err = s.one(ctx, selectEnrolment+" WHERE id = ?", id, func(row scanner) error {
		var expires int64
		err := row.Scan(&e.ID, &e.Machine, &e.AKPublic, &e.EKPublic, &e.Baseline, &e.SecretHash, &e.By, &expires)
		e.AKPublic, e.EKPublic, e.SecretHash = fromOctets(e.AKPublic), fromOctets(e.EKPublic), fromOctets(e.SecretHash)
		e.Expires = fromMoment(expires)
		return err
	})
	if err != nil {
		return attest.Enrolment{}, fmt.Errorf("enrolment %q: %w", id, err)
	}
	return e, nil
}
