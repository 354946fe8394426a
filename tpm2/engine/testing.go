package engine

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/internal/tpmcrypto/mldsa"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Chapter 10 of Part 3: self test, and what answers in failure mode.
//
// Tests run when a command asks for them and end before its response: the TPM
// never answers TPM_RC_TESTING or TPM_RC_NEEDS_TEST. An algorithm is not tested by
// its first use; in FIPS 140-3 mode the validated module tests its own then.

// selfTestCommand is TPM2_SelfTest (Part 3, 10.2): of all algorithms, or of those
// not tested yet.
func selfTestCommand(c *call, in *command.SelfTestIn, _ *command.None) error {
	if err := c.t.failForced(); err != nil {
		return err
	}
	var tests *tpmcrypto.SelfTests
	for _, a := range c.t.testable() {
		if in.FullTest || !c.t.vol.selfTest.tested(a) {
			tests = c.t.test(tests, a)
		}
	}
	return nil
}

// incrementalSelfTest is TPM2_IncrementalSelfTest (Part 3, 10.3). What was tested is
// not tested again.
func incrementalSelfTest(c *call, in *command.IncrementalSelfTestIn, out *command.IncrementalSelfTestOut) error {
	t := c.t
	for _, a := range in.ToTest {
		if !t.profile.OffersAlg(a) {
			return parameter(tpm2.RCValue, 1)
		}
	}
	var tests *tpmcrypto.SelfTests
	for _, a := range t.testable() {
		switch {
		case t.vol.selfTest.tested(a):
		case slices.Contains(in.ToTest, a):
			tests = t.test(tests, a)
		default:
			out.ToDoList = append(out.ToDoList, a)
		}
	}
	return nil
}

// newSelfTests returns the self-tests of all algorithms, of which none has run.
func newSelfTests() *tpmcrypto.SelfTests {
	tests := tpmcrypto.NewSelfTests()
	tests.Add(tpm2.AlgMLDSA, mldsa.SelfTest)
	tests.Add(tpm2.AlgHashMLDSA, mldsa.HashSelfTest)
	return tests
}

// testable returns the algorithms of the profile of which there is a test, in
// ascending order. Of the others, as TPM_ALG_KEYEDHASH, the parts are tested.
func (t *TPM) testable() []tpm2.Alg {
	if t.tests == nil {
		for _, a := range newSelfTests().Algorithms() {
			if t.profile.OffersAlg(a) {
				t.tests = append(t.tests, a)
			}
		}
		slices.Sort(t.tests)
	}
	return t.tests
}

// test tests one algorithm, and the random bit generator with the first. A wrong
// answer is a fault that no later command may build on: failure mode. The tests may
// be nil; those that were used are returned.
func (t *TPM) test(tests *tpmcrypto.SelfTests, a tpm2.Alg) *tpmcrypto.SelfTests {
	if tests == nil {
		tests = newSelfTests()
	}
	if len(t.vol.selfTest.done) == 0 {
		if err := tpmcrypto.SelfTestDRBG(); err != nil {
			panic(fmt.Errorf("self-test: %w", err))
		}
	}
	if err := tests.Run(a); err != nil {
		panic(fmt.Errorf("self-test: %w", err))
	}
	t.vol.selfTest.add(a)
	return tests
}

// getTestResult is TPM2_GetTestResult (Part 3, 10.4). In failure mode
// [TPM.executeFailed] answers in its place.
func getTestResult(_ *call, _ *command.None, out *command.GetTestResultOut) error {
	out.TestResult = tpm2.RCSuccess
	return nil
}

// executeFailed answers in failure mode: TPM2_GetTestResult, and
// TPM2_GetCapability for who made the TPM (Part 1, 12.4.1). All else, well formed
// or not, is TPM_RC_FAILURE.
func (t *TPM) executeFailed(r []byte) []byte {
	out := t.failedResponse(r)
	if out == nil {
		return t.errorResponse(tpm2.RCFailure)
	}
	b, err := wire.Append(appendHeader(t.resp[:0], tpm2.TagNoSessions, tpm2.RCSuccess), out)
	if err != nil {
		return t.errorResponse(tpm2.RCFailure)
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b))) // some tens of bytes
	t.resp = b
	return b
}

// failedResponse returns the parameters of the response, nil when there is none.
func (t *TPM) failedResponse(r []byte) wire.Layout {
	if len(r) < headerSize || tpm2.Tag(binary.BigEndian.Uint16(r)) != tpm2.TagNoSessions ||
		uint64(binary.BigEndian.Uint32(r[2:])) != uint64(len(r)) {
		return nil
	}
	switch params := r[headerSize:]; tpm2.CC(binary.BigEndian.Uint32(r[6:])) {
	case tpm2.CCGetTestResult:
		if len(params) == 0 {
			return &command.GetTestResultOut{TestResult: tpm2.RCFailure}
		}
	case tpm2.CCGetCapability:
		var in command.GetCapabilityIn
		if wire.Decode(params, &in) == nil && in.Capability == tpm2.CapTPMProperties {
			return t.failedProperty(tpm2.PT(in.Property), in.PropertyCount)
		}
	}
	return nil
}

// failedProperty tells at most one property, from the manufacturer to the
// firmware version; one beyond has the value of the last, as the reference has it.
func (t *TPM) failedProperty(p tpm2.PT, count uint32) *command.GetCapabilityOut {
	p = max(p, tpm2.PTManufacturer)
	out := &command.GetCapabilityOut{MoreData: p < tpm2.PTFirmwareVersion2}
	out.CapabilityData.Capability = tpm2.CapTPMProperties
	if count == 0 {
		return out
	}
	tell := tpm2.TaggedProperty{Property: p}
	for _, x := range t.fixedProperties() {
		if x.Property == min(p, tpm2.PTFirmwareVersion2) {
			tell.Value = x.Value
		}
	}
	out.CapabilityData.Properties = []tpm2.TaggedProperty{tell}
	return out
}
