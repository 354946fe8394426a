package finding

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
)

// Limits of a book. A guest chooses the names of modules, and how often it boots.
const (
	maxFindings     = 20000
	maxResolved     = 1000 // kept; the longest ended go, of the machine that has the most
	maxComponents   = 32   // of one kind and machine
	maxReasons      = 8    // shown; all count for an acknowledgement
	maxHistory      = 32
	maxSuppressions = 10000
	maxCount        = 1<<31 - 1 // times that a finding was seen; no more are counted
	originSize      = 8
)

// standingTime is how much later than its record says a standing finding may have been seen.
const standingTime = time.Hour

// MaxSuppression is the longest time that a finding can be suppressed for.
const MaxSuppression = 366 * 24 * time.Hour

// Others is the component of findings beyond those that are told apart.
const Others = "(others)"

// Errors that a caller can act on.
var (
	ErrNone = errors.New("there is no such finding")
	ErrFull = errors.New("there are too many findings")
	ErrOver = errors.New("the condition has ended: there is nothing to acknowledge")
	ErrMust = errors.New("is missing or not fit")
)

// A record is a finding as the book keeps it. Its state follows from it, the book's
// suppressions and the time, and is not stored, but for what people were told.
type record struct {
	ID        int               `json:"id"`
	Kind      evidence.Code     `json:"kind"`
	Machine   string            `json:"machine"`
	Component string            `json:"component,omitempty"`
	FirstSeen time.Time         `json:"firstSeen"`
	Opened    time.Time         `json:"opened"`
	LastSeen  time.Time         `json:"lastSeen"`
	Ended     *time.Time        `json:"ended,omitempty"`
	Count     int               `json:"count"`
	Boot      uint64            `json:"bootCounter,string"`
	Reasons   []evidence.Reason `json:"reasons"`
	Mark      string            `json:"mark"` // digest of all reasons
	Ack       *Note             `json:"acknowledged,omitempty"`
	Told      State             `json:"told"`
	ToldMark  string            `json:"toldMark"`
	History   []Step            `json:"history"`
	// From is where it began, when that is another book; Away is set once its machine is
	// another host's.
	From *Place `json:"from,omitempty"`
	Away bool   `json:"away,omitempty"`

	why   string // it ends or moves in this step; it is kept in the history
	moved bool   // its machine came or went in this step
}

// A Book is the set of findings of a host. Make it by [New] or [Parse]. It is not safe
// for concurrent use.
type Book struct {
	origin       string // random: no two books number the same changes
	nextID       int
	changes      uint64
	records      []record // by ID
	suppressions []Suppression
	fresh        []Change
	dirty        bool
}

// New makes an empty book.
func New(random io.Reader) (*Book, error) {
	var id [originSize]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return nil, fmt.Errorf("name a book of findings: %w", err)
	}
	return &Book{origin: hex.EncodeToString(id[:]), nextID: 1, dirty: true}, nil
}

// Origin names the book among all books.
func (b *Book) Origin() string { return b.origin }

// Changes is the number of the latest change.
func (b *Book) Changes() uint64 { return b.changes }

// Apply takes signals in order. On an error those before it were taken.
func (b *Book) Apply(at time.Time, signals ...Signal) error {
	defer b.settle(at)
	for _, s := range signals {
		k, ok := lookup(s.Kind)
		if !ok {
			return fmt.Errorf("finding %q: kind %w", s.Kind, ErrMust)
		}
		s.Machine, s.Component = clean(s.Machine, maxName), clean(s.Component, maxName)
		s.At = s.At.UTC()
		ahead := s.At.After(at) // by a clock that was
		if s.At.IsZero() || ahead {
			s.At = at
		}
		if s.Ends {
			if !s.Found || !ahead { // else nobody knows what came after it
				b.end(&s, k)
			}
			continue
		}
		if err := b.begin(&s, k, at); err != nil {
			return err
		}
	}
	return nil
}

// end ends what a signal says is over.
func (b *Book) end(s *Signal, k kind) {
	for r := range b.lasting(s.Kind, s.Machine) {
		last := r.LastSeen
		if k.standing {
			last = last.Add(standingTime) // it may have been seen again since
		}
		if s.Found && last.After(s.At) {
			continue
		}
		if s.ends(r) {
			b.close(r, s.At, s.why())
		}
	}
}

// ends reports whether a signal of a finding's kind and machine says that it is over.
func (s *Signal) ends(r *record) bool {
	keeps := func(component string) bool {
		return slices.ContainsFunc(s.Keep, func(c string) bool { return clean(c, maxName) == component })
	}
	switch {
	case !s.Ends, s.Component != "" && r.Component != clean(s.Component, maxName), keeps(r.Component):
		return false
	case len(s.Keep) > 0 && r.Component == Others:
		return false // one of those that go on may be among them
	}
	return s.Boot == 0 || r.Boot != s.Boot
}

