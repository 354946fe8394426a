package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// SWTPM is the program swtpm of this machine, one process and one folder for
// each TPM.
type SWTPM struct {
	dir     string
	process *exec.Cmd
	data    net.Conn
	control net.Conn
	buf     []byte
}

// patience is how long a command may take: making an RSA key takes a second or two.
const patience = time.Minute

// StartSWTPM starts a new TPM in a new folder below dir.
func StartSWTPM(dir string) (*SWTPM, error) {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, err
	}
	s := &SWTPM{buf: make([]byte, 8192)}
	if s.dir, err = os.MkdirTemp(dir, "tpm"); err != nil {
		return nil, err
	}
	data, control := filepath.Join(s.dir, "d"), filepath.Join(s.dir, "c")
	s.process = exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+s.dir, "--flags", "not-need-init",
		"--server", "type=unixio,path="+data, "--ctrl", "type=unixio,path="+control)
	if err := s.process.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	if s.data, err = dial("unix", data); err == nil {
		s.control, err = dial("unix", control)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// dial connects to a socket that is about to be made.
func dial(network, address string) (net.Conn, error) {
	var err error
	tick := time.NewTicker(500 * time.Microsecond)
	defer tick.Stop()
	for range 10000 {
		var c net.Conn
		if c, err = net.Dial(network, address); err == nil {
			return c, nil
		}
		<-tick.C
	}
	return nil, err
}

// PID is the number of the process.
func (s *SWTPM) PID() int { return s.process.Process.Pid }

// Send runs a command. The response is valid until the next one.
func (s *SWTPM) Send(command []byte) ([]byte, error) {
	if err := s.data.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if _, err := s.data.Write(command); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(s.data, s.buf[:10]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(s.buf[2:])
	if n < 10 || n > uint32(len(s.buf)) {
		return nil, fmt.Errorf("swtpm: response of %d bytes", n)
	}
	_, err := io.ReadFull(s.data, s.buf[10:n])
	return s.buf[:n], err
}

// Commands of the control channel (tpm_ioctl.h).
const (
	ctlInit        = 2
	ctlSetLocality = 5
	ctlHashStart   = 6
	ctlHashData    = 7
	ctlHashEnd     = 8
)

// ioctl sends a command of the control channel and reads its result.
func (s *SWTPM) ioctl(code uint32, args ...byte) error {
	if err := s.control.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := s.control.Write(append(binary.BigEndian.AppendUint32(nil, code), args...)); err != nil {
		return err
	}
	var result [4]byte
	if _, err := io.ReadFull(s.control, result[:]); err != nil {
		return fmt.Errorf("swtpm: control %d: %w", code, err)
	}
	if rc := binary.BigEndian.Uint32(result[:]); rc != 0 {
		return fmt.Errorf("swtpm: control %d: %#x", code, rc)
	}
	return nil
}

// PowerCycle has the TPM start again from its state file.
func (s *SWTPM) PowerCycle() error { return s.ioctl(ctlInit, 0, 0, 0, 0) }

// SetLocality sets the locality of the commands that follow.
func (s *SWTPM) SetLocality(locality uint8) error { return s.ioctl(ctlSetLocality, locality) }

// Hash sends the three signals of the dynamic root of trust.
func (s *SWTPM) Hash(data []byte) error {
	if err := s.ioctl(ctlHashStart); err != nil {
		return err
	}
	if err := s.ioctl(ctlHashData, append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)...); err != nil {
		return err
	}
	return s.ioctl(ctlHashEnd)
}

// Close ends the process and removes its folder.
func (s *SWTPM) Close() error {
	for _, c := range []net.Conn{s.data, s.control} {
		if c != nil {
			c.Close()
		}
	}
	err := s.process.Process.Kill()
	_ = s.process.Wait() // it was killed
	return errors.Join(err, os.RemoveAll(s.dir))
}
