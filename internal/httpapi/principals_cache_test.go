package httpapi

import (
	"context"
	"errors"
	"testing"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
)

// slowPrincipals lets a test act between a read and its return.
type slowPrincipals struct {
	access.Store
	reads   int
	there   bool
	between func()
}

func (s *slowPrincipals) PrincipalByToken(_ context.Context, d access.Digest) (access.Principal, error) {
	s.reads++
	if !s.there {
		return access.Principal{}, access.ErrNotFound
	}
	if s.between != nil {
		s.between()
	}
	return access.Principal{Name: "a", TokenHash: d}, nil
}

func (s *slowPrincipals) RemovePrincipal(context.Context, string, access.Check, audit.Entry) error {
	s.there = false
	return nil
}

func TestRemovedPrincipalLeavesTheCacheAtOnce(t *testing.T) {
	slow := &slowPrincipals{there: true}
	c := CachePrincipals(slow)
	for range 3 {
		if _, err := c.PrincipalByToken(t.Context(), access.Digest{1}); err != nil {
			t.Fatal(err)
		}
	}
	if slow.reads != 1 {
		t.Errorf("%d reads of one principal, want 1", slow.reads)
	}
	must(t, c.RemovePrincipal(t.Context(), "a", nil, audit.Entry{}))
	for range 2 {
		if _, err := c.PrincipalByToken(t.Context(), access.Digest{1}); !errors.Is(err, access.ErrNotFound) {
			t.Errorf("removed principal: %v", err)
		}
	}
	if slow.reads != 3 {
		t.Errorf("%d reads: a credential that does not exist was remembered", slow.reads)
	}
}

func TestReadThatARemovalOvertookIsNotCached(t *testing.T) {
	slow := &slowPrincipals{there: true}
	c := CachePrincipals(slow)
	slow.between = func() { must(t, c.RemovePrincipal(t.Context(), "a", nil, audit.Entry{})) }
	if _, err := c.PrincipalByToken(t.Context(), access.Digest{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PrincipalByToken(t.Context(), access.Digest{1}); !errors.Is(err, access.ErrNotFound) {
		t.Errorf("what was read before the removal is still honoured: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := CachePrincipals(&slowPrincipals{there: true}).(*principalCache)
	for i := range 3 * maxCached {
		_, err := c.PrincipalByToken(t.Context(), access.Digest{byte(i), byte(i >> 8), 1})
		must(t, err)
		if len(c.token) > maxCached {
			t.Fatalf("%d principals cached", len(c.token))
		}
	}
}
