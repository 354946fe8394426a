package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/vtpm/place"
)

// ledgerEnv names the folder of the ledger for TPMs that have no root.
const ledgerEnv = "ASSAY_LEDGER"

// ledgerDir is the ledger's folder in a root of TPMs.
const ledgerDir = "ledger"

// ledgerFlags say where the ledger of a TPM without a root is.
type ledgerFlags struct {
	dir      string
	required bool
}

// add declares --ledger and --require-ledger.
func (f *ledgerFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.dir, "ledger", "", "`DIR` of the ledger that tells an old or another TPM's state, or \"none\" (default $"+ledgerEnv+", else the folder "+ledgerDir+" of the root)")
	cmd.Flags().BoolVar(&f.required, "require-ledger", false, "do not serve a TPM whose ledger cannot be used")
}

// open opens the ledger: the one that is named, or that of a root.
func (f *ledgerFlags) open(env *Env, root func() (string, error)) *place.Ledger {
	dir := f.dir
	if dir == "" {
		dir = env.Getenv(ledgerEnv)
	}
	if dir == "" {
		r, err := root()
		if err != nil {
			return place.Absent(err, f.required)
		}
		dir = filepath.Join(r, ledgerDir)
	}
	return place.OpenLedger(dir, f.required)
}
