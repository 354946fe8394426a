package cli

import "github.com/spf13/cobra"

// commands lists every subcommand; each is made in the file of its name.
func commands(env *Env) []*cobra.Command {
	return []*cobra.Command{
		newAppraiseCmd(env),
		newAuditCmd(env),
		newDoctorCmd(env),
		newEventlogCmd(env),
		newPolicyCmd(env),
		newTokenCmd(env),
		newVersionCmd(env),
	}
}
