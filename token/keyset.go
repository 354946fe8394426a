package token

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// ErrNoKey is returned, wrapped, when no key signs at the time asked for.
var ErrNoKey = errors.New("no signing key")

// A KeySet has the signing keys of one issuer and says which signs when, and
// which are published. It is immutable: rotation makes a new one.
type KeySet struct {
	retention time.Duration
	keys      []*Key // by NotBefore, then by ID
}

// NewKeySet makes a KeySet. A key stays published for retention after it last
// signs: at least the longest life of a token, and what caches add.
func NewKeySet(retention time.Duration, keys ...*Key) (*KeySet, error) {
	if retention <= 0 {
		return nil, errors.New("key set without retention: keys would vanish under valid tokens")
	}
	s := &KeySet{retention: retention, keys: slices.Clone(keys)}
	seen := map[string]bool{}
	for _, k := range s.keys {
		if k == nil {
			return nil, errors.New("key set with a nil key")
		}
		if seen[k.ID()] {
			return nil, fmt.Errorf("two keys are called %q", k.ID())
		}
		seen[k.ID()] = true
	}
	slices.SortFunc(s.keys, func(a, b *Key) int {
		if c := a.notBefore.Compare(b.notBefore); c != 0 {
			return c
		}
		return strings.Compare(a.ID(), b.ID())
	})
	return s, nil
}

// Signing returns the key that signs with alg at t: of those whose time it is,
// the one that began last. The error is [ErrNoKey].
func (s *KeySet) Signing(alg Alg, t time.Time) (*Key, error) {
	for _, k := range slices.Backward(s.keys) {
		if k.Alg() == alg && k.signsAt(t) {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%w for %s at %s", ErrNoKey, alg, stamp(t.UTC()))
}

// Published returns the keys that relying parties need to know at t, newest
// first: those that signed tokens that may still be valid, that sign, and that
// will sign.
func (s *KeySet) Published(t time.Time) []PublicKey {
	var out []PublicKey
	for _, k := range slices.Backward(s.keys) {
		if t.Before(k.notAfter.Add(s.retention)) {
			out = append(out, k.Public())
		}
	}
	return out
}

// NextChange returns the first time after t at which [KeySet.Signing] or
// [KeySet.Published] may answer otherwise; ok is false when there is none.
func (s *KeySet) NextChange(t time.Time) (next time.Time, ok bool) {
	for _, k := range s.keys {
		for _, at := range []time.Time{k.notBefore, k.notAfter, k.notAfter.Add(s.retention)} {
			if at.After(t) && (!ok || at.Before(next)) {
				next, ok = at, true
			}
		}
	}
	return next, ok
}

// JWKS returns what is published at t as a JWK Set (RFC 7517, 5).
func (s *KeySet) JWKS(t time.Time) ([]byte, error) {
	return MarshalKeys(s.Published(t))
}

// MarshalKeys writes a JWK Set. Each key has alg and use, and x5c where it has
// certificates.
func MarshalKeys(keys []PublicKey) ([]byte, error) {
	list := make([]json.RawMessage, 0, len(keys))
	for _, k := range keys {
		raw, err := marshalKey(k)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		list = append(list, raw)
	}
	return json.Marshal(map[string]any{"keys": list})
}

func marshalKey(k PublicKey) (json.RawMessage, error) {
	jwk := jose.JSONWebKey{Key: k.Key, KeyID: k.ID, Algorithm: string(k.Alg), Use: "sig"}
	if !jwk.IsPublic() {
		return nil, errors.New("key is not public")
	}
	raw, err := jwk.MarshalJSON()
	if err != nil || len(k.Certificates) == 0 {
		return raw, err
	}
	// go-jose would write x5c from parsed certificates; we have their DER.
	members := map[string]any{}
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	members["x5c"] = k.Certificates // []byte marshals to standard base64
	return json.Marshal(members)
}

// ownKeys is the issuer's view of its keys while it checks its own token.
type ownKeys struct {
	issuer string
	key    *Key
}

// Issuer is the issuer itself.
func (o ownKeys) Issuer() string { return o.issuer }

// Key returns the key that signed, with the check that only its holder has.
func (o ownKeys) Key(_ context.Context, kid string, _ time.Time) (PublicKey, error) {
	if kid != o.key.ID() {
		return PublicKey{}, ErrUnknownKey
	}
	return o.key.public, nil
}
