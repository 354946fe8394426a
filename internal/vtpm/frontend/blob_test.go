package frontend

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2/engine"
)

// moving is a machine whose state moves, with what it saved.
type moving struct {
	*Machine
	tpm, arrived *fakeTPM
	saved        []string
	restored     []string
}

func newMoving(t *testing.T, cfg MachineConfig) *moving {
	t.Helper()
	m := &moving{tpm: &fakeTPM{}, arrived: &fakeTPM{}}
	if cfg.Save == nil {
		cfg.Save = func(b []byte) error {
			m.saved = append(m.saved, string(b))
			return nil
		}
	}
	cfg.Restore = func(permanent, volatile []byte) (TPM, error) {
		m.restored = append(m.restored, fmt.Sprintf("%s+%s", permanent, volatile))
		if bytes.Contains(volatile, []byte("foreign")) {
			return nil, errors.New("does not fit")
		}
		return m.arrived, nil
	}
	m.Machine = NewMachine(m.tpm, cfg)
	return m
}

// blobCases are conversations on the control channel of a TPM that runs.
var blobCases = map[string]struct {
	send, get string
}{
	"permanent":            {"0000000c" + "00000001" + "00000001" + "00000000", "00000000" + "00000000" + "00000009" + "00000009" + "7065726d616e656e74"},
	"volatile":             {"0000000c" + "00000001" + "00000002" + "00000000", "00000000" + "00000000" + "00000008" + "00000008" + "766f6c6174696c65"},
	"saved":                {"0000000c" + "00000001" + "00000003" + "00000000", "00000000" + "00000000" + "00000000" + "00000000"},
	"no such kind":         {"0000000c" + "00000001" + "00000004" + "00000000", "00000003"},
	"kind 0":               {"0000000c" + "00000001" + "00000000" + "00000000", "00000003"},
	"a later piece":        {"0000000c000000010000000100000000" + "0000000c000000010000000100000007", "00000000000000000000000900000009" + "7065726d616e656e74" + "00000000000000000000000900000002" + "6e74"},
	"the end":              {"0000000c000000010000000100000000" + "0000000c000000010000000100000009", "00000000000000000000000900000009" + "7065726d616e656e74" + "00000000000000000000000900000000"},
	"past the end":         {"0000000c000000010000000100000000" + "0000000c00000001000000010000000a", "00000000000000000000000900000009" + "7065726d616e656e74" + "00000003"},
	"offset of 4 GiB":      {"0000000c0000000100000001ffffffff", "00000003"},
	"set while running":    {"0000000d" + "00000000" + "00000001" + "00000002" + "aabb", "0000000a"},
	"set after stop":       {"0000000e" + "0000000d" + "00000000" + "00000001" + "00000002" + "aabb", "00000000" + "00000000"},
	"set nothing":          {"0000000e" + "0000000d" + "00000000" + "00000001" + "00000000", "00000000" + "00000000"},
	"set saved, empty":     {"0000000e" + "0000000d" + "00000000" + "00000003" + "00000000", "00000000" + "00000000"},
	"set saved":            {"0000000e" + "0000000d" + "00000000" + "00000003" + "00000001" + "aa", "00000000" + "00000003"},
	"set kind 9":           {"0000000e" + "0000000d" + "00000000" + "00000009" + "00000001" + "aa" + "00000004", "00000000" + "00000003" + "0000000a"},
	"volatile of the dead": {"0000000e" + "0000000c" + "00000001" + "00000002" + "00000000", "00000000" + "00000000000000000000000000000000"},
	"capabilities":         {"00000001", "00000000" + "0000bfff"},
}

func TestStateMovesByBlobs(t *testing.T) {
	for name, tc := range blobCases {
		for _, step := range []int{0, 1, 5} {
			t.Run(fmt.Sprintf("%s/%d", name, step), func(t *testing.T) {
				m := newMoving(t, MachineConfig{})
				m.PowerOn()
				got, err := converse((&swtpm{machine: m.Machine}).control, unhex(t, tc.send), step)
				if !ended(err) || fmt.Sprintf("%x", got) != tc.get {
					t.Errorf("answers %x, %v, want %s", got, err, tc.get)
				}
			})
		}
	}
}

