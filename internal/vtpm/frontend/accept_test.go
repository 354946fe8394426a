package frontend

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestAProcessThatIsShortOfFilesAcceptsAgain(t *testing.T) {
	accept := func(errs ...error) func() (int, error) {
		return func() (n int, err error) {
			if len(errs) == 0 {
				return 7, nil
			}
			err, errs = errs[0], errs[1:]
			return 0, err
		}
	}
	full := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	if n, err := Accept(t.Context(), accept(full, full)); n != 7 || err != nil {
		t.Errorf("Accept = %d, %v", n, err)
	}
	if n, err := Accept(t.Context(), accept(net.ErrClosed)); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("of a closed listener: %d, %v", n, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if n, err := Accept(ended, accept(full)); n != 0 || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("at the end: %d, %v", n, err)
	}
}
