package route

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/finding"
)

// writeEnv makes the test binary a process that raises findings in a store for ever,
// and says each that was accepted.
const writeEnv = "ROUTE_TEST_WRITE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writeEnv); dir != "" {
		s := &finding.Store{Dir: dir, Random: rand.Reader}
		for i := 0; ; i++ {
			machine := fmt.Sprint("m", i)
			if err := s.Update(context.Background(), t0, func(b *finding.Book) error { return b.Apply(t0, failed(machine)) }); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
			fmt.Println(machine)
		}
	}
	os.Exit(m.Run())
}

// What was accepted arrives, though the process that raised it is killed, and the one
// that delivers began later.
func TestAcceptedFindingsSurviveAKill(t *testing.T) {
	t.Parallel()
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writeEnv+"="+f.Store.Dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var accepted []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if accepted = append(accepted, lines.Text()+" open"); len(accepted) == 40 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(accepted) < 40 {
		t.Fatalf("the process ends with %v after %v", err, accepted)
	}
	f.deliver(t)
	got := r.events()
	for _, a := range accepted {
		if !slices.Contains(got, a) {
			t.Errorf("%q was accepted and did not arrive", a)
		}
	}
	if len(got) > len(accepted)+1 { // one may have been written and not said any more
		t.Errorf("%d arrive of %d", len(got), len(accepted))
	}
	if f.waiting(t) != 0 {
		t.Errorf("%d are left", f.waiting(t))
	}
}

// A deliverer that ends before its cursor is written sends again, under the same
// identifier, and loses nothing.
func TestADeliveryThatIsCutOffIsRepeated(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL))
	f.apply(t, failed("web-1"))
	file := filepath.Join(f.Store.QueueDir(), fmt.Sprintf("%020d.json", 1))
	change, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f.deliver(t)
	if err := errors.Join(os.WriteFile(file, change, 0o600), os.Remove(cursorFile(f.Store, "hook"))); err != nil {
		t.Fatal(err)
	}
	f.deliver(t)
	got := r.all()
	if len(got) != 2 || got[0].header.Get("Webhook-Id") != got[1].header.Get("Webhook-Id") || f.waiting(t) != 0 {
		t.Errorf("%d arrive, %d wait", len(got), f.waiting(t))
	}
}

// Who asks for it does not wait for the time of the next attempt.
func TestOnceTriesWhatWaits(t *testing.T) {
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL))
	f.apply(t, failed("web-1"))
	r.answer(503)
	f.deliver(t)
	f.deliver(t)
	if n := len(r.all()); n != 1 {
		t.Fatalf("%d attempts before the time", n)
	}
	r.answer(200)
	if left, err := f.Once(t.Context()); err != nil || left != 0 || len(r.all()) != 2 {
		t.Errorf("Once = %d, %v after %d attempts", left, err, len(r.all()))
	}
}

func TestRunDeliversAndWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	f, r := newFixture(t), receive(t)
	f.add(t, f.webhook(t, "hook", r.URL))
	d := &Deliverer{Store: f.Store, Host: "h", Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	eventually(t, "the lock", func() bool {
		_, err := f.Once(t.Context())
		return errors.Is(err, ErrBusy)
	})
	f.apply(t, failed("web-1"))
	eventually(t, "the message", func() bool { return slices.Contains(r.events(), "web-1 open") })
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	f.now = time.Now()
	f.apply(t, over("web-1"))
	if left, err := f.Once(t.Context()); err != nil || left != 0 {
		t.Errorf("Once = %d, %v", left, err)
	}
	if !strings.HasSuffix(strings.Join(r.events(), ","), "web-1 resolved") {
		t.Errorf("events %v", r.events())
	}
}
