package machine

import (
	"bytes"
	"context"
	"net"
	"sync"

	"github.com/assay-project/assay/internal/serial"
)

// maxFindings bounds what is kept of one boot's console.
const maxFindings = 64

// A console is the first serial port of a machine: what it prints is kept, looked
// through, and shown to who is attached.
type console struct {
	log   *serial.Log
	found chan serial.Finding

	typed chan []byte // for the machine

	mu      sync.Mutex // guards what follows
	readers map[chan []byte]bool
	told    int // findings of this boot that were passed on
}

// maxPieces bounds what waits for a machine, or for who is attached to it.
const maxPieces = 256

// serve takes the hypervisor's end of the port.
func (c *console) serve(_ context.Context, port *net.UnixConn) {
	var writer sync.WaitGroup
	ended := make(chan struct{})
	writer.Go(func() { c.pass(port, ended) })
	defer func() {
		close(ended)
		port.Close() // and with it a write that the machine does not read
		writer.Wait()
	}()
	buf := make([]byte, 4096)
	for {
		n, err := port.Read(buf)
		if n > 0 {
			c.print(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// pass writes what was typed. A machine that does not read holds up nobody else.
func (c *console) pass(port *net.UnixConn, ended <-chan struct{}) {
	for {
		select {
		case b := <-c.typed:
			if _, err := port.Write(b); err != nil {
				return
			}
		case <-ended:
			return
		}
	}
}

// print passes on what the machine printed. Who does not read misses something.
func (c *console) print(b []byte) {
	c.log.Write(b) //nolint:errcheck // never fails
	all, _ := c.log.Findings()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(all) < c.told {
		c.told = 0 // another boot
	}
	for ; c.told < len(all); c.told++ {
		select {
		case c.found <- all[c.told]:
		default:
		}
	}
	for r := range c.readers {
		select {
		case r <- append([]byte(nil), b...):
		default:
		}
	}
}

// attach passes a connection's bytes to the machine and the machine's to it, until the
// connection ends. What the machine does not read in the end is lost.
func (c *console) attach(conn *net.UnixConn) {
	out := make(chan []byte, maxPieces)
	c.mu.Lock()
	c.readers[out] = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1024)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			select {
			case c.typed <- bytes.Clone(buf[:n]):
			default:
			}
		}
	}()
	defer func() {
		c.mu.Lock()
		delete(c.readers, out)
		c.mu.Unlock()
	}()
	for {
		select {
		case b := <-out:
			if _, err := conn.Write(b); err != nil {
				conn.Close()
				<-done
				return
			}
		case <-done:
			return
		}
	}
}
