package program

import (
	"io"
	"strings"
)

// A Fault is the member "error" of what -o json prints when a command ends
// without a result.
type Fault struct {
	Message string `json:"message"` // as on standard error
	// Offset is the byte of a log or list, and Event its record, at which reading
	// stopped; Line and Col are the place in a policy.
	Offset *int `json:"offset,omitempty"`
	Event  *int `json:"event,omitempty"`
	Line   int  `json:"line,omitempty"`
	Col    int  `json:"col,omitempty"`
}

// NewFault is the fault of an error, with the place that at finds unless it is nil.
func NewFault(err error, at Locate) *Fault {
	f := &Fault{Message: err.Error()}
	if at != nil {
		at(err, f)
	}
	return f
}

// An Outcome is embedded in every result that has a shape of its own, so that a
// reader finds the members that it expects, and none of them says yes.
type Outcome struct {
	Error *Fault `json:"error,omitempty"`
}

func (o *Outcome) setFault(f *Fault) { o.Error = f }

// A Result is what -o json prints of a command that has a shape of its own: a struct
// with an [Outcome] embedded.
type Result interface{ setFault(f *Fault) }

// Unusable ends with status 2, prints err, and makes empty the result that -o json prints.
func Unusable(empty Result, err error) error { return &exitError{StatusUnusable, err, empty} }

// printFault prints the one JSON value of a command that has printed nothing.
func printFault(env *Env, exit *exitError, at Locate) error {
	result := exit.result
	if result == nil {
		result = new(Outcome)
	}
	result.setFault(NewFault(exit, at))
	return PrintJSON(env, result)
}

// wantsJSON reports whether a command line asks for -o json. It reads the
// arguments itself, since those that are wrong are never parsed to their end.
func wantsJSON(args []string) bool {
	format := ""
	for i, arg := range args {
		if arg == "--" {
			break
		}
		if value, ok := strings.CutPrefix(arg, "--output="); ok {
			format = value
		} else if arg == "-o" || arg == "--output" {
			format = strings.Join(args[i+1:min(i+2, len(args))], "")
		} else if value, ok := strings.CutPrefix(arg, "-o"); ok {
			format = strings.TrimPrefix(value, "=")
		}
	}
	return format == "json"
}

// A counter notes whether anything was written.
type counter struct {
	to io.Writer
	n  int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.to.Write(b)
	c.n += int64(n)
	return n, err
}
