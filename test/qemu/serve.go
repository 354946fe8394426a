package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// A Server is a TPM in a process of its own.
type Server struct {
	Socket  string // its control channel
	process *exec.Cmd
	exited  chan struct{}
	exit    error
	said    *log
}

// Program builds the program that serves TPMs into a folder. A program that is named
// by ASSAY_PROGRAM is taken as it is.
func Program(dir string) (string, error) {
	if p := os.Getenv("ASSAY_PROGRAM"); p != "" {
		return p, nil
	}
	program := filepath.Join(dir, "assay-vtpm")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "github.com/assay-project/assay/cmd/assay-vtpm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w: %s", err, out)
	}
	return program, nil
}

// Serve starts assay-vtpm serve for QEMU, with more arguments, and waits until it
// answers.
func Serve(program, dir string, arguments ...string) (*Server, error) {
	s, err := newServer(dir)
	if err != nil {
		return nil, err
	}
	s.process = exec.Command(program, append([]string{"serve", "--qemu-socket", s.Socket}, arguments...)...)
	s.process.Stderr = s.said
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	s.watch()
	if err != nil || line != "ready\n" {
		return nil, fmt.Errorf("the TPM said %q: %w: %s", line, errors.Join(err, s.Kill()), s.said)
	}
	return s, nil
}

// ServeSWTPM starts Debian's swtpm for QEMU, to be compared with.
func ServeSWTPM(dir string) (*Server, error) {
	s, err := newServer(dir)
	if err != nil {
		return nil, err
	}
	s.process = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+s.Socket)
	s.process.Stderr = s.said
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	s.watch()
	return s, s.reachable()
}

func newServer(dir string) (*Server, error) {
	s := &Server{Socket: filepath.Join(dir, "tpm"), exited: make(chan struct{}), said: &log{}}
	return s, os.MkdirAll(dir, 0o700)
}

// watch notes when the process ends.
func (s *Server) watch() {
	go func() {
		s.exit = s.process.Wait()
		close(s.exited)
	}()
}

// reachable waits for the socket.
func (s *Server) reachable() error {
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(s.Socket); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return fmt.Errorf("the TPM ended: %w: %s", s.exit, s.said)
		}
	}
}

// CPU is the processor time that the process has used.
func (s *Server) CPU() (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // the thread has ended
		}
		var ns time.Duration
		if _, err := fmt.Sscan(string(b), &ns); err != nil {
			return 0, err
		}
		sum += ns
	}
	return sum, nil
}

// Used is the processor time that the process used, of the user and the system, once it
// has ended (getrusage(2)).
func (s *Server) Used() time.Duration {
	<-s.exited
	return s.process.ProcessState.UserTime() + s.process.ProcessState.SystemTime()
}

// Wait waits for the process to end.
func (s *Server) Wait() error {
	select {
	case <-s.exited:
		return s.exit
	case <-time.After(Patience):
		return errors.New("the TPM does not end")
	}
}

// Said returns what the process has logged.
func (s *Server) Said() string { return s.said.String() }

// Kill ends the process at once.
func (s *Server) Kill() error {
	err := s.process.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return err
}
