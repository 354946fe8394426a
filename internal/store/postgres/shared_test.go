package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/postgres/pgtest"
	"github.com/assay-project/assay/internal/store/storetest"
)

func exec(t *testing.T, url, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func TestServicesShareOneDatabase(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	// The default that an operator may set must not weaken the turns.
	exec(t, url, "ALTER ROLE assay SET default_transaction_isolation = 'repeatable read'")
	const services, decisions, rivals = 4, 60, 3
	stores := make([]*store.Store, services)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() { // all migrate the empty database at once
			s, err := postgres.Open(context.Background(), url, store.Config{WithoutSync: true})
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	var won atomic.Int32
	for n := range decisions * rivals {
		wg.Go(func() {
			d := storetest.Decision(n, nil)
			d.Challenge = storetest.Challenge(n % decisions)
			switch err := stores[n%services].Decide(context.Background(), d); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, attest.ErrChallengeUsed):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != decisions {
		t.Errorf("%d challenges served %d times", decisions, won.Load())
	}
	if got := len(storetest.Chain(t, stores[0])); got != decisions {
		t.Errorf("%d audit entries, want %d", got, decisions)
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefusesAServerThatLosesCommits(t *testing.T) {
	for name, tc := range map[string]struct {
		settings []string
		waived   bool // by WithoutSync
	}{
		"synchronous_commit": {[]string{"fsync=on", "synchronous_commit=off"}, false},
		"fsync":              {[]string{"fsync=off"}, true},
		"full_page_writes":   {[]string{"fsync=on", "full_page_writes=off"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			url := pgtest.Start(t, tc.settings...).Database(t)
			if _, err := postgres.Open(t.Context(), url, store.Config{}); !errors.Is(err, postgres.ErrNotDurable) || !strings.Contains(err.Error(), name+" off") {
				t.Errorf("Open = %v, want ErrNotDurable for %s", err, name)
			}
			s, err := postgres.Open(t.Context(), url, store.Config{WithoutSync: true})
			if (err == nil) != tc.waived || err != nil && !errors.Is(err, postgres.ErrNotDurable) {
				t.Errorf("Open without sync = %v, want it refused: %v", err, !tc.waived)
			}
			if err == nil {
				s.Close()
			}
			if !tc.waived { // a session may have it on
				opener(url + "&synchronous_commit=on")(t).Close()
			}
		})
	}
	t.Run("none off", func(t *testing.T) {
		s, err := postgres.Open(t.Context(), pgtest.Start(t, "fsync=on").Database(t), store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
}

func TestReaderChangesNothing(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	if _, err := postgres.OpenReader(t.Context(), url); err == nil {
		t.Error("OpenReader of an empty database said nil")
	}
	s := opener(url)(t)
	defer s.Close()
	if err := s.Decide(t.Context(), storetest.Decision(1, nil)); err != nil {
		t.Fatal(err)
	}
	r, err := postgres.OpenReader(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := len(storetest.Chain(t, r)); got != 1 {
		t.Errorf("reader sees %d entries, want 1", got)
	}
	if err := r.Decide(t.Context(), storetest.Decision(2, nil)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Decide by a reader = %v, want ErrClosed", err)
	}
	exec(t, url, "INSERT INTO schema_history (version, name, checksum) VALUES (1000, 'future', '')")
	if _, err := postgres.Open(t.Context(), url, store.Config{WithoutSync: true}); !errors.Is(err, store.ErrNewer) {
		t.Errorf("Open of a newer database = %v, want ErrNewer", err)
	}
}

func TestErrorsKeepThePassword(t *testing.T) {
	for _, url := range []string{
		"postgres://user:hunter2@127.0.0.1:1/db?connect_timeout=1",
		"postgres://user:hunter2@127.0.0.1:port/db",
		"postgres://user:hunter2@127.0.0.1:1/db?sslmode=absurd",
	} {
		_, err := postgres.Open(t.Context(), url, store.Config{})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open = %v", err)
		}
	}
}
