package frontend

// A Clocked is a [TPM] that takes notice when its time stood still.
type Clocked interface {
	TPM
	// TimeStopped says that the time may have stood still while there was power.
	TimeStopped()
}

// TimeStopped is the restart of a clock that had stopped, which a simulator's client asks
// for. It does nothing to a machine without power, or whose TPM is not [Clocked].
func (m *Machine) TimeStopped() {
	m.whilePowered(func(t TPM) {
		if c, ok := t.(Clocked); ok {
			c.TimeStopped()
		}
	})
}
