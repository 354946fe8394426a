package sqlite_test

import (
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
	"github.com/assay-project/assay/internal/store/storetest"
)

var update = flag.Bool("update", false, "write testdata/schema-N.db for the newest schema")

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

func TestOneServicePerFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "when missing")
	s := opener(dir)(t)
	if _, err := sqlite.Open(t.Context(), dir, store.Config{}); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	opener(dir)(t).Close()
	info, err := os.Stat(filepath.Join(dir, sqlite.FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the database is %v, %v, want -rw-------", info.Mode(), err)
	}
}

func TestFailedOpenGivesTheFolderBack(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, sqlite.FileName)
	if err := os.WriteFile(file, []byte("this is not a database, but it is long enough to be looked at as one......."), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := sqlite.Open(t.Context(), dir, store.Config{}); err == nil || errors.Is(err, sqlite.ErrLocked) {
			t.Errorf("Open of another file = %v", err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	opener(dir)(t).Close()
}

func TestReaderLooksWhileTheServiceRunsAndAfter(t *testing.T) {
	dir := t.TempDir()
	if _, err := sqlite.OpenReader(t.Context(), dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenReader of an empty folder = %v, want fs.ErrNotExist", err)
	}
	s := opener(dir)(t)
	look := func(want int) {
		t.Helper()
		r, err := sqlite.OpenReader(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got := len(storetest.Chain(t, r)); got != want {
			t.Errorf("reader sees %d entries, want %d", got, want)
		}
		if err := r.Decide(t.Context(), storetest.Decision(9, nil)); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Decide by a reader = %v, want ErrClosed", err)
		}
	}
	look(0)
	for n := range 3 {
		if err := s.Decide(t.Context(), storetest.Decision(n, nil)); err != nil {
			t.Fatal(err)
		}
		look(n + 1)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	look(3)
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	dir := t.TempDir()
	opener(dir)(t).Close()
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO schema_history (version, name, checksum) VALUES (1000, 'future', X'00')"); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), dir, store.Config{}); !errors.Is(err, store.ErrNewer) {
		t.Errorf("Open = %v, want ErrNewer", err)
	}
	if _, err := sqlite.OpenReader(t.Context(), dir); !errors.Is(err, store.ErrNewer) {
		t.Errorf("OpenReader = %v, want ErrNewer", err)
	}
}

// sampled fills a database as testdata/schema-1.db was.
func sampled(t *testing.T, s storetest.Store) {
	t.Helper()
	for n := range 6 {
		if err := s.Decide(t.Context(), storetest.Decision(n, storetest.Bundle(n/3, n))); err != nil {
			t.Fatal(err)
		}
	}
	policy := attest.PolicyVersion{Name: "default", Version: 1, Text: "version=1.2;", Time: storetest.Noon()}
	if err := errors.Join(
		s.AddAttester(t.Context(), storetest.Attester(1), storetest.Entry("attester.add", "1")),
		s.PutPolicy(t.Context(), policy, storetest.Entry("policy.put", "default")),
	); err != nil {
		t.Fatal(err)
	}
}

func TestDatabasesOfEverySchemaOpen(t *testing.T) {
	const newest = 3
	if *update {
		dir := t.TempDir()
		s := opener(dir)(t)
		sampled(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		copyFile(t, filepath.Join(dir, sqlite.FileName), fmt.Sprintf("testdata/schema-%d.db", newest))
	}
	for version := 1; version <= newest; version++ {
		t.Run(fmt.Sprint("schema ", version), func(t *testing.T) {
			dir := t.TempDir()
			copyFile(t, fmt.Sprintf("testdata/schema-%d.db", version), filepath.Join(dir, sqlite.FileName))
			s := opener(dir)(t)
			defer s.Close()
			if got := len(storetest.Chain(t, s)); got != 8 {
				t.Errorf("%d audit entries, want 8", got)
			}
			for n := range 6 {
				want := storetest.Decision(n, storetest.Bundle(n/3, n))
				got, err := s.Appraisal(t.Context(), want.Appraisal.ID)
				if err != nil || got.Evidence != want.Appraisal.Evidence || !got.Time.Equal(want.Appraisal.Time) {
					t.Errorf("appraisal %d: %+v, %v", n, got, err)
				}
				if b, err := s.Evidence(t.Context(), got.Evidence); err != nil || string(b) != string(want.Bundle) {
					t.Errorf("evidence %d: %d bytes, %v", n, len(b), err)
				}
			}
			if a, err := s.Attester(t.Context(), storetest.Attester(1).AKName); err != nil || a.Machine != "web-1" {
				t.Errorf("attester: %+v, %v", a, err)
			}
			key := attest.KeyDigest(sampleKey(version))
			if a, err := s.AttestersByKey(t.Context(), key); err != nil || len(a) != 1 || a[0].Machine != "web-1" {
				t.Errorf("attester by its key: %+v, %v", a, err)
			}
			if c, err := s.Configuration(t.Context()); err != nil || c.Generation != 2 || c.Policies["default"].Text != "version=1.2;" {
				t.Errorf("configuration: %+v, %v", c, err)
			}
			d := storetest.Decision(100, nil)
			d.Generation = 2
			if err := s.Decide(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
	}
}

// sampleKey is what the attester of testdata/schema-N.db has for a key.
func sampleKey(version int) []byte {
	if version == 1 {
		return []byte{0, 1, 1}
	}
	return storetest.Attester(1).AKPublic
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
