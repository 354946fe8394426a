// Package postgres opens the service's store in a PostgreSQL database, which
// several services may share.
//
// Writes of all services take turns on one row, so that the audit chain has no
// gap; migrations take turns on an advisory lock. What is acknowledged is as
// durable as the server makes it: one that has synchronous_commit, fsync or
// full_page_writes off when the store is opened is refused. Start with [Open].
// PostgreSQL 15, chapters 13 and 30.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/assay-project/assay/internal/store"
)

// ErrNotDurable is returned, wrapped, for a server that would acknowledge commits
// which a crash loses.
var ErrNotDurable = errors.New("decisions that were acknowledged could be lost")

const (
	writers       = 4 // connections; the writes on them take turns
	readers       = 16
	commitTimeout = 10 * time.Second
	dialTimeout   = 10 * time.Second // a server that is frozen takes connections and says nothing
	// migrationLock is our advisory lock ("assay" in ASCII).
	migrationLock = 0x6173736179
)

// Open migrates the database at url (postgres://…) and opens the store in it.
func Open(ctx context.Context, url string, cfg store.Config) (*store.Store, error) {
	conf, err := parse(url)
	if err != nil {
		return nil, err
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = commitTimeout
	}
	var opened atomic.Uint64
	dbs := store.Databases{
		Write: connect(conf, writers, stdlib.OptionAfterConnect(func(context.Context, *pgx.Conn) error { opened.Add(1); return nil })),
		Read:  connect(conf, readers), Dialect: dialect(), Away: away, Opened: opened.Load,
	}
	if err := checkDurable(ctx, dbs.Write, cfg.WithoutSync); err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), dbs.Write.Close(), dbs.Read.Close())
	}
	s, err := store.New(ctx, dbs, cfg)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// OpenReader opens the store at url for reading, beside the services that use it.
func OpenReader(ctx context.Context, url string) (*store.Store, error) {
	conf, err := parse(url)
	if err != nil {
		return nil, err
	}
	conf.RuntimeParams["default_transaction_read_only"] = "on"
	s, err := store.NewReader(ctx, store.Databases{Read: connect(conf, 1), Dialect: dialect(), Away: away})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

func parse(url string) (*pgx.ConnConfig, error) {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		// The driver's message leaves the password out; the URL itself does not.
		return nil, fmt.Errorf("open store: %w", err)
	}
	if conf.RuntimeParams["application_name"] == "" {
		conf.RuntimeParams["application_name"] = "assay"
	}
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = dialTimeout
	}
	// A service that freezes inside a transaction holds the one row that all writes
	// pass: the server ends it, so that the others go on.
	if conf.RuntimeParams[idleTimeout] == "" {
		conf.RuntimeParams[idleTimeout] = "10s"
	}
	return conf, nil
}

const idleTimeout = "idle_in_transaction_session_timeout"

func connect(conf *pgx.ConnConfig, conns int, opts ...stdlib.OptionOpenDB) *sql.DB {
	db := stdlib.OpenDB(*conf, opts...)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db
}

// checkDurable asks for the settings that an acknowledged commit rests on
// (PostgreSQL 15, 20.5.1).
func checkDurable(ctx context.Context, db *sql.DB, withoutSync bool) error {
	for _, setting := range []struct {
		name, risk string
		waived     bool
	}{
		{"synchronous_commit", "a crash of the server loses commits", false},
		{"fsync", "a crash of the machine damages the database", withoutSync},
		{"full_page_writes", "a crash of the machine damages pages that were being written", withoutSync},
	} {
		var value string
		if err := db.QueryRowContext(ctx, "SHOW "+setting.name).Scan(&value); err != nil {
			return fmt.Errorf("ask for %s: %w", setting.name, err)
		}
		if value == "off" && !setting.waived {
			return fmt.Errorf("%w: the server has %s off, so that %s: set it on", ErrNotDurable, setting.name, setting.risk)
		}
	}
	return nil
}

// away reports whether the server cannot be used now, by the class of its error
// (PostgreSQL 15, appendix A): connection, resources such as a full disk, shutdown,
// system errors; or a server that takes no writes because another has taken over.
func away(err error) bool {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return slices.Contains([]string{"08", "53", "57", "58"}, answer.Code[:min(2, len(answer.Code))]) || answer.Code == "25006"
	}
	var dial *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &dial) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || pgconn.SafeToRetry(err)
}

func dialect() store.Dialect {
	return store.Dialect{
		Name: "postgres", Numbered: true,
		// "C" sorts by bytes whatever the database's locale is, as SQLite does.
		Bigint: "BIGINT", Bytes: "BYTEA", Text: `TEXT COLLATE "C"`,
		LockSchema: fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", int64(migrationLock)),
	}
}
