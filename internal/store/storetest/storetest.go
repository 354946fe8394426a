// Package storetest holds every implementation of the service's store to one
// behaviour.
//
// It is for tests only. Start with [Run].
package storetest

import (
	"context"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// Store is all that the service keeps things in.
type Store interface {
	attest.Store
	access.Store
	AuditHead(context.Context) (audit.Head, error)
	Close() error
}
