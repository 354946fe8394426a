package engine

import (
	"errors"
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
	tpm.MustPermanent()
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

// Whatever the platform calls, a fault of ours ends there, is told, and puts this
// TPM in failure mode: it gives no state any more.
func TestAFaultOfOursStaysInside(t *testing.T) {
	broken := hcrtm{sums: []bankHash{{tpm2.AlgSHA256, nil}}}
	tooLong := make([]byte, seedSize+1)
	for name, run := range map[string]func(*TPM){
		"Execute":    func(x *TPM) { x.random = nil; x.Execute(0, getRandom16) },
		"its clock":  func(x *TPM) { x.cfg.Now = nil; x.Execute(0, getRandom16) },
		"PowerOn":    func(x *TPM) { x.cfg.Now = nil; x.PowerOn(); x.cfg.Now = noTime },
		"HashData":   func(x *TPM) { x.vol.hcrtm = &broken; x.HashData([]byte{1}) },
		"HashEnd":    func(x *TPM) { x.vol.hcrtm = &broken; x.HashEnd() },
		"Permanent":  func(x *TPM) { x.permanent.owner.seed = tooLong; giveNothing(t, x.Permanent) },
		"Volatile":   func(x *TPM) { x.reset.null.seed = tooLong; giveNothing(t, x.Volatile) },
		"Volatile's": func(x *TPM) { x.permanent.owner.seed = tooLong; giveNothing(t, x.Volatile) },
		"Journal":    func(x *TPM) { x.journal.buf[0] = 0xff; x.Journal() },
	} {
		t.Run(name, func(t *testing.T) {
			var told any
			cfg := Config{Random: zeroReader{}, Now: noTime, Panic: func(v any, _ []byte) { told = v }}
			x, err := Manufacture(profiles[0], cfg)
			if err != nil {
				t.Fatal(err)
			}
			x.PowerOn()
			x.Execute(0, startupClear)
			run(x)
			if told == nil {
				t.Fatal("nobody is told")
			}
			if rc := codeOf(x.Execute(0, getRandom16)); rc != tpm2.RCFailure {
				t.Errorf("the next command = %v, want TPM_RC_FAILURE", rc)
			}
			x.PowerOn()
			if rc := codeOf(x.Execute(0, startupClear)); rc != tpm2.RCFailure {
				t.Errorf("Startup after power = %v, want TPM_RC_FAILURE", rc)
			}
			giveNothing(t, x.Permanent)
			giveNothing(t, x.Volatile)
		})
	}
}

// giveNothing checks that there is no state, not even half of one.
func giveNothing(t *testing.T, state func() ([]byte, error)) {
	t.Helper()
	if b, err := state(); b != nil || !errors.Is(err, ErrFault) {
		t.Errorf("state of %d bytes, %v, want none and ErrFault", len(b), err)
	}
}

func noTime() time.Duration { return 0 }

// A fault in making or restoring a TPM makes none.
func TestAFaultOfOursMakesNoTPM(t *testing.T) {
	told := 0
	cfg := Config{Random: zeroReader{}, Now: noTime, Panic: func(any, []byte) { told++ }}
	good, err := Manufacture(profiles[0], cfg)
	if err != nil {
		t.Fatal(err)
	}
	state, err := good.Permanent()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Now = func() time.Duration { panic("no time") }
	if x, err := Restore(cfg, state, nil); x != nil || !errors.Is(err, ErrFault) || told != 1 {
		t.Errorf("Restore = %v, %v, told %d times; want nothing, ErrFault, once", x, err, told)
	}
	cfg.Random = panicReader{}
	if x, err := Manufacture(profiles[0], cfg); x != nil || !errors.Is(err, ErrFault) || told != 2 {
		t.Errorf("Manufacture = %v, %v, told %d times; want nothing, ErrFault, twice", x, err, told)
	}
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("no entropy") }

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { return len(b), nil }

// codeOf returns the response code of a response.
func codeOf(response []byte) tpm2.RC {
	return tpm2.RC(response[6])<<24 | tpm2.RC(response[7])<<16 | tpm2.RC(response[8])<<8 | tpm2.RC(response[9])
}
