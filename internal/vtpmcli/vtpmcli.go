// Package vtpmcli is what the command line has for virtual TPMs: assay vtpm, assay
// key-provider, assay keyset, assay tpm, and the programs in whose place these stand (swtpm,
// swtpm_setup, swtpm_ioctl, the simulators), one file for each.
//
// Two programs have it. In assay it is a part; assay-vtpm is nothing else, so that
// the process a hostile guest talks to has no database, no HTTP API and no metrics in
// it, and is ready sooner: nothing of these is set up before its first line runs. A
// test holds that. Start with [Main].
package vtpmcli

import (
	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
)

// Main runs the command line args (without the program's name) of assay-vtpm and
// returns the exit status. Called by the name of a program whose place it takes, it is
// that program.
func Main(env *program.Env, args []string) int {
	if status, ok := DropIn(env, args); ok {
		return status
	}
	serves := len(args) > 0 && args[0] == "serve"
	return program.Run(env, args, func(env *program.Env) *cobra.Command { return newRoot(env, serves) }, nil)
}

// newRoot is assay-vtpm: each command of assay vtpm, and the groups beside it. A
// machine that is switched on waits for the TPM that serve runs, and the flags of forty
// other commands take a tenth of that time: then it is alone.
func newRoot(env *program.Env, serves bool) *cobra.Command {
	root := &cobra.Command{Use: "assay-vtpm", Short: "Virtual TPMs: assay vtpm as a small program of its own"}
	root.CompletionOptions.DisableDefaultCmd = serves
	if serves {
		root.AddCommand(newVTPMServeCmd(env))
	} else {
		root.AddCommand(vtpmCommands(env)...)
		root.AddCommand(NewKeyProviderCmd(env), NewTPMCmd(env), program.NewVersionCmd(env))
	}
	return program.AsRoot(env, root)
}
