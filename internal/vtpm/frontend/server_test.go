package frontend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a running simulator.
type served struct {
	commands, platform string
	stop               context.CancelFunc
	done               chan error
}

func serveSimulator(t *testing.T, m *Machine) *served {
	t.Helper()
	s := &served{done: make(chan error, 1)}
	var listeners []net.Listener
	for _, addr := range []*string{&s.commands, &s.platform} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		*addr = l.Addr().String()
		listeners = append(listeners, l)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.done <- ServeMSSIM(ctx, m, listeners[0], listeners[1], Config{Now: time.Now}) }()
	t.Cleanup(stop)
	return s
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends bytes and checks the answer.
func ask(t *testing.T, c net.Conn, send, want string) {
	t.Helper()
	if _, err := c.Write(unhex(t, send)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want)/2)
	if _, err := io.ReadFull(c, got); err != nil || fmt.Sprintf("%x", got) != want {
		t.Fatalf("%s: answer %x, %v, want %s", send, got, err, want)
	}
}

const (
	simCommand = "0000000800" + "0000000c" + getRandom
	simAnswer  = "0000000b80010000000b0000017b0000000000"
)

func TestClientsShareOneTPM(t *testing.T) {
	tpm := &fakeTPM{}
	s := serveSimulator(t, NewMachine(tpm, MachineConfig{}))
	ask(t, dial(t, "tcp", s.commands), simCommand, "0000000000000000")
	ask(t, dial(t, "tcp", s.platform), "00000001", "00000000")
	a, b := dial(t, "tcp", s.commands), dial(t, "tcp", s.commands)
	for range 3 {
		ask(t, a, simCommand, simAnswer)
		ask(t, b, simCommand, simAnswer)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Errorf("ServeMSSIM = %v after its context ended", err)
	}
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("a connection is open after the server stopped")
	}
}

func TestAClientStopsTheSimulatorOverTheCommandPort(t *testing.T) {
	s := serveSimulator(t, NewMachine(&fakeTPM{}, MachineConfig{}))
	platform, commands := dial(t, "tcp", s.platform), dial(t, "tcp", s.commands)
	ask(t, platform, "00000001", "00000000")
	ask(t, platform, "00000015", "")
	if _, err := platform.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after TPM_STOP the platform port says %v, want EOF", err)
	}
	ask(t, commands, simCommand, simAnswer)
	ask(t, commands, "00000015", "")
	if err := <-s.done; err != nil {
		t.Errorf("ServeMSSIM = %v after TPM_STOP", err)
	}
}

func TestACommandUnderWayIsAnsweredBeforeTheServerStops(t *testing.T) {
	tpm := &fakeTPM{entered: make(chan struct{}), release: make(chan struct{})}
	m := NewMachine(tpm, MachineConfig{})
	m.PowerOn()
	s := serveSimulator(t, m)
	c := dial(t, "tcp", s.commands)
	if _, err := c.Write(unhex(t, simCommand)); err != nil {
		t.Fatal(err)
	}
	<-tpm.entered
	m.Cancel() // does not wait for the command
	s.stop()
	close(tpm.release)
	got := make([]byte, len(simAnswer)/2)
	if _, err := io.ReadFull(c, got); err != nil || fmt.Sprintf("%x", got) != simAnswer {
		t.Errorf("answer %x, %v, want %s", got, err, simAnswer)
	}
	if err := <-s.done; err != nil {
		t.Errorf("ServeMSSIM = %v", err)
	}
}

func TestATPMWhoseStateCannotBeKeptFails(t *testing.T) {
	full := errors.New("disk is full")
	tpm := &fakeTPM{}
	m := NewMachine(tpm, MachineConfig{Save: func([]byte) error { return full }})
	m.PowerOn()
	tpm.changed = true
	s := serveSimulator(t, m)
	ask(t, dial(t, "tcp", s.commands), simCommand, "0000000a"+"80010000000a00000101"+"00000000")
	if err := <-s.done; !errors.Is(err, full) {
		t.Errorf("ServeMSSIM = %v, want %v", err, full)
	}
	if got := m.Execute(nil, 0, unhex(t, getRandom)); fmt.Sprintf("%x", got) != "80010000000a00000101" {
		t.Errorf("the next command is answered %x", got)
	}
}

