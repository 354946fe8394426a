// Package interop runs other people's TPM test suites over this project's engine,
// from the module proxy: go-tpm's own tests, and those of canonical/go-tpm2.
//
// It is a module of its own, so that the product does not depend on what it is
// measured with. In folder go-tpm-tools is a module of that name whose simulator
// is our engine; a replace directive gives it to go-tpm. Start with
// interop_test.go; docs/tpm-conformance.md has the other suites.
package interop

import (
	_ "github.com/canonical/go-tpm2"
	_ "github.com/google/go-tpm/tpm2/transport/simulator"
)
