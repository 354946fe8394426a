package vtpmcli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// A deviceConn is a character device as a connection: swtpm chardev answers
// commands that come through one, such as a pseudo-terminal or the file that Linux'
// vTPM proxy gives.
type deviceConn struct{ *os.File }

// LocalAddr is the number of the file.
func (c deviceConn) LocalAddr() net.Addr { return &net.UnixAddr{Name: c.Name(), Net: "unix"} }

// RemoteAddr is that of who has the other end, which is not known.
func (c deviceConn) RemoteAddr() net.Addr { return c.LocalAddr() }

// deviceFile is a listener with one connection: a character device that whoever
// started this program opened.
func deviceFile(fd int) (net.Listener, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("--fd %d: %w", fd, err)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFCHR {
		return nil, fmt.Errorf("--fd %d: no character device; swtpm socket serves sockets", fd)
	}
	// Only a file that does not block can be waited for with a limit.
	if err := syscall.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("--fd %d: %w", fd, err)
	}
	f := os.NewFile(uintptr(fd), "file descriptor "+strconv.Itoa(fd))
	if f == nil {
		return nil, fmt.Errorf("--fd %d is no file descriptor", fd)
	}
	return newGivenListener(deviceConn{f}), nil
}

// checkDevice refuses what swtpm chardev has no use for.
func (o *swtpmOptions) checkDevice() error {
	switch {
	case o.proxy:
		return errors.New("--vtpm-proxy: this program makes no device files; --fd takes one that is open")
	case o.fd < 0:
		return errors.New("--fd is missing: which device?")
	case o.server != nil || o.port != 0:
		return errors.New("--server and --port go with swtpm socket")
	}
	return nil
}
