package frontend

// Between calls f between two commands: while f runs, nothing else uses the TPM.
func (m *Machine) Between(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}
