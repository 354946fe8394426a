package cli

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/postgres/pgtest"
)

// A database that hangs is told in time, and nothing that was acknowledged is lost.
func TestFrozenDatabaseIsToldInTime(t *testing.T) {
	const limit = time.Second
	// One request may wait for its own limit, and for the commit that took it.
	const longest = 2*limit + 8*time.Second // the rest is for a loaded machine
	server := pgtest.Start(t)
	url := server.Database(t)
	s := startServing(t, t.TempDir(), func(o *serveOptions) {
		o.Database, o.WithoutSync, o.Limits.Answer, o.CommitTimeout = url, true, limit, limit
	})
	api := &attestClient{
		url: s.url, http: clientFor(t, s.data), bundle: mustRead(t, "demodata/good.json"),
		token: strings.TrimSpace(string(mustRead(t, filepath.Join(s.data, tokenFile)))),
	}
	var mu sync.Mutex // guards ids and counts
	var ids []string
	counts := map[int]int{}
	reached := func(status, n int) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return counts[status] >= n }
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				began := time.Now()
				id, status := api.attest()
				if took := time.Since(began); took > 2*longest { // two requests
					t.Errorf("an answer took %s", took)
				}
				mu.Lock()
				if counts[status]++; id != "" {
					ids = append(ids, id)
				}
				mu.Unlock()
			}
		})
	}
	eventually(t, "decisions before", reached(http.StatusOK, 40))
	server.Freeze(t)
	eventually(t, "answers of the frozen service", reached(http.StatusServiceUnavailable, 16))
	if status, body := api.do("GET", "/healthz", nil); status != http.StatusServiceUnavailable {
		t.Errorf("health while frozen: %d %s", status, body)
	}
	server.Thaw(t)
	mu.Lock()
	before := counts[http.StatusOK]
	mu.Unlock()
	eventually(t, "decisions after", reached(http.StatusOK, before+40))
	eventually(t, "health after", func() bool { status, _ := api.do("GET", "/healthz", nil); return status == http.StatusOK })
	close(stop)
	load.Wait()
	for status, n := range counts {
		if status != http.StatusOK && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
			t.Errorf("%d answers %d", n, status)
		}
	}
	t.Logf("answers by status: %v", counts)
	if err := s.stop(); err != nil {
		t.Errorf("serve = %v", err)
	}
	r, err := postgres.OpenReader(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	nothingMissing(t, r, ids)
}

// eventually waits for what other goroutines do.
func eventually(t *testing.T, what string, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		if reached() {
			return
		}
		<-tick.C
	}
	t.Fatalf("%s: they do not come", what)
}
