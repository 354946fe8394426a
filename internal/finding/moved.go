package finding

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/strictjson"
)

// A Place is the number that a finding has in a book.
type Place struct {
	Origin string `json:"origin"`
	ID     int    `json:"id"`
}

func (p *Place) check() error {
	if id, err := hex.DecodeString(p.Origin); err != nil || len(id) != originSize || hex.EncodeToString(id) != p.Origin || p.ID < 1 {
		return fmt.Errorf("origin %.40q, id %d", p.Origin, p.ID)
	}
	return nil
}

// EventMoved is the event of a finding whose machine went to another host, where it lasts
// under the name that it had, or came from one.
const EventMoved = "moved"

// A Parcel is what a book knows of a machine that goes to another host, checked. Its zero
// value is empty.
type Parcel struct {
	machine      string
	findings     []record
	suppressions []Suppression
}

const (
	parcelFormat  = "assay findings of a machine"
	parcelVersion = 1
	// No machine brings so much that it takes the place of the host's others.
	maxParcel             = 4 << 20
	maxPacked             = 500
	maxPackedSuppressions = 200
)

// parcel is the text of a [Parcel].
type parcel struct {
	Format       string        `json:"format"`
	Version      int           `json:"version"`
	Machine      string        `json:"machine"`
	Findings     []record      `json:"findings"`
	Suppressions []Suppression `json:"suppressions"`
}

var parcelRules = strictjson.Rules{Bytes: maxParcel, Depth: 6, Members: 32, Values: 1 << 22, FoldNames: true}

// Pack gives all that the book has of a machine, as [ParseParcel] reads it. Where that is
// too much, findings that ended stay behind, those that ended longest ago first, and
// suppressions, the oldest first; then all but a reason and the last steps of each finding.
func (b *Book) Pack(machine string, at time.Time) ([]byte, error) {
	b.settle(at)
	p := parcel{Format: parcelFormat, Version: parcelVersion, Machine: clean(machine, maxName), Findings: []record{}, Suppressions: []Suppression{}}
	for _, s := range b.suppressions {
		if s.Machine == p.Machine {
			p.Suppressions = append(p.Suppressions, s)
		}
	}
	p.Suppressions = p.Suppressions[max(0, len(p.Suppressions)-maxPackedSuppressions):] // made last
	for _, r := range b.records {
		if r.Machine != p.Machine || r.Away {
			continue
		}
		from := b.placeOf(&r)
		r.From = &from
		p.Findings = append(p.Findings, r)
	}
	slices.SortStableFunc(p.Findings, newestEnd)
	for short := false; ; {
		p.Findings = p.Findings[:min(len(p.Findings), maxPacked)]
		text, err := json.Marshal(p)
		if err != nil || len(text) <= maxParcel {
			return text, err
		}
		n := len(p.Findings)
		switch {
		case n > 0 && p.Findings[n-1].Ended != nil:
			p.Findings = p.Findings[:n-1-n/8]
		case !short:
			short = true
			for i := range p.Findings {
				p.Findings[i].shorten()
			}
		default:
			return nil, fmt.Errorf("pack the findings of %q: %w: %d bytes", machine, ErrFull, len(text))
		}
	}
}

// shorten leaves of a finding what it cannot be told without.
func (r *record) shorten() {
	const steps = 2
	r.Reasons = r.Reasons[:min(len(r.Reasons), 1)]
	r.History = r.History[max(0, len(r.History)-steps):]
}

// newestEnd has what lasts first, and what ended longest ago last.
func newestEnd(x, y record) int {
	switch {
	case x.Ended == nil && y.Ended == nil:
		return 0
	case x.Ended == nil:
		return -1
	case y.Ended == nil:
		return 1
	}
	return y.Ended.Compare(*x.Ended)
}

// placeOf names a finding among those of all books, as it was named first.
func (b *Book) placeOf(r *record) Place {
	if r.From != nil {
		return *r.From
	}
	return Place{b.origin, r.ID}
}

