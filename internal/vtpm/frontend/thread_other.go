//go:build !linux

package frontend

import (
	"net"
	"sync/atomic"
	"time"
)

// newThreadStream returns nil: connections stay in the poller.
func newThreadStream(net.Conn, *Threads, func() time.Time) stream { return nil }

// newAloneStream returns nil, too.
func newAloneStream(net.Conn, *atomic.Int32, func() time.Time) stream { return nil }
