package store

import (
	"context"
	"fmt"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// Generation is the number that Configuration would carry now.
func (s *Store) Generation(ctx context.Context) (uint64, error) {
	var n int64
	err := s.one(ctx, "SELECT generation FROM state WHERE id = ?", 1, func(row scanner) error { return row.Scan(&n) })
	if err != nil {
		return 0, fmt.Errorf("read generation: %w", err)
	}
	return uint64(n), nil
}

// Configuration reads all of it at one generation.
func (s *Store) Configuration(ctx context.Context) (attest.Configuration, error) {
	c := attest.Configuration{Policies: map[string]attest.PolicyVersion{}, References: map[string]attest.Reference{}}
	err := s.read.snapshot(ctx, func(t *txn) error {
		for _, part := range []struct {
			query string
			each  func(scanner) error
		}{
			{"SELECT generation FROM state WHERE id = 1", func(row scanner) error {
				var n int64
				err := row.Scan(&n)
				c.Generation = uint64(n)
				return err
			}},
			{selectPolicy + " WHERE version = (SELECT MAX(newest.version) FROM policy newest WHERE newest.name = policy.name)", func(row scanner) error {
				p, err := scanPolicy(row)
				c.Policies[p.Name] = p
				return err
			}},
			{selectReference + " WHERE version = (SELECT MAX(newest.version) FROM reference_value newest WHERE newest.name = reference_value.name)", func(row scanner) error {
				r, err := scanReference(row)
				c.References[r.Name] = r
				return err
			}},
			{"SELECT id, kind, name, der, added, added_by FROM anchor ORDER BY id", func(row scanner) error {
				a, err := scanAnchor(row)
				c.Anchors = append(c.Anchors, a)
				return err
			}},
			{"SELECT id, alg, sealed, certificate, not_before, not_after FROM signing_key ORDER BY not_before, id", func(row scanner) error {
				k, err := scanSigningKey(row)
				c.SigningKeys = append(c.SigningKeys, k)
				return err
			}},
		} {
			if err := t.query(ctx, part.query, nil, part.each); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return attest.Configuration{}, fmt.Errorf("read configuration: %w", err)
	}
	return c, nil
}

const (
	selectPolicy    = "SELECT name, version, body, digest, author, made, comment FROM policy"
	selectReference = "SELECT name, version, baseline, author, made FROM reference_value"
)

func scanPolicy(row scanner) (attest.PolicyVersion, error) {
	var p attest.PolicyVersion
	var body []byte
	var made int64
	err := row.Scan(&p.Name, &p.Version, &body, &p.Digest, &p.Author, &made, &p.Comment)
	p.Text, p.Time = string(body), fromMoment(made)
	return p, err
}

func scanReference(row scanner) (attest.Reference, error) {
	var r attest.Reference
	var made int64
	err := row.Scan(&r.Name, &r.Version, &r.Baseline, &r.Author, &made)
	r.Baseline, r.Time = fromOctets(r.Baseline), fromMoment(made)
	return r, err
}

func scanAnchor(row scanner) (attest.Anchor, error) {
	var a attest.Anchor
	var added int64
	err := row.Scan(&a.ID, &a.Kind, &a.Name, &a.DER, &added, &a.AddedBy)
	a.DER, a.Added = fromOctets(a.DER), fromMoment(added)
	return a, err
}

func scanSigningKey(row scanner) (attest.SigningKey, error) {
	var k attest.SigningKey
	var from, until int64
	err := row.Scan(&k.ID, &k.Alg, &k.Sealed, &k.Certificate, &from, &until)
	k.Sealed, k.Certificate = fromOctets(k.Sealed), fromOctets(k.Certificate)
	k.NotBefore, k.NotAfter = fromMoment(from), fromMoment(until)
	return k, err
}

// PutPolicy appends a revision: Version must be one above the newest, else ErrStale.
func (s *Store) PutPolicy(ctx context.Context, p attest.PolicyVersion, e audit.Entry) error {
	if err := texts(p.Name, p.Digest, p.Author, p.Comment); err != nil {
		return fmt.Errorf("put policy: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("put policy %q", p.Name), &e, raises, func(t *txn) error {
		if err := t.follows(ctx, "SELECT COALESCE(MAX(version), 0) FROM policy WHERE name = ?", p.Name, p.Version); err != nil {
			return err
		}
		const query = "INSERT INTO policy (name, version, body, digest, author, made, comment) VALUES (?, ?, ?, ?, ?, ?, ?)"
		_, err := t.exec(ctx, query, p.Name, p.Version, octets([]byte(p.Text)), p.Digest, p.Author, moment(p.Time), p.Comment)
		return err
	})
}

// follows checks that a revision comes right after the newest one.
func (t *txn) follows(ctx context.Context, newest, name string, version int) error {
	return t.query(ctx, newest, []any{name}, func(row scanner) error {
		var have int
		if err := row.Scan(&have); err != nil {
			return err
		}
		if version != have+1 {
			return fmt.Errorf("version %d after %d: %w", version, have, attest.ErrStale)
		}
		return nil
	})
}

// PolicyHistory lists all revisions of a name, newest first.
func (s *Store) PolicyHistory(ctx context.Context, name string) ([]attest.PolicyVersion, error) {
	if texts(name) != nil {
		return nil, fmt.Errorf("history of policy %.80q: %w", name, attest.ErrNotFound)
	}
	var out []attest.PolicyVersion
	err := s.read.query(ctx, selectPolicy+" WHERE name = ? ORDER BY version DESC", []any{name}, func(row scanner) error {
		p, err := scanPolicy(row)
		out = append(out, p)
		return err
	})
	if err == nil && len(out) == 0 {
		err = attest.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("history of policy %q: %w", name, err)
	}
	return out, nil
}

// PutReference appends a revision, as PutPolicy does.
func (s *Store) PutReference(ctx context.Context, r attest.Reference, e audit.Entry) error {
	if err := texts(r.Name, r.Author); err != nil {
		return fmt.Errorf("put reference: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("put reference %q", r.Name), &e, raises, func(t *txn) error {
		if err := t.follows(ctx, "SELECT COALESCE(MAX(version), 0) FROM reference_value WHERE name = ?", r.Name, r.Version); err != nil {
			return err
		}
		const query = "INSERT INTO reference_value (name, version, baseline, author, made) VALUES (?, ?, ?, ?, ?)"
		_, err := t.exec(ctx, query, r.Name, r.Version, octets(r.Baseline), r.Author, moment(r.Time))
		return err
	})
}

// PutAnchor adds an anchor; ErrExists for a taken ID.
func (s *Store) PutAnchor(ctx context.Context, a attest.Anchor, e audit.Entry) error {
	if err := texts(a.ID, a.Kind, a.Name, a.AddedBy); err != nil {
		return fmt.Errorf("put anchor: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("put anchor %q", a.ID), &e, raises, func(t *txn) error {
		if err := t.free(ctx, "SELECT 1 FROM anchor WHERE id = ?", a.ID); err != nil {
			return err
		}
		const query = "INSERT INTO anchor (id, kind, name, der, added, added_by) VALUES (?, ?, ?, ?, ?, ?)"
		_, err := t.exec(ctx, query, a.ID, a.Kind, a.Name, octets(a.DER), moment(a.Added), a.AddedBy)
		return err
	})
}

// free answers ErrExists when a query gives a row.
func (t *txn) free(ctx context.Context, query string, args ...any) error {
	taken, err := t.exists(ctx, query, args...)
	if err == nil && taken {
		err = attest.ErrExists
	}
	return err
}

// RemoveAnchor ends the trust in an anchor.
func (s *Store) RemoveAnchor(ctx context.Context, id string, e audit.Entry) error {
	if texts(id) != nil {
		return fmt.Errorf("remove anchor %.80q: %w", id, attest.ErrNotFound)
	}
	return s.change(ctx, fmt.Sprintf("remove anchor %q", id), &e, raises, func(t *txn) error {
		n, err := t.exec(ctx, "DELETE FROM anchor WHERE id = ?", id)
		if err == nil && n == 0 {
			err = attest.ErrNotFound
		}
		return err
	})
}

// PutSigningKey adds a key, or replaces the record of one: to end its use early,
// or to seal it anew.
func (s *Store) PutSigningKey(ctx context.Context, k attest.SigningKey, e audit.Entry) error {
	if err := texts(k.ID, k.Alg); err != nil {
		return fmt.Errorf("put signing key: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("put signing key %q", k.ID), &e, raises, func(t *txn) error {
		const query = `INSERT INTO signing_key (id, alg, sealed, certificate, not_before, not_after) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET alg = excluded.alg, sealed = excluded.sealed, certificate = excluded.certificate,
			not_before = excluded.not_before, not_after = excluded.not_after`
		_, err := t.exec(ctx, query, k.ID, k.Alg, octets(k.Sealed), octets(k.Certificate), moment(k.NotBefore), moment(k.NotAfter))
		return err
	})
}

// limit is a page's length: 100 when not given, at most pageMax.
func limit(n int) int {
	switch {
	case n <= 0:
		return 100
	case n > pageMax:
		return pageMax
	}
	return n
}

// pageMax bounds what one call reads into memory.
const pageMax = 10_000
