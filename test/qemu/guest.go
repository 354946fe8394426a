package qemu

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// resend is how long an answer may take before the request is sent again: its bytes
// may have been in QEMU when the machine migrated.
const resend = 5 * time.Second

// A Guest is the program inside a machine, which follows the machine when that
// migrates. It is a transport for TPM commands. One goroutine may use it.
type Guest struct {
	mu   sync.Mutex // guards to
	to   io.WriteCloser
	last uint64

	lines chan string
}

// Guest waits for the program in the machine to speak.
func (m *Machine) Guest() (*Guest, error) {
	g, err := NewGuest(m.serial)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, m.Said())
	}
	return g, nil
}

// NewGuest waits for the program in a machine whose second serial port somebody's
// QEMU connects to ports.
func NewGuest(ports net.Listener) (*Guest, error) {
	g := &Guest{lines: make(chan string, 16)}
	if err := g.FollowTo(ports); err != nil {
		return nil, err
	}
	return g, g.Reset()
}

// Reset waits for the guest to come up again in the same machine.
func (g *Guest) Reset() error {
	_, err := g.answer("#0 ", Patience)
	return err
}

// Follow has the guest be reached through m from now on. What it said through the
// machine before, and was on its way, is still read.
func (g *Guest) Follow(m *Machine) error { return g.FollowTo(m.serial) }

// FollowTo has the guest be reached through the next connection to ports.
func (g *Guest) FollowTo(ports net.Listener) error {
	port, err := ports.Accept()
	if err != nil {
		return err
	}
	g.mu.Lock()
	g.to = port
	g.mu.Unlock()
	go g.read(port)
	return nil
}

// read passes lines on, until QEMU ends. A line that a migration cut has no end
// here, and comes again when its request does.
func (g *Guest) read(port io.ReadCloser) {
	defer port.Close()
	in := bufio.NewReader(port)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if i := strings.LastIndexByte(line, '#'); i >= 0 {
			g.lines <- strings.TrimSpace(line[i:])
		}
	}
}

// Do asks for something and waits for the answer.
func (g *Guest) Do(verb string, argument []byte) ([]byte, error) {
	g.last++
	request := fmt.Sprintf("#%d %s %x\n", g.last, verb, argument)
	var answer string
	end := time.Now().Add(Patience)
	for {
		g.mu.Lock()
		_, err := io.WriteString(g.to, request)
		g.mu.Unlock()
		if err == nil {
			answer, err = g.answer(fmt.Sprintf("#%d ", g.last), resend)
		}
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%s: %w", verb, err)
		}
	}
	word, rest, _ := strings.Cut(answer, " ")
	if word != "ok" {
		return nil, fmt.Errorf("%s: the guest says: %s", verb, rest)
	}
	return hex.DecodeString(rest)
}

// answer waits for a line that begins with the number of a request.
func (g *Guest) answer(number string, patience time.Duration) (string, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case line := <-g.lines:
			if rest, ok := strings.CutPrefix(line+" ", number); ok {
				return strings.TrimSpace(rest), nil
			}
		case <-timer.C:
			return "", errors.New("the guest does not answer")
		}
	}
}

// Send runs a TPM command in the guest.
func (g *Guest) Send(command []byte) ([]byte, error) { return g.Do("tpm", command) }

// File reads a file of the guest's.
func (g *Guest) File(name string) ([]byte, error) { return g.Do("file", []byte(name)) }

// PowerOff ends the guest, which does not answer any more.
func (g *Guest) PowerOff() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	_, err := fmt.Fprintf(g.to, "#%d off 00\n", g.last)
	return err
}
