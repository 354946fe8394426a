package cli

import (
	"errors"
	"io"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/ima"
)

// A fault is the member "error" of what -o json prints when a command ends
// without a result.
type fault struct {
	Message string `json:"message"` // as on standard error
	// Offset is the byte of a log or list, and Event its record, at which reading
	// stopped; Line and Col are the place in a policy.
	Offset *int `json:"offset,omitempty"`
	Event  *int `json:"event,omitempty"`
	Line   int  `json:"line,omitempty"`
	Col    int  `json:"col,omitempty"`
}

func faultOf(err error) *fault {
	f := &fault{Message: err.Error()}
	var log *eventlog.ParseError
	var list *ima.ParseError
	switch {
	case errors.As(err, &log):
		f.Offset, f.Event = &log.Offset, &log.Event
	case errors.As(err, &list):
		f.Offset, f.Event = &list.Offset, &list.Entry
	}
	if at, ok := placeOf(err); ok {
		f.Line, f.Col = at.Line, at.Col
	}
	return f
}

// An outcome is embedded in every result that has a shape of its own, so that a
// reader finds the members that it expects, and none of them says yes.
type outcome struct {
	Error *fault `json:"error,omitempty"`
}

func (o *outcome) setFault(f *fault) { o.Error = f }

type faulty interface{ setFault(f *fault) }

// unusable ends with status 2, prints err, and makes empty the result that -o json prints.
func unusable(empty faulty, err error) error { return &exitError{exitUnusable, err, empty} }

// printFault prints the one JSON value of a command that has printed nothing.
func printFault(env *Env, exit *exitError) error {
	result := exit.result
	if result == nil {
		result = new(outcome)
	}
	result.setFault(faultOf(exit))
	return printJSON(env, result)
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
