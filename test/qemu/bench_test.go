package qemu_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/test/qemu"
)

var beside = flag.Bool("bench-swtpm", false, "measure our TPM beside swtpm under QEMU and print the table")

// A backend starts TPMs.
type backend struct {
	name  string
	start func(b *bench, dir string) *qemu.Server
}

func backends() []backend {
	return []backend{
		{"assay", func(b *bench, dir string) *qemu.Server { return b.kept(dir) }},
		{"swtpm", func(b *bench, dir string) *qemu.Server {
			s, err := qemu.ServeSWTPM(filepath.Join(b.dir, dir))
			if err != nil {
				b.t.Fatal(err)
			}
			b.t.Cleanup(func() { s.Kill() })
			return s
		}},
	}
}

// A row is one measurement, of all backends.
type row struct {
	what string
	took []time.Duration
}

func TestBenchBesideSWTPM(t *testing.T) {
	if !*beside {
		t.Skip("-bench-swtpm measures")
	}
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip(err)
	}
	b := newBench(t)
	rows := []row{
		{what: "process started to TPM2_Startup answered, median of 9"},
		{what: "processor time of that process from start to end, median of 9"},
		{what: "QEMU started to guest ready"},
		{what: "processor time of the TPM in that boot"},
		{what: "savevm"},
		{what: "loadvm"},
		{what: "migration"},
		{what: "of that, down"},
		{what: "processor time of the source's TPM, whole life"},
		{what: "processor time of the destination's TPM, whole life"},
	}
	var starts, used [2][]time.Duration
	for n := range 9 {
		for i, k := range backends() {
			took, cpu := b.startup(k, fmt.Sprintf("%s-start%d", k.name, n))
			starts[i], used[i] = append(starts[i], took), append(used[i], cpu)
		}
	}
	for i, k := range backends() {
		slices.Sort(starts[i])
		slices.Sort(used[i])
		took := append([]time.Duration{starts[i][len(starts[i])/2], used[i][len(used[i])/2]}, b.life(k)...)
		for j := range rows {
			rows[j].took = append(rows[j].took, took[j])
		}
	}
	fmt.Println("| | assay, encrypted | swtpm, in the clear |\n|---|---|---|")
	for _, r := range rows {
		fmt.Printf("| %s | %.1f ms | %.1f ms |\n", r.what, ms(r.took[0]), ms(r.took[1]))
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// startup measures a new TPM's way to its first answer, and the processor time of its
// process. A folder that is there already is where TPMs usually start from.
func (b *bench) startup(k backend, dir string) (took, cpu time.Duration) {
	b.t.Helper()
	first := k.start(b, dir)
	b.first(first)
	if err := first.Wait(); err != nil {
		b.t.Fatal(err)
	}
	begun := time.Now()
	s := k.start(b, dir)
	took = b.first(s).Sub(begun)
	if err := s.Wait(); err != nil {
		b.t.Fatal(err)
	}
	return took, s.Used()
}

// first does what QEMU and the firmware do first, and returns when TPM2_Startup was
// answered. The TPM is shut down after.
func (b *bench) first(s *qemu.Server) time.Time {
	b.t.Helper()
	conn := b.dial(s.Socket)
	defer conn.Close()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	data := os.NewFile(uintptr(fds[0]), "data")
	defer data.Close()
	control, ok := conn.(*net.UnixConn)
	if !ok {
		b.t.Fatal("no unix socket")
	}
	if _, _, err := control.WriteMsgUnix([]byte{0, 0, 0, 0x10}, syscall.UnixRights(fds[1]), nil); err != nil {
		b.t.Fatal(err)
	}
	syscall.Close(fds[1])
	b.expect(control, 4)
	b.ask(control, "\x00\x00\x00\x02\x00\x00\x00\x00", 4)
	b.ask(data, "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00", 10)
	done := time.Now()
	b.ask(control, "\x00\x00\x00\x03", 4)
	return done
}

// dial connects to a socket that is there, or about to be listened to.
func (b *bench) dial(socket string) net.Conn {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Microsecond)
	defer tick.Stop()
	for range 100000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			return conn
		}
		<-tick.C
	}
	b.t.Fatalf("nobody listens on %s", socket)
	return nil
}

func (b *bench) ask(c io.ReadWriter, request string, n int) {
	b.t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		b.t.Fatal(err)
	}
	b.expect(c, n)
}

// expect reads an answer of n bytes, the last four of which are its result.
func (b *bench) expect(c io.Reader, n int) {
	b.t.Helper()
	answer := make([]byte, n)
	if _, err := io.ReadFull(c, answer); err != nil {
		b.t.Fatal(err)
	}
	if rc := binary.BigEndian.Uint32(answer[n-4:]); rc != 0 {
		b.t.Fatalf("result %#x", rc)
	}
}

// life boots, saves, restores and migrates one machine.
func (b *bench) life(k backend) []time.Duration {
	t := b.t
	t.Helper()
	s, other := k.start(b, k.name+"1"), k.start(b, k.name+"2")
	before, err := s.CPU()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	snapshot := func(c *qemu.Config) { c.Snapshot = true }
	m := b.start(k.name+"m1", s.Socket, "tpm-crb", snapshot)
	g, err := m.Guest()
	if err != nil {
		t.Fatal(err)
	}
	took := []time.Duration{time.Since(begun)}
	after, err := s.CPU()
	if err != nil {
		t.Fatal(err)
	}
	took = append(took, after-before)
	for _, command := range []string{"savevm s1", "loadvm s1"} {
		begun = time.Now()
		if err := m.Human(command); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	to := b.start(k.name+"m2", other.Socket, "tpm-crb", func(c *qemu.Config) { snapshot(c); c.Incoming = true })
	how, err := m.Migrate(to)
	if err == nil && how.Status != "completed" {
		err = errors.New(how.Status)
	}
	if err = errors.Join(err, to.Reach("running"), g.Follow(to)); err != nil {
		t.Fatal(err)
	}
	quit(t, m, s)
	quit(t, to, other)
	return append(took, time.Duration(how.TotalTime)*time.Millisecond, time.Duration(how.Downtime)*time.Millisecond, s.Used(), other.Used())
}
