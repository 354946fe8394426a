package differential_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/test/differential"
	"github.com/assay-project/assay/tpm2/engine"
)

// simulator is set for a process of these tests that is to be a simulator.
const simulator = "ASSAY_TEST_SIMULATOR"

func TestMain(m *testing.M) {
	if os.Getenv(simulator) == "" {
		os.Exit(m.Run())
	}
	if err := simulate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// simulate is our TPM by the simulator's protocol, until it is killed.
func simulate(port string) error {
	first, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	p, err := engine.FindProfile("default", 0)
	if err != nil {
		return err
	}
	start := time.Now()
	tpm, err := engine.Manufacture(p, engine.Config{Random: rand.Reader, Now: func() time.Duration { return time.Since(start) }})
	if err != nil {
		return err
	}
	var on [2]net.Listener
	for i := range on {
		if on[i], err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+i))); err != nil {
			return err
		}
	}
	return frontend.ServeMSSIM(context.Background(), frontend.NewMachine(tpm, frontend.MachineConfig{}), on[0], on[1], frontend.Config{Now: time.Now})
}

// A program of the simulator's protocol is a peer like swtpm: what it answers is
// compared, and its power and localities are those of the streams.
func TestASimulatorIsAPeer(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(simulator, "1")
	dir, next := t.TempDir(), ports()
	start := time.Now()
	r, err := differential.Run(differential.Config{
		Seed: 5, Commands: 1500, Now: time.Now,
		Ours: func() (differential.Peer, error) {
			return differential.Ours("default", rand.Reader, func() time.Duration { return time.Since(start) })
		},
		Theirs: func() (differential.Peer, error) { return differential.StartMSSIM(program, dir, next()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		t.Errorf("%v\n%s", err, r)
	}
	if r.Succeeded*3 < r.Commands*2 {
		t.Errorf("%d of %d commands were run", r.Succeeded, r.Commands)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d folders are left, %v", len(left), err)
	}
}
