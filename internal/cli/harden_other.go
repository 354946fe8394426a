//go:build !linux

package cli

// hardenProcess does nothing on this system.
func hardenProcess() error { return nil }
