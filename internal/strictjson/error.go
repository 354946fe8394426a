package strictjson

import (
	"errors"
	"fmt"
	"strings"
)

// What can be wrong with a text; an [*Error] wraps one of them.
var (
	// ErrSyntax is text that RFC 8259 does not allow.
	ErrSyntax = errors.New("not JSON")
	// ErrEncoding is text that is not UTF-8 or has half a surrogate pair.
	ErrEncoding = errors.New("not Unicode")
	// ErrDuplicate is an object with two members of one name.
	ErrDuplicate = errors.New("member stands twice")
	// ErrLimit is text that exceeds its [Rules].
	ErrLimit = errors.New("exceeds a limit")
	// ErrUnknown is a member that the reader does not know.
	ErrUnknown = errors.New("unknown member")
	// ErrInexact is a number that [Decode] cannot keep as it is.
	ErrInexact = errors.New("number is not exact")
)

// An Error says what is wrong with a text, and where.
type Error struct {
	Kind   error  // one of the errors of this package
	Offset int    // of the byte in the text that was given to the reader
	Path   string // of the value, such as quotes[0].attest; "" for the text's own value
	What   string
}

func (e *Error) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("at byte %d: %s", e.Offset, e.What)
	}
	return fmt.Sprintf("at byte %d, in %s: %s", e.Offset, e.Path, e.What)
}

// Unwrap gives the kind.
func (e *Error) Unwrap() error { return e.Kind }

// Unknown is what a visit returns for a member that the reader does not know;
// [Object] and the methods of [Value] put the member's name and place to it.
func Unknown() error { return &Error{Kind: ErrUnknown, What: "unknown member"} }

// maxPath bounds the text of a path: names are the sender's.
const maxPath = 200

// inside puts the step before the path of an error on its way out.
func (e *Error) inside(step string) {
	switch {
	case len(e.Path) > maxPath:
	case e.Path == "" || e.Path[0] == '[':
		e.Path = step + e.Path
	default:
		e.Path = step + "." + e.Path
	}
}

// in puts the member that err was found in before its path.
func in(name []byte, err error) error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // what a visit has wrapped is its own
		e.inside(step(name))
	}
	return err
}

// inElement puts the element that err was found in before its path.
func inElement(n int, err error) error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // what a visit has wrapped is its own
		e.inside(fmt.Sprintf("[%d]", n))
	}
	return err
}

// moved makes the offset of a visit's error, which counts from the value at that
// the visit was given, count from the beginning of the text.
func moved(err error, at int) error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // what a visit has wrapped is its own
		e.Offset += at
	}
	return err
}

// step is how a path shows a name: as it is if it is a word, else quoted.
func step(name []byte) string {
	word := len(name) > 0 && len(name) <= 40
	for _, c := range name {
		word = word && (c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z')
	}
	if word {
		return string(name)
	}
	return clip(string(name))
}

// clip quotes a text of the sender, cut to what a person needs.
func clip(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:40], ""))
	}
	return fmt.Sprintf("%q", s)
}

// A kindError names the member whose value is of the wrong kind.
type kindError struct {
	name string
	err  error
}

func (e *kindError) Error() string { return fmt.Sprintf("member %s is %v", clip(e.name), e.err) }
