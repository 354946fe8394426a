// Package evidence has what all kinds of evidence share: claims that know what
// proves them, reasons with stable codes, and verdicts.
//
// It verifies nothing. A kind of evidence (evidence/tpm, …) has Parse, which
// checks shape, and Verify, which alone makes the type that claims are read
// from. The words are those of RFC 9334: evidence is appraised into an
// attestation result for a relying party. Start with [Claim] and [Refusal].
package evidence

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A Value is true, false, a text, or unknown. The zero Value is unknown.
type Value struct {
	kind valueKind
	text string
}

type valueKind uint8

const (
	kindUnknown valueKind = iota
	kindFalse
	kindTrue
	kindText
)

// Bool is the Value of a statement that was proven true or proven false.
func Bool(b bool) Value {
	if b {
		return Value{kind: kindTrue}
	}
	return Value{kind: kindFalse}
}

// Text is the Value of a statement that names something.
func Text(s string) Value { return Value{kind: kindText, text: s} }

// Known reports whether anything was proven.
func (v Value) Known() bool { return v.kind != kindUnknown }

// IsTrue reports whether v was proven true. Unknown is not true.
func (v Value) IsTrue() bool { return v.kind == kindTrue }

// IsFalse reports whether v was proven false. Unknown is not false.
func (v Value) IsFalse() bool { return v.kind == kindFalse }

// Text returns the text of v; ok is false when v holds none.
func (v Value) Text() (text string, ok bool) { return v.text, v.kind == kindText }

func (v Value) String() string {
	switch v.kind {
	case kindTrue:
		return "true"
	case kindFalse:
		return "false"
	case kindText:
		return v.text
	default:
		return "unknown"
	}
}

// MarshalJSON writes true, false, a string, or null for unknown.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.kind {
	case kindTrue, kindFalse:
		return json.Marshal(v.kind == kindTrue)
	case kindText:
		return json.Marshal(v.text)
	default:
		return []byte("null"), nil
	}
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *Value) UnmarshalJSON(b []byte) error {
	var any any
	if err := json.Unmarshal(b, &any); err != nil {
		return err
	}
	switch x := any.(type) {
	case nil:
		*v = Value{}
	case bool:
		*v = Bool(x)
	case string:
		*v = Text(x)
	default:
		return fmt.Errorf("claim value is a %T, want true, false, a string or null", x)
	}
	return nil
}

// A Claim is one statement about the attester and what proves it.
type Claim struct {
	Value Value `json:"value"`
	// Reason says why Value is unknown; empty otherwise.
	Reason Code `json:"reason"`
	// PCRs are the registers whose quoted values prove Value.
	PCRs []int `json:"pcrs,omitempty"`
}

// Claims are the statements made from one piece of evidence, by name.
type Claims map[string]Claim

// Set records a proven value.
func (c Claims) Set(name string, v Value, pcrs ...int) { c[name] = Claim{Value: v, PCRs: pcrs} }

// Unknown records that nothing could be proven, and why.
func (c Claims) Unknown(name string, why Code, pcrs ...int) {
	c[name] = Claim{Reason: why, PCRs: pcrs}
}

// A Code names one way in which evidence fails, for ever: "quote.nonce-mismatch".
// The table in codes_table.go says what each means; docs/reasons.md is made from it.
type Code string

// A Reason is one failed check, in the words of the result.
type Reason struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Component names the part of the boot or of the evidence at fault, when there is one.
	Component string `json:"component,omitempty"`
}

// A Refusal is evidence that failed a check. It is an error of the attester's,
// never of ours.
type Refusal struct{ Reason }

func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Code, r.Message) }

// Refuse makes a [Refusal]; the message follows the rules of fmt.Sprintf.
func Refuse(code Code, format string, args ...any) *Refusal {
	return &Refusal{Reason{Code: code, Message: fmt.Sprintf(format, args...)}}
}

// About names the component that r is about, and returns r.
func (r *Refusal) About(component string) *Refusal {
	r.Component = component
	return r
}

// Reasons returns the reason of every [Refusal] in err's tree, in order, or nil.
func Reasons(err error) []Reason {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case nil:
		return nil
	case *Refusal:
		return []Reason{e.Reason}
	case interface{ Unwrap() []error }:
		var out []Reason
		for _, inner := range e.Unwrap() {
			out = append(out, Reasons(inner)...)
		}
		return out
	default:
		return Reasons(errors.Unwrap(err))
	}
}

// A Verdict is the outcome of an appraisal. The zero Verdict is [Refused].
type Verdict uint8

// The verdicts of docs/formats/evidence-bundle.md.
const (
	Refused  Verdict = iota // a check failed
	Trusted                 // every check that the policy asks for passed
	Unusable                // the input is not evidence at all
)

var verdicts = [...]string{Refused: "refused", Trusted: "trusted", Unusable: "unusable"}

func (v Verdict) String() string { return verdicts[v] }

// MarshalText writes the verdict's word.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads the verdict's word.
func (v *Verdict) UnmarshalText(b []byte) error {
	for i, word := range verdicts {
		if word == string(b) {
			*v = Verdict(i)
			return nil
		}
	}
	return fmt.Errorf("verdict %q is none of %s", b, strings.Join(verdicts[:], ", "))
}
