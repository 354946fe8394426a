package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// crashEnv tells a test binary to be the process that is killed: what it opens,
// and the number of its first decision.
const crashEnv = "ASSAY_STORETEST_CRASH"

// CrashChild is called first in TestMain. In the process that [Crash] starts it
// commits decisions until it is killed; elsewhere it does nothing.
func CrashChild(open func(where string) (Store, error)) {
	where, first, ok := strings.Cut(os.Getenv(crashEnv), " ")
	if !ok {
		return
	}
	n, err := strconv.Atoi(first)
	if err == nil {
		err = commitForEver(open, where, n)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

const crashCallers = 24

func commitForEver(open func(string) (Store, error), where string, first int) error {
	s, err := open(where)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var mu sync.Mutex // guards next, failed and standard output
	next, failed := first, error(nil)
	var wg sync.WaitGroup
	for range crashCallers {
		wg.Go(func() {
			for {
				mu.Lock()
				n, stop := next, failed != nil
				next++
				mu.Unlock()
				if stop {
					return
				}
				err := s.Decide(context.Background(), crashDecision(n))
				mu.Lock()
				if err == nil {
					fmt.Println(n) // an acknowledgement: what is printed must be kept
				} else {
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return failed
}

func crashDecision(n int) attest.Decision {
	if n%3 == 0 {
		return Decision(n, nil)
	}
	return Decision(n, fmt.Appendf(nil, `{"n":%d,"log":"%s","own":"%s"}`, n, strings.Repeat("shared ", 500), strings.Repeat(fmt.Sprint(n), 300)))
}

// A Crasher says what [Crash] kills and where the store is.
type Crasher struct {
	Where string // what CrashChild's open gets
	Open  Opener
	// Kills is how often; the test of the whole service kills 50 times.
	Kills int
	// Instead, when not nil, ends a round in place of killing the child, such as
	// by stopping the database's server, and returns when that is over.
	Instead func(testing.TB)
}

// firstOfRound keeps the rounds' decisions apart.
const firstOfRound = 1_000_000

// Crash kills a process that commits decisions, at random points, and checks each
// time that all it acknowledged is there, that nothing is there in part, and that
// the audit chain holds.
func Crash(t *testing.T, c Crasher) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeats a failure
	var v audit.Verifier
	total := 0
	for round := range c.Kills {
		acknowledged := killOne(t, c, round*firstOfRound, rng)
		total += len(acknowledged)
		s := c.Open(t)
		subjects := walk(t, s, &v)
		for _, n := range acknowledged {
			checkKept(t, s, subjects, n)
		}
		for id := range subjects {
			if _, err := s.Appraisal(t.Context(), id); err != nil {
				t.Errorf("round %d: audit entry without its appraisal: %v", round, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Fatalf("round %d of %d", round, c.Kills)
		}
	}
	s := c.Open(t)
	defer s.Close()
	entries := Chain(t, s)
	list, err := s.Appraisals(t.Context(), attest.AppraisalFilter{Limit: 10_000})
	if err != nil || len(entries) < total || len(list) < min(len(entries), 10_000) {
		t.Errorf("%d audit entries, %d appraisals, %v, for %d acknowledged", len(entries), len(list), err, total)
	}
	t.Logf("%d kills: %d decisions acknowledged, %d kept", c.Kills, total, len(entries))
}

// killOne runs the child until it has acknowledged a random number of decisions.
func killOne(t *testing.T, c Crasher, first int, rng *rand.Rand) (acknowledged []int) {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", crashEnv, c.Where, first))
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wanted := rng.IntN(300)
	if wanted%5 == 0 {
		wanted = 0 // now and then before the first answer
	}
	pause := time.Duration(rng.IntN(3000)) * time.Microsecond
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); line != "ready\n" {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("child says %q, %v: %s", line, err, &stderr)
	}
	for killed := false; ; {
		if len(acknowledged) >= wanted && !killed {
			killed = true
			<-time.After(pause)
			if c.Instead != nil {
				c.Instead(t)
			} else if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
		line, err := lines.ReadString('\n')
		if err == io.EOF { //nolint:errorlint // never wrapped
			break // a line that was cut is no acknowledgement
		}
		n, err := strconv.Atoi(strings.TrimSuffix(line, "\n"))
		if err != nil {
			t.Fatalf("child says %q, %v: %s", line, err, &stderr)
		}
		acknowledged = append(acknowledged, n)
	}
	cmd.Process.Kill()
	cmd.Wait()
	return acknowledged
}

// walk verifies what the chain gained and returns the subjects of it.
func walk(t *testing.T, s Store, v *audit.Verifier) map[string]bool {
	t.Helper()
	subjects := map[string]bool{}
	for {
		page, err := s.AuditEntries(t.Context(), v.Head().Seq, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if err := v.Next(e); err != nil {
				t.Fatal(err)
			}
			subjects[e.Subject] = true
		}
		if len(page) == 0 {
			break
		}
	}
	if head, err := s.AuditHead(t.Context()); err != nil || head != v.Head() {
		t.Fatalf("chain ends at %v, the store says %v, %v", v.Head(), head, err)
	}
	return subjects
}

func checkKept(t *testing.T, s Store, subjects map[string]bool, n int) {
	t.Helper()
	d := crashDecision(n)
	if !subjects[d.Appraisal.ID] {
		t.Errorf("decision %d was acknowledged and is not in the audit chain", n)
	}
	got, err := s.Appraisal(t.Context(), d.Appraisal.ID)
	if err != nil || got.Evidence != d.Appraisal.Evidence {
		t.Errorf("decision %d was acknowledged: %v", n, err)
	}
	if d.Bundle != nil {
		if bundle, err := s.Evidence(t.Context(), d.Appraisal.Evidence); err != nil || string(bundle) != string(d.Bundle) {
			t.Errorf("evidence of decision %d: %d bytes, %v", n, len(bundle), err)
		}
	}
	if n%20 == 0 {
		d.Appraisal.ID += "again"
		wantErr(t, fmt.Sprintf("challenge of decision %d", n), s.Decide(t.Context(), d), attest.ErrChallengeUsed)
	}
}
