package machine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/integrity"
)

// Limits of what is said in short: a guest chooses reasons and their words, and a byte of a
// text may have six of JSON.
const (
	mostReasons = 16
	mostText    = 256 // bytes
)

// codeMore is of package integrity.
const codeMore = "integrity.more-differences"

// status is what the supervisor says of its machine to who looks at many.
func (s *supervisor) status() Status {
	now := s.condition()
	return now.brief()
}

// brief is how a machine is for who looks at many: without what was compared and proved, which
// [Root.Describe] says.
func (s *Status) brief() Status {
	out := *s
	if s.Boot != nil {
		boot := *s.Boot
		boot.Refused, boot.Reasons = few(boot.Refused), few(boot.Reasons)
		out.Boot = &boot
	}
	if s.Health != nil {
		h := *s.Health
		h.Comparison, h.Result, h.Reasons = nil, nil, few(h.Reasons)
		out.Health = &h
	}
	return out
}

// bounded is how a machine is with no more of its guest's words than an event has of them.
func (s *Status) bounded() Status {
	out := s.brief()
	if s.Boot != nil {
		n := integrity.Notice{Reasons: slices.Clone(s.Boot.Refused)}
		n.Bound()
		out.Boot.Refused, out.Boot.Reasons = n.Reasons, s.Boot.Reasons
	}
	if s.Health == nil {
		return out
	}
	n := integrity.Notice{Reasons: slices.Clone(s.Health.Reasons)}
	if c := s.Health.Comparison; c != nil {
		n.Differences = slices.Clone(c.Differences)
	}
	n.Bound()
	out.Health.Reasons, out.Health.More = n.Reasons, n.More
	if c := s.Health.Comparison; c != nil {
		shown := *c
		shown.Differences = n.Differences
		out.Health.Comparison = &shown
	}
	if r := s.Health.Result; r != nil {
		shown := *r
		shown.Reasons = n.Reasons
		out.Health.Result = &shown
	}
	return out
}

// few are the first of many reasons, and how many more there are.
func few(all []evidence.Reason) []evidence.Reason {
	short := func(text string) string {
		if len(text) <= mostText {
			return text
		}
		return strings.ToValidUTF8(text[:mostText], "") + "…"
	}
	out := make([]evidence.Reason, 0, min(len(all), mostReasons+1))
	for _, r := range all[:min(len(all), mostReasons)] {
		out = append(out, evidence.Reason{Code: r.Code, Message: short(r.Message), Component: short(r.Component)})
	}
	if more := len(all) - len(out); more > 0 {
		out = append(out, reason(codeMore, fmt.Sprintf("and %d more: assay vm describe -o json has them", more)))
	}
	return out
}

// described is all that the supervisor says of its machine.
func (s *supervisor) described() Description {
	now := s.condition()
	return Description{Status: now.bounded(), Definition: s.definition, Baselines: versionsOf(s.history), LastBoot: last(BootsOf(s.history))}
}
