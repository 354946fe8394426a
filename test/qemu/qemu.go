// Package qemu boots real virtual machines over this project's TPM: QEMU and OVMF
// from Debian's packages, a kernel of Debian's that is unpacked and not installed,
// and a guest of our own. Everything is emulated (TCG): whether /dev/kvm works can
// only be seen by trying it, and a test must not depend on that.
//
// It shows that QEMU and firmware find in the TPM what they need, and proves
// nothing about the TPM itself. The machines are the test's own: nothing here
// treats a guest as hostile.
//
// Read [Start] first, then [Guest].
//
// QEMU 7.2, backends/tpm and docs/specs/tpm.rst; OVMF 2022.11.
package qemu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Patience is how long a machine may take to do anything: emulated, on a machine
// that others use too, a boot of fifteen seconds has taken two minutes.
const Patience = 5 * time.Minute

// Config is what a machine is made of.
type Config struct {
	Dir      string // its folder; sockets have short names in it
	Image    *Image
	TPM      string // control socket of its TPM
	Device   string // tpm-crb or tpm-tis
	Incoming bool   // waits for a guest to migrate in
	Snapshot bool   // its disks can hold snapshots (savevm)
}

// A Machine is a running QEMU.
type Machine struct {
	cfg     Config
	process *exec.Cmd
	exited  chan struct{}
	exit    error
	said    *log
	serial  net.Listener
	monitor net.Conn

	mu      sync.Mutex // guards the monitor
	answers *json.Decoder
}

// log keeps what a program says.
type log struct {
	mu   sync.Mutex // guards text
	text []byte
}

// Write adds to the log.
func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	return len(b), nil
}

// String returns what was said, without most of the terminal's control characters.
func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r > '~' {
			return -1
		}
		return r
	}, string(l.text))
}

// Start starts a machine. Its guest speaks once it has booted: see [Machine.Guest].
func Start(cfg Config) (_ *Machine, err error) {
	m := &Machine{cfg: cfg, exited: make(chan struct{}), said: &log{}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := m.disks(); err != nil {
		return nil, err
	}
	if m.serial, err = net.Listen("unix", filepath.Join(cfg.Dir, "s1")); err != nil {
		return nil, err
	}
	m.process = exec.Command("qemu-system-x86_64", m.arguments()...)
	m.process.Dir, m.process.Stdout, m.process.Stderr = cfg.Dir, m.said, m.said
	if err := m.process.Start(); err != nil {
		return nil, errors.Join(err, m.serial.Close())
	}
	go func() {
		m.exit = m.process.Wait()
		close(m.exited)
	}()
	if err := m.connect(); err != nil {
		return nil, errors.Join(err, m.Kill())
	}
	return m, nil
}

// disks copies the firmware's variables, in a format that holds snapshots if asked.
func (m *Machine) disks() error {
	format := "raw"
	if m.cfg.Snapshot {
		format = "qcow2"
	}
	c := exec.Command("qemu-img", "convert", "-f", "raw", "-O", format, m.cfg.Image.Variables, filepath.Join(m.cfg.Dir, "vars"))
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", c, err, out)
	}
	return nil
}

// arguments are QEMU's: facts about each in docs/vtpm-qemu.md.
func (m *Machine) arguments() []string {
	vars := "if=pflash,unit=1,file=vars,format=raw"
	if m.cfg.Snapshot {
		vars = "if=pflash,unit=1,file=vars,format=qcow2"
	}
	args := append(m.boot(),
		"-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg,thread=multi", "-cpu", "max",
		"-smp", "1",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+m.cfg.Image.Firmware, "-drive", vars,
		"-chardev", "socket,id=tpm,path="+m.cfg.TPM, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", m.cfg.Device+",tpmdev=tpm0",
		"-serial", "stdio", "-chardev", "socket,id=s1,path=s1", "-serial", "chardev:s1",
		"-qmp", "unix:qmp,server=on,wait=off",
	)
	if m.cfg.Incoming {
		args = append(args, "-incoming", "defer")
	}
	return args
}

