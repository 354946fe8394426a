package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/audit"
)

var (
	// ErrNewer is a database whose schema is of a later program than this one.
	ErrNewer = errors.New("database was written by a newer version of this program")
	// ErrSchema is a database whose migrations are not those of this program.
	ErrSchema = errors.New("database schema is not one that this program made")
	// ErrOutdated is a database that needs a migration, met by a reader.
	ErrOutdated = errors.New("database needs a migration: start the service on it once")
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// A migration is one step of the schema. Its text never changes once released:
// the checksum that a database keeps would differ.
type migration struct {
	version int
	name    string
	text    string
	sum     [sha256.Size]byte
}

// migrations reads the embedded steps in order; files are named 0001_words.sql.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var out []migration
	for i, name := range names {
		number, words, _ := strings.Cut(strings.TrimSuffix(path.Base(name), ".sql"), "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %q is not number %d", name, i+1)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		out = append(out, migration{version, words, string(text), sha256.Sum256(text)})
	}
	return out, nil
}

// migrate brings the schema up to date in one transaction. Going back is not
// possible: an old program refuses the database instead.
func migrate(ctx context.Context, db *sql.DB, d Dialect, files fs.FS) error {
	steps, err := migrations(files)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, serialised())
	if err != nil {
		return fmt.Errorf("begin migration: %w", err)
	}
	if err := migrateIn(ctx, tx, d, steps); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit migration: %w", err)
	}
	return nil
}

const createHistory = `CREATE TABLE IF NOT EXISTS schema_history (
	version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum BYTES NOT NULL)`

func migrateIn(ctx context.Context, tx *sql.Tx, d Dialect, steps []migration) error {
	before := d.schema(createHistory)
	if d.LockSchema != "" {
		before = append([]string{d.LockSchema}, before...)
	}
	for _, s := range before {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("prepare migration: %w", err)
		}
	}
	done, err := history(ctx, tx, steps)
	if err != nil {
		return err
	}
	for _, m := range steps[done:] {
		if err := apply(ctx, tx, d, m); err != nil {
			return fmt.Errorf("migration %d (%s): %w", m.version, m.name, err)
		}
	}
	return initialise(ctx, tx, d)
}

// history returns how many steps the database has had, having compared each.
func history(ctx context.Context, tx *sql.Tx, steps []migration) (done int, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT version, checksum FROM schema_history ORDER BY version")
	if err != nil {
		return 0, fmt.Errorf("read schema history: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var version int
		var sum []byte
		if err := rows.Scan(&version, &sum); err != nil {
			return 0, fmt.Errorf("read schema history: %w", err)
		}
		switch {
		case version > len(steps):
			return 0, fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, version, len(steps))
		case version != done+1 || !bytes.Equal(sum, steps[done].sum[:]):
			return 0, fmt.Errorf("%w: step %d differs", ErrSchema, version)
		}
		done++
	}
	return done, rows.Err()
}

func apply(ctx context.Context, tx *sql.Tx, d Dialect, m migration) error {
	for _, s := range d.schema(m.text) {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			first, _, _ := strings.Cut(s, "\n")
			return fmt.Errorf("%s: %w", first, err)
		}
	}
	const note = "INSERT INTO schema_history (version, name, checksum) VALUES (?, ?, ?)"
	_, err := tx.ExecContext(ctx, d.query(note), m.version, m.name, m.sum[:])
	return err
}

// initialise gives a new database its state: generation 1, so that a zero
// Decision is stale, and the head of the empty chain.
func initialise(ctx context.Context, tx *sql.Tx, d Dialect) error {
	const start = `INSERT INTO state (id, generation, audit_seq, audit_hash) VALUES (1, 1, 0, ?)
		ON CONFLICT (id) DO NOTHING`
	if _, err := tx.ExecContext(ctx, d.query(start), make([]byte, len(audit.Hash{}))); err != nil {
		return fmt.Errorf("initialise state: %w", err)
	}
	return nil
}

// checkSchema reports whether a reader can use the database as it is.
func checkSchema(ctx context.Context, db *sql.DB, files fs.FS) error {
	steps, err := migrations(files)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("begin reading: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	done, err := history(ctx, tx, steps)
	if err != nil {
		return err
	}
	if done != len(steps) {
		return ErrOutdated
	}
	return nil
}
