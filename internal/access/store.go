package access

import (
	"context"
	"errors"
	"slices"

	"github.com/assay-project/assay/internal/audit"
)

// The answers of a [Store] that a caller acts on.
var (
	// ErrNotFound is a principal or custom role that the store does not hold.
	ErrNotFound = errors.New("no such principal or role")
	// ErrExists is a name or a credential that is taken.
	ErrExists = errors.New("principal or credential already exists")
	// ErrInUse is returned, wrapped, for a custom role that principals have.
	ErrInUse = errors.New("the role is in use")
)

// A State is everybody, and all custom roles, at one moment.
type State struct {
	Principals []Principal // by name
	Custom     []CustomRole
}

// Principal returns the one of a name.
func (s State) Principal(name string) (Principal, bool) {
	i := slices.IndexFunc(s.Principals, func(p Principal) bool { return p.Name == name })
	if i < 0 {
		return Principal{}, false
	}
	return s.Principals[i], true
}

// A Check judges a change inside the transaction that makes it: nothing of the State
// changes in between, and nothing is changed when it returns an error, which the change
// then wraps. It may be called again. nil checks nothing.
type Check func(State) error

// Store keeps principals and custom roles. Every write carries its audit entry and is durable
// when the method returns. All implementations pass storetest.Run.
type Store interface {
	// AddPrincipal answers ErrExists when the name or the credential is taken,
	// and ErrInvalid for one that Check refuses.
	AddPrincipal(context.Context, Principal, Check, audit.Entry) error
	// RemovePrincipal revokes the credential at once; the audit chain remembers it.
	RemovePrincipal(ctx context.Context, name string, c Check, e audit.Entry) error
	// Principals lists by name.
	Principals(context.Context) ([]Principal, error)
	PrincipalByToken(context.Context, Digest) (Principal, error)
	PrincipalByCertificate(context.Context, Digest) (Principal, error)
	// ChangeGrants has change alter the roles, permissions and bindings of a principal;
	// nothing else of it is kept. It answers ErrNotFound, what change returns, and
	// ErrInvalid for what Check refuses. change is a Check, too.
	ChangeGrants(ctx context.Context, name string, change func(*Principal, State) error, e audit.Entry) error

	// CustomRoles lists by name.
	CustomRoles(context.Context) ([]CustomRole, error)
	// PutRole makes a custom role, or gives it other permissions, which those who have
	// it have at once. It answers ErrInvalid for one that Check refuses.
	PutRole(context.Context, CustomRole, Check, audit.Entry) error
	// RemoveRole answers ErrInUse, wrapped, for a role that somebody has.
	RemoveRole(ctx context.Context, name Role, e audit.Entry) error
}
