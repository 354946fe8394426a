//go:build unix && !linux

package state

import (
	"os"

	"github.com/assay-project/assay/internal/durable"
)

// dataSync makes the content durable.
func dataSync(f *os.File) error { return durable.Synced(f.Sync()) }
