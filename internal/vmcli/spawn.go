package vmcli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
)

// spawn starts the supervisor: this program with "run" in the place of "start". It
// returns when the machine runs, or has failed to.
func spawn(start *cobra.Command, logName string) error {
	var flags []string
	for _, name := range append([]string{"root", "accelerator", "firmware", "firmware-secure", "firmware-variables"}, serviceFlagNames[:]...) {
		if f := start.Flags().Lookup(name); f != nil && f.Changed {
			flags = append(flags, "--"+name, f.Value.String())
		}
	}
	child, err := supervise(start.Flags().Arg(0), logName, flags)
	if err != nil {
		return err
	}
	return child.Process.Release()
}

// supervise starts the supervisor of a machine, and returns when the machine runs; the
// caller releases the process or waits for it. The log may be that of a supervisor which
// runs: what is there is left alone.
func supervise(machine, logName string, flags []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(logName), 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	before, err := log.Stat()
	if err != nil {
		return nil, err
	}
	child := exec.Command(self, append([]string{"vm", "run", machine, "--background"}, flags...)...)
	child.Args[0] = os.Args[0]
	child.Stderr, child.SysProcAttr = log, &syscall.SysProcAttr{Setsid: true}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(io.LimitReader(out, maxLog)).ReadString('\n')
	if strings.TrimSpace(line) == readyLine {
		return child, nil
	}
	if werr := child.Wait(); werr == nil {
		return nil, errors.Join(errors.New("it ended at once"), err)
	}
	told, _ := strings.CutPrefix(line, failedLine)
	return nil, &spawnError{lastWords(log, before.Size()), program.Printable(strings.TrimSpace(told))}
}

// A spawnError is all that a supervisor said before it failed, with what may be told of it to
// anybody; "" for nothing.
type spawnError struct {
	error
	told string
}

// lastWords is what a supervisor said before it failed, in a log that had size bytes
// before its start.
func lastWords(log *os.File, size int64) error {
	const enough = 16 << 10
	text, err := io.ReadAll(io.NewSectionReader(log, size, enough))
	if err != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "time=") && strings.Contains(line, " level=INFO ") {
			continue // it is no reason
		}
		lines = append(lines, strings.TrimPrefix(program.Printable(strings.TrimSpace(line)), "assay: "))
	}
	if len(lines) == 0 {
		return fmt.Errorf("its supervisor ended; %s says no more", log.Name())
	}
	return errors.New(strings.Join(lines, "; "))
}

// Limits of a supervisor's log: a guest that restarts for ever can have its supervisor
// say something each time.
const (
	maxLog  = 1 << 20
	keepLog = maxLog / 2
)

// A boundedLog is a file, open for reading and appending, of which the end is kept.
type boundedLog struct {
	mu   sync.Mutex // guards file
	file *os.File
}

// Write appends b, and drops the beginning of a file that is too long by it.
func (l *boundedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if info, err := l.file.Stat(); err == nil && info.Mode().IsRegular() && info.Size()+int64(len(b)) > maxLog {
		if err := l.cut(info.Size()); err != nil {
			return 0, err
		}
	}
	return l.file.Write(b)
}

// cut keeps the last whole lines of a file of size bytes.
func (l *boundedLog) cut(size int64) error {
	end, err := io.ReadAll(io.NewSectionReader(l.file, max(0, size-keepLog), keepLog))
	if err != nil {
		return err
	}
	_, lines, _ := strings.Cut(string(end), "\n")
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err = io.WriteString(l.file, "[older messages are not kept]\n"+lines)
	return err
}
