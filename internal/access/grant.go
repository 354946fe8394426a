package access

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A Binding gives a role on some instances only. Of the role's permissions it gives
// those that are about instances and their findings.
type Binding struct {
	Role Role `json:"role"`
	// Instances is the name of one, or a prefix of names with a * at its end. A * alone
	// is no prefix: who may do something everywhere has the role itself.
	Instances string `json:"instances,omitempty"`
	// Label, in the place of Instances, is that of the instances, NAME=VALUE. A binding by
	// label gives neither SetLabels nor CreateInstance, and whoever has these otherwise sets
	// no label that one of his bindings is about (Gains): nobody reaches an instance by a
	// label of his own.
	Label string `json:"label,omitempty"`
}

// Covers reports whether b is about the instance called name, which has these labels.
func (b Binding) Covers(name string, labels map[string]string) bool {
	if b.Label != "" {
		key, value, ok := strings.Cut(b.Label, "=")
		has, there := labels[key]
		return ok && name != "" && there && has == value
	}
	prefix, many := strings.CutSuffix(b.Instances, "*")
	if name == "" || prefix == "" {
		return false
	}
	return name == b.Instances || many && strings.HasPrefix(name, prefix)
}

// gives reports whether b gives a permission that its role has.
func (b Binding) gives(p Permission) bool {
	return p.Narrows() && (b.Label == "" || p != SetLabels && p != CreateInstance)
}

// Check reports, wrapping [ErrInvalid], why b must not be stored.
func (b Binding) Check() error {
	if b.Label != "" {
		key, _, ok := strings.Cut(b.Label, "=")
		if b.Instances != "" || !ok || key == "" || len(b.Label) > maxLabel || strings.ContainsFunc(b.Label, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) {
			return fmt.Errorf("%w: label %.80q is not NAME=VALUE, or stands beside instances", ErrInvalid, b.Label)
		}
		return nil
	}
	prefix, _ := strings.CutSuffix(b.Instances, "*")
	if !isName(prefix, maxInstance) {
		return fmt.Errorf("%w: instances %q are neither a name nor a prefix with * at its end", ErrInvalid, b.Instances)
	}
	return nil
}

// Limits of what is stored with a principal and a custom role.
const (
	maxInstance = 63
	maxLabel    = 256
	maxBindings = 256
	maxRole     = 64
	maxMeaning  = 256
)

