package cli

import (
	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/vtpm"
)

func newVTPMImportCmd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Make a TPM of what another site exported",
		Long: `Make a TPM of a file that "assay vtpm export" wrote at another site, with its secrets
and identity, as "assay vtpm restore" does. Give --identity for age recipients, or
--provider when the key provider that the file names is called otherwise here.
--key-provider says who keeps the TPM's key from now on.`,
		Args: cobra.ExactArgs(1),
	}
	return vtpmRestoreCommand(env, cmd, &vtpm.RestoreOptions{Import: true})
}
