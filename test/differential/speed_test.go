package differential_test

import (
	"crypto/rand"
	"flag"
	"fmt"
	"net"
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
	programs := append(strings.Split(*speed, ","), "swtpm")
	ready := make([][]time.Duration, len(programs))
	on := make([]*differential.Served, len(programs))
	for range 7 {
		for i, p := range programs {
			dir := t.TempDir()
			var d time.Duration
			on[i], d = start(t, filepath.Join(dir, "s"), serving(p, dir)...)
			ready[i] = append(ready[i], d)
		}
	}
	fmt.Print("| command | program | µs | CPU µs | of swtpm's | CPU of swtpm's |\n|---|---|---|---|---|---|\n")
	for _, row := range differential.Rows() {
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
				fmt.Printf(" %v | %v |\n", differential.Ratio(g.Wall, peer.Wall), differential.Ratio(g.CPU, peer.CPU))
				continue
			}
			fmt.Println(" | |")
		}
	}
	for i, p := range programs {
		fmt.Printf("| start to TPM2_Startup answered, best of 7 | %s | %.1f | | %.2f | |\n", filepath.Base(p), micros(slices.Min(ready[i])), micros(slices.Min(ready[i]))/micros(slices.Min(ready[len(ready)-1])))
	}
}

// serving is the command line that serves a TPM at the socket "s" of a folder.
func serving(program, dir string) []string {
	socket := filepath.Join(dir, "s")
	if program == "swtpm" {
		return []string{program, "socket", "--tpm2", "--tpmstate", "dir=" + dir, "--flags", "not-need-init", "--server", "type=unixio,path=" + socket}
	}
	if filepath.Base(program) == "assay-vtpm" {
		return []string{program, "serve", "--ephemeral", "--swtpm-unix", socket}
	}
	return []string{program, "vtpm", "serve", "--ephemeral", "--swtpm-unix", socket}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

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
