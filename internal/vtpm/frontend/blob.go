package frontend

import (
	"errors"
	"fmt"
)

// A BlobKind says which part of a TPM's state a blob is (tpm_ioctl.h: PTM_BLOB_TYPE).
type BlobKind uint32

// The kinds of state.
const (
	BlobPermanent BlobKind = 1
	BlobVolatile  BlobKind = 2
	// BlobSaveState is the saved state of a TPM 1.2, which here is always empty.
	BlobSaveState BlobKind = 3

	blobKinds = 4
)

// String names the kind.
func (k BlobKind) String() string {
	switch k {
	case BlobPermanent:
		return "permanent"
	case BlobVolatile:
		return "volatile"
	case BlobSaveState:
		return "saved"
	}
	return fmt.Sprintf("unknown (%d)", uint32(k))
}

func (k BlobKind) valid() bool { return k >= BlobPermanent && k <= BlobSaveState }

// MaxBlob bounds a blob of state. A TPM whose memory is full has less than a tenth.
const MaxBlob = 1 << 20

// The reasons to refuse a blob.
var (
	// ErrRunning is a TPM that has power, so that its state cannot be replaced.
	ErrRunning = errors.New("the TPM is running")
	// ErrBlob is a blob that cannot be one.
	ErrBlob = errors.New("no such blob of state")
)

// exported is a blob that is given away in pieces, all of one moment.
type exported []byte

// CanMoveState reports whether state may leave and come by blobs.
func (m *Machine) CanMoveState() bool { return m.cfg.Restore != nil }

// StateBlob returns a blob of the TPM's state from an offset on, and its whole
// length. The state is taken at offset 0; other offsets read what was taken then.
// What there is none of is empty: volatile state of a TPM without power, and any
// saved state. Permanent state is to be asked for first: volatile state fits no
// other. When a guest's state has left for another process, the last it asks for is
// the saved state; storage is unlocked for that process then.
func (m *Machine) StateBlob(kind BlobKind, offset uint32) (piece []byte, total uint32, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !kind.valid() || !m.CanMoveState() {
		return nil, 0, ErrBlob
	}
	if offset == 0 {
		m.exported[kind] = nil
		if m.exported[kind], err = m.export(kind); err != nil {
			return nil, 0, fmt.Errorf("export %s state: %w", kind, err)
		}
	}
	blob := m.exported[kind]
	if uint64(offset) > uint64(len(blob)) {
		return nil, 0, fmt.Errorf("%w: offset %d of %d", ErrBlob, offset, len(blob))
	}
	if kind == BlobSaveState {
		m.exported = [blobKinds]exported{}
		err = m.unlock()
	}
	return blob[offset:], uint32(len(blob)), err // at most MaxBlob
}

// export takes the state and seals it.
func (m *Machine) export(kind BlobKind) (exported, error) {
	if err := errors.Join(m.broken, m.load()); err != nil {
		return nil, err
	}
	clear, err := m.stateOf(kind)
	if err != nil || len(clear) == 0 {
		return nil, err
	}
	blob := clear
	if m.cfg.ExportBlob != nil {
		if blob, err = m.cfg.ExportBlob(kind, clear); err != nil {
			return nil, err
		}
	}
	if len(blob) > MaxBlob {
		return nil, fmt.Errorf("%w: %d bytes", ErrBlob, len(blob))
	}
	return blob, nil
}

func (m *Machine) stateOf(kind BlobKind) ([]byte, error) {
	switch kind {
	case BlobPermanent:
		return m.tpm.Permanent()
	case BlobVolatile:
		if m.powered {
			return m.tpm.Volatile()
		}
		return m.cfg.Volatile.Get()
	}
	return nil, nil
}

// SetStateBlob keeps a blob for the next [Machine.Init]. A later one of its kind
// takes its place; an empty one takes it away. Nothing changes before Init.
func (m *Machine) SetStateBlob(kind BlobKind, blob []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case !kind.valid() || !m.CanMoveState() || len(blob) > MaxBlob:
		return ErrBlob
	case m.powered:
		return ErrRunning
	case kind == BlobSaveState && len(blob) > 0:
		return fmt.Errorf("%w: a TPM 2.0 has no saved state", ErrBlob)
	}
	m.incoming[kind] = nil
	if len(blob) == 0 {
		return nil
	}
	clear := append([]byte{}, blob...)
	if m.cfg.ImportBlob != nil {
		var err error
		if clear, err = m.cfg.ImportBlob(kind, clear); err != nil {
			return fmt.Errorf("import %s state: %w", kind, err)
		}
	}
	m.incoming[kind] = clear
	return nil
}

func (m *Machine) hasIncoming() bool {
	return m.incoming[BlobPermanent] != nil || m.incoming[BlobVolatile] != nil
}

// forgetIncoming drops blobs that have come.
func (m *Machine) forgetIncoming() {
	for i := range m.incoming {
		clear(m.incoming[i])
		m.incoming[i] = nil
	}
}

// arrive starts a TPM of the blobs that have come. They serve once. When they do
// not fit, the machine keeps the TPM it had, without power, and nothing was saved.
func (m *Machine) arrive() error {
	defer m.forgetIncoming()
	defer m.dismiss()
	permanent, volatile := m.incoming[BlobPermanent], m.incoming[BlobVolatile]
	m.powered = false
	if permanent == nil {
		var err error
		if permanent, err = m.tpm.Permanent(); err != nil {
			return err
		}
	}
	t, err := m.cfg.Restore(permanent, volatile)
	if err != nil {
		return fmt.Errorf("start from the state that came: %w", err)
	}
	if err := m.keep(permanent); err != nil {
		return err
	}
	m.setTPM(t)
	m.standIn = false
	if volatile == nil {
		m.init()
		return m.broken
	}
	m.powered, m.orderly = true, false
	if a, ok := t.(interface{ Arrived() }); ok { // whoever watches the boot does not wait for its next command
		a.Arrived()
	}
	return m.save()
}

// dismiss forgets a TPM that only stood in for the state that came. The next start
// loads it anew.
func (m *Machine) dismiss() {
	if m.standIn {
		m.setTPM(nil)
		m.standIn = false
	}
}

// keep saves permanent state that came from outside, in place of what was kept, and
// drops stored volatile state, which belongs to the TPM before.
func (m *Machine) keep(permanent []byte) error {
	if m.cfg.Save != nil {
		if err := m.cfg.Save(permanent); err != nil {
			m.broken = fmt.Errorf("keep the state that came: %w", err)
			return m.broken
		}
	}
	return m.cfg.Volatile.Delete()
}

// CanLock reports whether storage has a lock that moves with the TPM.
func (m *Machine) CanLock() bool { return m.cfg.Lock != nil }

// LockStorage takes the lock back that [Machine.StateBlob] gave up.
func (m *Machine) LockStorage() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lock()
}

func (m *Machine) lock() error {
	if !m.unlocked {
		return nil
	}
	if err := m.cfg.Lock(); err != nil {
		return fmt.Errorf("lock the storage of the TPM: %w", err)
	}
	m.unlocked = false
	return nil
}

func (m *Machine) unlock() error {
	if m.unlocked || m.cfg.Unlock == nil || m.cfg.Lock == nil {
		return nil
	}
	if err := m.cfg.Unlock(); err != nil {
		return fmt.Errorf("unlock the storage of the TPM: %w", err)
	}
	m.unlocked = true
	return nil
}
