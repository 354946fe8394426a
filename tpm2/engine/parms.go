package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// testParms is TPM2_TestParms (Part 3, 30.3). As in the reference, parameters that
// the profile's algorithms, key sizes and curves let through are supported; those
// of post-quantum keys need a parameter set that there is.
func testParms(_ *call, in *command.TestParmsIn, _ *command.None) error {
	if in.Parameters.Type == tpm2.AlgMLKEM && in.Parameters.Parameters.MLKEM.ParameterSet == tpm2.MLKEM512 {
		return parameter(tpm2.RCParms, 1)
	}
	return nil
}