// A TPM that met a fault gives no state: nothing is saved, stored or restored.
func TestATPMWithoutStateFails(t *testing.T) {
	fault := errors.New("a fault of the TPM's own")
	saved := false
	tpm := &fakeTPM{fault: fault, changed: true}
	m := NewMachine(tpm, MachineConfig{
		Save:    func([]byte) error { saved = true; return nil },
		Restore: func(_, _ []byte) (TPM, error) { t.Error("restored"); return nil, io.EOF },
	})
	m.PowerOn()
	if got := m.Execute(nil, 0, unhex(t, getRandom)); fmt.Sprintf("%x", got) != "80010000000a00000101" || saved {
		t.Errorf("answer %x, saved %v; want TPM_RC_FAILURE, false", got, saved)
	}
	if err := m.Err(); !errors.Is(err, fault) {
		t.Errorf("Err = %v, want %v", err, fault)
	}
	if err := m.StoreVolatile(); !errors.Is(err, fault) {
		t.Errorf("StoreVolatile = %v, want %v", err, fault)
	}
	if err := m.cfg.Volatile.Put([]byte("of before")); err != nil {
		t.Fatal(err)
	}
	if err := m.Init(false); !errors.Is(err, fault) {
		t.Errorf("Init = %v, want %v", err, fault)
	}
}

func TestStateIsSavedBeforeTheAnswerAndOnlyWhenItChanged(t *testing.T) {
	tpm := &fakeTPM{}
	var saved []string
	m := NewMachine(tpm, MachineConfig{Save: func(b []byte) error { saved = append(saved, string(b)); return nil }})
	m.PowerOn()
	m.Execute(nil, 0, unhex(t, getRandom))
	if len(saved) != 0 {
		t.Errorf("saved %q though nothing changed", saved)
	}
	tpm.changed = true
	m.Execute(nil, 0, unhex(t, getRandom))
	m.Execute(nil, 0, unhex(t, getRandom))
	if len(saved) != 1 || saved[0] != "permanent" {
		t.Errorf("saved %q, want once", saved)
	}
}

func TestShutdownIsOrderly(t *testing.T) {
	const shutdown = "80010000000c000001450000"
	for name, tc := range map[string]struct {
		commands []string
		refuses  bool
		want     int
	}{
		"running":                  {[]string{getRandom}, false, 2},
		"after a shutdown":         {[]string{getRandom, shutdown}, false, 2},
		"after one that failed":    {[]string{getRandom, shutdown}, true, 3},
		"after one and a command":  {[]string{shutdown, getRandom}, false, 3},
		"after one and half a one": {[]string{shutdown, shutdown[:18]}, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			tpm := &fakeTPM{refuses: tc.refuses}
			m := NewMachine(tpm, MachineConfig{})
			m.PowerOn()
			tpm.calls = nil
			for _, c := range tc.commands {
				m.Execute(nil, 0, unhex(t, c))
			}
			if err := m.Shutdown(); err != nil {
				t.Fatal(err)
			}
			told := tpm.noted()
			if len(told) != tc.want || m.Powered() {
				t.Errorf("the TPM was told %q, powered %v; want %d commands, no power", told, m.Powered(), tc.want)
			}
		})
	}
}

