package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/internal/store"
)

func TestWriterSyncsWhatItAcknowledges(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), dir, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	db, err := connect(filepath.Join(dir, FileName), 1, readWrite())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for pragma, want := range map[string]string{
		"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1", "busy_timeout": "10000",
		"application_id": "1098080633", "wal_autocheckpoint": "8192",
	} {
		var got string
		if err := db.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("PRAGMA %s is %q, %v, want %s", pragma, got, err, want)
		}
	}
}
