package vtpmcli

import "github.com/assay-project/assay/internal/program"

// assay runs a command line of assay that this package has.
func assay(env *program.Env, args []string) int {
	if len(args) > 0 && args[0] == "vtpm" {
		args = args[1:]
	}
	return Main(env, args)
}
