package vtpmcli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"github.com/assay-project/assay/internal/program"
)

// daemonEnv tells a process that it is the one in the background. Its value is
// the number of the file that takes a word once the TPM answers.
const daemonEnv = "ASSAY_SWTPM_BACKGROUND"

// maxInherited bounds the numbers of the files that options may name.
const maxInherited = 256

// daemonize starts this program again in the background, with every file that it
// has, and waits until the TPM answers there or the process has ended.
func daemonize(env *program.Env, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	files := openFiles()
	ready := freeNumber(files)
	files = append(files, make([]uintptr, max(0, ready+1-len(files)))...)
	files[ready] = w.Fd()
	pid, err := syscall.ForkExec(self, append([]string{env.Program}, args...), &syscall.ProcAttr{
		Env:   append(os.Environ(), daemonEnv+"="+strconv.Itoa(ready)),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	if word, err := io.ReadAll(io.LimitReader(r, int64(len(readyLine)))); err != nil || string(word) != readyLine {
		return fmt.Errorf("process %d in the background ended before the TPM answered", pid)
	}
	return nil
}

// openFiles is the list of files for a process that is to have those of this one
// under the same numbers. A number that is not open here stays closed.
func openFiles() []uintptr {
	none := ^uintptr(0)
	files := make([]uintptr, maxInherited)
	last := 2
	for n := range files {
		files[n] = none
		flags, err := descriptorFlags(n)
		if err != nil || n > 2 && flags&syscall.FD_CLOEXEC != 0 {
			continue // closed, or a file of the Go runtime
		}
		files[n] = uintptr(n)
		last = max(last, n)
	}
	return files[:last+1]
}

func descriptorFlags(n int) (int, error) {
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(n), syscall.F_GETFD, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(flags), nil
}

// freeNumber is a number above 2 that no file has.
func freeNumber(files []uintptr) int {
	for n := 3; n < len(files); n++ {
		if files[n] == ^uintptr(0) {
			return n
		}
	}
	return max(3, len(files))
}

// daemonReady tells the process that waits that the TPM answers.
func daemonReady() error {
	n, err := strconv.Atoi(os.Getenv(daemonEnv))
	if err != nil {
		return errors.New("--daemon: " + daemonEnv + " is set and names no file")
	}
	f, err := inherited(n)
	if err != nil {
		return fmt.Errorf("--daemon: %w", err)
	}
	defer f.Close()
	if err := leaveTerminal(); err != nil {
		return fmt.Errorf("--daemon: %w", err)
	}
	_, err = io.WriteString(f, readyLine)
	return err
}

// leaveTerminal lets go of the standard files, which whoever started the TPM may
// wait to see closed.
func leaveTerminal() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for n := range 3 {
		if err := syscall.Dup3(int(null.Fd()), n, 0); err != nil {
			return err
		}
	}
	return nil
}
