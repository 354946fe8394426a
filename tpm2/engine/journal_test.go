package engine_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

func (m *machine) journal() []engine.JournalRecord {
	records, _ := m.tpm.Journal()
	return slices.Collect(records)
}

// The journal has all that happened to the measurements since power came on, in order.
func TestTheJournalTellsABoot(t *testing.T) {
	m := newMachine(t)
	m.cycle(cycle{shutdown: true, down: tpm2.StartupState, up: tpm2.StartupState})
	m.now += 5 * time.Millisecond
	m.hashed("drtm")
	m.locality = 3
	m.do(tpm2.CCPCRExtend, handles(4), password(""), extension(1), nil)
	m.do(tpm2.CCPCREvent, handles(5), password(""), &command.PCREventIn{EventData: []byte("x")}, nil)
	m.fails(tpm2.RCLocality, tpm2.CCPCRReset, handles(4), password(""), nil)
	m.do(tpm2.CCPCRReset, handles(16), password(""), nil, nil)
	m.do(tpm2.CCPCRAllocate, handles(tpm2.HandlePlatform), password(""), &command.PCRAllocateIn{}, nil)
	m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{}, nil)
	var got []string
	for _, r := range m.journal() {
		got = append(got, fmt.Sprintf("%d locality %d PCR %d detail %d at %d: %d", r.Kind, r.Locality, r.PCR, r.Detail, r.Time, len(r.Digests)))
	}
	want := []string{
		fmt.Sprintf("%d locality 0 PCR 0 detail 0 at 0: 0", engine.JournalInit),
		fmt.Sprintf("%d locality 0 PCR 0 detail 2 at 0: 4", engine.JournalStartup),
		fmt.Sprintf("%d locality 4 PCR 0 detail 0 at 0: 0", engine.JournalHashStart),
		fmt.Sprintf("%d locality 4 PCR 17 detail 0 at 0: 4", engine.JournalHashEnd),
		fmt.Sprintf("%d locality 3 PCR 0 detail 0 at 5: 0", engine.JournalLocality),
		fmt.Sprintf("%d locality 3 PCR 4 detail 0 at 5: 1", engine.JournalExtend),
		fmt.Sprintf("%d locality 3 PCR 5 detail 0 at 5: 4", engine.JournalEvent),
		fmt.Sprintf("%d locality 3 PCR 16 detail 0 at 5: 0", engine.JournalReset),
		fmt.Sprintf("%d locality 3 PCR 0 detail 0 at 5: 0", engine.JournalAllocate),
		fmt.Sprintf("%d locality 3 PCR 0 detail 0 at 5: 0", engine.JournalShutdown),
	}
	if !slices.Equal(got, want) {
		t.Errorf("journal is\n%q, want\n%q", got, want)
	}
	if twin := m.snapshot(); fmt.Sprint(twin.journal()) != fmt.Sprint(m.journal()) {
		t.Error("a snapshot has another journal")
	}
}

// Replaying the digests of the journal gives the values of the PCRs.
func TestTheJournalReplays(t *testing.T) {
	m := newMachine(t)
	in := extension(1)
	in.Digests = append(in.Digests, tpm2.DigestValue{HashAlg: tpm2.AlgSHA3x256, Digest: zeros()}, tpm2.DigestValue{HashAlg: tpm2.AlgSHA256, Digest: zeros()})
	m.do(tpm2.CCPCRExtend, handles(4), password(""), in, nil)
	m.do(tpm2.CCPCREvent, handles(4), password(""), &command.PCREventIn{EventData: []byte("x")}, nil)
	value := zeros()
	for _, r := range m.journal() {
		for _, d := range r.Digests {
			if r.PCR == 4 && d.HashAlg == tpm2.AlgSHA256 {
				value = extended(value, d.Digest)
			}
			if d.HashAlg == tpm2.AlgSHA3x256 {
				t.Error("the journal has a digest that changed nothing")
			}
		}
	}
	if got := m.pcr(tpm2.AlgSHA256, 4); !bytes.Equal(got, value) {
		t.Errorf("the journal leads to %x, PCR 4 is %x", value, got)
	}
}

// A guest cannot push out the record of its own boot, only fill the journal.
func TestAFullJournalKeepsTheBoot(t *testing.T) {
	m := newMachine(t)
	m.do(tpm2.CCPCRExtend, handles(4), password(""), extension(9), nil)
	first := m.journal()
	in := extension(1)
	for range 3000 {
		m.do(tpm2.CCPCRExtend, handles(14), password(""), in, nil)
	}
	records, dropped := m.tpm.Journal()
	kept := slices.Collect(records)
	if fmt.Sprint(kept[:len(first)]) != fmt.Sprint(first) {
		t.Error("the first records are others now")
	}
	if total := uint64(len(kept)) + dropped; dropped == 0 || total != uint64(len(first))+3000 {
		t.Errorf("%d records kept and %d dropped of %d", len(kept), dropped, len(first)+3000)
	}
	if m.snapshot().tpm == nil {
		t.Error("no snapshot with a full journal")
	}
	m.tpm.PowerOn()
	if n := len(m.journal()); n != 1 {
		t.Errorf("the journal of a new boot has %d records, want 1", n)
	}
}

// Linux extends PCR 10 for each file that it runs: that leaves room for what is of the boot.
func TestWhatIsBesideTheBootDoesNotFillTheJournal(t *testing.T) {
	m := newMachine(t)
	for range 2500 { // either alone would fill it
		m.do(tpm2.CCPCRExtend, handles(10), password(""), extension(1), nil)
		m.do(tpm2.CCPCRExtend, handles(16), password(""), extension(1), nil)
	}
	m.do(tpm2.CCPCRExtend, handles(4), password(""), extension(9), nil)
	records, dropped := m.tpm.Journal()
	kept := slices.Collect(records)
	if last := kept[len(kept)-1]; dropped != 0 || last.Kind != engine.JournalExtend || last.PCR != 4 || len(last.Digests) != 1 {
		t.Errorf("%d dropped, the last of %d is %+v", dropped, len(kept), last)
	}
	if twin := m.snapshot(); fmt.Sprint(twin.journal()) != fmt.Sprint(kept) {
		t.Error("a snapshot has another journal")
	}
}
