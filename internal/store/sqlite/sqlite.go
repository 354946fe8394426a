// Package sqlite opens the service's store in a folder on one machine: a SQLite
// database that one process writes, and others may read.
//
// What is acknowledged was synced to the disk (WAL, synchronous=FULL), which
// holds as far as the disk keeps what it acknowledges. Start with [Open];
// [OpenReader] is for tools that look while the service runs. SQLite 3,
// "Write-Ahead Logging" and "PRAGMA synchronous".
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"

	"modernc.org/sqlite" // the driver "sqlite" too
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/store"
)

// FileName is the database in the data folder.
const FileName = "assay.db"

// ErrLocked is returned, wrapped, for a folder that another service uses.
var ErrLocked = durable.ErrLocked

const (
	readers = 8 // connections; WAL lets them read beside the writer
	// applicationID marks the file as ours ("Asay"; PRAGMA application_id).
	applicationID = 0x41736179
	// checkpointPages start moving the log into the database: 32 MiB, so that
	// a page which many commits change is moved once.
	checkpointPages = 8192
)

// Open takes dir, makes it when it is missing, sweeps what a crash left unfinished
// there, and opens the store in it.
func Open(ctx context.Context, dir string, cfg store.Config) (*store.Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := durable.LockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := durable.Sweep(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), lock.Close())
	}
	s, err := open(ctx, filepath.Join(dir, FileName), cfg, lock)
	if err != nil {
		return nil, fmt.Errorf("open store in %q: %w", dir, err)
	}
	return s, nil
}

func open(ctx context.Context, file string, cfg store.Config, lock *durable.Lock) (*store.Store, error) {
	// Made here, so that its mode is ours: it holds all that was attested.
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	f.Close()
	dbs := store.Databases{Dialect: dialect(), Away: away, Release: lock.Close}
	if dbs.Write, err = connect(file, 1, readWrite()); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if dbs.Read, err = connect(file, readers, readOnly()); err != nil {
		return nil, errors.Join(err, dbs.Write.Close(), lock.Close())
	}
	return store.New(ctx, dbs, cfg)
}

// OpenReader opens the store in dir for reading, also while a service has it.
func OpenReader(ctx context.Context, dir string) (*store.Store, error) {
	file := filepath.Join(dir, FileName)
	if _, err := os.Stat(file); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open store: %q has no %s: %w", dir, FileName, err)
		}
		return nil, fmt.Errorf("open store: %w", err)
	}
	db, err := connect(file, 1, readOnly())
	if err != nil {
		return nil, fmt.Errorf("open store in %q: %w", dir, err)
	}
	s, err := store.NewReader(ctx, store.Databases{Read: db, Dialect: dialect(), Away: away})
	if err != nil {
		return nil, fmt.Errorf("open store in %q: %w", dir, err)
	}
	return s, nil
}

func readWrite() url.Values {
	return url.Values{"_txlock": {"immediate"}, "_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
		// Statement journals otherwise go through a file: a third of a commit's time.
		"temp_store(MEMORY)",
		"wal_autocheckpoint(" + strconv.Itoa(checkpointPages) + ")", "cache_size(-65536)",
		"application_id(" + strconv.Itoa(applicationID) + ")",
	}}
}

func readOnly() url.Values {
	return url.Values{"mode": {"ro"}, "_pragma": {"busy_timeout(10000)", "query_only(1)", "cache_size(-8192)"}}
}

func connect(file string, conns int, options url.Values) (*sql.DB, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	name := url.URL{Scheme: "file", Path: abs, RawQuery: options.Encode()}
	db, err := sql.Open("sqlite", name.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// away reports whether the database cannot be used now: the disk is full or fails,
// or another program holds the file. The low byte is the primary code (SQLite,
// "Result and Error Codes").
func away(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY:
		return true
	}
	return false
}

func dialect() store.Dialect {
	return store.Dialect{
		Name: "sqlite", Bigint: "INTEGER", Bytes: "BLOB", Text: "TEXT",
		Rowless: "STRICT, WITHOUT ROWID", Table: "STRICT",
	}
}