// ParseParcel reads what another host packed of a machine, and refuses what is not about
// it, or is worse than a person here could do.
func ParseParcel(text []byte, machine string, at time.Time) (*Parcel, error) {
	var p parcel
	if err := decode(text, parcelRules, &p); err != nil {
		return nil, err
	}
	if p.Format != parcelFormat || p.Version != parcelVersion || p.Machine != clean(machine, maxName) || len(p.Findings) > maxPacked || len(p.Suppressions) > maxPackedSuppressions {
		return nil, fmt.Errorf("%w: %.40q, version %d, of %.80q: %d findings, %d suppressions", ErrFormat, p.Format, p.Version, p.Machine, len(p.Findings), len(p.Suppressions))
	}
	type about struct{ kind, component string }
	seen, lasting := map[about]bool{}, map[evidence.Code]int{}
	for i := range p.Findings {
		r := &p.Findings[i]
		key := about{string(r.Kind), r.Component}
		if r.Ended == nil && r.Component != Others && r.Component != "" {
			lasting[r.Kind]++
		}
		if err := errors.Join(r.check(), r.checkMoved(p.Machine, at)); err != nil || seen[key] || lasting[r.Kind] > maxComponents {
			return nil, fmt.Errorf("%w: finding %d: %w", ErrFormat, i, cmp.Or(err, errPlace))
		}
		seen[key] = true
	}
	for i := range p.Suppressions {
		if err := p.Suppressions[i].checkMoved(p.Machine, at); err != nil {
			return nil, fmt.Errorf("%w: suppression %d: %w", ErrFormat, i, err)
		}
	}
	// As it would be written here: what cannot be given away again is not taken.
	if text, err := json.Marshal(p); err != nil || len(text) > maxParcel {
		return nil, fmt.Errorf("%w: %d bytes when they are written: %w", ErrFormat, len(text), cmp.Or(err, ErrFull))
	}
	return &Parcel{p.Machine, p.Findings, p.Suppressions}, nil
}

// maxSkew is how far the clocks of two hosts may be apart.
const maxSkew = 24 * time.Hour

// checkMoved holds what a suppression of another book must be beside what each is. It lasts
// for no longer than one that is made here, by this host's clock.
func (s *Suppression) checkMoved(machine string, at time.Time) error {
	if s.Machine != machine || s.Component != clean(s.Component, maxName) || s.Until.Sub(at) > MaxSuppression+maxSkew {
		return errPlace
	}
	s.Reason, s.Author = clean(s.Reason, maxText), clean(s.Author, maxName)
	s.Made, s.Until = earlier(s.Made, at), earlier(s.Until, at.Add(MaxSuppression))
	return s.check()
}

// earlier is a time of another host's clock, which may be ahead, or the latest that it can
// have been.
func earlier(t, latest time.Time) time.Time {
	if t.After(latest) {
		t = latest
	}
	return t.UTC()
}

// checkMoved holds what a finding of another book must be beside what each is. Its texts
// are made fit to be shown, and nothing of it is yet to come.
func (r *record) checkMoved(machine string, at time.Time) error {
	if r.Machine != machine || r.Away || r.From == nil || r.Component != clean(r.Component, maxName) ||
		!isMark(r.Mark) || r.ToldMark != "" && !isMark(r.ToldMark) {
		return errPlace
	}
	if err := r.From.check(); err != nil {
		return err
	}
	for _, t := range []*time.Time{&r.FirstSeen, &r.Opened, &r.LastSeen, r.Ended} {
		if t != nil {
			*t = earlier(*t, at)
		}
	}
	tidy := func(n *Note) {
		if n != nil {
			n.Author, n.Text, n.Time = clean(n.Author, maxName), clean(n.Text, maxText), earlier(n.Time, at)
		}
	}
	tidy(r.Ack)
	for i := range r.Reasons {
		x := &r.Reasons[i]
		x.Code, x.Message, x.Component = evidence.Code(clean(string(x.Code), maxName)), clean(x.Message, maxText), clean(x.Component, maxName)
	}
	for i := range r.History {
		s := &r.History[i]
		s.Author, s.Text, s.Time = clean(s.Author, maxName), clean(s.Text, maxText), earlier(s.Time, at)
	}
	return nil
}

// isMark reports whether a text is a digest as keepReasons makes it.
func isMark(text string) bool {
	sum, err := hex.DecodeString(text)
	return err == nil && len(sum) == sha256.Size && hex.EncodeToString(sum) == text
}