// isName reports whether s has lower-case letters, digits and hyphens alone, and begins
// with no hyphen.
func isName(s string, most int) bool {
	if s == "" || len(s) > most || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

// Narrows reports whether p is about instances, so that a [Binding] gives it.
func (p Permission) Narrows() bool {
	return strings.HasPrefix(string(p), narrowInstances) || strings.HasPrefix(string(p), narrowFindings)
}

// RoleNamed returns the role of a name as people write it: those of Compute Engine,
// instanceAdmin and securityAdmin, have hyphens here.
func RoleNamed(name string) Role {
	switch name {
	case "instanceAdmin":
		return InstanceAdmin
	case "securityAdmin":
		return SecurityAdmin
	}
	return Role(name)
}

// A CustomRole is a named list of permissions that an administrator made.
type CustomRole struct {
	Name        Role         `json:"name"`
	Meaning     string       `json:"meaning,omitempty"`
	Permissions []Permission `json:"permissions"`
	Changed     time.Time    `json:"changed"`
	ChangedBy   string       `json:"changedBy"`
}

// Check reports, wrapping [ErrInvalid], why r must not be stored.
func (r CustomRole) Check() error {
	switch {
	case !isName(string(r.Name), maxRole):
		return fmt.Errorf("%w: role %q: want 1 to %d lower-case letters, digits and hyphens", ErrInvalid, r.Name, maxRole)
	case r.Name.Permissions() != nil:
		return fmt.Errorf("%w: role %q is predefined", ErrInvalid, r.Name)
	case len(r.Permissions) == 0:
		return fmt.Errorf("%w: role %q has no permission", ErrInvalid, r.Name)
	case len(r.Meaning) > maxMeaning:
		return fmt.Errorf("%w: meaning of %d bytes, want %d at most", ErrInvalid, len(r.Meaning), maxMeaning)
	}
	return checkPermissions(r.Permissions)
}

func checkPermissions(list []Permission) error {
	for _, p := range list {
		if !slices.Contains(Permissions(), p) {
			return fmt.Errorf("%w: permission %q does not exist", ErrInvalid, p)
		}
	}
	return nil
}

// A Grant is one way by which a principal has a permission.
type Grant struct {
	Role Role `json:"role,omitempty"` // empty: the permission itself was granted
	// Custom is set for a role that is not predefined.
	Custom bool `json:"custom,omitempty"`
	// Instances or Label is what a binding is narrowed to; without both it is everywhere.
	Instances string `json:"instances,omitempty"`
	Label     string `json:"label,omitempty"`
}

// Grants are all the ways by which p has a permission: on one instance, or with an empty
// name everywhere. None is no.
func (p Principal) Grants(want Permission, instance string) []Grant {
	var out []Grant
	p.each(want, func(g Grant, covers bool) bool {
		if covers {
			out = append(out, g)
		}
		return true
	}, instance)
	return out
}

// May reports whether p has a permission everywhere, whatever the time.
func (p Principal) May(want Permission) bool { return p.MayOn(want, "") }

// MayOn reports whether p has a permission on an instance, whatever the time. With an
// empty name it is [Principal.May].
func (p Principal) MayOn(want Permission, instance string) (may bool) {
	p.each(want, func(_ Grant, covers bool) bool {
		may = covers
		return !covers
	}, instance)
	return may
}

// MaySomewhere reports whether p has a permission everywhere or on some instance.
func (p Principal) MaySomewhere(want Permission) (may bool) {
	p.each(want, func(Grant, bool) bool {
		may = true
		return false
	}, "")
	return may
}

// each calls f with the grants of a permission until f returns false; covers says whether
// the grant is good for the instance.
func (p Principal) each(want Permission, f func(g Grant, covers bool) bool, instance string) {
	if p.Name == "" || !slices.Contains(Permissions(), want) {
		return
	}
	if slices.Contains(p.Permissions, want) && !f(Grant{}, true) {
		return
	}
	for _, r := range p.Roles {
		if slices.Contains(p.permissionsOf(r), want) && !f(Grant{Role: r, Custom: r.Permissions() == nil}, true) {
			return
		}
	}
	for _, b := range p.Bindings {
		if !b.gives(want) || !slices.Contains(p.permissionsOf(b.Role), want) {
			continue
		}
		if !f(Grant{b.Role, b.Role.Permissions() == nil, b.Instances, b.Label}, b.Covers(instance, p.Labels[instance])) {
			return
		}
	}
}

// ByLabel reports whether p has a role by label, so that Labels matter.
func (p Principal) ByLabel() bool {
	return slices.ContainsFunc(p.Bindings, func(b Binding) bool { return b.Label != "" })
}

// Gains returns a permission that p would have on an instance by a binding by label that is
// about it after a change of its labels, and was not before; "" for none. What p has
// everywhere is no gain, and nothing is for who may give roles. What p has on the instance
// by its name is one: the label would outlive that grant.
func (p Principal) Gains(instance string, before, after map[string]string) Permission {
	if p.May(SetPrincipals) {
		return ""
	}
	for _, b := range p.Bindings {
		if b.Label == "" || b.Covers(instance, before) || !b.Covers(instance, after) {
			continue
		}
		for _, one := range p.permissionsOf(b.Role) {
			if b.gives(one) && !p.May(one) {
				return one
			}
		}
	}
	return ""
}

// permissionsOf are a role's; none of one that does not exist.
func (p Principal) permissionsOf(r Role) []Permission {
	if known := r.Permissions(); known != nil {
		return known
	}
	for _, c := range p.Custom {
		if c.Name == r {
			return c.Permissions
		}
	}
	return nil
}

// CustomNames are the roles of p that are not predefined, each once.
func (p Principal) CustomNames() []Role {
	var out []Role
	add := func(r Role) {
		if r.Permissions() == nil && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	for _, r := range p.Roles {
		add(r)
	}
	for _, b := range p.Bindings {
		add(b.Role)
	}
	return out
}

// RolesWith lists the predefined roles that have a permission, and those of custom.
func RolesWith(want Permission, custom []CustomRole) []Role {
	var out []Role
	for _, r := range Roles() {
		if slices.Contains(r.Permissions(), want) {
			out = append(out, r)
		}
	}
	for _, c := range custom {
		if slices.Contains(c.Permissions, want) {
			out = append(out, c.Name)
		}
	}
	return out
}
