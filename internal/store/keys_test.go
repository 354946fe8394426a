package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/store/postgres/pgtest"
)

func attester(n int) attest.Attester {
	return attest.Attester{AKName: fmt.Sprintf("000b%08d", n), Machine: fmt.Sprint("web-", n), AKPublic: fmt.Appendf(nil, "key %d", n), Proof: "registered"}
}

// A row that a program of the schema before wrote has no digest of its key.
func TestKeyOfAnOlderProgramsRecordIsFound(t *testing.T) {
	s, file := openStore(t, Config{})
	a, ctx := attester(1), t.Context()
	if err := s.AddAttester(ctx, a, audit.Entry{Action: "attester.add"}); err != nil {
		t.Fatal(err)
	}
	other := connect(t, file, 1)
	if _, err := other.Exec("UPDATE attester SET key_digest = NULL"); err != nil {
		t.Fatal(err)
	}
	key := attest.KeyDigest(a.AKPublic)
	look := func(when string, missing int) {
		t.Helper()
		if got, err := s.AttestersByKey(ctx, key); err != nil || len(got) != 1 || got[0].AKName != a.AKName {
			t.Errorf("%s: AttestersByKey = %v, %v, want %s", when, got, err, a.AKName)
		}
		d := decision(1, "")
		d.Unrecorded = key
		if err := s.Decide(ctx, d); !errors.Is(err, attest.ErrStale) {
			t.Errorf("%s: a decision that the key has no record: %v, want ErrStale", when, err)
		}
		var n int
		if err := other.QueryRow("SELECT count(*) FROM attester WHERE key_digest IS NULL").Scan(&n); err != nil || n != missing {
			t.Errorf("%s: %d rows without a digest, %v, want %d", when, n, err, missing)
		}
	}
	look("before pruning", 1)
	if err := s.Prune(ctx, time.Time{}); err != nil {
		t.Fatal(err)
	}
	look("after pruning", 0)
}

// openServer opens a store in a real PostgreSQL server, as package postgres does.
func openServer(t *testing.T) *Store {
	t.Helper()
	url := pgtest.Start(t).Database(t)
	connect := func() *sql.DB {
		db, err := sql.Open("pgx", url)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	d := Dialect{Name: "postgres", Numbered: true, Bigint: "BIGINT", Bytes: "BYTEA", Text: `TEXT COLLATE "C"`}
	s, err := New(t.Context(), Databases{Write: connect(), Read: connect(), Dialect: d}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestLookUpByKeyReadsNoOtherRecords(t *testing.T) {
	const attesters = 2_000
	for name, open := range map[string]func(*testing.T) (s *Store, explain, index string){
		"sqlite": func(t *testing.T) (*Store, string, string) {
			s, _ := openStore(t, Config{})
			return s, "EXPLAIN QUERY PLAN ", "INDEX attester_key"
		},
		"postgres": func(t *testing.T) (*Store, string, string) {
			return openServer(t), "EXPLAIN ", "attester_key"
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, explain, index := open(t)
			err := s.changeIn(t.Context(), nil, keeps, func(x *txn) error {
				for n := range attesters {
					if err := x.addAttester(t.Context(), attester(n)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.write.db.Exec("ANALYZE"); err != nil {
				t.Fatal(err)
			}
			key := attest.KeyDigest(attester(attesters / 2).AKPublic)
			got, err := s.AttestersByKey(t.Context(), key)
			if err != nil || len(got) != 1 || got[0].AKName != attester(attesters/2).AKName {
				t.Fatalf("AttestersByKey = %v, %v", got, err)
			}
			for _, query := range []struct {
				text string
				args []any
			}{
				{attesterByKey, []any{key, maxNames}},
				{keyRecorded, []any{key, ""}},
				{keysRecorded.text(1), []any{key}},
				{keysUnknown, []any{pageMax}},
			} {
				plan := planOf(t, s.write, explain+query.text, query.args)
				if !strings.Contains(plan, index) || strings.Contains(plan, "SCAN a") || strings.Contains(plan, "Seq Scan") {
					t.Errorf("%s reads every record:\n%s", query.text, plan)
				}
			}
		})
	}
}

func planOf(t *testing.T, p *pool, query string, args []any) string {
	t.Helper()
	rows, err := p.db.QueryContext(context.Background(), p.dialect.query(query), args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var line, ignored string
		to := []any{&line}
		if !p.dialect.Numbered { // SQLite's plan has its text last of four
			to = []any{&ignored, &ignored, &ignored, &line}
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&plan, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
