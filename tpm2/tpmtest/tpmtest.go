// Package tpmtest gives Go tests a TPM 2.0: a new one for each call, in this
// process, without cgo and without a port. Any number may run in parallel.
//
// What it gives is as genuine as its test: nothing certifies its keys, and with
// [Config.Seed] anybody can compute them.
//
// Start with [Open]. The result is what go-tpm (transport.TPMCloser),
// go-tpm-tools (io.ReadWriteCloser) and canonical/go-tpm2 (Transport) take; this
// package imports none of them. [NewRecorder] and [NewReplay] keep a
// conversation and play it again.
//
// TPM 2.0 Library, version 1.83.
package tpmtest

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2/engine"
)

// Config is what a test may choose. Its zero value is a new TPM of the newest
// default profile, started.
type Config struct {
	// Profile is the name of an engine profile; empty means "default".
	Profile string
	// Seed, when not nil, makes the TPM from these bytes alone: the same keys, the
	// same random numbers in every run. Nothing that it protects is secret.
	Seed []byte
	// Now is the time that passes for the TPM; nil means real time.
	Now func() time.Duration
	// NotStarted leaves TPM2_Startup to the test.
	NotStarted bool
}

// ErrClosed is a TPM that was closed.
var ErrClosed = errors.New("TPM is closed")

// A TPM is a TPM of one test. Its methods may be called by several goroutines;
// commands run one after the other.
type TPM struct {
	mu       sync.Mutex // guards all below
	engine   *engine.TPM
	locality uint8
	command  []byte // written so far
	response []byte // not yet read
	closed   bool
}

// Open returns a new TPM, which is closed when the test ends. It fails the test
// when it cannot.
func Open(t testing.TB) *TPM {
	t.Helper()
	return OpenConfig(t, Config{})
}

// OpenConfig is [Open] with choices.
func OpenConfig(t testing.TB, cfg Config) *TPM {
	t.Helper()
	tpm, err := New(cfg)
	if err != nil {
		t.Fatalf("open TPM: %v", err)
	}
	t.Cleanup(func() { tpm.Close() })
	return tpm
}

// New is [OpenConfig] for code without a test at hand, such as an example.
func New(cfg Config) (*TPM, error) {
	if cfg.Profile == "" {
		cfg.Profile = "default"
	}
	p, err := engine.FindProfile(cfg.Profile, 0)
	if err != nil {
		return nil, err
	}
	e, err := engine.Manufacture(p, engine.Config{Random: cfg.random(), Now: cfg.clock()})
	if err != nil {
		return nil, err
	}
	t := &TPM{engine: e}
	e.PowerOn()
	if cfg.NotStarted {
		return t, nil
	}
	return t, t.startup()
}

func (c *Config) clock() func() time.Duration {
	if c.Now != nil {
		return c.Now
	}
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// Commands that this package sends itself.
var (
	startupClear  = [12]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0}
	shutdownClear = [12]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0}
)

func (t *TPM) startup() error {
	return succeeded(t.engine.Execute(0, startupClear[:]))
}

func succeeded(response []byte) error {
	if rc := binary.BigEndian.Uint32(response[6:]); rc != 0 {
		return fmt.Errorf("TPM answers %#x", rc)
	}
	return nil
}

// Send runs a command. The response belongs to the caller.
func (t *TPM) Send(command []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	return append([]byte(nil), t.engine.Execute(t.locality, command)...), nil
}

// maxCommand bounds what Write collects; the TPM's own limit is lower.
const maxCommand = 16 << 10

// Write takes a command, or the next part of one: it runs when it is as long as
// its header says. The response waits for Read; a response nobody read is lost.
func (t *TPM) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return 0, ErrClosed
	}
	if len(t.command)+len(b) > maxCommand {
		return 0, fmt.Errorf("command of more than %d bytes", maxCommand)
	}
	t.command = append(t.command, b...)
	if len(t.command) < 6 || uint64(len(t.command)) < uint64(binary.BigEndian.Uint32(t.command[2:])) {
		return len(b), nil
	}
	t.response = append(t.response[:0], t.engine.Execute(t.locality, t.command)...)
	t.command = t.command[:0]
	return len(b), nil
}

// ErrNoResponse is a Read without a command before it.
var ErrNoResponse = errors.New("no response to read")

// Read gives the response of the last command, in parts when b is too short.
func (t *TPM) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return 0, ErrClosed
	case len(t.response) == 0:
		return 0, ErrNoResponse
	}
	n := copy(b, t.response)
	t.response = t.response[n:]
	return n, nil
}

// Close ends the TPM. A second call returns [ErrClosed].
func (t *TPM) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	t.closed = true
	return nil
}

// SetLocality says from which locality the following commands come; 0 at first.
func (t *TPM) SetLocality(locality uint8) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.locality = locality
}

// SetPhysicalPresence says whether a person is at the machine; at first nobody is.
func (t *TPM) SetPhysicalPresence(present bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.engine.SetPhysicalPresence(present)
}

// Reset is an orderly reboot: TPM2_Shutdown(CLEAR), loss of power, TPM2_Startup(CLEAR).
func (t *TPM) Reset() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	if err := succeeded(t.engine.Execute(0, shutdownClear[:])); err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	t.engine.PowerOn()
	return t.startup()
}

// PowerCycle takes the power away without warning and gives it back. The test
// sends TPM2_Startup.
func (t *TPM) PowerCycle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.engine.PowerOn()
	t.command, t.response = t.command[:0], t.response[:0]
}

// random is the entropy of the TPM.
func (c *Config) random() io.Reader {
	if c.Seed == nil {
		return rand.Reader
	}
	return newStream(c.Seed)
}
