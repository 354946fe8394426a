package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

const selectPrincipal = `SELECT name, roles, permissions, token_hash, token_tail, certificate, added, added_by, expires, bindings
	FROM principal`

// AddPrincipal answers access.ErrExists when the name or the credential is taken.
func (s *Store) AddPrincipal(ctx context.Context, p access.Principal, c access.Check, e audit.Entry) error {
	if err := errors.Join(p.Check(), texts(p.TokenTail, p.AddedBy)); err != nil {
		return fmt.Errorf("add principal: %w", err)
	}
	g, err := grantsOf(p)
	if err != nil {
		return fmt.Errorf("add principal: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("add principal %q", p.Name), &e, keeps, func(t *txn) error {
		token, certificate := credential(p.TokenHash), credential(p.Certificate)
		err := t.free(ctx, "SELECT 1 FROM principal WHERE name = ? OR token_hash = ? OR certificate = ?", p.Name, token, certificate)
		if errors.Is(err, attest.ErrExists) {
			return access.ErrExists
		}
		if err != nil {
			return err
		}
		if err := t.judge(ctx, c); err != nil {
			return err
		}
		if err := t.rolesExist(ctx, p); err != nil {
			return err
		}
		const query = `INSERT INTO principal (name, roles, permissions, token_hash, token_tail, certificate, added, added_by, expires, bindings)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
		_, err = t.exec(ctx, query, p.Name, g.roles, g.permissions, token, p.TokenTail, certificate, moment(p.Added), p.AddedBy, moment(p.Expires), g.bindings)
		return err
	})
}

// credential is a digest as stored: NULL for none, so that many may have none.
func credential(d access.Digest) []byte {
	if d.IsZero() {
		return nil
	}
	return d[:]
}

// RemovePrincipal revokes the credential at once; the audit chain remembers it.
func (s *Store) RemovePrincipal(ctx context.Context, name string, c access.Check, e audit.Entry) error {
	if texts(name) != nil {
		return fmt.Errorf("remove principal %.80q: %w", name, access.ErrNotFound)
	}
	return s.change(ctx, fmt.Sprintf("remove principal %q", name), &e, keeps, func(t *txn) error {
		if err := t.judge(ctx, c); err != nil {
			return err
		}
		n, err := t.exec(ctx, "DELETE FROM principal WHERE name = ?", name)
		if err == nil && n == 0 {
			err = access.ErrNotFound
		}
		return err
	})
}

// Principals lists by name.
func (s *Store) Principals(ctx context.Context) ([]access.Principal, error) {
	return s.principals(ctx, " ORDER BY name")
}

// PrincipalByToken returns the principal whose API token has this digest.
func (s *Store) PrincipalByToken(ctx context.Context, d access.Digest) (access.Principal, error) {
	return s.principalBy(ctx, " WHERE token_hash = ?", d)
}

// PrincipalByCertificate returns the principal whose certificate has this digest.
func (s *Store) PrincipalByCertificate(ctx context.Context, d access.Digest) (access.Principal, error) {
	return s.principalBy(ctx, " WHERE certificate = ?", d)
}

func (s *Store) principalBy(ctx context.Context, where string, d access.Digest) (access.Principal, error) {
	found, err := s.principals(ctx, where, d[:])
	if err != nil {
		return access.Principal{}, err
	}
	if len(found) == 0 || d.IsZero() {
		return access.Principal{}, access.ErrNotFound
	}
	return found[0], nil
}

func (s *Store) principals(ctx context.Context, where string, args ...any) ([]access.Principal, error) {
	var out []access.Principal
	err := s.read.query(ctx, selectPrincipal+where, args, func(row scanner) error {
		p, err := scanPrincipal(row)
		out = append(out, p)
		return err
	})
	if err == nil {
		err = s.resolve(ctx, out)
	}
	if err != nil {
		return nil, fmt.Errorf("read principals: %w", err)
	}
	return out, nil
}

func scanPrincipal(row scanner) (access.Principal, error) {
	var p access.Principal
	var roles, permissions, token, certificate, bindings []byte
	var added, expires int64
	err := row.Scan(&p.Name, &roles, &permissions, &token, &p.TokenTail, &certificate, &added, &p.AddedBy, &expires, &bindings)
	if err == nil {
		err = errors.Join(fromDocument(roles, &p.Roles), fromDocument(permissions, &p.Permissions))
	}
	if err == nil && bindings != nil { // NULL in a row of an older program
		err = fromDocument(bindings, &p.Bindings)
	}
	if err != nil {
		return access.Principal{}, err
	}
	copy(p.TokenHash[:], token)
	copy(p.Certificate[:], certificate)
	p.Added, p.Expires = fromMoment(added), fromMoment(expires)
	return p, nil
}
