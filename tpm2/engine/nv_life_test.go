package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// A cycle is how power goes and comes.
type cycle struct {
	name     string
	shutdown bool
	down, up tpm2.StartupType
}

var cycles = []cycle{
	{"power loss", false, 0, tpm2.StartupClear},
	{"TPM Reset", true, tpm2.StartupClear, tpm2.StartupClear},
	{"TPM Restart", true, tpm2.StartupState, tpm2.StartupClear},
	{"TPM Resume", true, tpm2.StartupState, tpm2.StartupState},
}

// cycle takes the power away and brings it back. A TPM whose power goes has what
// was last written, and nothing else.
func (m *machine) cycle(c cycle) {
	m.Helper()
	if c.shutdown {
		m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: c.down}, nil)
	}
	m.powerLoss()
	m.startup(c.up)
}

func (m *machine) powerLoss() {
	m.Helper()
	if m.tpm.Changed() || m.written == nil {
		m.written = m.tpm.MustPermanent()
	}
	var err error
	if m.tpm, err = engine.Restore(m.config(), m.written, nil); err != nil {
		m.Fatal(err)
	}
	m.tpm.PowerOn()
}

// guarded keeps what a TPM's owner keeps: the permanent state after each command
// that changed it.
func (m *machine) guarded() {
	if m.tpm.Changed() {
		m.written = m.tpm.MustPermanent()
	}
}

func TestLocksEndWhenTheyShould(t *testing.T) {
	const reset, restart, resume = 1, 2, 3
	for name, tc := range map[string]struct {
		attributes tpm2.NVAttributes
		lock       tpm2.CC
		unwritten  bool
		bit        tpm2.NVAttributes
		stays      []int // numbers of cycles
	}{
		"read lock":                       {tpm2.NVReadSTClear, tpm2.CCNVReadLock, false, tpm2.NVReadLocked, []int{resume}},
		"read lock, unwritten":            {tpm2.NVReadSTClear, tpm2.CCNVReadLock, true, tpm2.NVReadLocked, []int{resume}},
		"write lock":                      {tpm2.NVWriteSTClear, tpm2.CCNVWriteLock, false, tpm2.NVWriteLocked, []int{resume}},
		"write lock for ever":             {tpm2.NVWriteDefine, tpm2.CCNVWriteLock, false, tpm2.NVWriteLocked, []int{0, reset, restart, resume}},
		"write lock for ever, unwritten":  {tpm2.NVWriteDefine, tpm2.CCNVWriteLock, true, tpm2.NVWriteLocked, []int{resume}},
		"global lock":                     {tpm2.NVGlobalLock, tpm2.CCNVGlobalWriteLock, false, tpm2.NVWriteLocked, []int{resume}},
		"global lock of what has it not":  {tpm2.NVWriteSTClear, tpm2.CCNVGlobalWriteLock, false, 0, nil},
		"global lock, write lock forever": {tpm2.NVGlobalLock | tpm2.NVWriteDefine, tpm2.CCNVGlobalWriteLock, false, tpm2.NVWriteLocked, []int{0, reset, restart, resume}},
	} {
		for i, c := range cycles {
			t.Run(name+", "+c.name, func(t *testing.T) {
				m := newMachine(t)
				m.defineNV(index(byOwner | tc.attributes))
				if !tc.unwritten {
					m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, nvUses["write"].in)
				}
				lock := handles(tpm2.HandleOwner, anIndex)
				if tc.lock == tpm2.CCNVGlobalWriteLock {
					lock = lock[:1]
				}
				m.do(tc.lock, lock, password(""), nil, nil)
				m.do(tc.lock, lock, password(""), nil, nil) // it is no error to lock twice
				m.checkLocked(tc.bit)
				m.cycle(c)
				bit := tpm2.NVAttributes(0)
				for _, n := range tc.stays {
					if n == i {
						bit = tc.bit
					}
				}
				m.checkLocked(bit)
			})
		}
	}
}

// checkLocked checks which locks are set, and that they lock.
func (m *machine) checkLocked(bit tpm2.NVAttributes) {
	m.Helper()
	if got := m.nvAttributes() & (tpm2.NVReadLocked | tpm2.NVWriteLocked); got != bit {
		m.Errorf("locks are %#x, want %#x", uint32(got), uint32(bit))
	}
	for cc, lock := range map[tpm2.CC]tpm2.NVAttributes{tpm2.CCNVRead: tpm2.NVReadLocked, tpm2.CCNVExtend: tpm2.NVWriteLocked} {
		use := nvUses["read"]
		if cc == tpm2.CCNVExtend {
			use = nvUses["extend"] // of another type: the lock comes first
		}
		if got := m.nvCommand(cc, tpm2.HandleOwner, use.in) == tpm2.RCNVLocked; got != (lock == bit) {
			m.Errorf("%s answers TPM_RC_NV_LOCKED: %v, want %v", commandName(cc), got, lock == bit)
		}
	}
}

