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

// beside reports whether a register holds nothing of a boot.
func beside(pcr uint8) bool { return pcr == 10 || pcr >= 16 }

// omissions lists how many records each one of the journal follows that was not kept, where
// there are any, by the register of the record; what follows the last one is that of 255.
func (m *machine) omissions() (list []string, kept int) {
	m.Helper()
	n, exact := m.tpm.JournalOmitted()
	if !exact {
		m.Error("the count of omitted records is not exact")
	}
	for _, r := range m.journal() {
		if beside(r.PCR) {
			kept++
		}
		if r.Omitted != 0 {
			list = append(list, fmt.Sprintf("%d before PCR %d", r.Omitted, r.PCR))
			n -= r.Omitted
		}
	}
	if n != 0 {
		list = append(list, fmt.Sprintf("%d at the end", n))
	}
	return list, kept
}

// Once the journal takes no more records of PCR 10 and from 16 on, it says how many there
// were, and between which others; a snapshot at any moment goes on with that.
func TestOmittedRecordsAreCounted(t *testing.T) {
	m := newMachine(t)
	flood := func(m *machine, n int) {
		for i := range n {
			m.do(tpm2.CCPCRExtend, handles([]tpm2.Handle{10, 16, 23}[i%3]), password(""), extension(1), nil)
		}
	}
	flood(m, 900)
	if list, kept := m.omissions(); list != nil || kept != 900 {
		t.Fatalf("omitted %q with %d kept of 900", list, kept)
	}
	flood(m, 600)
	_, kept := m.omissions()
	boot := func(m *machine, pcr tpm2.Handle) {
		m.do(tpm2.CCPCRExtend, handles(pcr), password(""), extension(2), nil)
	}
	boot(m, 4)
	boot(m, 5)
	m.do(tpm2.CCPCRReset, handles(16), password(""), nil, nil)
	m.do(tpm2.CCPCREvent, handles(16), password(""), &command.PCREventIn{EventData: []byte("x")}, nil)
	m = m.snapshot()
	flood(m, 7)
	boot(m, 8)
	flood(m, 11)
	want := []string{fmt.Sprintf("%d before PCR 4", 1500-kept), "9 before PCR 8", "11 at the end"}
	for name, m := range map[string]*machine{"the TPM": m, "its snapshot": m.snapshot()} {
		if got, still := m.omissions(); !slices.Equal(got, want) || still != kept || kept == 0 {
			t.Errorf("%s: %q with %d kept, want %q with %d", name, got, still, want, kept)
		}
	}
	all := m.journal()
	since := len(all) - 1
	size, _ := m.tpm.JournalSize()
	if tail, _ := m.tpm.JournalSince(size - (13 + 2 + 32)); len(tail) != 1 || fmt.Sprint(tail[0]) != fmt.Sprint(all[since]) {
		t.Errorf("the last record read by itself is %+v, want %+v", tail, all[since])
	}
	m.tpm.PowerOn()
	if n, exact := m.tpm.JournalOmitted(); n != 0 || !exact {
		t.Errorf("a new boot has %d omitted, exact %v", n, exact)
	}
}

// A guest that makes more places than are told apart hides none of what it did.
func TestOmittedRecordsOfManyPlacesAreCounted(t *testing.T) {
	m := newMachine(t)
	for range 1100 {
		m.do(tpm2.CCPCRExtend, handles(10), password(""), extension(1), nil)
	}
	before, _ := m.tpm.JournalOmitted()
	for range 400 {
		m.do(tpm2.CCPCRExtend, handles(16), password(""), extension(1), nil)
		m.do(tpm2.CCPCRExtend, handles(14), password(""), extension(1), nil)
	}
	m = m.snapshot()
	var told, places uint64
	for _, r := range m.journal() {
		if told += r.Omitted; r.Omitted != 0 {
			places++
		}
	}
	n, exact := m.tpm.JournalOmitted()
	if n != before+400 || !exact || places != 256 || told != before+256 {
		t.Errorf("%d omitted, exact %v; at %d places %d, want %d and at 256 places %d", n, exact, places, told, before+400, before+256)
	}
}
