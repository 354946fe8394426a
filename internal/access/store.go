package access

import (
	"context"
	"errors"

	"github.com/assay-project/assay/internal/audit"
)

// The answers of a [Store] that a caller acts on.
var (
	// ErrNotFound is a principal that the store does not hold.
	ErrNotFound = errors.New("no such principal")
	// ErrExists is a name or a credential that is taken.
	ErrExists = errors.New("principal or credential already exists")
)

// Store keeps principals. Every write carries its audit entry and is durable
// when the method returns. All implementations pass storetest.Run.
type Store interface {
	// AddPrincipal answers ErrExists when the name or the credential is taken,
	// and ErrInvalid for one that Check refuses.
	AddPrincipal(context.Context, Principal, audit.Entry) error
	// RemovePrincipal revokes the credential at once; the audit chain remembers it.
	RemovePrincipal(ctx context.Context, name string, e audit.Entry) error
	// Principals lists by name.
	Principals(context.Context) ([]Principal, error)
	PrincipalByToken(context.Context, Digest) (Principal, error)
	PrincipalByCertificate(context.Context, Digest) (Principal, error)
}
