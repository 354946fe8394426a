package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"sync"
)

// A pool is a set of connections with the statements that were prepared on them.
type pool struct {
	db      *sql.DB
	dialect Dialect
	away    func(error) bool
	lost    func() // called when commits may have been lost; nil for nothing

	mu    sync.Mutex // guards stmts
	stmts map[string]*sql.Stmt
}

func newPool(db *sql.DB, of Databases) *pool {
	return &pool{db: db, dialect: of.Dialect, away: of.Away, stmts: map[string]*sql.Stmt{}}
}

// explain marks an error of a database that is not there to be asked, and has the
// store forget what such a database may come back without.
func (p *pool) explain(err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, ErrUnavailable) && p.away != nil && p.away(err) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var commit *commitError
	if p.lost != nil && (isAway(err) || errors.As(err, &commit)) {
		p.lost()
	}
	return err
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.stmts {
		s.Close()
	}
	clear(p.stmts)
	return p.db.Close()
}

// prepare returns the statement for a text; the texts are a fixed set, so the
// map is bounded.
func (p *pool) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	p.mu.Lock()
	s, ok := p.stmts[query]
	p.mu.Unlock()
	if ok {
		return s, nil
	}
	s, err := p.db.PrepareContext(ctx, p.dialect.query(query))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, ok := p.stmts[query]; ok {
		s.Close()
		return other, nil
	}
	p.stmts[query] = s
	return s, nil
}

// prime prepares the statements of the hot path, so that none is prepared
// inside its transactions.
func (p *pool) prime(ctx context.Context, queries ...string) error {
	for _, q := range queries {
		if _, err := p.prepare(ctx, q); err != nil {
			return fmt.Errorf("prepare %.40q: %w", q, err)
		}
	}
	return nil
}

// query runs a statement outside a transaction.
func (p *pool) query(ctx context.Context, query string, args []any, each func(scanner) error) error {
	s, err := p.prepare(ctx, query)
	if err != nil {
		return p.explain(err)
	}
	rows, err := s.QueryContext(ctx, args...)
	return p.explain(drain(rows, err, each))
}

// snapshot runs fn over one state of the whole database.
func (p *pool) snapshot(ctx context.Context, fn func(*txn) error) error {
	return p.transact(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, fn)
}

// serialised is how writes run: each statement sees what was committed when the
// state lock was won, whatever the server's default is. SQLite knows one way only.
func serialised() *sql.TxOptions { return &sql.TxOptions{Isolation: sql.LevelReadCommitted} }

// transact runs fn in a transaction and commits it when fn returns nil.
func (p *pool) transact(ctx context.Context, opts *sql.TxOptions, fn func(*txn) error) error {
	return p.explain(p.transactIn(ctx, opts, fn))
}

func (p *pool) transactIn(ctx context.Context, opts *sql.TxOptions, fn func(*txn) error) error {
	tx, err := p.db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	if err := fn(&txn{p, tx}); err != nil {
		if undo := tx.Rollback(); undo != nil && !errors.Is(undo, sql.ErrTxDone) {
			return errors.Join(err, fmt.Errorf("roll back: %w", undo))
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		return &commitError{err}
	}
	return nil
}

// A commitError leaves open whether the transaction is kept: the answer was lost.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

// A txn is a transaction with its pool's statements.
type txn struct {
	pool *pool
	tx   *sql.Tx
}

// A scanner is a row of a result.
type scanner interface{ Scan(dest ...any) error }

func drain(rows *sql.Rows, err error, each func(scanner) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *txn) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	// Preparing on the pool would wait for a second connection, which a pool of
	// one does not have; a statement of the transaction is not kept.
	t.pool.mu.Lock()
	s, ok := t.pool.stmts[query]
	t.pool.mu.Unlock()
	if ok {
		return t.tx.StmtContext(ctx, s), nil
	}
	return t.tx.PrepareContext(ctx, t.pool.dialect.query(query))
}

func (t *txn) exec(ctx context.Context, query string, args ...any) (changed int64, err error) {
	s, err := t.stmt(ctx, query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (t *txn) query(ctx context.Context, query string, args []any, each func(scanner) error) error {
	s, err := t.stmt(ctx, query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(ctx, args...)
	return drain(rows, err, each)
}

// exists reports whether a query gives a row.
func (t *txn) exists(ctx context.Context, query string, args ...any) (found bool, err error) {
	err = t.query(ctx, query, args, func(scanner) error { found = true; return nil })
	return found, err
}

// maxRows is what one statement carries. The numbers of rows are powers of two up
// to it, so that each statement is prepared once and a group needs few.
const maxRows = 64

// chunk returns the largest number of rows that is at most left.
func chunk(left int) int { return min(maxRows, 1<<(bits.Len(uint(left))-1)) }

// A bulk is a statement over several rows or keys at once.
type bulk struct {
	head    string // "INSERT INTO t (…) VALUES" or "SELECT … WHERE key IN"
	columns int    // values of a row; 0 for a list of keys
	tail    string
}

// text returns the statement for n rows or keys.
func (b bulk) text(n int) string {
	list := func(n int) string { return "(" + strings.Repeat("?,", n-1) + "?)" }
	if b.columns == 0 {
		return b.head + " " + list(n) + b.tail
	}
	row := list(b.columns)
	return b.head + " " + strings.Repeat(row+",", n-1) + row + b.tail
}

// texts returns the statements that this bulk ever runs.
func (b bulk) texts() []string {
	var out []string
	for n := 1; n <= maxRows; n *= 2 {
		out = append(out, b.text(n))
	}
	return out
}

// insert runs b for all rows, whose values are in args one row after the other.
func (t *txn) insert(ctx context.Context, b bulk, args []any) error {
	for len(args) > 0 {
		n := chunk(len(args) / b.columns)
		if _, err := t.exec(ctx, b.text(n), args[:n*b.columns]...); err != nil {
			return err
		}
		args = args[n*b.columns:]
	}
	return nil
}

// among runs b for all keys and hands each row to each. A key is repeated up
// to the number of a prepared statement, which changes no answer.
func (t *txn) among(ctx context.Context, b bulk, keys []any, each func(scanner) error) error {
	for len(keys) > 0 {
		n := min(len(keys), maxRows)
		page := append(make([]any, 0, maxRows), keys[:n]...)
		for keys = keys[n:]; n&(n-1) != 0; n++ {
			page = append(page, page[0])
		}
		if err := t.query(ctx, b.text(n), page, each); err != nil {
			return err
		}
	}
	return nil
}
