package machine

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/assay-project/assay/tpm2"
)

// bootFile, in the run folder, is what the fake QEMU's guest does in its boots: lines
// "PCR SHA256 [SHA1 SHA384 SHA512]", "print TEXT", "variable BYTE", "reset", "suspend", "wake",
// "await FILE" and "off". It then waits. "hang" is the first line of a firmware that does nothing.
const bootFile = "boot"

func TestMain(m *testing.M) {
	fake, err := isFake()
	if !fake {
		fake, err = isSupervisor()
	}
	if fake {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// A fakeQEMU is a hypervisor whose guest does what a script says, over the true
// channels: the monitor, the console, the TPM's control and data channel.
type fakeQEMU struct {
	monitor, tpm, data, console net.Conn
	variables                   *os.File
	script                      []string
	off                         chan bool // true for the guest's own wish
	ready                       chan bool // closed when the monitor is
	wired                       chan bool // closed when a machine that waits has its channels
	args                        []string
	copies                      fakeCopies

	mu        sync.Mutex // guards what follows
	runs      string     // RunState
	migration string     // its status
	going     chan bool  // closed when the processors are to run; nil when they did
}

func runFake(args []string) error {
	signal.Ignore(syscall.SIGPIPE) // as QEMU does: who started it may have been killed
	f := &fakeQEMU{off: make(chan bool, 4), ready: make(chan bool), args: args, runs: "running", wired: make(chan bool), going: make(chan bool)}
	if waits(args) {
		f.runs = "inmigrate"
	}
	l, err := net.Listen("unix", monitorSocket)
	if err != nil {
		return err
	}
	if f.console, err = net.Dial("unix", consoleSocket); err != nil {
		return err
	}
	if strings.Contains(strings.Join(args, " "), "tpmdev") {
		if f.tpm, err = net.Dial("unix", tpmSocket); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(bootFile)
	if err != nil {
		return err
	}
	f.script = strings.Split(strings.TrimSpace(string(text)), "\n")
	f.variables = os.NewFile(3, "variables")
	if f.monitor, err = l.Accept(); err != nil {
		return err
	}
	fmt.Fprintln(f.monitor, `{"QMP": {}}`)
	go f.commands()
	go func() {
		if err := f.run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			f.off <- false
		}
	}()
	if guest := <-f.off; guest {
		fmt.Fprintln(f.monitor, `{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}, "timestamp": {"seconds": 1, "microseconds": 0}}`)
	}
	return f.monitor.Close()
}

func (f *fakeQEMU) commands() {
	for s := bufio.NewScanner(f.monitor); s.Scan(); {
		var r struct {
			Execute, ID string
			Arguments   json.RawMessage
		}
		if json.Unmarshal(s.Bytes(), &r) != nil {
			return
		}
		f.answer(r.ID)(f.perform(r.Execute, r.Arguments))
		switch r.Execute {
		case "qmp_capabilities":
			close(f.ready)
		case "cont": // its answer is out: the guest may end the machine at once
			f.goes()
		case "quit":
			f.off <- false
		case "system_powerdown":
			f.off <- true
		}
	}
}

// answer writes the answer to a command.
func (f *fakeQEMU) answer(id string) func(any, error) {
	return func(result any, err error) {
		what := map[string]any{"return": result, "id": id}
		if err != nil {
			what = map[string]any{"error": map[string]string{"class": "GenericError", "desc": err.Error()}, "id": id}
		}
		json.NewEncoder(f.monitor).Encode(what) //nolint:errcheck // nobody reads it then
	}
}

// run is the machine's power, boot after boot.
func (f *fakeQEMU) run() error {
	<-f.ready
	if f.script[0] == "hang" { // a firmware that never gets to its TPM
		return nil
	}
	if err := f.begins(); err != nil {
		return err
	}
	for _, line := range f.script {
		verb, rest, _ := strings.Cut(line, " ")
		var err error
		switch verb {
		case "":
		case "print":
			_, err = fmt.Fprintf(f.console, "%s\r\n", rest)
		case "variable":
			_, err = f.variables.WriteAt([]byte{rest[0]}, 100_000)
		case "reset":
			fmt.Fprintln(f.monitor, `{"event": "RESET", "data": {"guest": true, "reason": "guest-reset"}, "timestamp": {"seconds": 1, "microseconds": 0}}`)
			err = f.powerOn(false)
		case "suspend": // TPM2_Shutdown(STATE), as a guest does before it sleeps or hibernates
			err = f.command([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x45, 0, 1})
		case "wake": // the machine's reset, and the firmware's TPM2_Startup(STATE)
			if err = f.control([]byte{0, 0, 0, 2, 0, 0, 0, 0}, nil); err == nil {
				err = f.command([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 1})
			}
		case "await": // a file in the run folder
			err = awaitFile(rest)
		case "notpm":
			f.data.Close()
			err = f.tpm.Close()
		case "off":
			f.off <- true
		case "crash":
			os.Exit(3)
		default:
			err = f.extend(verb, rest)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
	}
	return nil
}

// begins boots the machine, or waits until it has arrived and is to run.
func (f *fakeQEMU) begins() error {
	f.mu.Lock()
	going := f.going
	f.mu.Unlock()
	if !waits(f.args) {
		return f.powerOn(true)
	}
	if f.tpm != nil {
		if err := f.passData(); err != nil {
			return err
		}
	}
	close(f.wired)
	<-going
	return nil
}

// powerOn gives the TPM power and starts it, as QEMU and the firmware do.
func (f *fakeQEMU) powerOn(first bool) error {
	if f.tpm == nil {
		return nil
	}
	if first {
		if err := f.passData(); err != nil {
			return err
		}
	}
	if err := f.control([]byte{0, 0, 0, 2, 0, 0, 0, 0}, nil); err != nil {
		return err
	}
	return f.command([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0}) // TPM2_Startup(CLEAR)
}

func (f *fakeQEMU) passData() error {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fds[0]), "data")
	if f.data, err = net.FileConn(file); err != nil {
		return err
	}
	return f.control([]byte{0, 0, 0, 0x10}, syscall.UnixRights(fds[1]))
}

func (f *fakeQEMU) control(request, rights []byte) error {
	if _, _, err := f.tpm.(*net.UnixConn).WriteMsgUnix(request, rights, nil); err != nil {
		return err
	}
	var answer [4]byte
	if _, err := io.ReadFull(f.tpm, answer[:]); err != nil {
		return err
	}
	if answer != [4]byte{} {
		return fmt.Errorf("control channel: %x", answer)
	}
	return nil
}

// extend is TPM2_PCR_Extend of all banks with an empty password.
func (f *fakeQEMU) extend(pcr, digests string) error {
	var n uint32
	if _, err := fmt.Sscan(pcr, &n); err != nil {
		return err
	}
	b := []byte{0x80, 2, 0, 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.CCPCRExtend))
	b = binary.BigEndian.AppendUint32(b, n)
	b = append(b, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0) // TPM_RS_PW
	b = append(b, 0, 0, 0, byte(len(fakeBanks)))
	texts := strings.Fields(digests)
	for i, bank := range fakeBanks {
		d, err := hex.DecodeString(texts[min(i, len(texts)-1)])
		if err != nil {
			return err
		}
		if len(d) != bank.DigestSize() { // of something that has no meaning
			h, _ := bank.Hash()
			w := h.New()
			w.Write(d)
			d = w.Sum(nil)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(bank))
		b = append(b, d...)
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return f.command(b)
}

// fakeBanks are those of the TPMs that machines get, in the order of a script's digests.
var fakeBanks = [...]tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA1, tpm2.AlgSHA384, tpm2.AlgSHA512}

func (f *fakeQEMU) command(b []byte) error {
	if _, err := f.data.Write(b); err != nil {
		return err
	}
	head := make([]byte, 10)
	if _, err := io.ReadFull(f.data, head); err != nil {
		return err
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[2:])-10)
	if _, err := io.ReadFull(f.data, rest); err != nil {
		return err
	}
	if rc := binary.BigEndian.Uint32(head[6:]); rc != 0 {
		return fmt.Errorf("response code %#x", rc)
	}
	return nil
}

// awaitFile waits until there is a file.
func awaitFile(name string) error {
	for {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		syscall.Nanosleep(&syscall.Timespec{Nsec: 2e6}, nil) //nolint:errcheck // sooner, then
	}
}
