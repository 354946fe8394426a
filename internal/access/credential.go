package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Digest is the SHA-256 digest of a credential. The zero Digest is none.
type Digest [sha256.Size]byte

// IsZero reports whether d names no credential.
func (d Digest) IsZero() bool { return d == Digest{} }

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes d in hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

const (
	tokenPrefix = "assay_" // lets scanners of leaked secrets know one
	tokenRandom = 32       // bytes: nothing to guess, so no slow hash is needed
	tokenTail   = 4        // characters shown again
)

// tokenText is strict so that each token has one spelling only.
func tokenText() *base64.Encoding { return base64.RawURLEncoding.Strict() }

// NewToken makes an API token from rand. It is shown once; what is kept is its
// digest and its last characters.
func NewToken(rand io.Reader) (token string, hash Digest, tail string, err error) {
	var secret [tokenRandom]byte
	if _, err := io.ReadFull(rand, secret[:]); err != nil {
		return "", Digest{}, "", fmt.Errorf("make API token: %w", err)
	}
	token = tokenPrefix + tokenText().EncodeToString(secret[:])
	return token, sha256.Sum256([]byte(token)), token[len(token)-tokenTail:], nil
}

// ParseToken returns the digest of a token, or [ErrUnauthenticated] for a text
// that [NewToken] cannot have made: such a text costs no database read.
func ParseToken(token string) (Digest, error) {
	text, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(text) != tokenText().EncodedLen(tokenRandom) {
		return Digest{}, ErrUnauthenticated
	}
	// The decoder skips line ends; the length above leaves no room for them.
	if secret, err := tokenText().DecodeString(text); err != nil || len(secret) != tokenRandom {
		return Digest{}, ErrUnauthenticated
	}
	return sha256.Sum256([]byte(token)), nil
}

// Lookup finds the principal of a credential. The answer is compared again
// here, so an implementation may look the digest up in any way; its time tells
// nothing useful about a digest of 256 random bits.
type Lookup func(context.Context, Digest) (Principal, error)

// Tokens returns the principal whose API token this is. The error wraps
// [ErrUnauthenticated], or is find's own, which says [ErrNotFound] for none.
func Tokens(ctx context.Context, find Lookup, token string, now time.Time) (Principal, error) {
	hash, err := ParseToken(token)
	if err != nil {
		return Principal{}, err
	}
	return authenticate(ctx, find, hash, now, func(p Principal) Digest { return p.TokenHash })
}

// Certificates returns the principal whose client certificate this is, by the
// digest of its DER. The transport has checked that the client holds the key;
// no chain is needed, since the very certificate was registered.
func Certificates(ctx context.Context, find Lookup, der []byte, now time.Time) (Principal, error) {
	if len(der) == 0 {
		return Principal{}, ErrUnauthenticated
	}
	return authenticate(ctx, find, sha256.Sum256(der), now, func(p Principal) Digest { return p.Certificate })
}

func authenticate(ctx context.Context, find Lookup, hash Digest, now time.Time, of func(Principal) Digest) (Principal, error) {
	p, err := find(ctx, hash)
	switch {
	case errors.Is(err, ErrNotFound):
		return Principal{}, ErrUnauthenticated
	case err != nil:
		return Principal{}, fmt.Errorf("look up credential: %w", err)
	}
	stored := of(p)
	if subtle.ConstantTimeCompare(stored[:], hash[:]) != 1 || p.Name == "" || p.Expired(now) {
		return Principal{}, ErrUnauthenticated
	}
	return p, nil
}
