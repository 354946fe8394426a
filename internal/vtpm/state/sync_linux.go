package state

import (
	"errors"
	"os"
	"syscall"

	"github.com/assay-project/assay/internal/durable"
)

// dataSync makes the content durable; the file's times may be those of before. The
// slots keep their size and place, so there is nothing else to write.
func dataSync(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return durable.Synced(os.NewSyscallError("fdatasync", err))
		}
	}
}
