package machine

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	idleMachines = flag.Int("idle", 0, "run `N` machines that do nothing and print what watching them costs")
	idleFor      = flag.Duration("idle-for", time.Minute, "how long they are measured")
	idleProgram  = flag.String("idle-program", "", "`FILE` of assay to measure; it is built when there is none")
)

// A rack is a host with many machines, whose supervisors are processes of the program
// itself, and whose hypervisors are fakes.
type rack struct {
	testing.TB
	dir, program string
}

// TestIdleMachines measures the processor time that idle machines cost beside their
// hypervisors: by the kernel's account of each supervisor, in nanoseconds.
func TestIdleMachines(t *testing.T) {
	if *idleMachines == 0 {
		t.Skip("-idle N measures")
	}
	r := newRack(t)
	script := boot(t, "good-uki")
	for n := range *idleMachines {
		r.start(fmt.Sprintf("m%d", n), script)
	}
	supervisors := r.booted()
	t.Logf("%d machines are booted; load %s", len(supervisors), loadAverage(t))
	wait(5 * time.Second) // what a boot leaves to do
	before, from := r.used(supervisors), time.Now()
	wait(*idleFor)
	after, took := r.used(supervisors), time.Since(from)
	cost := after.processor - before.processor
	t.Logf("%d idle machines, %.0f s: processor %v, %.3f %% of a core; %.2f wake-ups a second each; %.1f MB private memory each; load %s",
		len(supervisors), took.Seconds(), cost, 100*cost.Seconds()/took.Seconds(),
		float64(after.switches-before.switches)/took.Seconds()/float64(len(supervisors)), float64(after.memory)/1e6/float64(len(supervisors)), loadAverage(t))
	r.scrape(supervisors)
}

// scrape measures what looking at all machines costs, by assay vm metrics.
func (r *rack) scrape(supervisors []int) {
	r.Helper()
	cmd := exec.Command(r.program, "vm", "metrics", "--accelerator", "tcg", "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "ASSAY_VTPM_ROOT="+filepath.Join(r.dir, "root"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill() //nolint:errcheck // a measurement
		cmd.Wait()         //nolint:errcheck // killed
	}()
	var url string
	if _, err := fmt.Fscanf(out, "metrics are at %s", &url); err != nil {
		r.Fatal(err)
	}
	get := func() (size int64) {
		answer, err := http.Get(url)
		if err != nil {
			r.Fatal(err)
		}
		defer answer.Body.Close()
		if size, err = io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
			r.Fatalf("%s: %v, %v", url, answer.Status, err)
		}
		return size
	}
	get() // the first makes what the others use
	const times = 10
	asked, began, from := r.used(supervisors), r.used([]int{cmd.Process.Pid}), time.Now()
	var size int64
	for range times {
		size = get()
	}
	took, told, server := time.Since(from)/times, r.used(supervisors), r.used([]int{cmd.Process.Pid})
	r.Logf("a scrape of them: %v, %d bytes; processor %v of the exporter, %v of the supervisors", took, size, (server.processor-began.processor)/times, (told.processor-asked.processor)/times)
}

func wait(d time.Duration) { <-time.After(d) }

func loadAverage(tb testing.TB) string {
	tb.Helper()
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		tb.Fatal(err)
	}
	return strings.Fields(string(text))[0]
}

func newRack(tb testing.TB) *rack {
	tb.Helper()
	dir, err := os.MkdirTemp("", "r")
	if err != nil {
		tb.Fatal(err)
	}
	r := &rack{tb, dir, *idleProgram}
	if r.program == "" {
		r.program = filepath.Join(dir, "assay")
		if out, err := exec.Command("go", "build", "-o", r.program, "github.com/assay-project/assay/cmd/assay").CombinedOutput(); err != nil {
			tb.Fatalf("build: %v: %s", err, out)
		}
	}
	tb.Cleanup(func() {
		r.stop()
		os.RemoveAll(dir)
	})
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	fake, wrapper := filepath.Join(dir, "fake-qemu"), filepath.Join(dir, "bin", "qemu-system-x86_64")
	for _, err := range []error{
		os.Symlink(self, fake), os.Mkdir(filepath.Dir(wrapper), 0o700),
		os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\"\n", fake), 0o700),
		os.WriteFile(filepath.Join(dir, "disk.raw"), make([]byte, 1<<20), 0o600),
	} {
		if err != nil {
			tb.Fatal(err)
		}
	}
	r.assay("key-provider", "add", "main", "local:"+filepath.Join(dir, "keys"), "--create")
	r.assay("keyset", "create", "own", "--kind", "own")
	return r
}

