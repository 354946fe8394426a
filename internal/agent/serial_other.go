//go:build !linux

package agent

import (
	"errors"
	"io"
)

// OpenSerial needs Linux.
func OpenSerial(string) (io.ReadWriteCloser, error) { return nil, errors.ErrUnsupported }

// KernelLog needs Linux.
func KernelLog() func() []string { return nil }

// MountKernel needs Linux.
func MountKernel() error { return errors.ErrUnsupported }

// PowerOff needs Linux.
func PowerOff() error { return errors.ErrUnsupported }
