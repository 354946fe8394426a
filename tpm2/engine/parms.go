package engine

import (
	"github.com/assay-project/assay/tpm2/command"
)

// testParms is TPM2_TestParms (Part 3, 30.3). As in the reference, parameters that
// the profile's algorithms, key sizes and curves let through are supported; those
// of post-quantum keys need a parameter set and a hash that there are.
func testParms(_ *call, in *command.TestParmsIn, _ *command.None) error {
	if err := checkPostQuantumParms(in.Parameters.Type, &in.Parameters.Parameters); err != nil {
		return parameter(responseCode(err), 1)
	}
	return nil
}