// assay runs a command of the program.
func (r *rack) assay(args ...string) []byte {
	r.Helper()
	cmd := exec.Command(r.program, args...)
	cmd.Env = append(os.Environ(), "ASSAY_VTPM_ROOT="+filepath.Join(r.dir, "root"), "PATH="+filepath.Join(r.dir, "bin")+":"+os.Getenv("PATH"))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		r.Fatalf("assay %s: %v\n%s", strings.Join(args, " "), err, said.Bytes())
	}
	return out
}

// start makes a machine and starts it.
func (r *rack) start(name, script string) {
	r.Helper()
	r.assay("vm", "create", name, "--accelerator", "tcg", "--keyset", "own", "--memory", "512", "--secure-boot", "--vtpm", "--integrity-monitoring", "--disk", filepath.Join(r.dir, "disk.raw"))
	if err := os.WriteFile(filepath.Join(r.dir, "root", "machines", name, runFolder, bootFile), []byte(script), 0o600); err != nil {
		r.Fatal(err)
	}
	r.assay("vm", "start", name, "--accelerator", "tcg")
}

func (r *rack) list() (list []Status) {
	r.Helper()
	if err := json.Unmarshal(r.assay("vm", "list", "-o", "json"), &list); err != nil {
		r.Fatal(err)
	}
	return list
}

// booted waits until the boot of each machine is judged, and returns the processes of
// the supervisors.
func (r *rack) booted() (supervisors []int) {
	r.Helper()
	for range 600 {
		list := r.list()
		if !slices.ContainsFunc(list, func(s Status) bool { return s.Boot == nil || s.Boot.Late == nil }) {
			for _, s := range list {
				supervisors = append(supervisors, parentOf(r, s.PID))
			}
			return supervisors
		}
		wait(100 * time.Millisecond)
	}
	r.Fatalf("the machines do not boot: %+v", r.list())
	return nil
}

// stop ends what runs.
func (r *rack) stop() {
	for _, s := range r.list() {
		if s.State == StateRunning {
			r.assay("vm", "stop", "--force", s.Name, "--accelerator", "tcg")
		}
	}
}

// parentOf is the process that started another (proc(5), stat, field 4).
func parentOf(tb testing.TB, pid int) int {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		tb.Fatal(err)
	}
	parent, err := strconv.Atoi(strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))[1])
	if err != nil {
		tb.Fatal(err)
	}
	return parent
}

// usage is what processes have used.
type usage struct {
	processor time.Duration
	switches  int // times that a thread was put on a processor
	memory    int // private bytes that are written to
}

// used adds processes up, thread by thread (proc(5): task/TID/schedstat).
func (r *rack) used(processes []int) (u usage) {
	r.Helper()
	for _, pid := range processes {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err != nil || len(threads) == 0 {
			r.Fatalf("process %d: %v, %d threads", pid, err, len(threads))
		}
		for _, name := range threads {
			text, err := os.ReadFile(name)
			if err != nil {
				r.Fatal(err)
			}
			var ran, waited int64
			var times int
			if _, err := fmt.Sscan(string(text), &ran, &waited, &times); err != nil {
				r.Fatal(err)
			}
			u.processor, u.switches = u.processor+time.Duration(ran), u.switches+times
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			r.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "Private_Dirty:")
		var kB int
		if _, err := fmt.Sscan(rest, &kB); err != nil {
			r.Fatal(err)
		}
		u.memory += kB << 10
	}
	return u
}
