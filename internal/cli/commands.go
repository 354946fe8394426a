package cli

import "github.com/spf13/cobra"

// commands lists every subcommand; each is made in the file of its name.
func commands(env *Env) []*cobra.Command {
	return []*cobra.Command{
		newAnchorCmd(env),
		newAppraisalCmd(env),
		newAppraiseCmd(env),
		newAttesterCmd(env),
		newAuditCmd(env),
		newDemoCmd(env),
		newDoctorCmd(env),
		newEventlogCmd(env),
		newKeyCmd(env),
		newKeyProviderCmd(env),
		newKeysetCmd(env),
		newOpenAPICmd(env),
		newPolicyCmd(env),
		newPrincipalCmd(env),
		newReferenceCmd(env),
		newServeCmd(env),
		newTokenCmd(env),
		newTPMCmd(env),
		newVersionCmd(env),
		newVTPMCmd(env),
		newWhoamiCmd(env),
	}
}
