package postgres_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/postgres/pgtest"
	"github.com/assay-project/assay/internal/store/storetest"
)

func opener(url string) storetest.Opener {
	return func(tb testing.TB) storetest.Store {
		tb.Helper()
		s, err := postgres.Open(tb.Context(), url, store.Config{WithoutSync: true})
		if err != nil {
			tb.Fatal(err)
		}
		return s
	}
}

func TestStore(t *testing.T) {
	server := pgtest.Start(t)
	ignore := goleak.IgnoreCurrent()
	storetest.Run(t, func(tb testing.TB) storetest.Opener { return opener(server.Database(tb)) })
	goleak.VerifyNone(t, ignore)
}
