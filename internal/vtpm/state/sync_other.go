//go:build unix && !linux

package state

import "os"

// dataSync makes the content durable.
func dataSync(f *os.File) error { return f.Sync() }
