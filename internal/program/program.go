// Package program is what the programs of this project have in common: what a
// command may touch of its process, how it ends, and how it prints.
//
// It knows no command. Each is made by a package above as a [cobra.Command] whose
// error says how it ended; [Run] makes the message, the exit status and the one
// value of -o json of that. These are a contract with other programs: docs/cli.md.
// Start with [Run].
package program

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

// Env is what a command may touch of its process.
type Env struct {
	Program string // as it was called; for hints that can be pasted
	Stdin   io.Reader
	Stdout  io.Writer // results only
	Stderr  io.Writer // everything else
	Getenv  func(string) string
	Now     func() time.Time
	// Since is time.Since, at half the cost of two calls of Now; nil is by Now.
	Since func(time.Time) time.Duration
	Rand  io.Reader
	// Processors is runtime.GOMAXPROCS; nil for a process that others share.
	Processors func(n int) (before int)
}

// Elapsed is how long ago a time of Now was.
func (e *Env) Elapsed(t time.Time) time.Duration {
	if e.Since == nil {
		return e.Now().Sub(t)
	}
	return e.Since(t)
}

// The exit statuses that docs/cli.md fixes.
const (
	StatusOK       = 0
	StatusRefused  = 1 // the answer is no
	StatusUnusable = 2 // the input or the command line cannot be used
)

// An exitError ends the program with a status. Err is printed unless it is nil,
// as when the result on standard output says it all. Result is what -o json
// prints when there is nothing on standard output yet; nil for an error alone.
type exitError struct {
	status int
	err    error
	result Result
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Exit ends with a status and prints nothing more.
func Exit(status int) error { return &exitError{status: status} }

// Refused ends with status 1 and prints nothing more.
func Refused() error { return Exit(StatusRefused) }

// RefusedBy ends with status 1 and prints err.
func RefusedBy(err error) error { return &exitError{status: StatusRefused, err: err} }

// Locate notes in f, which -o json prints, where err says that the input is at fault.
type Locate func(err error, f *Fault)

// Run runs the command line args (without the program's name) of the program whose
// commands newRoot makes, and returns the exit status. Every error that says nothing
// of a status is unusable input. At is nil when no command reads input with places.
func Run(env *Env, args []string, newRoot func(*Env) *cobra.Command, at Locate) int {
	inner, out := *env, &counter{to: env.Stdout}
	inner.Stdout = out
	root := newRoot(&inner)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return StatusOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{status: StatusUnusable, err: err}
	}
	if exit.err != nil {
		fmt.Fprintf(env.Stderr, "%s: %v\n", root.Name(), exit.err)
	}
	if out.n == 0 && wantsJSON(args) {
		if err := printFault(env, exit, at); err != nil {
			fmt.Fprintf(env.Stderr, "%s: %v\n", root.Name(), err)
		}
	}
	return exit.status
}

// AsRoot makes root, which has its commands, the root of a program: its errors are
// [Run]'s to print, and help and groups refuse what they do not have.
func AsRoot(env *Env, root *cobra.Command) *cobra.Command {
	root.SilenceUsage, root.SilenceErrors = true, true
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetHelpCommand(newHelpCmd())
	refuseUnknown(root)
	return root
}

// refuseUnknown has a group refuse a subcommand that it does not have. On its own
// the library prints the help and ends with 0, which means "yes".
func refuseUnknown(group *cobra.Command) {
	if !group.HasSubCommands() {
		return
	}
	for _, c := range group.Commands() {
		refuseUnknown(c)
	}
	if group.Runnable() {
		return
	}
	group.Args = cobra.ArbitraryArgs
	// A flag of the command that was meant, as -o json, is unknown to the group; the
	// name that is wrong comes first.
	group.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if args := cmd.Flags().Args(); cmd == group && len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return err
	})
	group.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return cmd.Help()
	}
}
