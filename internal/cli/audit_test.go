package cli

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/postgres"
	"github.com/assay-project/assay/internal/store/postgres/pgtest"
	"github.com/assay-project/assay/internal/store/sqlite"
	"github.com/assay-project/assay/internal/store/storetest"
)

// auditRun runs assay audit with args and returns what it did.
func auditRun(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := &program.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }}
	status = Main(env, append([]string{"audit"}, args...))
	return status, out.String(), errs.String()
}

// auditData makes a data folder with n decisions and returns its chain.
func auditData(t *testing.T, n int) (dir string, chain []audit.Entry) {
	t.Helper()
	dir = t.TempDir()
	s, err := sqlite.Open(t.Context(), dir, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range n {
		if err := s.Decide(t.Context(), storetest.Decision(i, nil)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, storetest.Chain(t, s)
}

func alter(t *testing.T, dir string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, sqlite.FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// swap exchanges the numbers of two rows.
func swap(a, b int) []string {
	return []string{
		fmt.Sprintf("UPDATE audit SET seq = 1000 WHERE seq = %d", a),
		fmt.Sprintf("UPDATE audit SET seq = %d WHERE seq = %d", a, b),
		fmt.Sprintf("UPDATE audit SET seq = %d WHERE seq = 1000", b),
	}
}

func TestAuditVerifyNamesTheFirstEntryAtFault(t *testing.T) {
	for what, tc := range map[string]struct {
		alter []string
		seq   uint64
		why   string
		holds uint64
	}{
		"nothing":         {nil, 0, "", 9},
		"actor":           {[]string{"UPDATE audit SET actor = 'x' WHERE seq = 5"}, 5, "was altered: its content does not give its hash", 4},
		"time":            {[]string{"UPDATE audit SET made = made + 1 WHERE seq = 1"}, 1, "was altered: its content does not give its hash", 0},
		"outcome":         {[]string{"UPDATE audit SET outcome = 'trusted' WHERE seq = 9"}, 9, "was altered: its content does not give its hash", 8},
		"detail":          {[]string{"UPDATE audit SET detail = X'7B7D' WHERE seq = 2"}, 2, "was altered: its content does not give its hash", 1},
		"hash":            {[]string{"UPDATE audit SET hash = zeroblob(32) WHERE seq = 6"}, 6, "was altered: its content does not give its hash", 5},
		"hash cut":        {[]string{"UPDATE audit SET hash = X'00' WHERE seq = 6"}, 6, "was altered: a hash in it is not 32 bytes", 5},
		"prev":            {[]string{"UPDATE audit SET prev = zeroblob(32) WHERE seq = 6"}, 6, "does not carry the hash of the entry before", 5},
		"two altered":     {[]string{"UPDATE audit SET subject = '' WHERE seq IN (3, 7)"}, 3, "was altered: its content does not give its hash", 2},
		"dropped":         {[]string{"DELETE FROM audit WHERE seq = 4"}, 4, "missing: the next entry is 5", 3},
		"first dropped":   {[]string{"DELETE FROM audit WHERE seq = 1"}, 1, "missing: the next entry is 2", 0},
		"swapped":         {swap(4, 5), 4, "does not carry the hash of the entry before", 3},
		"tail cut":        {[]string{"DELETE FROM audit WHERE seq > 7"}, 8, "missing: the chain once reached entry 9", 7},
		"all cut":         {[]string{"DELETE FROM audit"}, 1, "missing: the chain once reached entry 9", 0},
		"head moved back": {[]string{"UPDATE state SET audit_seq = 7"}, 7, "is not the entry that was noted", 9},
		"appended":        {[]string{"UPDATE state SET audit_seq = 7, audit_hash = (SELECT hash FROM audit WHERE seq = 7)"}, 8, "was put in behind the store's back: its head is entry 7", 9},
	} {
		t.Run(what, func(t *testing.T) {
			dir, _ := auditData(t, 9)
			alter(t, dir, tc.alter...)
			status, out, errs := auditRun(t, "verify", "--data", dir, "-o", "json")
			var got program.ChainReport
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v in %q, %s", err, out, errs)
			}
			switch {
			case tc.seq == 0:
				if status != 0 || !got.Whole || got.Break != nil || got.Head.Seq != tc.holds {
					t.Errorf("status %d, %s", status, out)
				}
			case status != 1 || got.Whole || got.Break == nil || got.Break.Seq != tc.seq || got.Break.Why != tc.why || got.Head.Seq != tc.holds:
				t.Errorf("status %d, %s, want entry %d %s", status, out, tc.seq, tc.why)
			}
			status, out, _ = auditRun(t, "verify", "--data", dir)
			want := fmt.Sprintf("The audit chain is broken: entry %d %s.\n", tc.seq, tc.why)
			if tc.seq == 0 {
				want = "The audit chain is whole: 9 entries.\nhead 9:"
			}
			if (status != 0) != (tc.seq != 0) || !strings.HasPrefix(out, want) {
				t.Errorf("status %d, text %q, want %q", status, out, want)
			}
		})
	}
}

func TestANotedHeadShowsWhatTheStoreForgot(t *testing.T) {
	dir, chain := auditData(t, 5)
	noted := func(n int) string { return fmt.Sprintf("%d:%s", n, chain[n-1].Hash) }
	alter(t, dir, "DELETE FROM audit WHERE seq > 3",
		"UPDATE state SET audit_seq = 3, audit_hash = (SELECT hash FROM audit WHERE seq = 3)")
	for what, tc := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"without": {nil, 0, "whole: 3 entries"},
		"kept":    {[]string{"--head", noted(2), "--head", noted(3)}, 0, "whole: 3 entries"},
		"cut":     {[]string{"--head", noted(2), "--head", noted(5)}, 1, "entry 4 missing: the chain once reached entry 5"},
		"another": {[]string{"--head", "2:" + strings.Repeat("00", 32)}, 1, "entry 2 is not the entry that was noted"},
	} {
		status, out, errs := auditRun(t, append([]string{"verify", "--data", dir}, tc.args...)...)
		if status != tc.status || !strings.Contains(out, tc.want) {
			t.Errorf("%s: status %d, %q, %q, want %d and %q", what, status, out, errs, tc.status, tc.want)
		}
	}
}

func TestAuditRefusesWhatItCannotUse(t *testing.T) {
	dir, _ := auditData(t, 1)
	for what, args := range map[string][]string{
		"no store":         {"verify"},
		"both stores":      {"verify", "--data", dir, "--database", "postgres://x"},
		"no database file": {"verify", "--data", t.TempDir()},
		"no server":        {"verify", "--database", "postgres://127.0.0.1:1/x?connect_timeout=1"},
		"head of words":    {"verify", "--data", dir, "--head", "five"},
		"head without":     {"verify", "--data", dir, "--head", "5:"},
		"negative head":    {"verify", "--data", dir, "--head", "-1:" + strings.Repeat("00", 32)},
		"zero head":        {"verify", "--data", dir, "--head", "0:" + strings.Repeat("01", 32)},
		"list nothing":     {"list"},
	} {
		if status, out, errs := auditRun(t, args...); status != 2 || out != "" || errs == "" {
			t.Errorf("%s: status %d, %q, %q, want 2 and only a message", what, status, out, errs)
		}
	}
}

func TestAuditListPrintsWhatVerifies(t *testing.T) {
	dir, chain := auditData(t, 5)
	status, out, errs := auditRun(t, "list", "--data", dir, "-o", "json")
	var got []audit.Entry
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
		t.Fatalf("status %d, %v, %s", status, err, errs)
	}
	var v audit.Verifier
	for _, e := range got {
		if err := v.Next(e); err != nil {
			t.Error(err)
		}
	}
	if v.Head() != chain[4].Head() {
		t.Errorf("the list ends at %v, want %v", v.Head(), chain[4].Head())
	}
	status, out, _ = auditRun(t, "list", "--data", dir, "--after", "2", "--limit", "2")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); status != 0 || len(lines) != 2 || !strings.HasPrefix(lines[0], "3  2026-11-22T12:00:00Z  ") {
		t.Errorf("status %d, %q", status, out)
	}
	if _, out, _ = auditRun(t, "list", "--data", dir, "--after", "99", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("nothing is listed as %q", out)
	}
}

func TestAuditVerifyReadsPostgreSQL(t *testing.T) {
	url := pgtest.Start(t).Database(t)
	if status, _, errs := auditRun(t, "verify", "--database", url); status != 2 || errs == "" {
		t.Errorf("a database without tables: status %d, %q", status, errs)
	}
	s, err := postgres.Open(t.Context(), url, store.Config{WithoutSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 4 {
		if err := s.Decide(t.Context(), storetest.Decision(i, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if status, out, errs := auditRun(t, "verify", "--database", url); status != 0 || !strings.Contains(out, "whole: 4 entries") {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("DELETE FROM audit WHERE seq = 3"); err != nil {
		t.Fatal(err)
	}
	if status, out, _ := auditRun(t, "verify", "--database", url); status != 1 || !strings.Contains(out, "entry 3 missing") {
		t.Errorf("status %d, %q", status, out)
	}
}
