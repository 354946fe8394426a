//go:build !linux

package frontend

import (
	"net"
	"time"
)

// newThreadStream returns nil: connections stay in the poller.
func newThreadStream(net.Conn, *Threads, func() time.Time) stream { return nil }

// newAloneStream returns nil, too.
func newAloneStream(net.Conn, func() time.Time) stream { return nil }
