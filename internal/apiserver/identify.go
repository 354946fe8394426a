package apiserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/assay-project/assay/internal/access"
)

// A credential is what a request shows, read but not looked up.
type credential struct {
	digest access.Digest
	find   func(context.Context) (access.Principal, error)
}

// identify finds the principal of a request; the zero one where none is needed.
func (s *Server) identify(rt Route, r *http.Request) (access.Principal, error) {
	if rt.Public {
		return access.Principal{}, nil
	}
	c, err := s.credentialOf(r)
	switch {
	case err == nil:
		return s.lookUp(r, c)
	case !errors.Is(err, errNoCredential):
	case rt.Strangers && s.open:
		return access.Principal{}, nil
	default:
		err = noCredential()
	}
	if err := s.spendStranger(r); err != nil {
		return access.Principal{}, err
	}
	return access.Principal{}, err
}

// lookUp finds the principal of a credential. Failures count against the address,
// so that guessing has a price, and never against good credentials from the same
// address. A credential that let nobody in yet pays before the store is asked, and
// waits for one of few turns, so that a flood of made-up ones keeps neither the
// store nor anybody's turn; it gets its payment back when it is good.
func (s *Server) lookUp(r *http.Request, c credential) (access.Principal, error) {
	known := s.known.has(c.digest)
	if !known {
		if err := s.spendStranger(r); err != nil {
			return access.Principal{}, err
		}
		if !s.newcomers.enter(r.Context()) {
			s.metrics.limited.WithLabelValues("newcomers").Inc()
			return access.Principal{}, overloaded()
		}
		defer s.newcomers.leave()
	}
	who, err := c.find(r.Context())
	refused := errors.Is(err, access.ErrUnauthenticated)
	switch {
	case refused && known:
		s.known.drop(c.digest)
		if err := s.spendStranger(r); err != nil {
			return access.Principal{}, err
		}
	case !refused && !known:
		s.callers.refund(strangerKey(r.RemoteAddr), s.now())
	}
	if err == nil {
		s.known.add(c.digest)
	}
	return who, err
}

// spendStranger takes one request off the rate of an address.
func (s *Server) spendStranger(r *http.Request) error {
	if wait := s.callers.spend(strangerKey(r.RemoteAddr), false, s.now()); wait > 0 {
		return s.tooFast(wait)
	}
	return nil
}

// errNoCredential is a request that shows none.
var errNoCredential = errors.New("no credential")

func noCredential() *Problem {
	return NewProblem(http.StatusUnauthorized, CodeNoCredential, "send an API token as Authorization: Bearer, or a client certificate")
}

// credentialOf reads the credential: an API token, else a client certificate. A
// bad token is not made good by a certificate.
func (s *Server) credentialOf(r *http.Request) (credential, error) {
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		// RFC 9110, 11.1: the scheme's name has no case.
		scheme, token, _ := strings.Cut(values[0], " ")
		if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return credential{}, access.ErrUnauthenticated
		}
		digest, err := access.ParseToken(token)
		return credential{digest, func(ctx context.Context) (access.Principal, error) {
			return access.Tokens(ctx, s.principals.PrincipalByToken, token, s.now())
		}}, err
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return credential{}, errNoCredential
	}
	cert, now := r.TLS.PeerCertificates[0], s.now()
	// The handshake does not look: it was told to ask for a certificate, not to verify one.
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return credential{}, access.ErrUnauthenticated
	}
	return credential{sha256.Sum256(cert.Raw), func(ctx context.Context) (access.Principal, error) {
		return access.Certificates(ctx, s.principals.PrincipalByCertificate, cert.Raw, now)
	}}, nil
}

// maxKnown bounds the credentials that are remembered as good, at some 50 bytes each.
const maxKnown = 1 << 16

// knownCredentials are the digests of credentials that let somebody in. They let
// nobody in by themselves: only who pays for the look-up depends on them. A
// credential that was revoked is looked up once more, in vain, and forgotten.
type knownCredentials struct {
	mu      sync.Mutex // guards digests
	digests map[access.Digest]struct{}
}

func newKnownCredentials() *knownCredentials {
	return &knownCredentials{digests: map[access.Digest]struct{}{}}
}

func (k *knownCredentials) has(d access.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.digests[d]
	return ok
}

// add remembers d, in place of any one when there is no room.
func (k *knownCredentials) add(d access.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.digests[d]; !ok && len(k.digests) >= maxKnown {
		for any := range k.digests {
			delete(k.digests, any)
			break
		}
	}
	k.digests[d] = struct{}{}
}

func (k *knownCredentials) drop(d access.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.digests, d)
}

// learn remembers the credentials of principals, so that those of before a restart, and
// those that have just been given out, need not come one by one past who floods from
// their address.
func (k *knownCredentials) learn(principals []access.Principal) {
	for _, p := range principals {
		for _, d := range []access.Digest{p.TokenHash, p.Certificate} {
			if !d.IsZero() {
				k.add(d)
			}
		}
	}
}
