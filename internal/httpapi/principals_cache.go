package httpapi

import (
	"context"
	"sync"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/audit"
)

// CachePrincipals remembers the principals that s finds, until one is added or
// removed, or what one may do is changed, through the result. It is for a store that no other process writes: a
// removal elsewhere would not be seen. Expiry is not its affair; who asks compares
// times anew.
func CachePrincipals(s access.Store) access.Store {
	return &principalCache{Store: s, token: map[access.Digest]access.Principal{}, certificate: map[access.Digest]access.Principal{}}
}

// maxCached bounds each map; a full one is emptied. Only credentials that exist
// get in, so strangers cannot fill it.
const maxCached = 4096

type principalCache struct {
	access.Store

	mu                 sync.Mutex // guards all below
	epoch              uint64     // rises with each change
	token, certificate map[access.Digest]access.Principal
}

// PrincipalByToken finds by the digest of an API token.
func (c *principalCache) PrincipalByToken(ctx context.Context, d access.Digest) (access.Principal, error) {
	return c.find(ctx, c.token, d, c.Store.PrincipalByToken)
}

// PrincipalByCertificate finds by the digest of a client certificate.
func (c *principalCache) PrincipalByCertificate(ctx context.Context, d access.Digest) (access.Principal, error) {
	return c.find(ctx, c.certificate, d, c.Store.PrincipalByCertificate)
}

func (c *principalCache) find(ctx context.Context, in map[access.Digest]access.Principal, d access.Digest, read access.Lookup) (access.Principal, error) {
	c.mu.Lock()
	p, ok := in[d]
	epoch := c.epoch
	c.mu.Unlock()
	if ok {
		return p, nil
	}
	p, err := read(ctx, d)
	if err != nil {
		return p, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// What was read before a change may be what the change removed.
	if epoch == c.epoch {
		if len(in) >= maxCached {
			clear(in)
		}
		in[d] = p
	}
	return p, nil
}

// AddPrincipal adds one.
func (c *principalCache) AddPrincipal(ctx context.Context, p access.Principal, check access.Check, e audit.Entry) error {
	defer c.forget()
	return c.Store.AddPrincipal(ctx, p, check, e)
}

// RemovePrincipal revokes a credential; when it returns, nobody is let in by it.
func (c *principalCache) RemovePrincipal(ctx context.Context, name string, check access.Check, e audit.Entry) error {
	defer c.forget()
	return c.Store.RemovePrincipal(ctx, name, check, e)
}

// ChangeGrants changes what a principal may do; when it returns, nobody may do more.
func (c *principalCache) ChangeGrants(ctx context.Context, name string, change func(*access.Principal, access.State) error, e audit.Entry) error {
	defer c.forget()
	return c.Store.ChangeGrants(ctx, name, change, e)
}

// PutRole makes or changes a custom role.
func (c *principalCache) PutRole(ctx context.Context, r access.CustomRole, check access.Check, e audit.Entry) error {
	defer c.forget()
	return c.Store.PutRole(ctx, r, check, e)
}

// RemoveRole removes a custom role.
func (c *principalCache) RemoveRole(ctx context.Context, name access.Role, e audit.Entry) error {
	defer c.forget()
	return c.Store.RemoveRole(ctx, name, e)
}

func (c *principalCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	clear(c.token)
	clear(c.certificate)
}
