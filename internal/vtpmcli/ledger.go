package vtpmcli

import (
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/program"
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
	why      error // that there is no folder for one
}

// add declares --ledger and --require-ledger.
func (f *ledgerFlags) add(to *pflag.FlagSet) {
	to.StringVar(&f.dir, "ledger", "", "`DIR` of the ledger that tells an old or another TPM's state, or \"none\" (default $"+ledgerEnv+", else the folder "+ledgerDir+" of the root)")
	to.BoolVar(&f.required, "require-ledger", false, "do not serve a TPM whose ledger cannot be used")
}

// choose finds the folder: the one that is named, or that of a root.
func (f *ledgerFlags) choose(env *program.Env, root func() (string, error)) {
	if f.dir == "" {
		f.dir = env.Getenv(ledgerEnv)
	}
	if f.dir != "" {
		return
	}
	r, err := root()
	if f.why = err; err == nil {
		f.dir = filepath.Join(r, ledgerDir)
	}
}

// chooseDropIn finds the folder for a drop-in, whose configuration file may name it.
func (f *ledgerFlags) chooseDropIn(env *program.Env) error {
	c, err := readDropInFile(env)
	if err != nil {
		return err
	}
	f.required = f.required || c.requireLedger
	if f.dir == "" && env.Getenv(ledgerEnv) == "" {
		f.dir = c.ledger
	}
	f.choose(env, func() (string, error) { return dropInRoot(env) })
	return nil
}

// open opens the ledger that was chosen.
func (f *ledgerFlags) open() *place.Ledger {
	if f.dir == "" {
		return place.Absent(f.why, f.required)
	}
	return place.OpenLedger(f.dir, f.required)
}
