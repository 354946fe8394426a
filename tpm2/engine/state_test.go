package engine_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// What the TPM of the kept snapshot has.
const (
	keptIndex      = tpm2.Handle(0x01800001)
	keptCounter    = tpm2.Handle(0x01800002)
	keptPersistent = tpm2.Handle(0x81000001)
	keptSequence   = tpm2.Handle(0x80000000)
)

// keptOmitted is how many records the journals of the kept snapshots omitted.
var keptOmitted = map[string]uint64{"2-permanent.bin": 250}

// keepSomething puts the TPM into the state that the kept snapshots are of.
func (m *machine) keepSomething() {
	m.Helper()
	m.now = 90 * time.Second
	owner := handles(tpm2.HandleOwner)
	m.do(tpm2.CCNVDefineSpace, owner, password(""), &command.NVDefineSpaceIn{Auth: []byte("pin"), PublicInfo: tpm2.NVPublic{
		NVIndex: keptIndex, NameAlg: tpm2.AlgSHA256, DataSize: 4, Attributes: tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA,
	}}, nil)
	m.do(tpm2.CCNVWrite, handles(keptIndex, keptIndex), password("pin"), &command.NVWriteIn{Data: []byte("kept")}, nil)
	m.do(tpm2.CCNVDefineSpace, owner, password(""), &command.NVDefineSpaceIn{PublicInfo: tpm2.NVPublic{
		NVIndex: keptCounter, NameAlg: tpm2.AlgSHA256, DataSize: 8,
		Attributes: tpm2.NVCounter.Attributes() | tpm2.NVOrderly | tpm2.NVOwnerWrite | tpm2.NVOwnerRead,
	}}, nil)
	for range 3 {
		m.do(tpm2.CCNVIncrement, handles(tpm2.HandleOwner, keptCounter), password(""), nil, nil)
	}
	h := m.primary(tpm2.HandleOwner, eccTemplate(fixed|ordinary|storageUse), "key")
	m.do(tpm2.CCEvictControl, handles(tpm2.HandleOwner, h), password(""), &command.EvictControlIn{PersistentHandle: keptPersistent}, nil)
	m.flush(h)
	m.do(tpm2.CCHashSequenceStart, nil, nil, &command.HashSequenceStartIn{Auth: []byte("seq"), HashAlg: tpm2.AlgSHA256}, nil)
	m.do(tpm2.CCSequenceUpdate, handles(m.handle), password("seq"), &command.SequenceUpdateIn{Buffer: []byte("one, ")}, nil)
	m.do(tpm2.CCPCREvent, handles(16), password(""), &command.PCREventIn{EventData: []byte("event")}, nil)
}

// checkKept checks that it is as keepSomething left it.
func (m *machine) checkKept() {
	m.Helper()
	m.checkPermanent(3)
	var done command.SequenceCompleteOut
	m.do(tpm2.CCSequenceComplete, handles(keptSequence), password("seq"), &command.SequenceCompleteIn{Buffer: []byte("two"), Hierarchy: tpm2.HandleNull}, &done)
	if want := sha256.Sum256([]byte("one, two")); !bytes.Equal(done.Result, want[:]) {
		m.Errorf("the sequence ends with %x, want %x", done.Result, want)
	}
	event := sha256.Sum256([]byte("event"))
	want := sha256.Sum256(append(make([]byte, 32), event[:]...))
	if got := m.pcr(tpm2.AlgSHA256, 16); !bytes.Equal(got, want[:]) {
		m.Errorf("PCR 16 is %x, want %x", got, want)
	}
	var clock command.ReadClockOut
	m.do(tpm2.CCReadClock, nil, nil, nil, &clock)
	if got := clock.CurrentTime.Time; got != 90_000 {
		m.Errorf("time is %d ms, want 90000", got)
	}
}

// checkPermanent checks what survives a power loss.
func (m *machine) checkPermanent(counter byte) {
	m.Helper()
	if got := m.nvRead(handles(keptIndex, keptIndex), "pin", 4); string(got) != "kept" {
		m.Errorf("index is %q, want %q", got, "kept")
	}
	if got := m.nvRead(handles(tpm2.HandleOwner, keptCounter), "", 8); !bytes.Equal(got, []byte{7: counter}) {
		m.Errorf("counter is %x, want %d", got, counter)
	}
	if k := m.public(keptPersistent); k.Type != tpm2.AlgECC {
		m.Errorf("persistent object is %v", k)
	}
}

