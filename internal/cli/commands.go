package cli

import (
	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vmcli"
	"github.com/assay-project/assay/internal/vtpmcli"
)

// commands lists every subcommand; each is made in the file of its name.
func commands(env *program.Env) []*cobra.Command {
	return []*cobra.Command{
		newAnchorCmd(env),
		newAppraisalCmd(env),
		newAppraiseCmd(env),
		newAttesterCmd(env),
		newAuditCmd(env),
		vmcli.NewComponentCmd(env),
		newDemoCmd(env),
		newDoctorCmd(env),
		newEventlogCmd(env),
		vtpmcli.NewFindingCmd(env),
		newIAMCmd(env),
		vmcli.NewImportCmd(env),
		vtpmcli.NewImageCmd(env, vmcli.NewImageCmds(env)...),
		newKeyCmd(env),
		vtpmcli.NewKeyProviderCmd(env),
		vtpmcli.NewKeysetCmd(env, vmcli.KeysetChanged),
		newOpenAPICmd(env),
		newPolicyCmd(env),
		newPrincipalCmd(env),
		newReferenceCmd(env),
		newServeCmd(env),
		vmcli.NewSupportMatrixCmd(env),
		newTokenCmd(env),
		vtpmcli.NewTPMCmd(env),
		program.NewVersionCmd(env),
		vmcli.NewVMCmd(env),
		vtpmcli.NewVTPMCmd(env),
		newWhoamiCmd(env),
	}
}
