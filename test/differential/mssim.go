package differential

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// MSSIM is a program that speaks the protocol of the TPM simulator (TpmTcpProtocol.h),
// one process and one folder for each TPM.
type MSSIM struct {
	dir               string
	process           *exec.Cmd
	commands          net.Conn
	platform          net.Conn
	locality          uint8
	request, response []byte
}

// StartMSSIM starts program PORT in a new folder below dir, where it keeps its state,
// and gives its TPM power. It listens at the port and at the next one.
func StartMSSIM(program, dir string, port int) (*MSSIM, error) {
	m := &MSSIM{response: make([]byte, 8192)}
	var err error
	if m.dir, err = os.MkdirTemp(dir, "tpm"); err != nil {
		return nil, err
	}
	m.process = exec.Command(program, strconv.Itoa(port))
	m.process.Dir = m.dir
	if err := m.process.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(m.dir))
	}
	if m.commands, err = dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
		m.platform, err = dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+1)))
	}
	for _, signal := range []uint32{mssimPowerOn, mssimNVOn} {
		if err == nil {
			err = m.signal(m.platform, signal)
		}
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Commands of the simulator protocol.
const (
	mssimPowerOn   = 1
	mssimPowerOff  = 2
	mssimHashStart = 5
	mssimHashData  = 6
	mssimHashEnd   = 7
	mssimCommand   = 8
	mssimNVOn      = 11
)

// Send runs a command. The response is valid until the next one.
func (m *MSSIM) Send(command []byte) ([]byte, error) {
	b := binary.BigEndian.AppendUint32(m.request[:0], mssimCommand)
	b = binary.BigEndian.AppendUint32(append(b, m.locality), uint32(len(command)))
	m.request = append(b, command...)
	if err := m.write(m.commands, m.request); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(m.commands, m.response[:4]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(m.response)
	if n < 10 || n > uint32(len(m.response)) {
		return nil, fmt.Errorf("simulator: response of %d bytes", n)
	}
	if _, err := io.ReadFull(m.commands, m.response[:n]); err != nil {
		return nil, err
	}
	return m.response[:n], acknowledged(m.commands)
}

// signal sends a command that has no answer but that it was heard.
func (m *MSSIM) signal(to net.Conn, code uint32, args ...byte) error {
	if err := m.write(to, append(binary.BigEndian.AppendUint32(nil, code), args...)); err != nil {
		return err
	}
	return acknowledged(to)
}

func (m *MSSIM) write(to net.Conn, b []byte) error {
	if err := to.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := to.Write(b)
	return err
}

// acknowledged reads the word that ends each answer.
func acknowledged(from net.Conn) error {
	var b [4]byte
	if _, err := io.ReadFull(from, b[:]); err != nil {
		return err
	}
	if rc := binary.BigEndian.Uint32(b[:]); rc != 0 {
		return fmt.Errorf("simulator: %#x", rc)
	}
	return nil
}

// PowerCycle takes the power away and gives it back.
func (m *MSSIM) PowerCycle() error {
	if err := m.signal(m.platform, mssimPowerOff); err != nil {
		return err
	}
	if err := m.signal(m.platform, mssimPowerOn); err != nil {
		return err
	}
	return m.signal(m.platform, mssimNVOn)
}

// SetLocality sets the locality of the commands that follow.
func (m *MSSIM) SetLocality(locality uint8) error {
	m.locality = locality
	return nil
}

// Hash sends the three signals of the dynamic root of trust.
func (m *MSSIM) Hash(data []byte) error {
	if err := m.signal(m.commands, mssimHashStart); err != nil {
		return err
	}
	if err := m.signal(m.commands, mssimHashData, append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)...); err != nil {
		return err
	}
	return m.signal(m.commands, mssimHashEnd)
}

// Close ends the process and removes its folder.
func (m *MSSIM) Close() error {
	for _, c := range []net.Conn{m.commands, m.platform} {
		if c != nil {
			c.Close()
		}
	}
	err := m.process.Process.Kill()
	_ = m.process.Wait() // it was killed
	return errors.Join(err, os.RemoveAll(m.dir))
}
