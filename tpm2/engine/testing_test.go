package engine_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

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

func BenchmarkSelfTest(b *testing.B) {
	m := newMachine(b)
	for b.Loop() {
		m.do(tpm2.CCSelfTest, nil, nil, &command.SelfTestIn{FullTest: true}, nil)
	}
}