// Stored volatile state that permanent state had left behind made every later
// CMD_INIT fail, whether or not it was to be forgotten.
func TestVolatileStateThatDoesNotFitIsRefusedOnce(t *testing.T) {
	tpm := &fakeTPM{}
	m := NewMachine(tpm, MachineConfig{Restore: func(_, _ []byte) (TPM, error) { return nil, io.ErrUnexpectedEOF }})
	m.PowerOn()
	if err := m.StoreVolatile(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{io.ErrUnexpectedEOF, nil} {
		if err := m.Init(false); !errors.Is(err, want) {
			t.Errorf("Init = %v, want %v", err, want)
		}
	}
}

func TestSWTPMListensOnAUnixSocketAndShutsDown(t *testing.T) {
	dir, err := os.MkdirTemp("", "front") // a short name: the path of a socket has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var l [2]net.Listener
	for i := range l {
		if l[i], err = net.Listen("unix", filepath.Join(dir, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	m := NewMachine(&fakeTPM{}, MachineConfig{})
	go func() {
		done <- ServeSWTPM(context.Background(), m, l[0], SWTPMConfig{Control: l[1]}, Config{Now: time.Now})
	}()
	data, control := dial(t, "unix", l[0].Addr().String()), dial(t, "unix", l[1].Addr().String())
	ask(t, data, getRandom, "80010000000a00000101")
	ask(t, control, "0000000200000000", "00000000")
	ask(t, control, "0000000502", "00000000")
	ask(t, data, getRandom, "80010000000b0000017b02")
	ask(t, control, "00000003", "00000000")
	if err := <-done; err != nil {
		t.Errorf("ServeSWTPM = %v after CMD_SHUTDOWN", err)
	}
}

func TestTerminateEndsWithTheClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	m := NewMachine(&fakeTPM{}, MachineConfig{})
	m.PowerOn()
	go func() {
		done <- ServeSWTPM(context.Background(), m, l, SWTPMConfig{Terminate: true}, Config{Now: time.Now})
	}()
	c := dial(t, "tcp", l.Addr().String())
	ask(t, c, getRandom, "80010000000b0000017b00")
	c.Close()
	if err := <-done; err != nil {
		t.Errorf("ServeSWTPM = %v after its client left", err)
	}
}

func TestBeforeIsToldOfEachCommand(t *testing.T) {
	command := "execute 0 " + getRandom
	for name, tc := range map[string]struct {
		serve        func(m *Machine, l, other net.Listener, cfg Config) error
		send, answer string
	}{
		"swtpm": {func(m *Machine, l, control net.Listener, cfg Config) error {
			return ServeSWTPM(t.Context(), m, l, SWTPMConfig{Control: control, Terminate: true}, cfg)
		}, getRandom, "80010000000b0000017b00"},
		"simulator": {func(m *Machine, l, platform net.Listener, cfg Config) error {
			return ServeMSSIM(t.Context(), m, l, platform, cfg)
		}, simCommand + "00000015", simAnswer}, // and TPM_STOP
	} {
		t.Run(name, func(t *testing.T) {
			tpm := &fakeTPM{}
			m := NewMachine(tpm, MachineConfig{})
			m.PowerOn()
			l, other := listenTCP(t), listenTCP(t)
			done := make(chan error, 1)
			go func() {
				done <- tc.serve(m, l, other, Config{Now: time.Now, Before: func(request []byte) func() {
					tpm.note("before %x", request)
					return func() { tpm.note("after") }
				}})
			}()
			c := dial(t, "tcp", l.Addr().String())
			ask(t, c, tc.send, tc.answer)
			c.Close()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"power on", "before " + getRandom, command, "after"}, tpm.noted()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// The ends that clients make are orderly ones; that of a TPM whose state cannot be
// kept is told all the same.
func TestNoEndHidesAFailure(t *testing.T) {
	full := errors.New("disk is full")
	for name, tc := range map[string]struct {
		cfg SWTPMConfig
		end func(t *testing.T, data, control net.Conn)
	}{
		"--terminate": {SWTPMConfig{Terminate: true}, func(t *testing.T, data, _ net.Conn) {
			ask(t, data, getRandom, "80010000000a00000101")
			data.Close()
		}},
		"--ctrl ...,terminate": {SWTPMConfig{TerminateControl: true}, func(t *testing.T, _, control net.Conn) {
			ask(t, control, "0000000e", "00000009") // CMD_STOP
			control.Close()
		}},
		"CMD_SHUTDOWN": {SWTPMConfig{}, func(t *testing.T, _, control net.Conn) { ask(t, control, "00000003", "00000009") }},
	} {
		t.Run(name, func(t *testing.T) {
			data, control := listenTCP(t), listenTCP(t)
			tc.cfg.Control = control
			tpm := &fakeTPM{}
			m := NewMachine(tpm, MachineConfig{Save: func([]byte) error { return full }})
			m.PowerOn()
			tpm.changed = true
			done := make(chan error, 1)
			go func() { done <- ServeSWTPM(context.Background(), m, data, tc.cfg, Config{Now: time.Now}) }()
			c, d := dial(t, "tcp", control.Addr().String()), dial(t, "tcp", data.Addr().String())
			tc.end(t, d, c)
			if err := <-done; !errors.Is(err, full) {
				t.Errorf("ServeSWTPM = %v, want %v", err, full)
			}
		})
	}
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestHalfAFrameDoesNotWaitForEver(t *testing.T) {
	for name, tc := range map[string]struct{ send string }{
		"half a code":    {"0000"},
		"half a command": {simCommand[:30]},
		"half the data":  {"00000006" + "00000004" + "aa"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := newSimulator()
				client, server := net.Pipe()
				done := make(chan error, 1)
				go func() { done <- s.commandPort(newLink(server, time.Now)) }()
				begun := time.Now()
				if _, err := client.Write(unhex(t, tc.send)); err != nil {
					t.Fatal(err)
				}
				if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("ended by %v, want a deadline", err)
				}
				if d := time.Since(begun); d != frameTime {
					t.Errorf("ended after %v, want %v", d, frameTime)
				}
				client.Close()
				server.Close()
			})
		})
	}
}

func TestAnAnswerThatIsNotTakenDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSWTPM()
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.control(newLink(server, time.Now)) }()
		begun := time.Now()
		if _, err := client.Write(unhex(t, "00000001")); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ended by %v, want a deadline", err)
		}
		if d := time.Since(begun); d != sendTime {
			t.Errorf("ended after %v, want %v", d, sendTime)
		}
		client.Close()
		server.Close()
	})
}

func TestASilentClientMayWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newSimulator()
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.commandPort(newLink(server, time.Now)) }()
		for range 3 {
			<-time.After(10 * frameTime)
			ask(t, client, simCommand, simAnswer)
		}
		client.Close()
		if err := <-done; !ended(err) {
			t.Errorf("ended by %v", err)
		}
		server.Close()
	})
}

func TestALengthAloneCostsNoMemory(t *testing.T) {
	s, _ := newSimulator()
	l := newLink(&memConn{in: bytes.NewReader(unhex(t, "0000000800"+"00003fff"+strings.Repeat("00", 16)))}, time.Now)
	if err := s.commandPort(l); !ended(err) {
		t.Fatal(err)
	}
	if len(l.buf) > firstBuffer {
		t.Errorf("a client that sent 25 bytes has a buffer of %d", len(l.buf))
	}
}

func TestAServerNeedsAClock(t *testing.T) {
	if err := ServeMSSIM(context.Background(), nil, nil, nil, Config{}); err == nil {
		t.Error("ServeMSSIM without a clock succeeds")
	}
	if err := ServeSWTPM(context.Background(), nil, nil, SWTPMConfig{}, Config{}); err == nil {
		t.Error("ServeSWTPM without a clock succeeds")
	}
}

// A client that breaks the protocol all the time does not fill the log.
func TestWarningsOfAServerHaveARate(t *testing.T) {
	var log bytes.Buffer
	s := newServer(t.Context(), Config{Now: time.Now, Log: slog.New(slog.NewTextHandler(&log, nil))})
	for range 1000 {
		s.warnOf("broken")
	}
	if n := strings.Count(log.String(), "broken"); n < warningsBurst || n > warningsBurst+5 {
		t.Errorf("%d warnings, want about %d", n, warningsBurst)
	}
	log.Reset()
	s.warnings.SetBurst(1000)
	s.warnings.SetLimit(rate.Inf)
	s.warnOf("again")
	if !strings.Contains(log.String(), "dropped=9") {
		t.Errorf("%q does not say how many were dropped", log.String())
	}
}
