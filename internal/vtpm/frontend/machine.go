package frontend

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// A TPM is what a [Machine] holds. Only Cancel may be called while another
// method runs.
type TPM interface {
	// Execute runs a command; the response is valid until the next call.
	Execute(locality uint8, request []byte) (response []byte)
	// PowerOn is _TPM_Init: what is volatile is gone.
	PowerOn()
	// HashStart, HashData and HashEnd are _TPM_Hash_Start, _Data and _End.
	HashStart(locality uint8)
	HashData(data []byte)
	HashEnd()
	SetPhysicalPresence(present bool)
	// TimeStopped says that the time may have stood still while there was power.
	TimeStopped()
	// Established is the TPM_ESTABLISHMENT bit; ResetEstablished clears it, and
	// reports false for a locality that may not.
	Established() bool
	ResetEstablished(locality uint8) bool
	// SetBufferSize bounds commands and responses, in bytes.
	SetBufferSize(n int)
	// FailSelfTest has the next self-test fail, as a broken TPM would.
	FailSelfTest()
	// Cancel asks the command that runs, if one does, to end early.
	Cancel()
	// Changed reports whether Permanent differs from what it last returned.
	Changed() bool
	// Permanent and Volatile are the state; an error is a fault of the TPM's own,
	// and then there is none.
	Permanent() ([]byte, error)
	Volatile() ([]byte, error)
}

// MachineConfig is what a machine does for its TPM. Its zero value keeps nothing.
type MachineConfig struct {
	// Save writes the permanent state of the TPM. It is called before an answer
	// that depends on it leaves. Nil keeps nothing.
	Save func(permanent []byte) error
	// Restore makes a TPM that goes on where Volatile was taken. Nil when stored
	// volatile state is not supported.
	Restore func(permanent, volatile []byte) (TPM, error)
	// Load opens the TPM of a machine that was made without one, when it first gets
	// power. An error leaves the machine without power, and the next time tries anew.
	Load func() (TPM, error)
	// StandIn takes the place of Load when permanent state has come that is to replace
	// what is kept: its TPM never gets power. Nil is Load.
	StandIn func() (TPM, error)
	// Stale reports, when a TPM without power is to be started again, that what is kept
	// of it was exchanged from outside: it is loaded anew then. Nil is never.
	Stale func() bool
	// Volatile keeps stored volatile state beyond this process; nil keeps it in
	// the machine.
	Volatile VolatileStore
	// ExportBlob seals state that leaves by [Machine.StateBlob], as with a guest that
	// migrates, and ImportBlob opens what comes by [Machine.SetStateBlob]; it refuses
	// what is not this TPM's. Nil lets the state pass in the clear.
	ExportBlob, ImportBlob func(kind BlobKind, blob []byte) ([]byte, error)
	// Unlock gives up the lock on what Save writes to, once the state has left for
	// another process over the same storage; Lock takes it back, and fails when that
	// process has it or has written. Nil when there is no lock.
	Unlock, Lock func() error
	// NoShutdown leaves TPM2_Shutdown to the client when the power goes, or Init
	// starts the TPM again (swtpm: --flags disable-auto-shutdown).
	NoShutdown bool
}

// A VolatileStore keeps volatile state for the next start.
type VolatileStore interface {
	Put(volatile []byte) error
	// Get returns what Put kept, nil for nothing.
	Get() ([]byte, error)
	// Delete removes it; nothing to remove is no error.
	Delete() error
}

// heldVolatile keeps volatile state in the machine.
type heldVolatile struct{ state []byte }

// Put keeps the state.
func (h *heldVolatile) Put(volatile []byte) error {
	h.state = volatile
	return nil
}

// Get returns it.
func (h *heldVolatile) Get() ([]byte, error) { return h.state, nil }

// Delete forgets it.
func (h *heldVolatile) Delete() error {
	h.state = nil
	return nil
}

// A Machine is the platform around one TPM: its power, the person in front of
// it, its non-volatile memory. It is safe for concurrent use and may be behind
// several front ends.
type Machine struct {
	cfg MachineConfig

	cancel sync.Mutex // guards tpm for Cancel, which must not wait for mu

	mu       sync.Mutex // guards all below; held while the TPM works
	tpm      TPM        // written under both locks; nil until it is loaded
	powered  bool
	standIn  bool // tpm is of MachineConfig.StandIn
	noMemory bool // non-volatile memory is not available
	orderly  bool // the last command was TPM2_Shutdown, and it succeeded
	unlocked bool // Unlock was called: nothing may be kept until Lock succeeds
	exported [blobKinds]exported
	incoming [blobKinds][]byte // state for the next Init
	broken   error             // Save failed: what the TPM knows is not what is kept
	loadErr  error             // why the last Load failed
	stored   bool              // volatile state was stored, and nothing ran since
	buffer   int               // size of the buffer in front of the TPM, in bytes; 0 when nobody said
}

