package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenSerial opens a serial port of Linux and has it pass bytes as they are: no echo,
// no line discipline, no flow control, 115200 baud.
func OpenSerial(name string) (io.ReadWriteCloser, error) {
	// A port that can be polled is one whose reader ends when it is closed.
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := raw(f); err != nil {
		return nil, errors.Join(fmt.Errorf("set %s raw: %w", name, err), f.Close())
	}
	return f, nil
}

func raw(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = conn.Control(func(fd uintptr) {
		t, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		if err != nil {
			inner = err
			return
		}
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
		t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
		t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
		inner = unix.IoctlSetTermios(int(fd), unix.TCSETS, t)
	})
	return errors.Join(err, inner)
}

// maxKernelLine is the size of the buffer of one record of /dev/kmsg; the kernel's own
// limit is 1 KiB and some fields.
const maxKernelLine = 8 << 10

// KernelLog reads the kernel's log from its beginning; the function gives the lines
// that are new since the last call. It is nil when the log cannot be read.
func KernelLog() func() []string {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	buf := make([]byte, maxKernelLine)
	return func() (lines []string) {
		const most = 20_000 // lines at one call; the kernel's ring has fewer
		for range most {
			n, err := unix.Read(fd, buf)
			switch {
			case errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EINTR):
				continue // records were overwritten before they were read
			case err != nil || n <= 0:
				return lines
			}
			// "level,number,time,flags;text", then fields on lines of their own.
			_, text, _ := strings.Cut(string(buf[:n]), ";")
			text, _, _ = strings.Cut(text, "\n")
			lines = append(lines, text)
		}
		return lines
	}
}

// MountKernel mounts what the agent reads, where nothing did yet: the machine's init
// does that.
func MountKernel() error {
	for _, m := range []struct{ kind, at string }{
		{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"securityfs", "/sys/kernel/security"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// PowerOff ends the machine. It returns only when it cannot.
func PowerOff() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
