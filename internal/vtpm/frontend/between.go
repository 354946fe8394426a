package frontend

// TryBetween calls f between two commands, if none runs now: while f runs, nothing else
// uses the TPM. It is false, and f is not called, when something does.
func (m *Machine) TryBetween(f func()) bool {
	if !m.mu.TryLock() {
		return false
	}
	defer m.mu.Unlock()
	f()
	return true
}
