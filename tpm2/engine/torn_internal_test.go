package engine

import (
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
)

var (
	startupClear = []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00")
	getRandom16  = []byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x10")
)

// A fault of ours ends one TPM: it answers TPM_RC_FAILURE, power does not mend it,
// and what it may have half changed is never written over the state that is kept.
func TestAFaultOfOursLeavesTheKeptStateAlone(t *testing.T) {
	var told any
	tpm, err := Manufacture(profiles[0], Config{
		Random: zeroReader{}, Now: func() time.Duration { return 0 }, Panic: func(v any, _ []byte) { told = v },
	})
	if err != nil {
		t.Fatal(err)
	}
	tpm.PowerOn()
	if rc := codeOf(tpm.Execute(0, startupClear)); rc != tpm2.RCSuccess {
		t.Fatalf("Startup = %v", rc)
	}
	tpm.Permanent()
	tpm.random = nil
	tpm.touch()
	if rc := codeOf(tpm.Execute(0, getRandom16)); rc != tpm2.RCFailure || told == nil {
		t.Errorf("a command that panics = %v, told %v", rc, told)
	}
	if tpm.Changed() {
		t.Error("a torn state asks to be written")
	}
	tpm.PowerOn()
	if rc := codeOf(tpm.Execute(0, startupClear)); rc != tpm2.RCFailure {
		t.Errorf("Startup after a fault and a power cycle = %v, want TPM_RC_FAILURE", rc)
	}
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { return len(b), nil }

// codeOf returns the response code of a response.
func codeOf(response []byte) tpm2.RC {
	return tpm2.RC(response[6])<<24 | tpm2.RC(response[7])<<16 | tpm2.RC(response[8])<<8 | tpm2.RC(response[9])
}