func TestContentLastsAsItsAttributesSay(t *testing.T) {
	for name, tc := range map[string]struct {
		attributes tpm2.NVAttributes
		lasts      [4]bool // by cycle
	}{
		"ordinary":           {0, [4]bool{true, true, true, true}},
		"until restart":      {tpm2.NVClearSTClear, [4]bool{false, false, false, true}},
		"orderly":            {tpm2.NVOrderly, [4]bool{false, false, true, true}},
		"both":               {tpm2.NVOrderly | tpm2.NVClearSTClear, [4]bool{false, false, false, true}},
		"orderly, by itself": {tpm2.NVOrderly | tpm2.NVWriteAll, [4]bool{false, false, true, true}},
	} {
		for i, c := range cycles {
			t.Run(name+", "+c.name, func(t *testing.T) {
				m := newMachine(t)
				m.defineNV(index(byOwner | tc.attributes))
				m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, nvUses["write"].in)
				m.cycle(c)
				got, want := m.content(8), []byte{1, 2, 3, 4, 5, 6, 7, 8}
				if !tc.lasts[i] {
					want = nil
				}
				if !bytes.Equal(got, want) {
					t.Errorf("content is %x, want %x", got, want)
				}
			})
		}
	}
}

// A counter never goes back, whatever happens to the power or to the index, and
// no counter starts at a value that one had before.
func TestCountersNeverGoBack(t *testing.T) {
	for _, a := range []tpm2.NVAttributes{0, tpm2.NVOrderly} {
		for _, c := range cycles {
			t.Run(fmt.Sprintf("%s %#x", c.name, uint32(a)), func(t *testing.T) {
				m := newMachine(t)
				last := uint64(0)
				count := func() {
					t.Helper()
					m.nvDo(tpm2.CCNVIncrement, tpm2.HandleOwner, nil)
					m.guarded()
					n := binary.BigEndian.Uint64(m.content(8))
					if n <= last {
						t.Fatalf("the counter went from %d to %d", last, n)
					}
					last = n
				}
				for range 4 {
					m.defineNV(index(byOwner | a | tpm2.NVCounter.Attributes()))
					m.guarded()
					for _, n := range []int{3, 260, 300} {
						for range n {
							count()
						}
						m.cycle(c)
					}
					count()
					if last%2 == 0 {
						m.do(tpm2.CCClear, handles(tpm2.HandlePlatform), password(""), nil, nil)
						continue
					}
					m.do(tpm2.CCNVUndefineSpace, handles(tpm2.HandleOwner, anIndex), password(""), nil, nil)
				}
			})
		}
	}
}

// An orderly counter is written down once in 256 steps, not at each.
func TestOrderlyCountersAreSeldomWritten(t *testing.T) {
	for a, want := range map[tpm2.NVAttributes]int{0: 1024, tpm2.NVOrderly: 5} {
		m := newMachine(t)
		m.defineNV(index(byOwner | a | tpm2.NVCounter.Attributes()))
		m.tpm.MustPermanent()
		writes := 0
		for range 1024 {
			m.nvDo(tpm2.CCNVIncrement, tpm2.HandleOwner, nil)
			if m.tpm.Changed() {
				m.tpm.MustPermanent()
				writes++
			}
		}
		if writes != want {
			t.Errorf("a counter with attributes %#x was written %d times in 1024 steps, want %d", uint32(a), writes, want)
		}
	}
}

func TestWritingAnOrderlyIndexVoidsAShutdown(t *testing.T) {
	for a, want := range map[tpm2.NVAttributes]tpm2.RC{0: tpm2.RCSuccess, tpm2.NVOrderly: parameterRC(tpm2.RCValue, 1)} {
		m := newMachine(t)
		m.defineNV(index(byOwner | a))
		m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, nvUses["write"].in)
		m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupState}, nil)
		m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, nvUses["write"].in)
		m.powerLoss()
		m.fails(want, tpm2.CCStartup, nil, nil, &command.StartupIn{StartupType: tpm2.StartupState})
	}
}

func pinData(count, limit byte) *command.NVWriteIn {
	return &command.NVWriteIn{Data: []byte{3: count, 7: limit}}
}

// PIN indices count the uses of their authValue, and end it (Part 1, 37.2.8).
func TestPINsCount(t *testing.T) {
	bad := sessionRC(tpm2.RCBadAuth, 1)
	for name, tc := range map[string]struct {
		kind  tpm2.NVType
		try   []string
		want  []tpm2.RC
		count byte
	}{
		"PIN fail, right": {tpm2.NVPinFail, []string{"pin", "pin", "pin"}, []tpm2.RC{0, 0, 0}, 0},
		"PIN fail, wrong": {tpm2.NVPinFail, []string{"no", "no", "pin", "pin"}, []tpm2.RC{bad, bad, tpm2.RCAuthUnavailable, tpm2.RCAuthUnavailable}, 2},
		"PIN fail, mixed": {tpm2.NVPinFail, []string{"no", "pin", "no", "pin"}, []tpm2.RC{bad, 0, bad, 0}, 0},
		"PIN pass, right": {tpm2.NVPinPass, []string{"pin", "pin", "pin"}, []tpm2.RC{0, 0, tpm2.RCAuthUnavailable}, 2},
		"PIN pass, wrong": {tpm2.NVPinPass, []string{"no", "no", "no", "pin"}, []tpm2.RC{bad, bad, bad, 0}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.defineNV(index(byOwner | tpm2.NVAuthRead | tpm2.NVNoDA | tc.kind.Attributes()))
			read := &command.NVReadIn{Size: 4}
			m.fails(tpm2.RCAuthUnavailable, tpm2.CCNVRead, handles(anIndex, anIndex), password("pin"), read)
			m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, pinData(0, 2))
			for i, auth := range tc.try {
				m.fails(tc.want[i], tpm2.CCNVRead, handles(anIndex, anIndex), password(auth), read)
			}
			if got, want := m.content(8), pinData(tc.count, 2).Data; !bytes.Equal(got, want) {
				t.Errorf("counts are %x, want %x", got, want)
			}
		})
	}
}
