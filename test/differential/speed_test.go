package differential_test

import (
	"crypto/rand"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/test/differential"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/engine"
)

var (
	speed = flag.String("speed", "", "measure this program (assay) beside swtpm and print the table")
	only  = flag.String("rows", "", "measure only rows whose name has this")
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
	dir := t.TempDir()
	n := 0
	assay := func() (*differential.Served, time.Duration) {
		n++
		socket := filepath.Join(dir, fmt.Sprintf("a%d", n))
		return start(t, socket, *speed, "vtpm", "serve", "--ephemeral", "--swtpm-unix", socket)
	}
	swtpm := func() (*differential.Served, time.Duration) {
		n++
		state := filepath.Join(dir, fmt.Sprintf("state%d", n))
		if err := os.Mkdir(state, 0o700); err != nil {
			t.Fatal(err)
		}
		socket := filepath.Join(state, "s")
		return start(t, socket, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--flags", "not-need-init", "--server", "type=unixio,path="+socket)
	}
	var ready [2][]time.Duration
	on := make([]*differential.Served, 2)
	for range 7 {
		var d time.Duration
		on[0], d = assay()
		ready[0] = append(ready[0], d)
		on[1], d = swtpm()
		ready[1] = append(ready[1], d)
	}
	fmt.Printf("| command | assay | swtpm | ratio | CPU assay | CPU swtpm |\n|---|---|---|---|---|---|\n")
	us := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Nanoseconds())/1000) }
	for _, row := range differential.Rows() {
		if !strings.Contains(row.Name, *only) {
			continue
		}
		got, err := differential.Measure(row, on, 5, time.Now)
		if err != nil {
			t.Error(err)
			continue
		}
		fmt.Printf("| %s | %s | %s | %.2f | %s | %s |\n", row.Name, us(got[0].Wall), us(got[1].Wall), float64(got[0].Wall)/float64(got[1].Wall), us(got[0].CPU), us(got[1].CPU))
	}
	a, b := least(ready[0]), least(ready[1])
	fmt.Printf("| start to TPM2_Startup answered, best of 7 | %s | %s | %.2f | | |\n", us(a), us(b), float64(a)/float64(b))
}

func least(d []time.Duration) time.Duration {
	out := d[0]
	for _, v := range d {
		out = min(out, v)
	}
	return out
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