// lasting gives the findings of a kind and machine that have not ended.
func (b *Book) lasting(code evidence.Code, machine string) iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for i := range b.records {
			if r := &b.records[i]; r.Kind == code && r.Machine == machine && r.Ended == nil && !yield(r) {
				return
			}
		}
	}
}

func (b *Book) close(r *record, at time.Time, why string) {
	r.Ended, r.why, b.dirty = &at, why, true
}

// begin opens a finding, or sees it again. What was told before and is found has been seen
// already, or something after it has; when the finding ended does not count: a person may have
// ended it who was not told of this.
func (b *Book) begin(s *Signal, k kind, now time.Time) error {
	at := s.At
	r, err := b.find(s, at)
	if err != nil {
		return err
	}
	if s.Found && r.Count > 0 && !r.LastSeen.Before(at) && !r.LastSeen.After(now) {
		return nil
	}
	reasons, mark := keepReasons(s, k)
	again := r.Ended == nil && r.Count > 0
	if again && k.standing && r.Mark == mark && at.Sub(r.LastSeen) < standingTime {
		return nil // looked at again: nothing that is worth a write
	}
	b.dirty = true
	if !again {
		r.Opened, r.Ended, r.Ack = at, nil, nil
		if r.Away { // another machine of that name
			r.Away, r.From = false, nil
		}
	}
	if again && r.Mark != mark {
		r.Ack = nil // what was acknowledged was another thing
	}
	if !again || !k.standing {
		r.Count = min(r.Count+1, maxCount)
	}
	if at.After(r.LastSeen) {
		r.LastSeen = at
	}
	r.Reasons, r.Mark, r.Boot = reasons, mark, s.Boot
	return nil
}

// find returns the finding that a signal is about; a new one has no Count.
func (b *Book) find(s *Signal, at time.Time) (*record, error) {
	about := func(component string) *record {
		i := slices.IndexFunc(b.records, func(r record) bool {
			return r.Kind == s.Kind && r.Machine == s.Machine && r.Component == component
		})
		if i < 0 {
			return nil
		}
		return &b.records[i]
	}
	r := about(s.Component)
	if r != nil && r.Ended == nil {
		return r, nil
	}
	component, n := s.Component, 0
	for range b.lasting(s.Kind, s.Machine) {
		n++
	}
	if n >= maxComponents && component != "" {
		component = Others
		r = about(component)
	}
	if r != nil {
		return r, nil
	}
	b.dropResolved()
	if len(b.records) >= maxFindings {
		return nil, ErrFull
	}
	b.records = append(b.records, record{
		ID: b.nextID, Kind: s.Kind, Machine: s.Machine, Component: component, FirstSeen: at, LastSeen: at, Reasons: []evidence.Reason{}, History: []Step{},
	})
	b.nextID++
	return &b.records[len(b.records)-1], nil
}

// dropResolved forgets findings that ended, beyond those that are kept: each time the one
// that ended longest ago of the machine that has the most, so that no guest pushes
// another's out.
func (b *Book) dropResolved() {
	ended, total := map[string][]*record{}, 0
	for i := range b.records {
		if r := &b.records[i]; r.Ended != nil {
			ended[r.Machine] = append(ended[r.Machine], r)
			total++
		}
	}
	if total <= maxResolved {
		return
	}
	for _, of := range ended {
		slices.SortFunc(of, func(x, y *record) int { return cmp.Or(x.Ended.Compare(*y.Ended), cmp.Compare(x.ID, y.ID)) })
	}
	machines := slices.Sorted(maps.Keys(ended))
	drop := map[int]bool{}
	for ; total > maxResolved; total-- {
		most := slices.MaxFunc(machines, func(x, y string) int { return cmp.Compare(len(ended[x]), len(ended[y])) })
		drop[ended[most][0].ID] = true
		ended[most] = ended[most][1:]
	}
	b.records = slices.DeleteFunc(b.records, func(r record) bool { return drop[r.ID] })
}

// keepReasons returns what is shown of a signal's reasons, and a digest of all that
// the signal says: two signals with one mark say the same.
func keepReasons(s *Signal, k kind) (out []evidence.Reason, mark string) {
	all := make([]string, 0, len(s.Reasons))
	out = []evidence.Reason{}
	for i, r := range s.Reasons {
		words := r.Message
		if k.loose {
			words = ""
		}
		all = append(all, fmt.Sprintf("%q %q %q", r.Code, r.Component, words))
		if i < maxReasons {
			out = append(out, evidence.Reason{
				Code: evidence.Code(clean(string(r.Code), maxName)), Message: clean(r.Message, maxText), Component: clean(r.Component, maxName),
			})
		}
	}
	slices.Sort(all)
	sum := sha256.Sum256([]byte(strings.Join(all, "\n") + "\n" + s.Mark))
	return out, hex.EncodeToString(sum[:])
}

