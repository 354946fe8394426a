package engine

import "github.com/assay-project/assay/tpm2"

// selfTest is what has been tested since power on (Part 1, 12.3).
type selfTest struct {
	done []tpm2.Alg
}

// executeFailed answers in failure mode (Part 1, 12.4).
func (t *TPM) executeFailed(*call) []byte { return t.errorResponse(tpm2.RCFailure) }