// arrival is what QEMU sends to the destination of a migration.
func arrival(permanent, volatile string, flags int) string {
	blob := func(kind int, b string) string {
		return fmt.Sprintf("0000000d%08x%08x%08x%x", 0, kind, len(b), b)
	}
	return "0000000e" + blob(1, permanent) + blob(2, volatile) + fmt.Sprintf("00000002%08x", flags)
}

func TestAMigrationArrives(t *testing.T) {
	m := newMoving(t, MachineConfig{})
	in := unhex(t, arrival("theirs", "now", 1))
	got, err := converse((&swtpm{machine: m.Machine}).control, in, 0)
	if !ended(err) || fmt.Sprintf("%x", got) != strings.Repeat("00000000", 4) {
		t.Fatalf("answers %x, %v", got, err)
	}
	if diff := cmp.Diff([]string{"theirs+now"}, m.restored); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"theirs"}, m.saved); diff != "" {
		t.Errorf("saved (-want +got):\n%s", diff)
	}
	m.Execute(nil, 0, unhex(t, getRandom))
	if n := len(m.arrived.noted()); n != 1 {
		t.Errorf("the TPM that arrived was told %q, want one command and no power cycle", m.arrived.noted())
	}
	// The blobs served once: a reset of the guest starts the TPM that is there.
	if err := m.Init(false); err != nil || len(m.restored) != 1 {
		t.Errorf("the next Init = %v, restored %q", err, m.restored)
	}
}

func TestPermanentStateAloneIsAPowerCycle(t *testing.T) {
	m := newMoving(t, MachineConfig{})
	if err := m.SetStateBlob(BlobPermanent, []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	if err := m.Init(false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"power on"}, m.arrived.noted()); diff != "" {
		t.Errorf("the TPM was told (-want +got):\n%s", diff)
	}
}

