package attest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"

	"github.com/assay-project/assay/policy"
	"github.com/assay-project/assay/token"
)

// DefaultPolicy is the name that a request gets which names no policy.
const DefaultPolicy = "default"

// nameShape is what operators may call things: it needs no quoting anywhere.
var nameShape = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
})

func checkName(field, name string) error {
	if !nameShape().MatchString(name) {
		return badInput(field, "%q is not a name: 1 to 63 lower-case letters, digits, '.', '_', '-', beginning with a letter or digit", name)
	}
	return nil
}

// PolicyChange is a request to make a new revision of a policy.
type PolicyChange struct {
	Name    string
	Text    string
	Comment string
	// Replaces is the revision that the author has seen; 0 for a new name. The
	// change is refused when another one is current.
	Replaces int
	// AllowVacuous lets a policy in that permits whatever it is given.
	AllowVacuous bool
}

// PutPolicy checks a policy and makes it current. It returns what lint found.
func (s *Service) PutPolicy(ctx context.Context, actor string, c PolicyChange) (PolicyVersion, []policy.Finding, error) {
	if err := checkName("name", c.Name); err != nil {
		return PolicyVersion{}, nil, err
	}
	compiled, err := policy.Parse(c.Text, policy.Strict)
	if err != nil {
		return PolicyVersion{}, nil, &InputError{Code: "policy.invalid", Field: "text", Detail: err.Error()}
	}
	findings := compiled.Lint(nil)
	for _, f := range findings {
		if f.Severity == policy.SeverityError && !c.AllowVacuous {
			return PolicyVersion{}, nil, &InputError{Code: "policy.vacuous", Field: "text", Detail: f.String()}
		}
	}
	v, err := s.putRevision(ctx, actor, "policy.put", c)
	return v, findings, err
}

// putRevision stores text that has been checked as the revision after c.Replaces.
func (s *Service) putRevision(ctx context.Context, actor, action string, c PolicyChange) (PolicyVersion, error) {
	v := PolicyVersion{
		Name: c.Name, Version: c.Replaces + 1, Text: c.Text, Digest: token.PolicyDigest(c.Text),
		Author: actor, Time: s.now().UTC(), Comment: c.Comment,
	}
	e := s.entry(actor, action, c.Name, "done")
	e.Detail, _ = json.Marshal(map[string]any{"version": v.Version, "digest": v.Digest, "comment": v.Comment})
	err := s.change(ctx, e, func(e auditEntry) error { return s.store.PutPolicy(ctx, v, e) })
	if errors.Is(err, ErrStale) {
		return PolicyVersion{}, s.revisionConflict(ctx, c.Name, c.Replaces)
	}
	return v, err
}

func (s *Service) revisionConflict(ctx context.Context, name string, replaces int) error {
	p, err := s.reload(ctx)
	if err != nil {
		return err
	}
	return &ConflictError{
		Code:   "request.conflict",
		Detail: fmt.Sprintf("%q is at version %d now, not %d: read it again before changing it", name, p.Policies[name].Version, replaces),
	}
}

// RollbackPolicy makes the text of an older revision current, as a new revision.
func (s *Service) RollbackPolicy(ctx context.Context, actor, name string, version int) (PolicyVersion, error) {
	history, err := s.store.PolicyHistory(ctx, name)
	if err != nil {
		return PolicyVersion{}, err
	}
	i := slices.IndexFunc(history, func(v PolicyVersion) bool { return v.Version == version })
	if i < 0 {
		return PolicyVersion{}, fmt.Errorf("policy %q version %d: %w", name, version, ErrNotFound)
	}
	return s.putRevision(ctx, actor, "policy.rollback", PolicyChange{
		Name: name, Text: history[i].Text, Replaces: history[0].Version,
		Comment: fmt.Sprintf("roll back to version %d", version),
	})
}

// Policies lists the current revision of every policy, by name.
func (s *Service) Policies(ctx context.Context) ([]PolicyVersion, error) {
	if err := s.Refresh(ctx); err != nil {
		return nil, err
	}
	byName := maps.Clone(s.configuration().Policies)
	if byName == nil {
		byName = map[string]PolicyVersion{}
	}
	if _, ok := byName[DefaultPolicy]; !ok {
		byName[DefaultPolicy] = s.configuration().builtinVersion
	}
	var out []PolicyVersion
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		out = append(out, byName[name])
	}
	return out, nil
}

// PolicyHistory lists every revision of a policy, newest first.
func (s *Service) PolicyHistory(ctx context.Context, name string) ([]PolicyVersion, error) {
	h, err := s.store.PolicyHistory(ctx, name)
	if errors.Is(err, ErrNotFound) && name == DefaultPolicy {
		return []PolicyVersion{s.configuration().builtinVersion}, nil
	}
	return h, err
}
