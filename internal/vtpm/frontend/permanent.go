package frontend

// Permanent returns the permanent state of the TPM as it was last kept, for those
// who look at a copy while it runs; nil while the machine has none. The caller
// clears it. After a failure to keep the state it is that failure.
func (m *Machine) Permanent() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil || m.tpm == nil {
		return nil, m.broken
	}
	if err := m.save(); err != nil { // nothing is returned that is not kept
		return nil, err
	}
	return m.tpm.Permanent()
}

// Load gives the machine its TPM before it gets power, so that what is wrong with
// that is told now.
func (m *Machine) Load() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.load()
}
