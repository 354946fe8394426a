package vtpm

import (
	"bufio"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// With daemonEnv the test binary is the daemon of the root in a folder.
const daemonEnv = "ASSAY_VTPM_TEST_DAEMON"

func daemonProcess(dir string) error {
	r, err := OpenRoot(context.Background(), onDisk(nil, dir))
	if err != nil {
		return err
	}
	return RunDaemon(context.Background(), r, DaemonConfig{}, func() error {
		_, err := fmt.Println("ready")
		return err
	})
}

// startDaemon runs one in a process of its own.
func startDaemon(t testing.TB, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), daemonEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		rest, _ := io.ReadAll(out)
		t.Fatalf("the daemon says %q%s, %v", line, rest, err)
	}
	return cmd
}

// processRoot is a root that a daemon of another process serves.
func processRoot(t testing.TB, tpms int) (dir string, names []string) {
	t.Helper()
	dir = shortDir(t)
	cfg := onDisk(t, dir)
	r, err := OpenRoot(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f := &fixture{Root: r, t: t, cfg: cfg}
	return dir, f.many(tpms)
}

// counter is an NV index that only counts up.
const counter = tpm2.Handle(0x01800002)

func defineCounter(c *client.TPM) error {
	_, err := c.Run(&client.Command{
		Code: tpm2.CCNVDefineSpace, Handles: []client.Entity{{Handle: tpm2.HandleOwner}},
		In: &command.NVDefineSpaceIn{PublicInfo: tpm2.NVPublic{
			NVIndex: counter, NameAlg: tpm2.AlgSHA256, DataSize: 8,
			Attributes: tpm2.NVOwnerWrite | tpm2.NVOwnerRead | tpm2.NVNoDA | tpm2.NVAttributes(tpm2.NVCounter)<<4,
		}},
	})
	return err
}

func increment(c *client.TPM) error {
	_, err := c.Run(&client.Command{Code: tpm2.CCNVIncrement, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: counter}}})
	return err
}

func count(c *client.TPM) (uint64, error) {
	var out command.NVReadOut
	_, err := c.Run(&client.Command{
		Code: tpm2.CCNVRead, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: counter}},
		In: &command.NVReadIn{Size: 8}, Out: &out,
	})
	if err != nil || len(out.Data) != 8 {
		return 0, fmt.Errorf("%x, %w", out.Data, err)
	}
	return binary.BigEndian.Uint64(out.Data), nil
}

// started connects to a TPM of a daemon and starts it.
func startedVM(socket string) (*vm, *client.TPM, error) {
	v, err := dialVM(socket)
	if err != nil {
		return nil, nil, err
	}
	c := client.New(v, zeroReader{})
	if err := c.Startup(tpm2.StartupClear); err != nil {
		v.Close()
		return nil, nil, err
	}
	return v, c, nil
}

// zeroReader serves clients that use no nonces.
type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A daemon that is killed under load loses nothing that a guest was told of, and
// its successor takes over the sockets.
func TestAKilledDaemonLosesNothingAcknowledged(t *testing.T) {
	dir, names := processRoot(t, 4)
	acknowledged := make([]uint64, len(names))
	for round := range 3 {
		d := startDaemon(t, dir)
		var all sync.WaitGroup
		for n, name := range names {
			all.Go(func() {
				v, c, err := startedVM(filepath.Join(dir, "root", "run", name+".ctrl"))
				if err != nil {
					t.Errorf("round %d, %s: %v", round, name, err)
					return
				}
				defer v.Close()
				if round == 0 {
					err = defineCounter(c)
				} else if got, e := count(c); e != nil || got < acknowledged[n] {
					err = fmt.Errorf("counter is %d, %w; %d was acknowledged", got, e, acknowledged[n])
				}
				if err != nil {
					t.Errorf("round %d, %s: %v", round, name, err)
					return
				}
				for increment(c) == nil { // until the daemon is gone
					if got, err := count(c); err == nil {
						acknowledged[n] = got
					}
				}
			})
		}
		time.AfterFunc(time.Duration(200+rand.IntN(200))*time.Millisecond, func() { d.Process.Kill() })
		all.Wait()
		d.Wait()
	}
	for n, name := range names {
		if acknowledged[n] == 0 {
			t.Errorf("%s: nothing was acknowledged: the test shows nothing", name)
		}
	}
	t.Logf("acknowledged: %v", acknowledged)
}

var idle = flag.Int("idle", 40, "TPMs that wait in the test of the daemon's memory")

// resident is the resident memory of a process in bytes.
func resident(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// Running TPMs whose guests do nothing take little: 1,000 of them at most 120 MB
// with the daemon itself.
func TestIdleTPMsTakeLittleMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	dir, names := processRoot(t, *idle)
	d := startDaemon(t, dir)
	before := resident(t, d.Process.Pid)
	commands := bootCommands(t)
	for n, name := range names {
		v, err := dialVM(filepath.Join(dir, "root", "run", name+".ctrl"))
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := (&guest{salt: byte(n)}).boot(v, commands); err != nil {
			t.Fatal(err)
		}
	}
	after := resident(t, d.Process.Pid)
	t.Logf("%d TPMs: %d KB before, %d KB after: %d KB each", len(names), before>>10, after>>10, (after-before)>>10/len(names))
	const own, each = 40 << 20, 80 << 10
	if limit := own + len(names)*each; after > limit {
		t.Errorf("resident memory is %d bytes, want at most %d", after, limit)
	}
	runtime.KeepAlive(d)
}
