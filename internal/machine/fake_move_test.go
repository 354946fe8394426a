package machine

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The files, in the run folder, by which a test and its fake hypervisor speak: what is in
// the memory of the machine, and which commands fail, or kill it, as "COMMAND: fail" and
// "COMMAND: die"; one that is to "wait" says so, and waits until the test says that it goes on.
const (
	ramFile   = "ram"
	faultFile = "faults"
	waitsFile = "waits"
	goOnFile  = "go-on"
)

// A moved is the whole stream of a fake hypervisor.
type moved struct {
	RAM, Permanent, Volatile []byte
	Variable                 byte
}

// refuse finds out whether a command is to fail.
func refuse(command string) error { return refuseIn("", command) }

func refuseIn(dir, command string) error {
	text, _ := os.ReadFile(filepath.Join(dir, faultFile)) //nolint:errcheck // no faults then
	for line := range strings.Lines(string(text)) {
		name, what, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch {
		case name != command:
		case what == "die":
			os.Exit(3)
		case what == "wait":
			return errors.Join(os.WriteFile(waitsFile, nil, 0o600), awaitFile(goOnFile))
		default:
			return errors.New("the test says so")
		}
	}
	return nil
}

// perform runs a command of the monitor.
func (f *fakeQEMU) perform(command string, arguments json.RawMessage) (any, error) {
	if err := refuse(command); err != nil {
		return nil, err
	}
	var a struct {
		URI, Device, Name string
		Actions           []struct{ Data struct{ Device, Name string } }
	}
	if len(arguments) > 0 {
		if err := json.Unmarshal(arguments, &a); err != nil {
			return nil, err
		}
	}
	switch command {
	case "query-status":
		return map[string]string{"status": f.state()}, nil
	case "stop":
		f.setState("paused")
		f.event("STOP")
	case "cont":
		f.setState("running")
		f.event("RESUME")
	case "transaction":
		for _, s := range a.Actions {
			if err := snapshotImage("-c", s.Data.Name, f.disk(s.Data.Device)); err != nil {
				return nil, err
			}
		}
	case "blockdev-snapshot-delete-internal-sync":
		return nil, snapshotImage("-d", a.Name, f.disk(a.Device))
	case "query-migrate":
		return map[string]string{"status": f.moved()}, nil
	case "migrate":
		if f.state() == "running" && slices.Contains(f.args, "tcg,thread=multi") {
			return nil, errors.New("TCG loses what the guest writes meanwhile")
		}
		f.begin(func() error { return f.sendAll(strings.TrimPrefix(a.URI, "unix:")) })
	case "migrate-incoming":
		l, err := net.Listen("unix", strings.TrimPrefix(a.URI, "unix:"))
		if err != nil {
			return nil, err
		}
		f.begin(func() error { return f.takeAll(l) })
	default:
		return f.performCopy(command, arguments)
	}
	return struct{}{}, nil
}

// disk is the file of a device.
func (f *fakeQEMU) disk(device string) string {
	for i, arg := range f.args {
		if arg == "-drive" && strings.Contains(f.args[i+1], "id="+device+",") {
			_, rest, _ := strings.Cut(f.args[i+1], "file=")
			file, _, _ := strings.Cut(rest, ",")
			return file
		}
	}
	return ""
}

// event says that the processors stand still, or run.
func (f *fakeQEMU) event(name string) {
	fmt.Fprintf(f.monitor, `{"event": %q, "timestamp": {"seconds": 1, "microseconds": 0}}`+"\n", name)
}

func (f *fakeQEMU) state() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.runs
}

func (f *fakeQEMU) setState(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.runs = s
}

// goes lets the guest of a machine that waited run.
func (f *fakeQEMU) goes() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.runs == "running" && f.going != nil {
		close(f.going)
		f.going = nil
	}
}

func (f *fakeQEMU) moved() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.migration
}

func (f *fakeQEMU) begin(do func() error) {
	f.setMoved("active")
	go func() {
		if err := do(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			f.setMoved("failed")
			return
		}
		f.setMoved("completed")
	}()
}

