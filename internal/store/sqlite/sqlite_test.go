package sqlite_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
	"github.com/assay-project/assay/internal/store/storetest"
)

func opener(dir string) storetest.Opener {
	return func(tb testing.TB) storetest.Store {
		tb.Helper()
		s, err := sqlite.Open(tb.Context(), dir, store.Config{})
		if err != nil {
			tb.Fatal(err)
		}
		return s
	}
}

func TestStore(t *testing.T) {
	defer goleak.VerifyNone(t)
	storetest.Run(t, func(tb testing.TB) storetest.Opener { return opener(tb.TempDir()) })
}
