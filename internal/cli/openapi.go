package cli

import (
	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/httpapi"
	"github.com/assay-project/assay/internal/instances"
	"github.com/assay-project/assay/internal/program"
)

func newOpenAPICmd(env *program.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "openapi",
		Short: "Print the description of the service's API (OpenAPI 3.1)",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := httpapi.OpenAPI(instances.Undone())
			if err == nil {
				_, err = env.Stdout.Write(text)
			}
			return err
		},
	}
}
