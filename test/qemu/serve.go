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
	program := filepath.Join(dir, "assay")
	build := exec.Command("go", "build", "-trimpath", "-o", program, "../../cmd/assay")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w: %s", err, out)
	}
	return program, nil
}

// Serve starts assay vtpm serve for QEMU, with more arguments, and waits until it
// answers.
func Serve(program, dir string, arguments ...string) (*Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Server{Socket: filepath.Join(dir, "tpm"), exited: make(chan struct{}), said: &log{}}
	s.process = exec.Command(program, append([]string{"vtpm", "serve", "--qemu-socket", s.Socket}, arguments...)...)
	s.process.Stderr = s.said
	out, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() {
		s.exit = s.process.Wait()
		close(s.exited)
	}()
	if err != nil || line != "ready\n" {
		return nil, fmt.Errorf("the TPM said %q: %w: %s", line, errors.Join(err, s.Kill()), s.said)
	}
	return s, nil
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
