package postgres_test

import (
	"context"
	"os"
	"testing"

	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/postgres/pgtest"
	"github.com/assay-project/assay/internal/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.CrashChild(func(url string) (storetest.Store, error) {
		return postgres.Open(context.Background(), url, store.Config{WithoutSync: true})
	})
	os.Exit(m.Run())
}

func TestKilledServiceLosesNothingAcknowledged(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	storetest.Crash(t, storetest.Crasher{Where: url, Open: opener(url), Kills: 15})
}

func TestCrashedServerLosesNothingAcknowledged(t *testing.T) {
	server := pgtest.Start(t)
	url := server.Database(t)
	storetest.Crash(t, storetest.Crasher{Where: url, Open: opener(url), Kills: 5, Instead: func(tb testing.TB) {
		server.Crash(tb)
		server.Run(tb)
	}})
}

func BenchmarkDecide(b *testing.B) {
	server := pgtest.Start(b)
	storetest.Bench(b, func(tb testing.TB) storetest.Store { return opener(server.Database(tb))(tb) })
}
