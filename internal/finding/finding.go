package finding

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/assay-project/assay/evidence"
)

// Severity says how soon a person should look. The zero Severity is none.
type Severity uint8

// The severities.
const (
	Low Severity = iota + 1
	Medium
	High
)

var severities = []string{Low: "low", Medium: "medium", High: "high"}

func (s Severity) String() string {
	if s < Low || s > High {
		return "unknown"
	}
	return severities[s]
}

// MarshalText writes the severity's word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the severity's word.
func (s *Severity) UnmarshalText(b []byte) error {
	i := slices.Index(severities, string(b))
	if i < int(Low) {
		return fmt.Errorf("severity %.20q is none of low, medium, high", b)
	}
	*s = Severity(i) //nolint:gosec // an index of severities
	return nil
}

// A State is where a finding stands.
type State string

// The states. The empty State is that of a finding that nobody was told of.
const (
	Open         State = "open"         // somebody has to look
	Acknowledged State = "acknowledged" // somebody does
	Suppressed   State = "suppressed"   // somebody said why it may be so, and until when
	Resolved     State = "resolved"     // the condition has ended
)

var states = []State{Open, Acknowledged, Suppressed, Resolved}

// loud reports whether people were told of a finding in this state.
func (s State) loud() bool { return s == Open || s == Acknowledged }

// A Finding is one condition of one machine, as it stands at some time.
type Finding struct {
	ID        int           `json:"id"` // in its book; never used again
	Kind      evidence.Code `json:"kind"`
	Title     string        `json:"title"`
	Machine   string        `json:"machine"`             // empty: the host itself
	Component string        `json:"component,omitempty"` // such as a kernel module
	Severity  Severity      `json:"severity"`
	State     State         `json:"state"`
	FirstSeen time.Time     `json:"firstSeen"`
	// Opened is when the condition began that lasts or was the last, LastSeen when it was
	// seen last, and Ended when it ended; nil while it lasts.
	Opened   time.Time  `json:"opened"`
	LastSeen time.Time  `json:"lastSeen"`
	Ended    *time.Time `json:"ended,omitempty"`
	Count    int        `json:"count"`
	// BootCounter is the boot that it was seen in last; 0 for none.
	BootCounter  uint64            `json:"bootCounter,string"`
	Reasons      []evidence.Reason `json:"reasons"`
	Meaning      string            `json:"meaning"`
	Causes       []string          `json:"causes"`
	Action       string            `json:"action"`
	Acknowledged *Note             `json:"acknowledged,omitempty"`
	Suppression  *Suppression      `json:"suppression,omitempty"` // the one in force
	History      []Step            `json:"history"`
	// MovedFrom is where it began, when its machine has come from another host since: who
	// was told of it there knows it by that.
	MovedFrom *Place `json:"movedFrom,omitempty"`
}

// A Note is what a person said.
type Note struct {
	Author string    `json:"author"`
	Time   time.Time `json:"time"`
	Text   string    `json:"text,omitempty"`
}

// A Step is one move of a finding.
type Step struct {
	Time  time.Time `json:"time"`
	State State     `json:"state"`
	// Author and Text are there when a person made it; Text alone is why a finding ended
	// whose condition is no longer looked at.
	Author string `json:"author,omitempty"`
	Text   string `json:"text,omitempty"`
}

// A Suppression keeps findings of a kind and a machine silent until a time: it never
// lasts for ever. An empty Component stands for all.
type Suppression struct {
	Kind      evidence.Code `json:"kind"`
	Machine   string        `json:"machine"`
	Component string        `json:"component,omitempty"`
	Reason    string        `json:"reason"`
	Author    string        `json:"author"`
	Made      time.Time     `json:"made"`
	Until     time.Time     `json:"until"`
}

// covers reports whether s is about a finding and in force at a time.
func (s *Suppression) covers(r *record, at time.Time) bool {
	return s.Kind == r.Kind && s.Machine == r.Machine && (s.Component == "" || s.Component == r.Component) && at.Before(s.Until)
}

// A Change is a move of a finding that people are to hear of. Event is the state that
// it has now, or "changed" for an open one whose reasons are others than before, or
// "moved" for one whose machine went to another host or came from one.
type Change struct {
	// Number counts the changes of a book, without gaps.
	Number  uint64    `json:"number,string"`
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	Finding Finding   `json:"finding"`
}

// EventChanged is the event of a finding that stays open for other reasons.
const EventChanged = "changed"

// A Signal says that a condition of a machine was seen, or that it has ended.
type Signal struct {
	Kind    evidence.Code
	Machine string
	// Component tells findings of one kind apart.
	Component string
	// Ends is set when the condition is over: that of Component, or with an empty
	// Component all of the kind but those in Keep. Reasons say why, where it is not that
	// the condition was looked at and is over.
	Ends bool
	Keep []string
	// Boot is the one in which the condition was seen. An end that names a boot leaves
	// what was seen in it.
	Boot uint64
	// At is when that was so, where it is said later; the zero Time is that of [Book.Apply].
	At time.Time
	// Found is set where it may have been said before: it changes nothing that was seen at
	// that time or since.
	Found   bool
	Reasons []evidence.Reason
	// Mark is what the reasons rest on, where their words do not say it all: digests.
	Mark string
}

// why is the reason of an end, where it is not that the condition is over.
func (s *Signal) why() string {
	if len(s.Reasons) == 0 {
		return ""
	}
	return clean(s.Reasons[0].Message, maxText)
}

// Limits of texts, in bytes.
const (
	maxName = 255
	maxText = 512
)

// clean makes a text that may be a guest's fit to be shown on one line.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s[:min(len(s), limit)], "")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

// lookup returns the kind of a code.
func lookup(code evidence.Code) (kind, bool) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.code == code })
	if i < 0 {
		return kind{}, false
	}
	return kinds[i], true
}

// Kinds returns the codes of all kinds, in the order of the guide.
func Kinds() []evidence.Code {
	out := make([]evidence.Code, 0, len(kinds))
	for _, k := range kinds {
		out = append(out, k.code)
	}
	return out
}

// SeverityOf is that of all findings of a kind; none for a code that is no kind.
func SeverityOf(code evidence.Code) Severity {
	k, _ := lookup(code)
	return k.severity
}

// TestFinding is what a test alert shows. It is in no book.
func TestFinding(at time.Time) Finding {
	b := Book{records: []record{{
		Kind: Test, FirstSeen: at, Opened: at, LastSeen: at, Count: 1, History: []Step{},
		Reasons: []evidence.Reason{{Code: Test, Message: "this is a test alert of assay: nothing has happened"}},
	}}}
	return b.view(&b.records[0], at)
}
