package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noTerminals ends a test on a machine without pseudo terminals; make test wants them.
func noTerminals(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("ASSAY_REQUIRE_PTY") != "" {
		t.Fatalf("no pseudo terminals: %v", err)
	}
	t.Skipf("no pseudo terminals here: %v", err)
}

// terminal is a pseudo terminal: the master's end, and the name of the other.
func terminal(t *testing.T) (*os.File, string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		noTerminals(t, err)
	}
	t.Cleanup(func() { master.Close() })
	conn, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var inner error
	err = conn.Control(func(fd uintptr) {
		if inner = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); inner == nil {
			number, inner = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil || inner != nil {
		noTerminals(t, errors.Join(err, inner))
	}
	return master, fmt.Sprintf("/dev/pts/%d", number)
}

func TestASerialPortPassesBytesAsTheyAre(t *testing.T) {
	t.Parallel()
	master, name := terminal(t)
	port, err := OpenSerial(name)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]byte, 256) // control characters, line ends and signals among them
	for i := range all {
		all[i] = byte(i)
	}
	for _, way := range []struct {
		from io.Writer
		to   io.Reader
	}{{master, port}, {port, master}} {
		if _, err := way.from.Write(all); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(all))
		if err := master.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, all) {
			t.Errorf("%x, %v", got, err)
		}
	}
	// A reader that waits ends with the port.
	ended := make(chan error, 1)
	go func() {
		_, err := port.Read(make([]byte, 1))
		ended <- err
	}()
	if err := port.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("something was read")
		}
	case <-time.After(10 * time.Second):
		t.Error("the reader still waits")
	}
}

func TestWhatIsNoSerialPortIsNotOpened(t *testing.T) {
	for _, name := range []string{"/dev/null", "/nowhere"} {
		if port, err := OpenSerial(name); err == nil {
			t.Errorf("%s: %v is a serial port", name, port)
		}
	}
}