// A migration that fails at the destination leaves it as it was, and what it had
// kept is not touched.
func TestAMigrationThatFailsChangesNothing(t *testing.T) {
	refuse := errors.New("of another TPM")
	for name, tc := range map[string]struct {
		cfg  MachineConfig
		send string
		want string // results
	}{
		"volatile state does not fit": {MachineConfig{}, arrival("theirs", "foreign", 1), "00000000000000000000000000000101"},
		"the blob is refused": {
			MachineConfig{ImportBlob: func(BlobKind, []byte) ([]byte, error) { return nil, refuse }},
			"0000000e" + "0000000d00000000000000010000000161", "0000000000000009",
		},
		"half a blob":     {MachineConfig{}, arrival("theirs", "now", 1)[:48], "00000000"},
		"INIT in a blob":  {MachineConfig{}, "0000000e" + "0000000d00000000000000010000ffff" + "6161" + "0000000200000000", "00000000"},
		"stop in between": {MachineConfig{}, "0000000e" + "0000000d00000000000000010000000161" + "0000000e", "000000000000000000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMoving(t, tc.cfg)
			got, err := converse((&swtpm{machine: m.Machine}).control, unhex(t, tc.send), 0)
			if !ended(err) || fmt.Sprintf("%x", got) != tc.want {
				t.Errorf("answers %x, %v, want %s", got, err, tc.want)
			}
			if m.Powered() || len(m.saved) != 0 {
				t.Errorf("powered %v, saved %q", m.Powered(), m.saved)
			}
			if err := m.Init(false); err != nil || m.tpm.noted() == nil {
				t.Errorf("the machine starts its own TPM with %v", err)
			}
			if diff := cmp.Diff([]string{"power on"}, m.tpm.noted()); diff != "" {
				t.Errorf("its own TPM was told (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStateThatCannotBeKeptDoesNotStart(t *testing.T) {
	full := errors.New("disk is full")
	m := newMoving(t, MachineConfig{Save: func([]byte) error { return full }})
	if err := m.SetStateBlob(BlobPermanent, []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	if err := m.Init(false); !errors.Is(err, full) || m.Powered() || !errors.Is(m.Err(), full) {
		t.Errorf("Init = %v, powered %v, Err %v", err, m.Powered(), m.Err())
	}
}

func TestBlobsPassSealed(t *testing.T) {
	cfg := MachineConfig{
		ExportBlob: func(k BlobKind, b []byte) ([]byte, error) { return fmt.Appendf(nil, "[%s %s]", k, b), nil },
		ImportBlob: func(k BlobKind, b []byte) ([]byte, error) {
			return bytes.TrimSuffix(bytes.TrimPrefix(b, fmt.Appendf(nil, "[%s ", k)), []byte("]")), nil
		},
	}
	m := newMoving(t, cfg)
	m.PowerOn()
	got, err := converse((&swtpm{machine: m.Machine}).control, unhex(t, "0000000c000000010000000100000000"), 0)
	if want := fmt.Sprintf("00000000000000020000001500000015%x", "[permanent permanent]"); !ended(err) || fmt.Sprintf("%x", got) != want {
		t.Errorf("answer %x, %v, want %s: whole, sealed, though it asked for the clear", got, err, want)
	}
	to := newMoving(t, cfg)
	if err := to.SetStateBlob(BlobPermanent, got[16:]); err != nil {
		t.Fatal(err)
	}
	if err := to.Init(true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"permanent+"}, to.restored); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
}

func TestStorageIsUnlockedForTheDestinationAndTakenBack(t *testing.T) {
	held, taken := true, errors.New("the destination has it")
	var fault error
	m := newMoving(t, MachineConfig{
		Unlock: func() error { held = false; return nil },
		Lock: func() error {
			if fault == nil {
				held = true
			}
			return fault
		},
	})
	m.PowerOn()
	for _, k := range []BlobKind{BlobPermanent, BlobVolatile, BlobSaveState} {
		if !held {
			t.Errorf("unlocked before the %s state left", k)
		}
		if _, _, err := m.StateBlob(k, 0); err != nil {
			t.Fatal(err)
		}
	}
	if held {
		t.Fatal("locked though all state has left")
	}
	fault = taken
	before := len(m.tpm.noted())
	if got := m.Execute(nil, 0, unhex(t, getRandom)); fmt.Sprintf("%x", got) != "80010000000a00000101" {
		t.Errorf("without the lock a command is answered %x", got)
	}
	if m.HashStart() || m.Init(false) == nil || len(m.tpm.noted()) != before {
		t.Errorf("without the lock the TPM was told %q", m.tpm.noted()[before:])
	}
	if !m.Powered() || m.LockStorage() == nil {
		t.Error("LockStorage succeeds though another has the lock")
	}
	fault = nil
	if got := m.Execute(nil, 0, unhex(t, getRandom)); fmt.Sprintf("%x", got) != "80010000000b0000017b00" || !held {
		t.Errorf("when the migration fell back a command is answered %x, held %v", got, held)
	}
}

func TestASourceWhoseStateLeftDoesNotWriteWhenItEnds(t *testing.T) {
	m := newMoving(t, MachineConfig{Unlock: func() error { return nil }, Lock: func() error {
		t.Error("the lock is taken from under the destination")
		return nil
	}})
	m.PowerOn()
	if _, _, err := m.StateBlob(BlobSaveState, 0); err != nil {
		t.Fatal(err)
	}
	m.tpm.changed = true
	if err := m.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"power on"}, m.tpm.noted()); diff != "" || len(m.saved) != 0 {
		t.Errorf("saved %q, the TPM was told (-want +got):\n%s", m.saved, diff)
	}
}

func TestPiecesAreOfOneMoment(t *testing.T) {
	n := 0
	m := newMoving(t, MachineConfig{ExportBlob: func(BlobKind, []byte) ([]byte, error) {
		n++
		return fmt.Appendf(nil, "sealed %d", n), nil
	}})
	m.PowerOn()
	for _, tc := range []struct {
		offset uint32
		want   string
	}{{0, "sealed 1"}, {7, "1"}, {0, "sealed 2"}, {7, "2"}} {
		if got, total, err := m.StateBlob(BlobPermanent, tc.offset); err != nil || string(got) != tc.want || total != 8 {
			t.Errorf("StateBlob at %d = %q of %d, %v, want %q", tc.offset, got, total, err, tc.want)
		}
	}
}

func TestLockStorageOverTheChannel(t *testing.T) {
	tries := 0
	m := newMoving(t, MachineConfig{Unlock: func() error { return nil }, Lock: func() error {
		if tries++; tries < 3 {
			return errors.New("not yet")
		}
		return nil
	}})
	m.PowerOn()
	s := &swtpm{machine: m.Machine, server: newServer(t.Context(), mustCheck(t))}
	send := "0000000c000000010000000300000000" + "0000001300000000" + "0000001300000005"
	got, err := converse(s.control, unhex(t, send), 0)
	want := "00000000000000000000000000000000" + "00000009" + "00000000"
	if !ended(err) || fmt.Sprintf("%x", got) != want || tries != 3 {
		t.Errorf("answers %x, %v after %d tries, want %s", got, err, tries, want)
	}
}

func mustCheck(t *testing.T) Config {
	t.Helper()
	cfg, err := Config{Now: time.Now}.check()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// engineConfig gives a TPM randomness that repeats.
func engineConfig(seed byte) engine.Config {
	return engine.Config{Random: endless(seed), Now: func() time.Duration { return 0 }}
}

type endless byte

func (e endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e) + byte(i)*7
	}
	return len(b), nil
}

// ourMachine is a machine around a real TPM.
func ourMachine(t *testing.T, seed byte) *Machine {
	t.Helper()
	p, err := engine.FindProfile("default", 0)
	if err != nil {
		t.Fatal(err)
	}
	tpm, err := engine.Manufacture(p, engineConfig(seed))
	if err != nil {
		t.Fatal(err)
	}
	return NewMachine(tpm, MachineConfig{Restore: func(permanent, volatile []byte) (TPM, error) {
		return engine.Restore(engineConfig(seed), permanent, volatile)
	}})
}

const (
	startupClear = "80010000000c000001440000"
	extend16     = "800200000041000001820000001000000009400000090000000000" + "00000001000b" + "1111111111111111111111111111111111111111111111111111111111111111"
	read16       = "8001000000140000017e00000001000b03000001"
)

func blob(t *testing.T, m *Machine, k BlobKind) []byte {
	t.Helper()
	b, _, err := m.StateBlob(k, 0)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{}, b...)
}