// NewMachine returns a machine around t, without power. Without a TPM, cfg.Load
// gives it one.
func NewMachine(t TPM, cfg MachineConfig) *Machine {
	if cfg.Volatile == nil {
		cfg.Volatile = &heldVolatile{}
	}
	return &Machine{tpm: t, cfg: cfg}
}

// ErrNoVolatile is a machine that cannot store volatile state.
var ErrNoVolatile = errors.New("volatile state cannot be stored")

// responseSize is that of a response without parameters (Part 1, 18.6).
const responseSize = 10

// requestSize is that of a command's header (Part 1, 18.2).
const requestSize = 10

// refuse appends a response that carries only a code.
func refuse(dst []byte, rc tpm2.RC) []byte {
	dst = binary.BigEndian.AppendUint16(dst, 0x8001) // TPM_ST_NO_SESSIONS
	dst = binary.BigEndian.AppendUint32(dst, responseSize)
	return binary.BigEndian.AppendUint32(dst, uint32(rc))
}

// Execute appends the response to a command to dst. A machine without power
// appends nothing.
func (m *Machine) Execute(dst []byte, locality uint8, request []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.execute(dst, locality, request)
}

func (m *Machine) execute(dst []byte, locality uint8, request []byte) []byte {
	if !m.powered {
		return dst
	}
	if m.broken != nil || m.lock() != nil {
		return refuse(dst, tpm2.RCFailure)
	}
	m.stored = false
	code := commandCode(request)
	if m.noMemory && writesMemory(code) {
		return refuse(dst, tpm2.RCNVUnavailable)
	}
	response := m.tpm.Execute(realLocality(locality), request)
	if m.save() != nil {
		// Part 1, 12.4: a TPM that cannot keep its state must not say that it has.
		return refuse(dst, tpm2.RCFailure)
	}
	m.orderly = code == tpm2.CCShutdown && succeeded(response)
	return append(dst, response...)
}

// realLocality maps the localities that no interface has to 0, as the reference
// does: there are 0 to 4 and the extended ones from 32 (Part 2, 8.5).
func realLocality(l uint8) uint8 {
	if l > 4 && l < 32 {
		return 0
	}
	return l
}

// succeeded reports whether a response is TPM_RC_SUCCESS.
func succeeded(response []byte) bool {
	return len(response) >= responseSize && binary.BigEndian.Uint32(response[6:]) == uint32(tpm2.RCSuccess)
}

func commandCode(request []byte) tpm2.CC {
	if len(request) < requestSize {
		return 0
	}
	return tpm2.CC(binary.BigEndian.Uint32(request[6:]))
}

// writesMemory reports whether a command may write to non-volatile memory
// (Part 2, 8.9.2: TPMA_CC.nv).
func writesMemory(code tpm2.CC) bool {
	info, ok := command.Lookup(code)
	return ok && info.Attr.Has(tpm2.CommandNV)
}

// save keeps what the last call changed. The first failure stays.
func (m *Machine) save() error {
	if m.broken != nil || !m.tpm.Changed() {
		return m.broken
	}
	m.stored = false
	if m.cfg.Save == nil {
		return nil
	}
	state, err := m.tpm.Permanent()
	if err == nil {
		err = m.cfg.Save(state)
	}
	if err != nil {
		m.broken = fmt.Errorf("keep the state of the TPM: %w", err)
	}
	return m.broken
}

// Err returns why the machine answers no more commands: its state could not be
// kept. It is nil while all is well.
func (m *Machine) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken
}

// LoadErr returns why the machine got no TPM when it was last given power, nil
// when it did.
func (m *Machine) LoadErr() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loadErr
}

// PowerOn gives the TPM power. It does nothing to a machine that has it.
func (m *Machine) PowerOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.powered {
		m.init()
	}
}

// Reset is _TPM_Init without a loss of power. It does nothing to a machine that
// has none.
func (m *Machine) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.powered {
		m.init()
	}
}

func (m *Machine) init() {
	if m.load() != nil || m.lock() != nil {
		return
	}
	m.tpm.PowerOn()
	m.powered, m.orderly = true, false
	m.save()
}

// load gives the machine its TPM, if it has none yet.
func (m *Machine) load() error {
	if m.tpm != nil {
		return nil
	}
	return m.loadBy(m.cfg.Load)
}

// loadFor is load for a start, of the state that has come if there is any.
func (m *Machine) loadFor() error {
	if m.tpm != nil || m.incoming[BlobPermanent] == nil || m.cfg.StandIn == nil {
		return m.load()
	}
	err := m.loadBy(m.cfg.StandIn)
	m.standIn = err == nil
	return err
}