func (m *machine) nvRead(by []tpm2.Handle, auth string, n uint16) []byte {
	m.Helper()
	var out command.NVReadOut
	m.do(tpm2.CCNVRead, by, password(auth), &command.NVReadIn{Size: n}, &out)
	return out.Data
}

// pcr returns the value of a PCR, nil when it is not allocated.
func (m *machine) pcr(a tpm2.Alg, pcr int) []byte {
	m.Helper()
	var out command.PCRReadOut
	m.do(tpm2.CCPCRRead, nil, nil, &command.PCRReadIn{PCRSelectionIn: selection(a, pcr)}, &out)
	if len(out.PCRValues) == 0 {
		return nil
	}
	return out.PCRValues[0]
}

// restored returns a machine with a TPM of these blobs.
func restored(t testing.TB, permanent, volatile []byte) *machine {
	t.Helper()
	m := &machine{TB: t, entropy: rand.NewChaCha8([32]byte{2: 0x5a}), names: map[tpm2.Handle][]byte{}}
	var err error
	if m.tpm, err = engine.Restore(m.config(), permanent, volatile); err != nil {
		t.Fatal(err)
	}
	return m
}

// Each version that was ever written can be read: testdata/state has a pair of
// blobs of each.
func TestEveryVersionOfTheStateCanBeRead(t *testing.T) {
	if *engine.Update {
		writeState(t)
	}
	versions, err := filepath.Glob("testdata/state/*-permanent.bin")
	if err != nil || len(versions) == 0 {
		t.Fatalf("no state in testdata/state: %v", err)
	}
	for _, name := range versions {
		permanent := readFile(t, name)
		volatile := readFile(t, name[:len(name)-len("permanent.bin")]+"volatile.bin")
		m := restored(t, permanent, volatile)
		m.checkKept()
		if n, exact := m.tpm.JournalOmitted(); !exact || n != keptOmitted[filepath.Base(name)] {
			t.Errorf("%s: %d records omitted, exact %v, want %d", name, n, exact, keptOmitted[filepath.Base(name)])
		}
		m = restored(t, permanent, nil)
		m.tpm.PowerOn()
		m.startup(tpm2.StartupClear)
		m.checkPermanent(255)
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// writeState writes the blobs of the present version, unless they are there.
func writeState(t *testing.T) {
	t.Helper()
	const base = "testdata/state/2-"
	if _, err := os.Stat(base + "permanent.bin"); err == nil {
		return
	}
	m := newMachine(t)
	m.keepSomething()
	for n, _ := m.tpm.JournalOmitted(); n < 250; n, _ = m.tpm.JournalOmitted() {
		m.do(tpm2.CCPCRExtend, handles(23), password(""), extension(1), nil)
	}
	for name, b := range map[string][]byte{"permanent.bin": m.tpm.MustPermanent(), "volatile.bin": m.tpm.MustVolatile()} {
		if err := os.WriteFile(base+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangedSaysWhenToWrite(t *testing.T) {
	m := newMachine(t)
	m.tpm.MustPermanent()
	for _, tc := range []struct {
		name string
		want bool
		do   func()
	}{
		{"reading the clock", false, func() { m.do(tpm2.CCReadClock, nil, nil, nil, nil) }},
		{"extending a PCR", false, func() {
			m.do(tpm2.CCPCREvent, handles(1), password(""), &command.PCREventIn{EventData: []byte{1}}, nil)
		}},
		{"changing an authValue", true, func() {
			m.do(tpm2.CCHierarchyChangeAuth, handles(tpm2.HandleOwner), password(""), &command.HierarchyChangeAuthIn{}, nil)
		}},
		{"an update of the clock", true, func() {
			m.now += 5000 * time.Second
			m.do(tpm2.CCReadClock, nil, nil, nil, nil)
		}},
		{"putting a command under audit", true, func() {
			m.do(tpm2.CCSetCommandCodeAuditStatus, handles(tpm2.HandleOwner), password(""), &command.SetCommandCodeAuditStatusIn{AuditAlg: tpm2.AlgNull, SetList: []tpm2.CC{tpm2.CCReadClock}}, nil)
		}},
		{"a TPM Reset, which clears the digest of audit", true, func() {
			m.tpm.PowerOn()
			m.startup(tpm2.StartupClear)
		}},
		{"the first command under audit from there on, which counts", true, func() { m.do(tpm2.CCReadClock, nil, nil, nil, nil) }},
		{"the second", false, func() { m.do(tpm2.CCReadClock, nil, nil, nil, nil) }},
		{"a shutdown", true, func() {
			m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupClear}, nil)
		}},
		{"a command after it", true, func() {
			m.do(tpm2.CCPCREvent, handles(1), password(""), &command.PCREventIn{EventData: []byte{1}}, nil)
		}},
	} {
		tc.do()
		if got := m.tpm.Changed(); got != tc.want {
			t.Errorf("after %s, Changed() = %v, want %v", tc.name, got, tc.want)
		}
		m.tpm.MustPermanent()
		if m.tpm.Changed() {
			t.Errorf("after Permanent(), Changed() = true")
		}
	}
}

// A restored TPM has other random numbers than the one it was copied from.
func TestCopiesShareNoRandomNumbers(t *testing.T) {
	m := newMachine(t)
	permanent, volatile := m.tpm.MustPermanent(), m.tpm.MustVolatile()
	seen := map[string]bool{}
	for i, c := range []*machine{m, restored(t, permanent, volatile), m.fork()} {
		if c.tpm == nil {
			c.entropy = rand.NewChaCha8([32]byte{3: 1})
			var err error
			if c.tpm, err = engine.Restore(c.config(), permanent, volatile); err != nil {
				t.Fatal(err)
			}
		}
		var out command.GetRandomOut
		c.do(tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 32}, &out)
		if seen[string(out.RandomBytes)] {
			t.Errorf("copy %d has the random numbers of another", i)
		}
		seen[string(out.RandomBytes)] = true
	}
}

func TestDamagedStateIsRefused(t *testing.T) {
	m := newMachine(t)
	m.keepSomething()
	permanent, volatile := m.tpm.MustPermanent(), m.tpm.MustVolatile()
	refused := func(what string, at int, permanent, volatile []byte) {
		t.Helper()
		got, err := engine.Restore(m.config(), permanent, volatile)
		if got != nil || !errors.Is(err, engine.ErrState) && !errors.Is(err, engine.ErrProfile) {
			t.Fatalf("Restore of %s at %d = %v, %v, want ErrState", what, at, got, err)
		}
	}
	for n := range permanent {
		refused("permanent state cut", n, permanent[:n], nil)
	}
	for n := range volatile {
		refused("volatile state cut", n, permanent, volatile[:n])
	}
	refused("permanent state with a byte more", 0, append(bytes.Clone(permanent), 0), nil)
	refused("volatile state with a byte more", 0, permanent, append(bytes.Clone(volatile), 0))
	for n := 0; n < len(volatile); n += 3 {
		b := bytes.Clone(volatile)
		b[n] ^= 1 << (n % 8)
		refused("volatile state with a bit changed", n, permanent, b)
	}
	for n := range permanent {
		b := bytes.Clone(permanent)
		b[n] ^= 1 << (n % 8)
		refused("permanent state with a bit changed", n, b, nil)
	}
}

// A snapshot's parts belong together: no command may be undone by bringing only
// one of them back.
func TestPartsOfTwoSnapshotsAreRefused(t *testing.T) {
	m := newMachine(t)
	permanent, volatile := m.tpm.MustPermanent(), m.tpm.MustVolatile()
	m.keepSomething()
	for name, tc := range map[string]struct{ permanent, volatile []byte }{
		"older permanent state": {permanent, m.tpm.MustVolatile()},
		"older volatile state":  {m.tpm.MustPermanent(), volatile},
		"other TPM":             {manufacture(t, "fips").tpm.MustPermanent(), volatile},
		"exchanged":             {volatile, permanent},
	} {
		if _, err := engine.Restore(m.config(), tc.permanent, tc.volatile); !errors.Is(err, engine.ErrState) {
			t.Errorf("Restore of parts with %s = %v, want ErrState", name, err)
		}
	}
}

func TestRestoreNeedsAMachine(t *testing.T) {
	permanent := newMachine(t).tpm.MustPermanent()
	if _, err := engine.Restore(engine.Config{}, permanent, nil); err == nil {
		t.Error("Restore without time and randomness succeeded")
	}
	cfg := newMachine(t).config()
	cfg.Random = bytes.NewReader(nil)
	if _, err := engine.Restore(cfg, permanent, nil); err == nil {
		t.Error("Restore without entropy succeeded")
	}
}

func TestNothingOfATPMIsPrinted(t *testing.T) {
	m := newMachine(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, m.tpm); got != "[TPM]" {
			t.Errorf("a TPM prints as %.40q under %s", got, verb)
		}
	}
}
