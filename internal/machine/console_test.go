package machine

import (
	"context"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

// socketPair is both ends of a connection.
func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1]
}

// A guest that reads nothing of its console keeps nobody in it who leaves.
func TestAConsoleThatIsNotReadIsLeft(t *testing.T) {
	t.Parallel()
	c := newConsole()
	guest, port := socketPair(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		c.serve(context.Background(), port)
	}()
	person, far := socketPair(t)
	left := make(chan struct{})
	go func() {
		defer close(left)
		c.attach(far)
	}()
	if _, err := person.Write(make([]byte, 4<<20)); err != nil { // more than any buffer on its way
		t.Fatal(err)
	}
	if err := person.Close(); err != nil {
		t.Fatal(err)
	}
	<-left
	if n, err := io.ReadFull(guest, make([]byte, 1024)); err != nil {
		t.Errorf("the guest reads %d bytes: %v", n, err)
	}
	if err := guest.Close(); err != nil {
		t.Fatal(err)
	}
	<-served
}
