package frontend

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// acceptPause is how long a listener rests when the process is short of something.
const acceptPause = 100 * time.Millisecond

// Accept calls accept until it gives a connection or fails for good. That the process
// has too many open files, or the machine too little memory, passes: what one client
// uses up ends the service of no other.
func Accept[C any](ctx context.Context, accept func() (C, error)) (C, error) {
	for {
		conn, err := accept()
		if err == nil || !short(err) {
			return conn, err
		}
		t := time.NewTimer(acceptPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return conn, err
		}
	}
}

// short reports whether accept(2) failed for want of something that comes back.
func short(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
