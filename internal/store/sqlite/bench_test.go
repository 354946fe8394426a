package sqlite_test

import (
	"testing"

	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
	"github.com/assay-project/assay/internal/store/storetest"
)

func BenchmarkDecide(b *testing.B) {
	storetest.Bench(b, func(tb testing.TB) storetest.Store {
		s, err := sqlite.Open(tb.Context(), tb.TempDir(), store.Config{})
		if err != nil {
			tb.Fatal(err)
		}
		return s
	})
}