func TestARealTPMMovesAndAnothersStateIsRefused(t *testing.T) {
	from, other := ourMachine(t, 1), ourMachine(t, 2)
	for _, m := range []*Machine{from, other} {
		m.PowerOn()
		for _, c := range []string{startupClear, extend16} {
			if r := m.Execute(nil, 0, unhex(t, c)); !succeeded(r) {
				t.Fatalf("%s: %x", c, r)
			}
		}
	}
	want := from.Execute(nil, 0, unhex(t, read16))
	permanent, volatile := blob(t, from, BlobPermanent), blob(t, from, BlobVolatile)
	to := ourMachine(t, 3)
	for name, tc := range map[string]struct{ permanent, volatile []byte }{
		"volatile state of another": {permanent, blob(t, other, BlobVolatile)},
		"permanent state half":      {permanent[:len(permanent)/2], volatile},
		"volatile state half":       {permanent, volatile[:len(volatile)/2]},
		"one for the other":         {volatile, permanent},
		"one bit":                   {permanent, append(append([]byte{}, volatile[:len(volatile)-1]...), volatile[len(volatile)-1]^1)},
		"volatile alone":            {nil, volatile},
	} {
		for kind, b := range map[BlobKind][]byte{BlobPermanent: tc.permanent, BlobVolatile: tc.volatile} {
			if err := to.SetStateBlob(kind, b); err != nil {
				t.Fatal(err)
			}
		}
		if err := to.Init(true); err == nil || to.Powered() {
			t.Errorf("%s: Init = %v, powered %v", name, err, to.Powered())
		}
	}
	for kind, b := range map[BlobKind][]byte{BlobPermanent: permanent, BlobVolatile: volatile} {
		if err := to.SetStateBlob(kind, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Init(true); err != nil {
		t.Fatal(err)
	}
	if got := to.Execute(nil, 0, unhex(t, read16)); !bytes.Equal(got, want) {
		t.Errorf("PCR 16 is\n%x where it went and was\n%x", got, want)
	}
	if got := from.Execute(nil, 0, unhex(t, read16)); !bytes.Equal(got, want) {
		t.Errorf("the source goes on with %x", got)
	}
}
