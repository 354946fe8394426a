// Package cli is the command line of assay: one file per subcommand, each of
// which reads its flags, calls a library and prints.
//
// The command lines, JSON shapes and exit statuses of docs/cli.md are a
// contract with other programs. Start with [Main].
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
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
	Rand    io.Reader
}

// The exit statuses that docs/cli.md fixes.
const (
	exitOK       = 0
	exitRefused  = 1 // the answer is no
	exitUnusable = 2 // the input or the command line cannot be used
)

// An exitError ends the program with a status. Err is printed unless it is nil,
// as when the result on standard output says it all. Result is what -o json
// prints when there is nothing on standard output yet; nil for an error alone.
type exitError struct {
	status int
	err    error
	result faulty
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// refused ends with status 1 and prints nothing more.
func refused() error { return &exitError{status: exitRefused} }

// refusedBy ends with status 1 and prints err.
func refusedBy(err error) error { return &exitError{status: exitRefused, err: err} }

// Main runs the command line args (without the program's name) and returns the
// exit status. Every error that is not an exitError is unusable input.
// Called by the name of a program whose place it takes, assay is that program.
func Main(env *Env, args []string) int {
	if status, ok := asDropIn(env, args); ok {
		return status
	}
	inner, out := *env, &counter{to: env.Stdout}
	inner.Stdout = out
	root := newRoot(&inner)
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{status: exitUnusable, err: err}
	}
	if exit.err != nil {
		fmt.Fprintf(env.Stderr, "assay: %v\n", exit.err)
	}
	if out.n == 0 && wantsJSON(args) {
		if err := printFault(env, exit); err != nil {
			fmt.Fprintf(env.Stderr, "assay: %v\n", err)
		}
	}
	return exit.status
}

func newRoot(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:           "assay",
		Short:         "Trusted launch and attestation for machines you run yourself",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.AddCommand(commands(env)...)
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

// printJSON writes v as the one JSON value on standard output.
func printJSON(env *Env, v any) error {
	enc := json.NewEncoder(env.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// An outputFormat is the value of -o.
type outputFormat string

// addOutputFlag declares -o with the formats that a command knows; the first is the default.
func addOutputFlag(cmd *cobra.Command, formats ...string) *outputFormat {
	f := outputFormat(formats[0])
	cmd.Flags().VarP(&outputValue{&f, formats}, "output", "o", fmt.Sprintf("output format, one of %v", formats))
	return &f
}

type outputValue struct {
	to    *outputFormat
	known []string
}

func (v *outputValue) String() string { return string(*v.to) }

func (v *outputValue) Type() string { return "format" }

// Set accepts a known format.
func (v *outputValue) Set(s string) error {
	if !slices.Contains(v.known, s) {
		return fmt.Errorf("want one of %v", v.known)
	}
	*v.to = outputFormat(s)
	return nil
}
