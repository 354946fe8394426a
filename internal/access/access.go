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
	"strings"
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
	// Instance is the one that it was wanted on; empty is everywhere.
	Instance string
}

// Error says what is missing, and which predefined roles have it.
func (e *DeniedError) Error() string {
	on := ""
	if e.Instance != "" {
		on = fmt.Sprintf(" on instance %q", e.Instance)
	}
	return fmt.Sprintf("principal %q lacks permission %q%s; roles that have it: %s", e.Principal, e.Permission, on, words(RolesWith(e.Permission, nil)))
}

func words(roles []Role) string {
	var b strings.Builder
	for i, r := range roles {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(r))
	}
	return b.String()
}

// A Principal is a person or a program that may ask for something. It is found
// by the digest of its credential; the credential itself is not kept.
type Principal struct {
	Name  string `json:"name"`  // unique; 1 to 128 bytes
	Roles []Role `json:"roles"` // predefined or custom ones, everywhere
	// Permissions are granted one by one beside the roles.
	Permissions []Permission `json:"permissions,omitempty"`
	// Bindings give roles on some instances only.
	Bindings []Binding `json:"bindings,omitempty"`
	// Custom is what the store has of the custom roles among these: a role of which it
	// has nothing gives nothing. It is not stored with the principal.
	Custom []CustomRole `json:"-"`
	// Labels are those of instances, by name, as whoever asks found them: of one that is
	// not here a binding by label gives nothing. They are not stored with the principal.
	Labels map[string]map[string]string `json:"-"`
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
// credential, or a permission, role or instance that cannot be. Whether custom roles
// exist is for CheckRoles.
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
	return p.checkGrants()
}

func (p Principal) checkGrants() error {
	if len(p.Bindings) > maxBindings {
		return fmt.Errorf("%w: %d bindings, want %d at most", ErrInvalid, len(p.Bindings), maxBindings)
	}
	for _, b := range p.Bindings {
		if err := b.Check(); err != nil {
			return err
		}
	}
	for _, r := range p.CustomNames() {
		if !isName(string(r), maxRole) {
			return fmt.Errorf("%w: role %q does not exist", ErrInvalid, r)
		}
	}
	return checkPermissions(p.Permissions)
}

// CheckRoles reports, wrapping [ErrInvalid], a role of p that is neither predefined nor
// in custom.
func (p Principal) CheckRoles(custom []CustomRole) error {
	for _, r := range p.CustomNames() {
		if !slices.ContainsFunc(custom, func(c CustomRole) bool { return c.Name == r }) {
			return fmt.Errorf("%w: role %q does not exist", ErrInvalid, r)
		}
	}
	return nil
}

// Authorize returns nil when p may do what the permission names at now, else a
// [*DeniedError] or, for a credential that has ended since it was read,
// [ErrUnauthenticated].
func Authorize(p Principal, want Permission, now time.Time) error {
	return AuthorizeOn(p, want, "", now)
}

// AuthorizeOn is [Authorize] for one instance; an empty name is everywhere.
func AuthorizeOn(p Principal, want Permission, instance string, now time.Time) error {
	if p.Expired(now) {
		return fmt.Errorf("%w: expired", ErrUnauthenticated)
	}
	if !p.MayOn(want, instance) {
		return &DeniedError{p.Name, want, instance}
	}
	return nil
}
