package vtpmcli

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
)

// noTerminals ends a test on a machine without pseudo terminals; make test wants them.
func noTerminals(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("ASSAY_REQUIRE_PTY") != "" {
		t.Fatalf("no pseudo terminals: %v", err)
	}
	t.Skipf("no pseudo terminals here: %v", err)
}

// pseudoTerminal opens the two ends of one, as raw as a wire.
func pseudoTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		noTerminals(t, err)
	}
	t.Cleanup(func() { master.Close() })
	ioctl := func(f *os.File, request uintptr, arg unsafe.Pointer) {
		t.Helper()
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
			t.Fatal(errno)
		}
	}
	var unlocked, number int32
	ioctl(master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	ioctl(master, syscall.TIOCGPTN, unsafe.Pointer(&number))
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		noTerminals(t, err)
	}
	t.Cleanup(func() { slave.Close() })
	var mode syscall.Termios
	ioctl(slave, syscall.TCGETS, unsafe.Pointer(&mode))
	mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
	mode.Cc[syscall.VMIN], mode.Cc[syscall.VTIME] = 1, 0
	ioctl(slave, syscall.TCSETS, unsafe.Pointer(&mode))
	return master, slave
}

func TestSWTPMAnswersOnADevice(t *testing.T) {
	master, slave := pseudoTerminal(t)
	given, err := syscall.Dup(int(master.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(shortDir(t), "c")
	done, errs := runDropIn(t, ephemeral(), "swtpm", "chardev", "--tpm2", "--fd", fmt.Sprint(given), "--ctrl", "type=unixio,path="+control, "--flags", "not-need-init")
	tpm := client.New(client.NewStream(slave), rand.Reader)
	if err := tpm.Startup(tpm2.StartupClear); err != nil {
		t.Fatal(err)
	}
	primaryName(t, tpm, "")
	if status, _, errs := dropInOutput(nil, "swtpm_ioctl", "--unix", control, "-s"); status != program.StatusOK {
		t.Errorf("swtpm_ioctl: status %d, %s", status, errs)
	}
	if status := <-done; status != program.StatusOK {
		t.Errorf("status %d, %s", status, errs)
	}
	f, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if l, err := deviceFile(int(f.Fd())); err == nil {
		t.Errorf("an ordinary file is served: %v", l)
	}
}