func (f *fakeQEMU) setMoved(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.migration = s
}

// sendAll writes the machine's memory with its TPM.
func (f *fakeQEMU) sendAll(path string) (err error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := f.hold(); err != nil {
		return err
	}
	var m moved
	if m.RAM, err = os.ReadFile(ramFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var one [1]byte
	if _, err := f.variables.ReadAt(one[:], 100_000); err != nil {
		return err
	}
	m.Variable = one[0]
	if f.tpm != nil {
		for kind, to := range map[uint32]*[]byte{1: &m.Permanent, 2: &m.Volatile} {
			if *to, err = f.getBlob(kind); err != nil {
				return err
			}
		}
		if _, err := f.getBlob(3); err != nil {
			return err
		}
	}
	if err := refuse("send"); err != nil {
		return err
	}
	return json.NewEncoder(conn).Encode(m)
}

// takeAll reads it, and starts the TPM from what came.
func (f *fakeQEMU) takeAll(l net.Listener) error {
	defer l.Close()
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	var m moved
	if err := json.NewDecoder(conn).Decode(&m); err != nil {
		return err
	}
	if err := refuse("load"); err != nil {
		return err
	}
	<-f.wired
	if err := os.WriteFile(ramFile, m.RAM, 0o600); err != nil {
		return err
	}
	if _, err := f.variables.WriteAt([]byte{m.Variable}, 100_000); err != nil || f.tpm == nil {
		return err
	}
	if err := f.control([]byte{0, 0, 0, 14}, nil); err != nil {
		return err
	}
	for kind, blob := range [][]byte{1: m.Permanent, 2: m.Volatile} {
		if kind == 0 {
			continue
		}
		b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 13, 0, 0, 0, 0}, uint32(kind))
		b = binary.BigEndian.AppendUint32(b, uint32(len(blob)))
		if err := f.control(append(b, blob...), nil); err != nil {
			return err
		}
	}
	return f.control([]byte{0, 0, 0, 2, 0, 0, 0, 1}, nil)
}

// getBlob is CMD_GET_STATEBLOB.
func (f *fakeQEMU) getBlob(kind uint32) ([]byte, error) {
	b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 12, 0, 0, 0, 1}, kind)
	if err := f.control(append(b, 0, 0, 0, 0), nil); err != nil {
		return nil, err
	}
	var head [12]byte
	if _, err := io.ReadFull(f.tpm, head[:]); err != nil {
		return nil, err
	}
	blob := make([]byte, binary.BigEndian.Uint32(head[8:]))
	_, err := io.ReadFull(f.tpm, blob)
	return blob, err
}

// runFakeImages is a qemu-img whose snapshots lie beside the image.
func runFakeImages(args []string) error {
	if args[0] == "create" {
		return createImage(args)
	}
	_, file, _ := strings.Cut(args[len(args)-1], "file.filename=")
	if err := refuseIn(filepath.Dir(file), strings.Join(args[:2], " ")); err != nil {
		return err
	}
	if args[0] == "snapshot" {
		return snapshotImage(args[1], args[2], file)
	}
	found, err := filepath.Glob(file + ".assay-*")
	if err != nil {
		return err
	}
	list := []map[string]string{}
	for _, f := range found {
		list = append(list, map[string]string{"name": strings.TrimPrefix(f, file+".")})
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"snapshots": list})
}

func snapshotImage(what, tag, file string) error {
	from, to := file, file+"."+tag
	switch what {
	case "-d":
		return os.Remove(to)
	case "-a":
		from, to = to, from
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// isFake runs this program as what it was called.
func isFake() (fake bool, err error) {
	switch filepath.Base(os.Args[0]) {
	case "fake-qemu":
		return true, runFake(os.Args[1:])
	case "fake-qemu-img":
		return true, runFakeImages(os.Args[1:])
	}
	return false, nil
}

// waits reports whether a hypervisor was started for a machine that arrives.
func waits(args []string) bool { return slices.Contains(args, "-incoming") }