func (m *Machine) loadBy(load func() (TPM, error)) error {
	t, err := load()
	if m.loadErr = err; err == nil {
		m.setTPM(t)
	}
	return err
}

// setTPM changes the TPM.
func (m *Machine) setTPM(t TPM) {
	m.cancel.Lock()
	defer m.cancel.Unlock()
	m.tpm = t
	if t != nil && m.buffer != 0 {
		t.SetBufferSize(m.buffer)
	}
}

// The sizes of the buffer between a hypervisor and its TPM, in bytes: those that
// swtpm has. Between them is what the two interfaces of QEMU have.
const (
	minBuffer = 2808
	maxBuffer = 4096
)

// SetBufferSize has the TPM know the size of the buffer in front of it, as near to n
// as can be. It reports false to a machine with power, whose size stays.
func (m *Machine) SetBufferSize(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.powered {
		return false
	}
	m.buffer = min(max(n, minBuffer), maxBuffer)
	if m.tpm != nil {
		m.tpm.SetBufferSize(m.buffer)
	}
	return true
}

// BufferSize returns that size, and the least and the greatest.
func (m *Machine) BufferSize() (n, least, greatest int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cmp.Or(m.buffer, maxBuffer), minBuffer, maxBuffer
}

// PowerOff takes the power away. Commands get no answer until it is back.
func (m *Machine) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.powered = false
}

// Powered reports whether the machine has power.
func (m *Machine) Powered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.powered
}

// Shutdown takes the power away in good order ([Machine.endInOrder]). State that came
// for a start which did not follow is forgotten.
func (m *Machine) Shutdown() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endInOrder()
	m.forgetIncoming()
	m.powered = false
	return m.broken
}

// endInOrder tells a TPM that is about to lose power by TPM2_Shutdown(CLEAR), unless
// that was its last command, and succeeded (Part 1, 12.2.4), so that no count of failed
// tries and no clock is in doubt at the next start. Volatile state that was stored just
// before is where the next start goes on, and needs none; nor may a TPM write whose
// storage is unlocked for another. What a failed try changed is kept before its answer
// leaves, so that nothing is left uncounted.
func (m *Machine) endInOrder() {
	if m.powered && !m.orderly && !m.stored && !m.unlocked && !m.cfg.NoShutdown {
		m.execute(nil, 0, []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0})
	}
}

// whilePowered calls f with the TPM when it has power, and keeps what f changed.
func (m *Machine) whilePowered(f func(TPM)) (powered bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.powered || m.lock() != nil {
		return false
	}
	f(m.tpm)
	m.save()
	return true
}

// hashLocality is that of _TPM_Hash_Start: only the dynamic root of trust has
// locality 4 (PC Client PTP, 6.2).
const hashLocality = 4

// HashStart begins a measurement by the root of trust. Like the other signals it
// reports false, and does nothing, without power.
func (m *Machine) HashStart() bool {
	return m.whilePowered(func(t TPM) { t.HashStart(hashLocality) })
}

// HashData adds data to the measurement.
func (m *Machine) HashData(data []byte) bool {
	return m.whilePowered(func(t TPM) { t.HashData(data) })
}

// HashEnd completes the measurement.
func (m *Machine) HashEnd() bool { return m.whilePowered(TPM.HashEnd) }

// SetPhysicalPresence says whether a person is at the machine.
func (m *Machine) SetPhysicalPresence(present bool) bool {
	return m.whilePowered(func(t TPM) { t.SetPhysicalPresence(present) })
}

// TimeStopped is the restart of a clock that had stopped, which a simulator's client asks
// for. Without power it does nothing.
func (m *Machine) TimeStopped() { m.whilePowered(TPM.TimeStopped) }

// Established reports the TPM_ESTABLISHMENT bit.
func (m *Machine) Established() (established, powered bool) {
	powered = m.whilePowered(func(t TPM) { established = t.Established() })
	return established, powered
}

// ResetEstablished clears that bit, unless the locality may not.
func (m *Machine) ResetEstablished(locality uint8) (allowed, powered bool) {
	powered = m.whilePowered(func(t TPM) { allowed = t.ResetEstablished(locality) })
	return allowed, powered
}

// FailSelfTest has the next self-test fail.
func (m *Machine) FailSelfTest() bool { return m.whilePowered(TPM.FailSelfTest) }

// SetMemory says whether non-volatile memory is available. While it is not,
// commands that may write to it answer TPM_RC_NV_UNAVAILABLE.
func (m *Machine) SetMemory(available bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.noMemory = !available
}

// Cancel asks the command that runs to end early. It does not wait.
func (m *Machine) Cancel() {
	m.cancel.Lock()
	defer m.cancel.Unlock()
	if m.tpm != nil {
		m.tpm.Cancel()
	}
}
