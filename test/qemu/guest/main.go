// Command guest is the whole of a test's virtual machine above the kernel: it runs
// as /init, and does what a test tells it over the second serial port, one line a
// request: a number, a verb, an argument in hexadecimal. It answers each with the
// number and what came of it.
//
// A request that comes again, as when its bytes were lost while the machine
// migrated, gets the answer it had and is not done twice. It is the test's own tool;
// of the product it has the way to a TPM's device.
//
// Read main, then do.
package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"github.com/assay-project/assay/tpm2/client"
)

// The devices of a test's machine.
const (
	tpmDevice  = "/dev/tpm0"
	serialPort = "/dev/ttyS1"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("guest:", err)
	}
	syscall.Sync()
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"securityfs", "/sys/kernel/security"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	port, err := os.OpenFile(serialPort, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	if err := raw(int(port.Fd())); err != nil {
		return err
	}
	tpm, err := client.Open(tpmDevice)
	if err != nil {
		return err
	}
	fmt.Fprintln(port, "#0 ok")
	return serve(port, tpm)
}

// raw has the port pass bytes as they are.
func raw(fd int) error {
	var t syscall.Termios
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TCGETS, uintptr(unsafe.Pointer(&t))); errno != 0 {
		return errno
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = syscall.CS8 | syscall.CREAD | syscall.CLOCAL | syscall.B115200
	t.Cc[syscall.VMIN], t.Cc[syscall.VTIME] = 1, 0
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TCSETS, uintptr(unsafe.Pointer(&t)))
	if errno != 0 {
		return errno
	}
	return nil
}

// serve answers requests until one powers the machine off.
func serve(port io.ReadWriter, tpm client.Transport) error {
	lines := bufio.NewReaderSize(port, 1<<16)
	last, answer := "", ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err
		}
		// What stands before the mark is the rest of a line that a migration cut.
		words := strings.Fields(line[strings.LastIndexByte(line, '#')+1:])
		if len(words) != 3 {
			continue
		}
		if words[0] != last {
			if words[1] == "off" {
				return nil
			}
			out, err := do(words[1], words[2], tpm)
			answer = "ok " + hex.EncodeToString(out)
			if err != nil {
				answer = "error " + strings.ReplaceAll(err.Error(), "\n", " ")
			}
			last = words[0]
		}
		fmt.Fprintf(port, "#%s %s\n", last, answer)
	}
}

// do does what one request asks.
func do(verb, argument string, tpm client.Transport) ([]byte, error) {
	in, err := hex.DecodeString(argument)
	if err != nil {
		return nil, err
	}
	switch verb {
	case "tpm":
		return tpm.Send(in)
	case "file":
		return readAll(string(in))
	case "reboot":
		return nil, syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	}
	return nil, fmt.Errorf("no such verb: %s", verb)
}

// readAll reads a file of the kernel's, whose size is not known before.
func readAll(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(f, 1<<20))
	return b.Bytes(), err
}
