package differential_test

import (
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/test/differential"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

var (
	speed  = flag.String("speed", "", "measure these programs (assay, or builds of it with commas between) beside swtpm and print the table")
	only   = flag.String("rows", "", "measure only rows whose name has this")
	rounds = flag.Int("rounds", 21, "batches of each row and program")
)

// start runs a server and returns once its TPM has answered TPM2_Startup.
func start(t *testing.T, socket string, argv ...string) (*differential.Served, time.Duration) {
	t.Helper()
	c := exec.Command(argv[0], argv[1:]...)
	begin := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		_ = c.Wait() // it was killed
	})
	var conn net.Conn
	for tick := time.NewTicker(100 * time.Microsecond); ; <-tick.C {
		var err error
		if conn, err = net.Dial("unix", socket); err == nil {
			break
		}
		if time.Since(begin) > time.Minute {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { conn.Close() })
	s, err := differential.NewServed(client.NewStream(conn), c.Process.Pid, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s, time.Since(begin)
}

func TestSpeedBesideSWTPM(t *testing.T) {
	if *speed == "" {
		t.Skip("-speed PROGRAM measures")
	}
	needSWTPM(t)
	programs := append(strings.Split(*speed, ","), "swtpm")
	ready := make([][]time.Duration, len(programs))
	var on []*differential.Served
	for range 7 {
		var took []time.Duration
		on, took = servers(t, programs, false)
		for i, d := range took {
			ready[i] = append(ready[i], d)
		}
	}
	fmt.Print("| command | program | µs | CPU µs | of swtpm's, in all | by rounds | CPU of swtpm's, in all | by rounds |\n|---|---|---|---|---|---|---|---|\n")
	measure(t, programs, on, differential.Rows())
	on, _ = servers(t, programs, true)
	measure(t, programs, on, differential.KeptRows())
	for i, p := range programs {
		fmt.Printf("| start to TPM2_Startup answered, best of 7 | %s | %.1f | | %.2f | | | |\n", filepath.Base(p), micros(slices.Min(ready[i])), micros(slices.Min(ready[i]))/micros(slices.Min(ready[len(ready)-1])))
	}
}

// servers starts each program once, with a state file or without where it can do without,
// and returns how long each took.
func servers(t *testing.T, programs []string, kept bool) (on []*differential.Served, took []time.Duration) {
	t.Helper()
	for _, p := range programs {
		dir := t.TempDir()
		s, d := start(t, filepath.Join(dir, "s"), serving(p, dir, kept)...)
		on, took = append(on, s), append(took, d)
	}
	return on, took
}

// measure prints the rows of the table.
func measure(t *testing.T, programs []string, on []*differential.Served, rows []differential.Row) {
	t.Helper()
	for _, row := range rows {
		if !strings.Contains(row.Name, *only) {
			continue
		}
		got, err := differential.Measure(row, on, *rounds, time.Now)
		if err != nil {
			t.Error(err)
			continue
		}
		peer := got[len(got)-1]
		for i, g := range got {
			fmt.Printf("| %s | %s | %.1f | %.1f |", row.Name, filepath.Base(programs[i]), differential.Micros(g.Wall).Median, differential.Micros(g.CPU).Median)
			if i < len(got)-1 {
				fmt.Printf(" %.2f | %v | %.2f | %v |\n", differential.Total(g.Wall, peer.Wall), differential.Ratio(g.Wall, peer.Wall), differential.Total(g.CPU, peer.CPU), differential.Ratio(g.CPU, peer.CPU))
				continue
			}
			fmt.Println(" | | | |")
		}
	}
}

// serving is the command line that serves a TPM at the socket "s" of a folder. swtpm
// always keeps its state there; ours does if kept, under a key file.
func serving(program, dir string, kept bool) []string {
	socket := filepath.Join(dir, "s")
	if program == "swtpm" {
		return []string{program, "socket", "--tpm2", "--tpmstate", "dir=" + dir, "--flags", "not-need-init", "--server", "type=unixio,path=" + socket}
	}
	args := []string{program, "vtpm", "serve"}
	if filepath.Base(program) == "assay-vtpm" {
		args = []string{program, "serve"}
	}
	if !kept {
		return append(args, "--ephemeral", "--swtpm-unix", socket)
	}
	return append(args, "--state", filepath.Join(dir, "tpm"), "--key-file", filepath.Join(dir, "keys"), "--ledger", filepath.Join(dir, "ledger"), "--swtpm-unix", socket)
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// Each row is a command that succeeds, again and again, at a TPM of one process.
func TestEveryRowOfTheSpeedTableRuns(t *testing.T) {
	peer, err := differential.Ours("default", rand.Reader, func() time.Duration { return time.Second })
	if err != nil {
		t.Fatal(err)
	}
	sent := &recorder{peer, map[tpm2.CC]bool{}}
	s, err := differential.NewServed(sent, os.Getpid(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, row := range slices.Concat(differential.Rows(), differential.KeptRows()) {
		if names[row.Name] || row.N < 3 {
			t.Errorf("row %q is there twice, or has a batch of %d", row.Name, row.N)
		}
		names[row.Name] = true
		row.N = 6 // two or three commands in turn, three or two times
		if strings.Contains(row.Name, "RSA-2048") && strings.HasPrefix(row.Name, "Create") || strings.HasPrefix(row.Name, "SelfTest") {
			row.N = 1
		}
		if _, err := differential.Measure(row, []*differential.Served{s}, 2, time.Now); err != nil {
			t.Error(err)
		}
	}
	for _, c := range commandsOf(t, peer) {
		_, without := withoutRow[c]
		if !sent.seen[c] && !without && !slices.Contains(newer, c) {
			t.Errorf("no row has command %v, and withoutRow has no reason", c)
		}
	}
}

// commandsOf are the commands that a TPM says to have.
func commandsOf(t *testing.T, on client.Transport) []tpm2.CC {
	t.Helper()
	var out command.GetCapabilityOut
	if _, err := client.New(on, rand.Reader).Run(&client.Command{
		Code: tpm2.CCGetCapability, In: &command.GetCapabilityIn{Capability: tpm2.CapCommands, Property: uint32(tpm2.CCNVUndefineSpaceSpecial), PropertyCount: 254}, Out: &out,
	}); err != nil {
		t.Fatal(err)
	}
	var codes []tpm2.CC
	for _, a := range out.CapabilityData.Commands {
		codes = append(codes, a.Code())
	}
	return codes
}

// TestAThousandTPMsInOneProcess bounds what a live TPM costs.
func TestAThousandTPMsInOneProcess(t *testing.T) {
	const count, limit = 1000, 120 << 10
	p, err := engine.FindProfile("default", 0)
	if err != nil {
		t.Fatal(err)
	}
	heap := func() uint64 {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	before := heap()
	all := make([]*engine.TPM, count)
	for i := range all {
		all[i], err = engine.Manufacture(p, engine.Config{Random: rand.Reader, Now: func() time.Duration { return 0 }})
		if err != nil {
			t.Fatal(err)
		}
		all[i].PowerOn()
		for _, c := range []string{"80010000000c000001440000", "80010000000c0000017b0020"} {
			if r := all[i].Execute(0, unhex(c)); tpm2.RC(r[9]) != 0 {
				t.Fatalf("TPM %d answers %x to %s", i, r, c)
			}
		}
	}
	each := (heap() - before) / count
	t.Logf("%d bytes for each of %d live TPMs", each, count)
	if each > limit {
		t.Errorf("a live TPM takes %d bytes, want at most %d", each, limit)
	}
	runtime.KeepAlive(all)
}

func unhex(s string) (b []byte) {
	fmt.Sscanf(s, "%x", &b)
	return b
}

// A recorder is a TPM that keeps which commands it was sent.
type recorder struct {
	differential.Peer
	seen map[tpm2.CC]bool
}

// Send runs a command.
func (r *recorder) Send(command []byte) ([]byte, error) {
	r.seen[tpm2.CC(binary.BigEndian.Uint32(command[6:]))] = true
	return r.Peer.Send(command)
}

// withoutRow are commands of both TPMs that no row of the speed table has.
var withoutRow = map[tpm2.CC]string{
	tpm2.CCStartup:                "once in a boot; its time is the row of the start",
	tpm2.CCShutdown:               "once in a boot",
	tpm2.CCPPCommands:             "wants physical presence, which swtpm's sockets cannot assert",
	tpm2.CCCertifyX509:            "a signature as that of TPM2_Certify, and a certificate that hangs on the key",
	tpm2.CCNVChangeAuth:           "wants a policy of each index, and is PolicyCommandCode, HMAC session and NV_Write",
	tpm2.CCNVUndefineSpaceSpecial: "wants a policy of each index, and is NV_UndefineSpace",
}

// newer are commands that libtpms 0.9.2 has not.
var newer = []tpm2.CC{
	tpm2.CCECCEncrypt, tpm2.CCECCDecrypt, tpm2.CCPolicyCapability, tpm2.CCPolicyParameters, tpm2.CCNVDefineSpace2, tpm2.CCNVReadPublic2, tpm2.CCReadOnlyControl,
}
