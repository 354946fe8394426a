package frontend

import (
	"errors"
	"fmt"
)

// CanStoreVolatile reports whether [Machine.StoreVolatile] is supported.
func (m *Machine) CanStoreVolatile() bool { return m.cfg.Restore != nil }

// StoreVolatile keeps the volatile state for the next [Machine.Init].
func (m *Machine) StoreVolatile() error {
	if !m.CanStoreVolatile() {
		return ErrNoVolatile
	}
	var err error
	powered := m.whilePowered(func(t TPM) {
		if err = m.saveAll(t); err == nil {
			err = m.putVolatile(t)
		}
	})
	if !powered {
		return ErrNoVolatile
	}
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.stored = true
	}
	return err
}

// saveAll keeps permanent state as it is now: volatile state fits no other, and the
// clock in it moves without being worth a save of its own.
func (m *Machine) saveAll(t TPM) error {
	permanent, err := t.Permanent()
	if err != nil || m.cfg.Save == nil {
		return err
	}
	return m.cfg.Save(permanent)
}

func (m *Machine) putVolatile(t TPM) error {
	state, err := t.Volatile()
	if err != nil {
		return err
	}
	return m.cfg.Volatile.Put(state)
}

// Init starts the TPM again: where StoreVolatile left it, else without volatile
// state. Then a TPM that has power is told first ([Machine.endInOrder]), as by swtpm: a
// hypervisor that resets its machine takes no power away, and no try is counted for it.
// Stored state that no longer fits is an error once, and forgotten. With forget, stored
// state does not serve a second time.
func (m *Machine) Init(forget bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.powered && m.tpm != nil && m.broken == nil && m.cfg.Stale != nil && m.cfg.Stale() {
		m.setTPM(nil)
	}
	if err := errors.Join(m.loadFor(), m.lock()); err != nil {
		m.dismiss()
		return err
	}
	if m.hasIncoming() {
		return m.arrive()
	}
	if !m.CanStoreVolatile() {
		m.endInOrder()
		m.init()
		return m.broken
	}
	volatile, err := m.cfg.Volatile.Get()
	if err != nil {
		return fmt.Errorf("read volatile state: %w", err)
	}
	if volatile == nil {
		m.endInOrder()
		m.init()
		return m.broken
	}
	if err := m.resume(volatile); err != nil {
		// It would not fit the next time either.
		return errors.Join(fmt.Errorf("restore volatile state: %w", err), m.cfg.Volatile.Delete())
	}
	m.powered, m.orderly = true, false
	if forget {
		return m.cfg.Volatile.Delete()
	}
	return nil
}

// resume has the TPM go on where its volatile state was taken.
func (m *Machine) resume(volatile []byte) error {
	permanent, err := m.tpm.Permanent()
	if err != nil {
		return err
	}
	t, err := m.cfg.Restore(permanent, volatile)
	if err != nil {
		return err
	}
	m.setTPM(t)
	return nil
}
