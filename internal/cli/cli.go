// Package cli is the command line of assay: one file per subcommand, each of
// which reads its flags, calls a library and prints.
//
// The command lines, JSON shapes and exit statuses of docs/cli.md are a
// contract with other programs. What has to do with virtual TPMs stands in vtpmcli,
// which a smaller program has, too. Start with [Main].
package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/ima"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpmcli"
)

// Main runs the command line args (without the program's name) and returns the
// exit status. Called by the name of a program whose place it takes, assay is that
// program.
func Main(env *program.Env, args []string) int {
	if status, ok := vtpmcli.DropIn(env, args); ok {
		return status
	}
	return program.Run(env, args, newRoot, faultPlace)
}

func newRoot(env *program.Env) *cobra.Command {
	root := &cobra.Command{Use: "assay", Short: "Trusted launch and attestation for machines you run yourself"}
	root.AddCommand(commands(env)...)
	return program.AsRoot(env, root)
}

// faultPlace notes where a log, a list or a policy is at fault.
func faultPlace(err error, f *program.Fault) {
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
}
