// Package access says who may do what: principals, their roles, the permissions
// that a role gives, and the credentials that show who is asking.
//
// It does not carry credentials: a transport reads the API token or the client
// certificate (whose chain it has checked) and calls [Tokens] or [Certificates].
// The zero [Principal] may do nothing, and so may one that has expired. Start
// with [Authorize].
package access

import (
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

var (
	// ErrUnauthenticated is returned, wrapped, for a credential that is malformed,
	// unknown, expired or revoked; the text does not tell a client which.
	ErrUnauthenticated = errors.New("credential is not accepted")
	// ErrInvalid is returned, wrapped, for a principal that must not be stored.
	ErrInvalid = errors.New("principal is not valid")
)

// A DeniedError is a known principal that lacks a permission.
type DeniedError struct {
	Principal  string
	Permission Permission
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("principal %q lacks permission %q", e.Principal, e.Permission)
}

// A Principal is a person or a program that may ask for something. It is found
// by the digest of its credential; the credential itself is not kept.
type Principal struct {
	Name  string `json:"name"` // unique; 1 to 128 bytes
	Roles []Role `json:"roles"`
	// Permissions are granted one by one beside the roles: a custom role.
	Permissions []Permission `json:"permissions,omitempty"`
	// TokenHash is the SHA-256 digest of its API token; zero for none.
	TokenHash Digest `json:"-"`
	// TokenTail is the end of the token, by which its owner knows it again.
	TokenTail string `json:"tokenTail,omitempty"`
	// Certificate is the SHA-256 digest of its client certificate's DER; zero for none.
	Certificate Digest    `json:"certificate,omitzero"`
	Added       time.Time `json:"added"`
	AddedBy     string    `json:"addedBy"`
	// Expires ends the credential; the zero time means never.
	Expires time.Time `json:"expires,omitzero"`
}

// Expired reports whether p's credential has ended at now.
func (p Principal) Expired(now time.Time) bool {
	return !p.Expires.IsZero() && !now.Before(p.Expires)
}

// maxName bounds a principal's name, which every audit entry repeats.
const maxName = 128

// Check reports, wrapping [ErrInvalid], why p must not be stored: no name, no
// credential, or a role or permission that does not exist.
func (p Principal) Check() error {
	if p.Name == "" || len(p.Name) > maxName {
		return fmt.Errorf("%w: name of %d bytes, want 1 to %d", ErrInvalid, len(p.Name), maxName)
	}
	for _, r := range p.Name {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return fmt.Errorf("%w: name %q has a control character or is not UTF-8", ErrInvalid, p.Name)
		}
	}
	if p.TokenHash.IsZero() && p.Certificate.IsZero() {
		return fmt.Errorf("%w: %q has no credential", ErrInvalid, p.Name)
	}
	for _, r := range p.Roles {
		if r.Permissions() == nil {
			return fmt.Errorf("%w: role %q does not exist", ErrInvalid, r)
		}
	}
	for _, have := range p.Permissions {
		if !slices.Contains(Permissions(), have) {
			return fmt.Errorf("%w: permission %q does not exist", ErrInvalid, have)
		}
	}
	return nil
}

// May reports whether p's roles or grants hold a permission, whatever the time.
func (p Principal) May(want Permission) bool {
	if p.Name == "" || !slices.Contains(Permissions(), want) {
		return false
	}
	if slices.Contains(p.Permissions, want) {
		return true
	}
	return slices.ContainsFunc(p.Roles, func(r Role) bool { return slices.Contains(r.Permissions(), want) })
}

// Authorize returns nil when p may do what the permission names at now, else a
// [*DeniedError] or, for a credential that has ended since it was read,
// [ErrUnauthenticated].
func Authorize(p Principal, want Permission, now time.Time) error {
	if p.Expired(now) {
		return fmt.Errorf("%w: expired", ErrUnauthenticated)
	}
	if !p.May(want) {
		return &DeniedError{p.Name, want}
	}
	return nil
}
