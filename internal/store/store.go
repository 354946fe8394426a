// Package store keeps what the service must not lose, in SQL: the queries of
// all domains, once, for every database that store/sqlite and store/postgres open.
//
// Every write is one transaction that also links its audit entry, under a lock
// on the one row of the table state; decisions are grouped, so that many share
// one wait for the disk. What a method acknowledged survives a crash of the
// program or the machine, as far as the database's own promise reaches. The
// package does not judge what it keeps, and does not notice alterations made
// behind its back: that is what the audit chain is for. Start with [New] and
// [Store.Decide]; the tables are explained in docs/formats/database.md.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
)

var (
	// ErrOverloaded is a decision that was not taken on because too many wait. Nothing was kept.
	ErrOverloaded = errors.New("too many decisions wait to be stored")
	// ErrClosed is a write to a store that was closed or is for reading only.
	ErrClosed = errors.New("store takes no writes")
	// ErrInvalid is returned, wrapped, for a value that no database can keep, such
	// as a name with a NUL in it.
	ErrInvalid = errors.New("value cannot be stored")
	// ErrUnavailable is returned, wrapped, when the database does not answer, or takes
	// no writes: it is away, frozen, or its disk is full.
	ErrUnavailable = errors.New("database does not answer or takes no writes")
	// ErrCorrupt is returned, wrapped, for stored bytes that are not what was put there.
	ErrCorrupt = errors.New("stored value is damaged")
)

// Config bounds the work of a [Store]. Its zero value is safe.
type Config struct {
	Queue      int           // decisions that may wait; 0 means 1024
	QueueBytes int64         // evidence that may wait with them; 0 means 256 MiB
	Group      int           // decisions committed together at most; 0 means 128
	Timeout    time.Duration // of one group's commit; 0 means none
	// WithoutSync takes a PostgreSQL server that has fsync or full_page_writes off,
	// where a crash of the machine can lose or damage what was acknowledged.
	WithoutSync bool
	// Committed, when not nil, is told the size of each group that was dealt with;
	// it must not block.
	Committed func(decisions int)
}

// groupBytes ends a group whose new evidence is this large: what waits behind
// one commit stays bounded.
const groupBytes = 16 << 20

func (c Config) withDefaults() Config {
	if c.Queue <= 0 {
		c.Queue = 1024
	}
	if c.QueueBytes <= 0 {
		c.QueueBytes = 256 << 20
	}
	if c.Group <= 0 {
		c.Group = 128
	}
	return c
}

// Databases are the connections that a [Store] works over. It closes them.
type Databases struct {
	Write   *sql.DB // nil for a store that only reads
	Read    *sql.DB
	Dialect Dialect
	// Away reports whether an error of the driver means [ErrUnavailable]; nil for none.
	Away func(error) bool
	// Opened counts the connections of Write that were made so far; nil for a database
	// that loses no commit while the store is open.
	Opened func() uint64
	// Release, when not nil, is called after the connections are closed.
	Release func() error
}

// Store implements attest.Store and access.Store. Its methods may be called
// from several goroutines.
type Store struct {
	write, read *pool // write is nil in a reader
	release     func() error
	cfg         Config
	recent      recentDigests
	packer      packer
	hashed      digestMemo

	queue       chan *pending
	queuedBytes atomic.Int64
	committed   chan struct{} // closed when the committing goroutine has ended

	mu     sync.RWMutex // guards closed, and sending on queue against closing it
	closed bool
}

var (
	_ attest.Store = (*Store)(nil)
	_ access.Store = (*Store)(nil)
)

// New migrates the database and returns a store over it. The caller closes the
// store; when New fails, it has closed the databases.
func New(ctx context.Context, dbs Databases, cfg Config) (*Store, error) {
	s := newStore(dbs, cfg)
	err := migrate(ctx, dbs.Write, dbs.Dialect, migrationFiles)
	if err == nil {
		err = s.write.prime(ctx, hotStatements()...)
	}
	if err != nil {
		return nil, errors.Join(err, s.closeDatabases())
	}
	go s.commitGroups()
	if err := s.digestKeys(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// NewReader returns a store that reads a database which a service may be using,
// and changes nothing. It does not migrate.
func NewReader(ctx context.Context, dbs Databases) (*Store, error) {
	dbs.Write = nil
	s := newStore(dbs, Config{})
	s.closed = true
	close(s.queue)
	close(s.committed)
	if err := checkSchema(ctx, dbs.Read, migrationFiles); err != nil {
		return nil, errors.Join(err, s.closeDatabases())
	}
	return s, nil
}

func newStore(dbs Databases, cfg Config) *Store {
	cfg = cfg.withDefaults()
	s := &Store{
		read: newPool(dbs.Read, dbs), release: dbs.Release, cfg: cfg,
		queue: make(chan *pending, cfg.Queue), committed: make(chan struct{}),
	}
	s.recent.opened = dbs.Opened
	s.read.lost = s.recent.forget
	if dbs.Write != nil {
		s.write = newPool(dbs.Write, dbs)
		s.write.lost = s.recent.forget
	}
	return s
}

// Close waits until what was queued is decided, stops the store's goroutine and
// closes the connections. Later writes give [ErrClosed].
func (s *Store) Close() error {
	s.mu.Lock()
	wasClosed := s.closed
	s.closed = true
	if !wasClosed {
		close(s.queue)
	}
	s.mu.Unlock()
	<-s.committed
	return s.closeDatabases()
}

func (s *Store) closeDatabases() error {
	err := s.read.close()
	if s.write != nil {
		err = errors.Join(err, s.write.close())
	}
	if s.release != nil {
		err = errors.Join(err, s.release())
		s.release = nil
	}
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}
