package sqlite_test

import (
	"context"
	"os"
	"testing"

	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
	"github.com/assay-project/assay/internal/store/storetest"
)

func TestMain(m *testing.M) {
	storetest.CrashChild(func(dir string) (storetest.Store, error) {
		return sqlite.Open(context.Background(), dir, store.Config{})
	})
	os.Exit(m.Run())
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	storetest.Crash(t, storetest.Crasher{Where: dir, Open: opener(dir), Kills: 15})
}
