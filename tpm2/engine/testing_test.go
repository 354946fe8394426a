package engine_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

func TestSelfTestsTellWhatIsLeft(t *testing.T) {
	m := newMachine(t)
	incremental := func(algs ...tpm2.Alg) []tpm2.Alg {
		var out command.IncrementalSelfTestOut
		m.do(tpm2.CCIncrementalSelfTest, nil, nil, &command.IncrementalSelfTestIn{ToTest: algs}, &out)
		return out.ToDoList
	}
	all := incremental()
	if !slices.IsSorted(all) || !slices.Contains(all, tpm2.AlgRSA) || !slices.Contains(all, tpm2.AlgECDSA) || slices.Contains(all, tpm2.AlgKeyedHash) {
		t.Errorf("algorithms to test after power on: %x", all)
	}
	want := slices.DeleteFunc(slices.Clone(all), func(a tpm2.Alg) bool { return a == tpm2.AlgSHA256 || a == tpm2.AlgECDH })
	if diff := cmp.Diff(want, incremental(tpm2.AlgECDH, tpm2.AlgSHA256, tpm2.AlgKeyedHash, tpm2.AlgSHA256)); diff != "" {
		t.Errorf("algorithms left after two (-want +got):\n%s", diff)
	}
	m.fails(parameterRC(tpm2.RCValue, 1), tpm2.CCIncrementalSelfTest, nil, nil, &command.IncrementalSelfTestIn{ToTest: []tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSM4}})
	if diff := cmp.Diff(want, incremental()); diff != "" {
		t.Errorf("algorithms left after a refusal (-want +got):\n%s", diff)
	}
	m.do(tpm2.CCSelfTest, nil, nil, &command.SelfTestIn{}, nil)
	if left := incremental(); len(left) != 0 {
		t.Errorf("algorithms left after SelfTest: %x", left)
	}
	m.do(tpm2.CCSelfTest, nil, nil, &command.SelfTestIn{FullTest: true}, nil)
	var result command.GetTestResultOut
	m.do(tpm2.CCGetTestResult, nil, nil, nil, &result)
	if result.TestResult != tpm2.RCSuccess || len(result.OutData) != 0 {
		t.Errorf("GetTestResult = %+v, want success", result)
	}
	m.tpm.PowerOn()
	m.startup(tpm2.StartupClear)
	if diff := cmp.Diff(all, incremental()); diff != "" {
		t.Errorf("algorithms to test after the next power on (-want +got):\n%s", diff)
	}
}

// In failure mode the TPM tells its state and who made it, and nothing else.
func TestFailureModeAnswersTwoCommands(t *testing.T) {
	m := newMachine(t)
	m.tpm.Fail()
	m.fails(tpm2.RCFailure, tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 1})
	m.fails(tpm2.RCFailure, tpm2.CCStartup, nil, nil, &command.StartupIn{})
	m.fails(tpm2.RCFailure, tpm2.CCSelfTest, nil, nil, &command.SelfTestIn{FullTest: true})
	var result command.GetTestResultOut
	m.do(tpm2.CCGetTestResult, nil, nil, nil, &result)
	if result.TestResult != tpm2.RCFailure {
		t.Errorf("test result = %v, want TPM_RC_FAILURE", result.TestResult)
	}
	for name, tc := range map[string]struct {
		from  tpm2.PT
		count uint32
		want  []tpm2.TaggedProperty
		more  bool
	}{
		"manufacturer":   {tpm2.PTManufacturer, 1, m.known(tpm2.PTManufacturer), true},
		"from the start": {tpm2.PTFamilyIndicator, 10, m.known(tpm2.PTManufacturer), true},
		"vendor string":  {tpm2.PTVendorString1, 1, m.known(tpm2.PTVendorString1), true},
		"last":           {tpm2.PTFirmwareVersion2, 1, m.known(tpm2.PTFirmwareVersion2), false},
		"none":           {tpm2.PTManufacturer, 0, nil, true},
		"beyond":         {tpm2.PTInputBuffer, 1, []tpm2.TaggedProperty{{Property: tpm2.PTInputBuffer}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			var out command.GetCapabilityOut
			m.do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tc.from), PropertyCount: tc.count}, &out)
			if diff := cmp.Diff(tc.want, out.CapabilityData.Properties, cmpopts.EquateEmpty()); diff != "" || out.MoreData != tc.more {
				t.Errorf("more %t, properties (-want +got):\n%s", out.MoreData, diff)
			}
		})
	}
	m.in(t)
	m.fails(tpm2.RCFailure, tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapAlgs, PropertyCount: 1})
	m.fails(tpm2.RCFailure, tpm2.CCGetTestResult, nil, nil, &raw{0})
	m.fails(tpm2.RCFailure, tpm2.CCGetTestResult, nil, password(""), nil)
	for n := range 10 {
		if got := m.tpm.Execute(0, make([]byte, n)); !bytes.Equal(got, failure) {
			t.Errorf("response to %d bytes = %x, want TPM_RC_FAILURE", n, got)
		}
	}
	m.tpm.PowerOn() // ends it
	m.startup(tpm2.StartupClear)
}

var failure = []byte{0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1}

// known is a property as a sound TPM tells it.
func (m *machine) known(p tpm2.PT) []tpm2.TaggedProperty {
	m.Helper()
	var out command.GetCapabilityOut
	newMachine(m).do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(p), PropertyCount: 1}, &out)
	return out.CapabilityData.Properties
}

func TestTestParmsKnowsWhatIsOffered(t *testing.T) {
	m := newPostQuantum(t)
	for name, tc := range map[string]struct {
		p    tpm2.Public
		want tpm2.RC
	}{
		"RSA-2048":   {rsaTemplate(0), tpm2.RCSuccess},
		"P-256":      {eccTemplate(0), tpm2.RCSuccess},
		"HMAC":       {keyedHashTemplate(tpm2.AttrSign), tpm2.RCSuccess},
		"AES":        {symTemplate(0), tpm2.RCSuccess},
		"ML-KEM-768": {mlkemTemplate(tpm2.MLKEM768, 0), tpm2.RCSuccess},
		"ML-KEM-512": {mlkemTemplate(tpm2.MLKEM512, 0), parameterRC(tpm2.RCParms, 1)},
		"ML-DSA-87":  {externalMu(mldsaTemplate(tpm2.MLDSA87, 0)), tpm2.RCSuccess},
		"HashML-DSA": {hashMLDSATemplate(tpm2.MLDSA87, tpm2.AlgSHA3x512, 0), tpm2.RCSuccess},
		"by SHA-1":   {hashMLDSATemplate(tpm2.MLDSA87, tpm2.AlgSHA1, 0), parameterRC(tpm2.RCHash, 1)},
		"BN P-256":   {changed(eccTemplate(0), func(p *tpm2.Public) { p.Parameters.ECC.CurveID = tpm2.CurveBNP256 }), parameterRC(tpm2.RCCurve, 1)},
		"SM4":        {changed(symTemplate(0), func(p *tpm2.Public) { p.Parameters.SymCipher.Algorithm = tpm2.AlgSM4 }), parameterRC(tpm2.RCSymmetric, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			m.fails(tc.want, tpm2.CCTestParms, nil, nil, &command.TestParmsIn{Parameters: tpm2.PublicParmsOf{Type: tc.p.Type, Parameters: tc.p.Parameters}})
		})
	}
}

func BenchmarkSelfTest(b *testing.B) {
	m := newMachine(b)
	for b.Loop() {
		m.do(tpm2.CCSelfTest, nil, nil, &command.SelfTestIn{FullTest: true}, nil)
	}
}