// boot says what the machine boots.
func (m *Machine) boot() []string {
	if m.cfg.Image.Disk == "" {
		return []string{"-machine", "q35", "-m", "256", "-kernel", m.cfg.Image.Kernel, "-initrd", m.cfg.Image.Initrd, "-append", commandLine}
	}
	return []string{
		"-machine", "q35,smm=on", "-m", "512", "-global", "driver=cfi.pflash01,property=secure,value=on",
		"-drive", "if=none,id=d0,format=raw,readonly=on,file=" + m.cfg.Image.Disk, "-device", "virtio-blk-pci,drive=d0,bootindex=0",
	}
}

// Await waits until the console says something.
func (m *Machine) Await(words string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(Patience); time.Now().Before(end); {
		if strings.Contains(m.Said(), words) {
			return nil
		}
		select {
		case <-tick.C:
		case <-m.exited:
			return fmt.Errorf("QEMU ended: %w: %s", m.exit, m.said)
		}
	}
	return fmt.Errorf("the console does not say %q: %s", words, m.said)
}

// connect opens the monitor.
func (m *Machine) connect() error {
	var err error
	if m.monitor, err = m.dial(filepath.Join(m.cfg.Dir, "qmp")); err != nil {
		return err
	}
	m.answers = json.NewDecoder(bufio.NewReader(m.monitor))
	var greeting map[string]any
	if err := m.answers.Decode(&greeting); err != nil {
		return fmt.Errorf("QEMU's monitor: %w", err)
	}
	_, err = m.Do("qmp_capabilities", nil)
	return err
}

// dial connects to a socket that QEMU is about to make.
func (m *Machine) dial(path string) (net.Conn, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(Patience)
	for {
		c, err := net.Dial("unix", path)
		if err == nil {
			return c, c.SetDeadline(time.Now().Add(Patience))
		}
		select {
		case <-tick.C:
		case <-m.exited:
			return nil, fmt.Errorf("QEMU ended: %w: %s", errors.Join(m.exit, err), m.said)
		case <-end:
			return nil, err
		}
	}
}

// A reply is one message of the monitor.
type reply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
}

// Do runs a command of the monitor (QMP) and returns what it gives.
func (m *Machine) Do(command string, arguments any) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	b, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if err := m.monitor.SetDeadline(time.Now().Add(Patience)); err != nil {
		return nil, err
	}
	if _, err := m.monitor.Write(append(b, '\n')); err != nil {
		return nil, err
	}
	for {
		var r reply
		switch err := m.answers.Decode(&r); {
		case err != nil:
			return nil, fmt.Errorf("%s: %w: %s", command, err, m.said)
		case r.Error != nil:
			return nil, fmt.Errorf("%s: %s", command, r.Error.Desc)
		case r.Event == "":
			return r.Return, nil
		}
	}
}

// Human runs a command of the human monitor, which answers only when it fails.
func (m *Machine) Human(line string) error {
	out, err := m.Do("human-monitor-command", map[string]string{"command-line": line})
	if err != nil {
		return err
	}
	var said string
	if err := json.Unmarshal(out, &said); err != nil {
		return err
	}
	if strings.Contains(said, "Error") {
		return fmt.Errorf("%s: %s", line, said)
	}
	return nil
}

// Status is the state of a machine, as QEMU names it.
func (m *Machine) Status() (string, error) {
	out, err := m.Do("query-status", nil)
	var s struct {
		Status string `json:"status"`
	}
	return s.Status, errors.Join(err, unmarshal(out, &s))
}

func unmarshal(b []byte, v any) error {
	if b == nil {
		return nil
	}
	return json.Unmarshal(b, v)
}

// Wait waits for QEMU to end.
func (m *Machine) Wait() error {
	select {
	case <-m.exited:
		return m.exit
	case <-time.After(Patience):
		return errors.New("QEMU does not end")
	}
}

// Said returns what QEMU and the guest's console have printed.
func (m *Machine) Said() string { return m.said.String() }

// Kill ends QEMU at once.
func (m *Machine) Kill() error {
	err := m.process.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-m.exited
	if m.monitor != nil {
		m.monitor.Close()
	}
	m.serial.Close()
	return err
}
