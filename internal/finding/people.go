package finding

import (
	"fmt"
	"slices"
	"time"
)

// Acknowledge notes that somebody looks after a finding. It holds for what was found:
// other reasons open the finding again. Of an event, which has no end of its own, it
// is the end.
func (b *Book) Acknowledge(id int, n Note) error {
	r, err := b.byID(id)
	if err != nil {
		return err
	}
	if r.Ended != nil {
		return fmt.Errorf("finding %d: %w", id, ErrOver)
	}
	n.Author, n.Text = clean(n.Author, maxName), clean(n.Text, maxText)
	if n.Author == "" {
		return fmt.Errorf("acknowledge finding %d: author %w", id, ErrMust)
	}
	r.Ack, b.dirty = &n, true
	if k, _ := lookup(r.Kind); k.event {
		b.close(r, n.Time, "")
	}
	b.settle(n.Time)
	return nil
}

// Suppress keeps findings silent from s.Made until s.Until, those that are not there
// yet among them. It replaces a suppression of the very same.
func (b *Book) Suppress(s Suppression) error {
	s.Machine, s.Component = clean(s.Machine, maxName), clean(s.Component, maxName)
	s.Reason, s.Author = clean(s.Reason, maxText), clean(s.Author, maxName)
	if err := s.check(); err != nil {
		return fmt.Errorf("suppress finding: %w", err)
	}
	same := func(o Suppression) bool {
		return o.Kind == s.Kind && o.Machine == s.Machine && o.Component == s.Component
	}
	b.suppressions = slices.DeleteFunc(b.suppressions, same)
	if len(b.suppressions) >= maxSuppressions {
		return fmt.Errorf("suppress finding: %w", ErrFull)
	}
	b.suppressions, b.dirty = append(b.suppressions, s), true
	b.settle(s.Made)
	return nil
}

// check returns the first fault of a suppression.
func (s *Suppression) check() error {
	if _, known := lookup(s.Kind); !known {
		return fmt.Errorf("kind %q is none of %s: it %w", s.Kind, kindNames(), ErrMust)
	}
	for _, rule := range []struct {
		good bool
		what string
	}{
		{s.Reason != "", "reason"},
		{s.Author != "", "author"},
		{s.Until.After(s.Made), "end, which lies after the beginning,"},
		{s.Until.Sub(s.Made) <= MaxSuppression, "end, which is at most 366 days away,"},
	} {
		if !rule.good {
			return fmt.Errorf("%s %w", rule.what, ErrMust)
		}
	}
	return nil
}

// Unsuppress ends the suppressions of a kind and a machine; with a component only that
// of the component. It returns how many there were.
func (b *Book) Unsuppress(s Suppression, at time.Time) int {
	before := len(b.suppressions)
	b.suppressions = slices.DeleteFunc(b.suppressions, func(o Suppression) bool {
		return o.Kind == s.Kind && o.Machine == s.Machine && (s.Component == "" || o.Component == s.Component)
	})
	n := before - len(b.suppressions)
	b.dirty = b.dirty || n > 0
	b.settle(at)
	return n
}

// Suppressions returns those in force at a time, the next to end first.
func (b *Book) Suppressions(at time.Time) []Suppression {
	out := []Suppression{}
	for _, s := range b.suppressions {
		if at.Before(s.Until) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(x, y Suppression) int { return x.Until.Compare(y.Until) })
	return out
}

// Machines returns the machines that have findings which last, each once, in order.
func (b *Book) Machines() []string {
	var out []string
	for i := range b.records {
		if b.records[i].Ended == nil {
			out = append(out, b.records[i].Machine)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Forget ends all findings and suppressions of a machine that is deleted: another of
// its name begins anew.
func (b *Book) Forget(machine string, at time.Time) {
	machine = clean(machine, maxName)
	for i := range b.records {
		if r := &b.records[i]; r.Machine == machine && r.Ended == nil {
			b.close(r, at, "the machine is not here any more")
		}
	}
	b.suppressions = slices.DeleteFunc(b.suppressions, func(s Suppression) bool { return s.Machine == machine })
	b.dirty = true
	b.settle(at)
}