// state returns where a finding stands at a time.
func (b *Book) state(r *record, at time.Time) (State, *Suppression) {
	if r.Ended != nil {
		return Resolved, nil
	}
	for i := range b.suppressions {
		if s := &b.suppressions[i]; s.covers(r, at) {
			return Suppressed, s
		}
	}
	if r.Ack != nil {
		return Acknowledged, nil
	}
	return Open, nil
}

// settle notes every move since the last time, and makes the changes that people are
// to hear of. A finding that nobody was told of ends silently.
func (b *Book) settle(at time.Time) {
	for i := range b.records {
		r := &b.records[i]
		state, by := b.state(r, at)
		event := string(state)
		switch {
		case r.moved && (state == Resolved || state == r.Told):
			event = EventMoved
		case state == r.Told && (state != Open || r.Mark == r.ToldMark):
			continue
		case state == r.Told:
			event = EventChanged
		}
		loud := state.loud() || r.Told.loud()
		step := Step{Time: at, State: state}
		switch {
		case r.moved:
			step.Text = r.why
		case state == Suppressed:
			step.Author, step.Text = by.Author, by.Reason
		case r.Ack != nil && (state == Acknowledged || state == Resolved && !at.After(r.Ack.Time)):
			step.Author, step.Text = r.Ack.Author, r.Ack.Text
		case state == Resolved:
			step.Text = r.why
		}
		r.why, r.moved = "", false
		r.History = append(r.History, step)
		r.History = slices.Delete(r.History, 0, max(0, len(r.History)-maxHistory))
		r.Told, r.ToldMark, b.dirty = state, r.Mark, true
		if loud {
			b.changes++
			b.fresh = append(b.fresh, Change{Number: b.changes, Time: at, Event: event, Finding: b.view(r, at)})
		}
	}
	before := len(b.suppressions)
	b.suppressions = slices.DeleteFunc(b.suppressions, func(s Suppression) bool { return !at.Before(s.Until) })
	b.dirty = b.dirty || len(b.suppressions) != before
}

// Settle ends the suppressions whose time is over: findings that last are open again.
func (b *Book) Settle(at time.Time) { b.settle(at) }

// Lasts reports whether the condition of a signal is among the findings that have not
// ended.
func (b *Book) Lasts(s Signal) bool {
	for r := range b.lasting(s.Kind, s.Machine) {
		if r.Component == s.Component {
			return true
		}
	}
	return false
}

// Due returns when the next suppression ends; ok is false when there is none.
func (b *Book) Due() (at time.Time, ok bool) {
	if len(b.suppressions) == 0 {
		return time.Time{}, false
	}
	first := slices.MinFunc(b.suppressions, func(x, y Suppression) int { return x.Until.Compare(y.Until) })
	return first.Until, true
}

// view shows a finding as it stands at a time.
func (b *Book) view(r *record, at time.Time) Finding {
	k, _ := lookup(r.Kind)
	info, _ := evidence.Describe(r.Kind)
	state, by := b.state(r, at)
	f := Finding{
		ID: r.ID, Kind: r.Kind, Title: k.title, Machine: r.Machine, Component: r.Component, Severity: k.severity, State: state,
		FirstSeen: r.FirstSeen, Opened: r.Opened, LastSeen: r.LastSeen, Ended: r.Ended, Count: r.Count, BootCounter: r.Boot,
		Reasons: slices.Clone(r.Reasons), Meaning: info.Meaning, Causes: info.Causes, Action: info.Action,
		Acknowledged: r.Ack, History: slices.Clone(r.History),
	}
	if r.From != nil && r.From.Origin != b.origin {
		from := *r.From
		f.MovedFrom = &from
	}
	if by != nil {
		copied := *by
		f.Suppression = &copied
	}
	return f
}

// Findings returns all findings as they stand at a time: those that last first, the
// severest of them first, and then by ID.
func (b *Book) Findings(at time.Time) []Finding {
	out := make([]Finding, 0, len(b.records))
	for i := range b.records {
		out = append(out, b.view(&b.records[i], at))
	}
	slices.SortStableFunc(out, func(x, y Finding) int {
		return cmp.Or(
			cmp.Compare(slices.Index(states, x.State), slices.Index(states, y.State)),
			cmp.Compare(y.Severity, x.Severity), cmp.Compare(x.ID, y.ID),
		)
	})
	return out
}

// Finding returns one finding as it stands at a time.
func (b *Book) Finding(id int, at time.Time) (Finding, error) {
	r, err := b.byID(id)
	if err != nil {
		return Finding{}, err
	}
	return b.view(r, at), nil
}

func (b *Book) byID(id int) (*record, error) {
	i, ok := slices.BinarySearchFunc(b.records, id, func(r record, id int) int { return cmp.Compare(r.ID, id) })
	if !ok {
		return nil, fmt.Errorf("finding %d: %w", id, ErrNone)
	}
	return &b.records[i], nil
}