// A Stay is what was seen of a machine on this host between its coming and the moment when
// what came with it is taken. The zero Stay is none: it is taken at once.
type Stay struct {
	Began   time.Time
	Signals []Signal // in order, with their times
}

// Unpack takes what came with a machine from another host. What was taken already is
// left as it is since, so that it may be done twice, and what ended in the stay comes as
// ended. On an error nothing was taken.
func (b *Book) Unpack(p *Parcel, at time.Time, stay Stay) error {
	kept := *b
	kept.records = slices.Clone(b.records)
	for i := range p.findings {
		if err := kept.takeIn(&p.findings[i], &stay); err != nil {
			return err
		}
	}
	kept.suppressions = slices.Clone(b.suppressions)
	for i := range p.suppressions {
		kept.takeSuppression(&p.suppressions[i])
	}
	*b = kept
	b.settle(at)
	return nil
}

// end closes a finding that came open, where its condition has ended since: nobody says so
// a second time.
func (s *Stay) end(r *record) {
	var ended *Signal
	for i := range s.Signals {
		said := &s.Signals[i]
		switch {
		case said.Kind != r.Kind || said.Machine != r.Machine:
		case said.ends(r):
			ended = said
		case !said.Ends && clean(said.Component, maxName) == r.Component:
			ended = nil
		}
	}
	if ended == nil {
		return
	}
	at := ended.At.UTC()
	if at.Before(r.Opened) { // by another host's clock
		at = r.Opened
	}
	r.Ended, r.moved, r.why = &at, false, cmp.Or(ended.why(), "it ended on this host, before it was in its book")
}

// takeIn puts one finding at its place: there is one of a kind, machine and component.
func (b *Book) takeIn(came *record, stay *Stay) error {
	r := *came
	r.moved, r.why = r.Ended == nil, "the machine came from another host, and this with it"
	if r.Ended == nil {
		stay.end(&r)
	}
	i := slices.IndexFunc(b.records, func(o record) bool {
		return o.Kind == r.Kind && o.Machine == r.Machine && o.Component == r.Component
	})
	if i < 0 {
		b.dropResolved()
		if len(b.records) >= maxFindings {
			return ErrFull
		}
		r.ID, b.dirty = b.nextID, true
		b.nextID++
		b.records = append(b.records, r)
		return nil
	}
	old := &b.records[i]
	taken := !old.Away && b.placeOf(old) == *r.From
	if taken || old.Ended == nil { // since it was taken, or before it came, it was seen here
		return nil
	}
	if !stay.Began.IsZero() && !old.Away && old.Ended.After(stay.Began) { // and ended here
		return nil
	}
	r.ID, b.dirty = old.ID, true
	*old = r
	return nil
}

// takeSuppression keeps the one that was made last of two that cover the very same. One for
// which there is no room is left: more is told then, not less.
func (b *Book) takeSuppression(s *Suppression) {
	same := func(o Suppression) bool {
		return o.Kind == s.Kind && o.Machine == s.Machine && o.Component == s.Component
	}
	if i := slices.IndexFunc(b.suppressions, same); i >= 0 {
		if b.suppressions[i].Made.Before(s.Made) {
			b.suppressions[i], b.dirty = *s, true
		}
		return
	}
	if len(b.suppressions) < maxSuppressions {
		b.suppressions, b.dirty = append(b.suppressions, *s), true
	}
}

// Depart ends the findings of a machine that is another host's now: they go on there, and
// who is told of them hears that they moved, not that they are over.
func (b *Book) Depart(machine string, at time.Time) {
	machine = clean(machine, maxName)
	for i := range b.records {
		r := &b.records[i]
		if r.Machine != machine || r.Away {
			continue
		}
		r.Away, b.dirty = true, true
		if r.Ended == nil {
			b.close(r, at, "the machine went to another host, and this with it")
			r.moved = true
		}
	}
	before := len(b.suppressions)
	b.suppressions = slices.DeleteFunc(b.suppressions, func(s Suppression) bool { return s.Machine == machine })
	b.dirty = b.dirty || len(b.suppressions) != before
	b.settle(at)
}
