package vtpm

import (
	"crypto/rand"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/engine"
)

func TestAFollowerSeesEachMeasurementOnce(t *testing.T) {
	f := newFixture(t)
	f.create("a")
	i, err := f.Prepare(t.Context(), "a", tester)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	var told []Measured
	i.Follow(func(m Measured) { told = append(told, m) })
	i.Machine().PowerOn()
	run := func(request []byte) {
		t.Helper()
		if b := i.Machine().Execute(nil, 0, request); b[6]|b[7]|b[8]|b[9] != 0 {
			t.Fatalf("%x", b)
		}
	}
	startup := []byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0}
	reset := []byte{0x80, 2, 0, 0, 0, 27, 0, 0, 1, 0x3d, 0, 0, 0, 16, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0} // TPM2_PCR_Reset(16)
	run(startup)
	run([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 4}) // TPM2_GetRandom measures nothing
	run(reset)
	i.Machine().PowerOff()
	i.Machine().PowerOn()
	run(startup)
	var kinds []engine.JournalKind
	for _, m := range told {
		if m.Restored || m.Lost {
			t.Errorf("%+v", m)
		}
		for _, rec := range m.Records {
			kinds = append(kinds, rec.Kind)
		}
	}
	want := []engine.JournalKind{engine.JournalInit, engine.JournalStartup, engine.JournalReset, engine.JournalInit, engine.JournalStartup}
	if len(kinds) != len(want) {
		t.Fatalf("%v, want %v", kinds, want)
	}
	for n := range want {
		if kinds[n] != want[n] {
			t.Errorf("record %d is %v, want %v", n, kinds[n], want[n])
		}
	}
}

// A TPM hears that its time stood still, and keeps it, whether somebody reads its journal or not.
func TestAFollowedTPMHearsThatTimeStopped(t *testing.T) {
	f := newFixture(t)
	for name, follow := range map[string]func(Measured){"alone": nil, "followed": func(Measured) {}} {
		f.create(name)
		i, err := f.Prepare(t.Context(), name, tester)
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		i.Follow(follow)
		i.Machine().PowerOn()
		if err := client.New(inProcess{i}, rand.Reader).Startup(tpm2.StartupClear); err != nil {
			t.Fatal(err)
		}
		before := i.Generation()
		i.Machine().TimeStopped()
		if after := i.Generation(); after != before+1 {
			t.Errorf("%s: generation %d after its time stopped, %d before", name, after, before)
		}
	}
}
