package differential_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/assay-project/assay/test/differential"
)

var (
	seed   = flag.Uint64("seed", 1, "seed of the streams")
	n      = flag.Int("commands", 3000, "commands to send to each TPM")
	stream = flag.Int("stream", 0, "run this stream alone and print it")
	budget = flag.Duration("budget", 20*time.Second, "start no stream after this time; 0 is no bound")
)

func TestSWTPMAnswersAsWeDo(t *testing.T) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed")
	}
	dir := t.TempDir()
	start := time.Now()
	cfg := differential.Config{
		Seed: *seed, Commands: *n, Only: *stream, Now: time.Now, Budget: *budget,
		Ours: func() (differential.Peer, error) {
			return differential.Ours("default", rand.NewChaCha8([32]byte{byte(*seed)}), func() time.Duration { return time.Since(start) })
		},
		Theirs: func() (differential.Peer, error) { return differential.StartSWTPM(dir) },
	}
	if *stream != 0 {
		cfg.Trace = func(o *differential.Observation) {
			fmt.Fprintf(os.Stderr, "%s\n   > %x\n   > %x\n   < %x\n   < %x\n", o, o.Request[0], o.Request[1], o.Response[0], o.Response[1])
		}
	}
	r, err := differential.Run(cfg)
	if r != nil {
		t.Logf("%s in %v", r, time.Since(start))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Err(); err != nil {
		dump(r)
		t.Error(err)
	}
}

// dump prints what nothing explains, with its bytes.
func dump(r *differential.Report) {
	for _, o := range r.Unexplained {
		fmt.Fprintf(os.Stderr, "%s\n   > %.800x\n   > %.800x\n   < %.400x\n   < %.400x\n", o, o.Request[0], o.Request[1], o.Response[0], o.Response[1])
	}
}
