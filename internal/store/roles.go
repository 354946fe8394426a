package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
)

// grants are what a principal may do, as stored.
type grants struct{ roles, permissions, bindings []byte }

func grantsOf(p access.Principal) (g grants, err error) {
	var errs [3]error
	g.roles, errs[0] = document(p.Roles)
	g.permissions, errs[1] = document(p.Permissions)
	g.bindings, errs[2] = document(p.Bindings)
	return g, errors.Join(errs[:]...)
}

// ChangeGrants has change alter what a principal may do.
func (s *Store) ChangeGrants(ctx context.Context, name string, change func(*access.Principal, access.State) error, e audit.Entry) error {
	if texts(name) != nil {
		return fmt.Errorf("change principal %.80q: %w", name, access.ErrNotFound)
	}
	return s.change(ctx, fmt.Sprintf("change principal %q", name), &e, keeps, func(t *txn) error {
		st, err := t.access(ctx)
		if err != nil {
			return err
		}
		p, there := st.Principal(name)
		if !there {
			return access.ErrNotFound
		}
		if err := change(&p, st); err != nil {
			return err
		}
		if err := errors.Join(p.Check(), p.CheckRoles(st.Custom)); err != nil {
			return err
		}
		g, err := grantsOf(p)
		if err != nil {
			return err
		}
		_, err = t.exec(ctx, "UPDATE principal SET roles = ?, permissions = ?, bindings = ? WHERE name = ?", g.roles, g.permissions, g.bindings, name)
		return err
	})
}

// access is who may do what: nobody changes it before the transaction has ended.
func (t *txn) access(ctx context.Context) (st access.State, err error) {
	if st.Custom, err = t.customRoles(ctx); err != nil {
		return st, err
	}
	err = t.query(ctx, selectPrincipal+" ORDER BY name", nil, func(row scanner) error {
		p, err := scanPrincipal(row)
		p.Custom = rolesOf(p, st.Custom)
		st.Principals = append(st.Principals, p)
		return err
	})
	return st, err
}

// judge has a check judge a change.
func (t *txn) judge(ctx context.Context, c access.Check) error {
	if c == nil {
		return nil
	}
	st, err := t.access(ctx)
	if err != nil {
		return err
	}
	return c(st)
}

// rolesOf are those of all custom roles that a principal has.
func rolesOf(p access.Principal, all []access.CustomRole) (out []access.CustomRole) {
	names := p.CustomNames()
	for _, r := range all {
		if slices.Contains(names, r.Name) {
			out = append(out, r)
		}
	}
	return out
}

// rolesExist refuses a principal with a role that nobody made.
func (t *txn) rolesExist(ctx context.Context, p access.Principal) error {
	if len(p.CustomNames()) == 0 {
		return nil
	}
	all, err := t.customRoles(ctx)
	if err != nil {
		return err
	}
	return p.CheckRoles(all)
}

const selectRoles = "SELECT name, meaning, permissions, changed, changed_by FROM custom_role ORDER BY name"

func (t *txn) customRoles(ctx context.Context) ([]access.CustomRole, error) {
	var out []access.CustomRole
	err := t.query(ctx, selectRoles, nil, func(row scanner) error {
		r, err := scanRole(row)
		out = append(out, r)
		return err
	})
	return out, err
}

// CustomRoles lists by name.
func (s *Store) CustomRoles(ctx context.Context) ([]access.CustomRole, error) {
	var out []access.CustomRole
	err := s.read.query(ctx, selectRoles, nil, func(row scanner) error {
		r, err := scanRole(row)
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	return out, nil
}

func scanRole(row scanner) (access.CustomRole, error) {
	var r access.CustomRole
	var permissions []byte
	var changed int64
	err := row.Scan(&r.Name, &r.Meaning, &permissions, &changed, &r.ChangedBy)
	if err == nil {
		err = fromDocument(permissions, &r.Permissions)
	}
	r.Changed = fromMoment(changed)
	return r, err
}

// resolve gives principals what is known of their custom roles. A role that was removed
// since the principals were read gives nothing.
func (s *Store) resolve(ctx context.Context, principals []access.Principal) error {
	if !slices.ContainsFunc(principals, func(p access.Principal) bool { return len(p.CustomNames()) > 0 }) {
		return nil
	}
	all, err := s.CustomRoles(ctx)
	if err != nil {
		return err
	}
	for i := range principals {
		principals[i].Custom = rolesOf(principals[i], all)
	}
	return nil
}

// PutRole makes a custom role, or gives it other permissions.
func (s *Store) PutRole(ctx context.Context, r access.CustomRole, c access.Check, e audit.Entry) error {
	if err := errors.Join(r.Check(), texts(r.Meaning, r.ChangedBy)); err != nil {
		return fmt.Errorf("put role: %w", err)
	}
	permissions, err := document(r.Permissions)
	if err != nil {
		return fmt.Errorf("put role: %w", err)
	}
	return s.change(ctx, fmt.Sprintf("put role %q", r.Name), &e, keeps, func(t *txn) error {
		if err := t.judge(ctx, c); err != nil {
			return err
		}
		const query = `INSERT INTO custom_role (name, meaning, permissions, changed, changed_by) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET meaning = excluded.meaning, permissions = excluded.permissions,
				changed = excluded.changed, changed_by = excluded.changed_by`
		_, err := t.exec(ctx, query, string(r.Name), r.Meaning, permissions, moment(r.Changed), r.ChangedBy)
		return err
	})
}

// RemoveRole removes a custom role that nobody has.
func (s *Store) RemoveRole(ctx context.Context, name access.Role, e audit.Entry) error {
	if texts(string(name)) != nil {
		return fmt.Errorf("remove role %.80q: %w", name, access.ErrNotFound)
	}
	return s.change(ctx, fmt.Sprintf("remove role %q", name), &e, keeps, func(t *txn) error {
		if err := t.unused(ctx, name); err != nil {
			return err
		}
		n, err := t.exec(ctx, "DELETE FROM custom_role WHERE name = ?", string(name))
		if err == nil && n == 0 {
			err = access.ErrNotFound
		}
		return err
	})
}

// unused refuses a role that somebody has.
func (t *txn) unused(ctx context.Context, name access.Role) error {
	return t.query(ctx, selectPrincipal, nil, func(row scanner) error {
		p, err := scanPrincipal(row)
		if err == nil && slices.Contains(p.CustomNames(), name) {
			err = fmt.Errorf("principal %q has it: %w", p.Name, access.ErrInUse)
		}
		return err
	})
}
