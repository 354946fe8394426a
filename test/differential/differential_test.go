package differential_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/test/differential"
)

var (
	seed   = flag.Uint64("seed", 1, "seed of the streams")
	n      = flag.Int("commands", 3000, "commands to send to each TPM")
	stream = flag.Int("stream", 0, "run this stream alone and print it")
	update = flag.Bool("update", false, "write docs/tpm-differences.md")
	detail = flag.Bool("details", false, "say what is behind each row, and which commands succeed")
	peer   = flag.String("peer", "", "compare with this program in swtpm's place: it speaks the simulator's protocol, and is started as PROGRAM PORT in a new folder")
	budget = flag.Duration("budget", 20*time.Second, "start no stream after this time; 0 is no bound")
)

// needSWTPM skips a test where Debian's swtpm is missing, unless it is required. A
// drop-in of ours under its name would be compared with itself.
func needSWTPM(t *testing.T) {
	t.Helper()
	version, err := exec.Command("swtpm", "--version").Output()
	switch {
	case err == nil && !bytes.Contains(version, []byte("assay")):
	case os.Getenv("ASSAY_REQUIRE_SWTPM") != "":
		t.Fatalf("swtpm is not installed, and ASSAY_REQUIRE_SWTPM is set: %v %s", err, version)
	default:
		t.Skipf("swtpm is not installed: nothing is compared with it (Debian: apt-get install swtpm): %v %s", err, version)
	}
}

// theirs makes TPMs of another maker.
func theirs(t *testing.T) func() (differential.Peer, error) {
	t.Helper()
	dir := t.TempDir()
	if *peer == "" {
		needSWTPM(t)
		return func() (differential.Peer, error) { return differential.StartSWTPM(dir) }
	}
	next := ports()
	return func() (p differential.Peer, err error) {
		for range 3 { // a program that does not reuse addresses waits for those of old connections
			if p, err = differential.StartMSSIM(*peer, dir, next()); err == nil {
				return p, nil
			}
		}
		return nil, err
	}
}

// ports gives a port at each call of which the next one is free, too: below those that
// Linux gives to outgoing connections, so that no client comes to have one.
func ports() func() int {
	const first, end = 16384, 32768
	next := first + 2*rand.IntN((end-first)/2)
	return func() int {
		for {
			if next += 2; next >= end {
				next = first
			}
			if free(next) && free(next+1) {
				return next
			}
		}
	}
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func TestSWTPMAnswersAsWeDo(t *testing.T) {
	start := time.Now()
	cfg := differential.Config{
		Seed: *seed, Commands: *n, Only: *stream, Now: time.Now, Budget: *budget, Reference: *peer != "",
		Ours: func() (differential.Peer, error) {
			return differential.Ours("default", rand.NewChaCha8([32]byte{byte(*seed)}), func() time.Duration { return time.Since(start) })
		},
		Theirs: theirs(t),
	}
	if *stream != 0 {
		cfg.Trace = func(o *differential.Observation) {
			fmt.Fprintf(os.Stderr, "%s\n   > %x\n   > %x\n   < %x\n   < %x\n", o, o.Request[0], o.Request[1], o.Response[0], o.Response[1])
		}
	}
	r, err := differential.Run(cfg)
	if r != nil {
		t.Logf("%s in %v", r, time.Since(start))
		if *detail {
			t.Log(r.Details())
		}
	}
	if err != nil {
		if r != nil {
			dump(r)
		}
		t.Fatal(err)
	}
	if r.Succeeded == 0 {
		t.Error("no command was run by both")
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

func TestTheDifferencesAreDocumented(t *testing.T) {
	const page = "../../docs/tpm-differences.md"
	if *update {
		if err := os.WriteFile(page, []byte(differential.Document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(differential.Document(), string(got)); diff != "" {
		t.Errorf("docs/tpm-differences.md is not the table (-want +got), run with -update:\n%s", diff)
	}
	for _, d := range slices.Concat(differential.Differences(), differential.ReferenceDifferences()) {
		if d.Name == "" || d.Clause == "" || d.Why == "" || d.Right != "ours" && d.Right != "theirs" && d.Right != "either" || d.Match == nil {
			t.Errorf("row %q is not whole", d.Name)
		}
	}
}

func TestWhatNoRowExplainsFailsTheRun(t *testing.T) {
	start := time.Now()
	made := byte(0)
	ours := func(lie bool) func() (differential.Peer, error) {
		return func() (differential.Peer, error) {
			made++ // keys and nonces are their own, as between two makers
			p, err := differential.Ours("default", rand.NewChaCha8([32]byte{made}), func() time.Duration { return time.Since(start) })
			return &liar{p, lie}, err
		}
	}
	for name, lie := range map[string]bool{"the same twice": false, "one digest differs": true} {
		t.Run(name, func(t *testing.T) {
			r, err := differential.Run(differential.Config{Seed: 61, Commands: 5000, Now: time.Now, Ours: ours(false), Theirs: ours(lie)})
			if err != nil {
				t.Fatal(err)
			}
			if r.Succeeded*3 < r.Commands*2 { // what is refused compares little
				t.Errorf("%d of %d commands were run", r.Succeeded, r.Commands)
			}
			if err := r.Err(); errors.Is(err, differential.ErrUnexplained) != lie {
				t.Errorf("Run = %v, want an unexplained difference: %v\n%s", err, lie, r)
			}
		})
	}
}

// A liar is a TPM whose TPM2_Hash is wrong in one bit.
type liar struct {
	differential.Peer
	lies bool
}

func (l *liar) Send(c []byte) ([]byte, error) {
	b, err := l.Peer.Send(c)
	if len(b) > 30 && l.lies && c[1] == 1 && c[8] == 1 && c[9] == 0x7d {
		b[12] ^= 1
	}
	return b, err
}
