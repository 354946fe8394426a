package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/assay-project/assay/internal/channel"
)

// ErrPowerOff is the end of [Server.Serve] when the host asked for the machine's.
var ErrPowerOff = errors.New("the host asks for the machine to be powered off")

// A Server answers the host over the serial channel.
type Server struct {
	Root fs.FS // where the kernel exports what it knows
	// Prover opens the machine's TPM when it is first needed, so that the host hears of
	// an agent without one.
	Prover func() (*TPM, error)
	// Modules collects what the kernel log says; KernelLog gives the lines that are new
	// since the last call, and may be nil.
	KernelLog func() []string
	Version   string
	// Interval is that of heartbeats; 0 means a minute.
	Interval time.Duration
	// PowerOff has the host's word for the machine's end; without it that is refused.
	PowerOff bool

	prover  *TPM
	modules Modules
}

// bootIDPath names a UUID that the kernel makes at each boot.
const bootIDPath = "proc/sys/kernel/random/boot_id"

func (s *Server) bootID() (string, error) {
	b, err := readAtMost(s.Root, bootIDPath, 64)
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.ToLower(strings.TrimSpace(string(b))), nil
}

// Serve speaks over port until it ends, the context does, or the host asks for the
// machine's end. It closes port, so that its reader ends too.
func (s *Server) Serve(ctx context.Context, port io.ReadWriteCloser) error {
	boot, err := s.bootID()
	if err != nil {
		return errors.Join(err, port.Close())
	}
	conn := channel.NewAgent(port)
	requests := make(chan channel.Message)
	ended := make(chan struct{})
	var lost error // of the port; set before ended is closed
	inner, cancel := context.WithCancel(ctx)
	// A reader and a writer that wait for the host end with the port.
	stop := context.AfterFunc(inner, func() { port.Close() })
	go func() {
		lost = receive(inner, conn, requests)
		close(ended)
	}()
	err = s.loop(inner, conn, boot, requests, ended)
	cancel()
	stop()
	port.Close()
	<-ended
	if ctx.Err() != nil {
		err = nil
	} else if err == nil {
		err = lost
	}
	return errors.Join(err, s.forget())
}

// forget closes the TPM; it is opened again when it is needed.
func (s *Server) forget() error {
	if s.prover == nil {
		return nil
	}
	err := s.prover.Close()
	s.prover = nil
	return err
}

// receive passes on what is a message; all else is noise on the line.
func receive(ctx context.Context, conn *channel.Conn, requests chan<- channel.Message) error {
	for {
		r, err := conn.Next()
		if err != nil {
			return err
		}
		if r.Message == nil {
			continue
		}
		select {
		case requests <- r.Message:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) loop(ctx context.Context, conn *channel.Conn, boot string, requests <-chan channel.Message, ended <-chan struct{}) error {
	hello := &channel.Hello{Agent: channel.Clean(s.Version, 64), Boot: boot}
	if err := conn.Write(hello); err != nil {
		return err
	}
	interval := s.Interval
	if interval <= 0 {
		interval = time.Minute
	}
	beat := time.NewTicker(interval)
	defer beat.Stop()
	for {
		var answer channel.Message
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return nil
		case <-beat.C:
			answer = s.heartbeat(boot)
		case m := <-requests:
			if _, off := m.(*channel.PowerOff); off && s.PowerOff {
				return ErrPowerOff
			}
			if answer = s.answer(m); answer == nil {
				answer = hello
			}
		}
		if err := s.write(conn, answer); err != nil {
			return err
		}
	}
}

// write sends an answer, or says why it cannot be sent.
func (s *Server) write(conn *channel.Conn, m channel.Message) error {
	if _, err := channel.Encode(m); err != nil {
		id := uint64(0)
		if e, ok := m.(*channel.Evidence); ok {
			id = e.ID
		}
		if id == 0 {
			return nil // a heartbeat that the guest's own names spoil is left out
		}
		m = failed(id, err)
	}
	return conn.Write(m)
}

func (s *Server) heartbeat(boot string) channel.Message {
	if s.KernelLog != nil {
		s.modules.Take(s.KernelLog())
	}
	kernel := s.modules.Look(s.Root)
	return &channel.Heartbeat{Boot: boot, Modules: s.modules.Found(), Kernel: kernel}
}

func failed(id uint64, err error) channel.Message {
	return &channel.Failure{Head: channel.Head{ID: id}, Message: channel.Clean(strings.ReplaceAll(err.Error(), "\n", "; "), channel.MaxText)}
}

// answer carries a request out; nil means who the agent is.
func (s *Server) answer(m channel.Message) channel.Message {
	var out channel.Message
	var err error
	var id uint64
	switch m := m.(type) {
	case *channel.Enrol:
		id = m.ID
		out, err = s.key(m)
	case *channel.Activate:
		id = m.ID
		out, err = s.activate(m)
	case *channel.Challenge:
		id = m.ID
		out, err = s.evidence(m)
	case *channel.PowerOff:
		id, err = m.ID, errors.New("the agent is not the init of this machine")
	}
	if err != nil {
		// What stopped the TPM may be over when it is opened anew.
		return failed(id, errors.Join(err, s.forget()))
	}
	return out
}

func (s *Server) open() (*TPM, error) {
	if s.prover != nil {
		return s.prover, nil
	}
	var err error
	s.prover, err = s.Prover()
	return s.prover, err
}

func (s *Server) key(m *channel.Enrol) (channel.Message, error) {
	t, err := s.open()
	if err != nil {
		return nil, err
	}
	return &channel.Key{Head: channel.Head{ID: m.ID}, AKPublic: t.AKPublic()}, nil
}

func (s *Server) activate(m *channel.Activate) (channel.Message, error) {
	t, err := s.open()
	if err != nil {
		return nil, err
	}
	secret, err := t.Activate(m.Template, m.CredentialBlob, m.EncryptedSecret)
	if err != nil {
		return nil, err
	}
	return &channel.Secret{Head: channel.Head{ID: m.ID}, Secret: secret}, nil
}

// lineOverhead is what a line of evidence has besides its bundle.
const lineOverhead = 256

func (s *Server) evidence(m *channel.Challenge) (channel.Message, error) {
	t, err := s.open()
	if err != nil {
		return nil, err
	}
	b, err := t.Evidence(s.Root, m.Nonce, true)
	if err != nil {
		return nil, err
	}
	text, noIMA, err := b.Within(min(m.Limit, channel.MaxEvidence) - lineOverhead)
	if err != nil {
		return nil, err
	}
	return &channel.Evidence{Head: channel.Head{ID: m.ID}, Bundle: json.RawMessage(text), NoIMA: noIMA}, nil
}
