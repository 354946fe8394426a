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

var (
	beside = flag.Bool("bench-swtpm", false, "measure our TPM beside swtpm under QEMU and print the table")
	pairs  = flag.Int("pairs", 1, "boots over each TPM, in turns")
)

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

// A row is what one thing took, over each backend, once or more often in turns.
type row struct {
	what string
	took [2][]time.Duration
}

func (r *row) add(backend int, took time.Duration) {
	r.took[backend] = append(r.took[backend], took)
}

// String is a line of the table. A ratio is taken within each pair: what the machine
// does beside slows both.
func (r *row) String() string {
	ratios := make([]float64, len(r.took[0]))
	for i := range ratios {
		ratios[i] = float64(r.took[0][i]) / float64(r.took[1][i])
	}
	return fmt.Sprintf("| %s | %s | %s | %s |", r.what, quartiles("%.1f", millis(r.took[0])), quartiles("%.1f", millis(r.took[1])), quartiles("%.2f", ratios))
}

func millis(took []time.Duration) []float64 {
	ms := make([]float64, len(took))
	for i, d := range took {
		ms[i] = float64(d.Microseconds()) / 1000
	}
	return ms
}

// quartiles formats the median, and where the middle half lies of more than one value.
func quartiles(format string, of []float64) string {
	v := slices.Sorted(slices.Values(of))
	at := func(quarters int) string { return fmt.Sprintf(format, v[(len(v)-1)*quarters/4]) }
	if len(v) == 1 {
		return at(2)
	}
	return fmt.Sprintf("%s (%s–%s)", at(2), at(1), at(3))
}

// starts is how often processes are started in turns.
const starts = 9

func TestBenchBesideSWTPM(t *testing.T) {
	if !*beside {
		t.Skip("-bench-swtpm measures")
	}
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip(err)
	}
	b := newBench(t)
	rows := []row{
		{what: "process started to TPM2_Startup answered, ms"},
		{what: "processor time of that process from start to end, ms"},
		{what: "QEMU started to guest ready, ms"},
		{what: "processor time of the TPM in that boot, ms"},
		{what: "savevm, ms"},
		{what: "loadvm, ms"},
		{what: "migration, ms"},
		{what: "of that, down, ms"},
		{what: "processor time of the source's TPM, whole life, ms"},
		{what: "processor time of the destination's TPM, whole life, ms"},
	}
	for n := range starts {
		b.inTurns(n, func(i int, k backend) {
			took, cpu := b.startup(k, fmt.Sprintf("%s-start%d", k.name, n))
			rows[0].add(i, took)
			rows[1].add(i, cpu)
		})
	}
	for n := range *pairs {
		b.inTurns(n, func(i int, k backend) {
			for j, took := range b.life(k, fmt.Sprintf("%s%d-", k.name, n), n == *pairs-1) {
				rows[2+j].add(i, took)
			}
		})
	}
	fmt.Printf("%d starts and %d boots over each, in turns: the median (first–third quartile)\n", starts, *pairs)
	fmt.Println("| | assay, encrypted | swtpm, in the clear | assay of swtpm |\n|---|---|---|---|")
	for _, r := range rows {
		fmt.Println(&r)
	}
}

// inTurns does something over each backend. Who begins changes with n.
func (b *bench) inTurns(n int, do func(i int, k backend)) {
	all := backends()
	for turn := range all {
		i := (n + turn) % len(all)
		do(i, all[i])
	}
}

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

// life boots one machine, and when asked for saves, restores and migrates it. It returns
// what each took: the clock's and the TPM's processor time of the boot first.
func (b *bench) life(k backend, name string, further bool) []time.Duration {
	t := b.t
	t.Helper()
	s := k.start(b, name+"1")
	before, err := s.CPU()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	m := b.start(name+"m1", s.Socket, "tpm-crb", snapshots)
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
	if !further {
		quit(t, m, s)
		return took
	}
	for _, command := range []string{"savevm s1", "loadvm s1"} {
		begun = time.Now()
		if err := m.Human(command); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	other := k.start(b, name+"2")
	to := b.start(name+"m2", other.Socket, "tpm-crb", func(c *qemu.Config) { snapshots(c); c.Incoming = true })
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

func snapshots(c *qemu.Config) { c.Snapshot = true }
