//go:build !linux

package vtpmcli

// hardenProcess does nothing on this system.
func hardenProcess() error { return nil }
