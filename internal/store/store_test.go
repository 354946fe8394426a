package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	_ "modernc.org/sqlite"

	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

func testDialect() Dialect {
	return Dialect{Name: "sqlite", Bigint: "INTEGER", Bytes: "BLOB", Text: "TEXT", Rowless: "STRICT, WITHOUT ROWID", Table: "STRICT"}
}

func connect(t *testing.T, file string, conns int) *sql.DB {
	t.Helper()
	u := url.URL{Scheme: "file", Path: file, RawQuery: url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(20000)", "journal_mode(WAL)"}}.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(conns)
	t.Cleanup(func() { db.Close() })
	return db
}

func openStore(t *testing.T, cfg Config) (*Store, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.db")
	s, err := New(t.Context(), Databases{Write: connect(t, file, 1), Read: connect(t, file, 4), Dialect: testDialect()}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, file
}

// hold keeps every writer out until the returned function is called.
func hold(t *testing.T, file string) (release func()) {
	t.Helper()
	tx, err := connect(t, file, 1).Begin()
	if err != nil {
		t.Fatal(err)
	}
	return func() { tx.Rollback() }
}

func decision(n int, bundle string) attest.Decision {
	d := attest.Decision{
		Appraisal: attest.Appraisal{ID: fmt.Sprintf("id-%06d", n)}, Generation: 1, Expires: time.Unix(1, 0),
		Challenge: fmt.Appendf(nil, "challenge %06d", n), Audit: audit.Entry{Action: "attest", Subject: fmt.Sprint(n)},
	}
	if bundle != "" {
		sum := sha256.Sum256([]byte(bundle))
		d.Bundle, d.Appraisal.Evidence = []byte(bundle), hex.EncodeToString(sum[:])
	}
	return d
}

// start runs Decide and returns its answer; it returns once the decision waits.
func start(ctx context.Context, t *testing.T, s *Store, d attest.Decision, queued int) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Decide(ctx, d) }()
	waitFor(t, func() bool { return len(s.queue) == queued })
	return done
}

func waitFor(t *testing.T, reached func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 20000 {
		if reached() {
			return
		}
		<-tick.C
	}
	t.Fatal("what the test waits for does not come")
}

// waitForGroup returns once a group is being committed. A decision that is taken does
// not tell: until its group has the connection, the next ones may still join.
func waitForGroup(t *testing.T, s *Store) {
	t.Helper()
	waitFor(t, func() bool { return s.write.db.Stats().InUse > 0 })
}

// occupy lets one decision reach the commit, which release ends.
func occupy(t *testing.T, s *Store, file string) (first <-chan error, release func()) {
	t.Helper()
	release = hold(t, file)
	done := make(chan error, 1)
	p, err := s.prepare(t.Context(), decision(0, ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.enqueue(p); err != nil {
		t.Fatal(err)
	}
	go func() { done <- <-p.done }()
	waitForGroup(t, s)
	return done, release
}

func TestFullQueueRefusesAtOnce(t *testing.T) {
	s, file := openStore(t, Config{Queue: 2})
	first, release := occupy(t, s, file)
	one := start(t.Context(), t, s, decision(1, ""), 1)
	two := start(t.Context(), t, s, decision(2, ""), 2)
	if err := s.Decide(t.Context(), decision(3, "")); !errors.Is(err, ErrOverloaded) {
		t.Errorf("third in a queue of two: %v, want ErrOverloaded", err)
	}
	release()
	for _, done := range []<-chan error{first, one, two} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Appraisal(t.Context(), "id-000003"); !errors.Is(err, attest.ErrNotFound) {
		t.Errorf("refused decision: %v", err)
	}
	if err := s.Decide(t.Context(), decision(3, "")); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

func TestQueuedEvidenceIsBounded(t *testing.T) {
	s, file := openStore(t, Config{QueueBytes: 10_000})
	_, release := occupy(t, s, file)
	incompressible := func(n int) string { // no long string without a quotation mark
		var b strings.Builder
		for i := range 100 {
			fmt.Fprintf(&b, `"%d %x"`, n, sha256.Sum256(fmt.Append(nil, n, i)))
		}
		return b.String()
	}
	one := start(t.Context(), t, s, decision(1, incompressible(1)), 1)
	if err := s.Decide(t.Context(), decision(2, incompressible(2))); !errors.Is(err, ErrOverloaded) {
		t.Errorf("evidence beyond the bound: %v, want ErrOverloaded", err)
	}
	small := start(t.Context(), t, s, decision(3, ""), 2)
	release()
	if err := errors.Join(<-one, <-small); err != nil {
		t.Error(err)
	}
	if n := s.queuedBytes.Load(); n != 0 {
		t.Errorf("%d bytes are counted as waiting in an empty queue", n)
	}
}

func TestWithdrawnWhileWaiting(t *testing.T) {
	s, file := openStore(t, Config{})
	first, release := occupy(t, s, file)
	ctx, cancel := context.WithCancel(t.Context())
	done := start(ctx, t, s, decision(1, ""), 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("withdrawn decision: %v, want context.Canceled", err)
	}
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
	if err := s.Decide(t.Context(), decision(1, "")); err != nil {
		t.Errorf("the withdrawn decision left something: %v", err)
	}
}

func TestCloseAnswersAllThatWait(t *testing.T) {
	s, file := openStore(t, Config{Group: 2})
	first, release := occupy(t, s, file)
	var waiting []<-chan error
	for n := range 5 {
		waiting = append(waiting, start(t.Context(), t, s, decision(n+1, ""), n+1))
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	waitFor(t, func() bool {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.closed
	})
	if err := s.Decide(t.Context(), decision(9, "")); !errors.Is(err, ErrClosed) {
		t.Errorf("Decide while the store closes: %v, want ErrClosed", err)
	}
	release()
	for _, done := range append(waiting, first, closed) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestOneGroupJudgesEachDecisionAlone(t *testing.T) {
	s, file := openStore(t, Config{})
	first, release := occupy(t, s, file)
	cases := []struct {
		change func(*attest.Decision)
		want   error
	}{
		{func(*attest.Decision) {}, nil},
		{func(d *attest.Decision) { d.Generation = 2 }, attest.ErrStale},
		{func(d *attest.Decision) { d.Challenge = decision(1, "").Challenge }, attest.ErrChallengeUsed},
		{func(d *attest.Decision) { d.Appraisal.ID = "id-000001" }, attest.ErrExists},
		{func(d *attest.Decision) { d.Challenge = decision(0, "").Challenge }, attest.ErrChallengeUsed},
		{func(d *attest.Decision) { d.Attester = &attest.Attester{AKName: "unknown"} }, attest.ErrStale},
		{func(*attest.Decision) {}, nil},
	}
	var done []<-chan error
	for i, tc := range cases {
		d := decision(i+1, fmt.Sprintf(`{"n":%d}`, i))
		tc.change(&d)
		done = append(done, start(t.Context(), t, s, d, i+1))
	}
	release()
	if err := <-first; err != nil {
		t.Error(err)
	}
	for i, tc := range cases {
		if err := <-done[i]; !errors.Is(err, tc.want) {
			t.Errorf("decision %d: %v, want %v", i+1, err, tc.want)
		}
	}
	chain, err := s.AuditEntries(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var v audit.Verifier
	var subjects []string
	for _, e := range chain {
		if err := v.Next(e); err != nil {
			t.Error(err)
		}
		subjects = append(subjects, e.Subject)
	}
	if got := strings.Join(subjects, " "); got != "0 1 7" {
		t.Errorf("the chain has decisions %s, want 0 1 7", got)
	}
}

func TestDatabaseRefusalOfOneSparesItsGroup(t *testing.T) {
	s, file := openStore(t, Config{})
	db := connect(t, file, 1)
	// What the checks of this package let through and the database refuses.
	if _, err := db.Exec("CREATE TRIGGER refuse BEFORE INSERT ON appraisal WHEN NEW.machine = 'bad' BEGIN SELECT RAISE(ABORT, 'refused'); END"); err != nil {
		t.Fatal(err)
	}
	first, release := occupy(t, s, file)
	good := start(t.Context(), t, s, decision(1, ""), 1)
	d := decision(2, "")
	d.Appraisal.Machine = "bad"
	bad := start(t.Context(), t, s, d, 2)
	last := start(t.Context(), t, s, decision(3, ""), 3)
	release()
	if err := errors.Join(<-first, <-good, <-last); err != nil {
		t.Errorf("neighbours of a refused decision: %v", err)
	}
	if err := <-bad; err == nil {
		t.Error("the refused decision was acknowledged")
	}
	head, err := s.AuditHead(t.Context())
	if err != nil || head.Seq != 3 {
		t.Errorf("head %v, %v, want 3 entries", head, err)
	}
}

func TestDamagedEvidenceIsNotReturned(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 200)
	for what, damage := range map[string]string{
		"recipe of a new version": "UPDATE evidence SET recipe = X'02'",
		"empty recipe":            "UPDATE evidence SET recipe = X''",
		"cut recipe":              "UPDATE evidence SET recipe = substr(recipe, 1, length(recipe) - 1)",
		"cut digest":              "UPDATE evidence SET recipe = substr(recipe, 1, 30)",
		"recipe altered":          "UPDATE evidence SET recipe = CAST(replace(recipe, 'type', 'tYpe') AS BLOB)",
		"smaller size":            "UPDATE evidence SET size = 10",
		"absurd size":             "UPDATE evidence SET size = -1",
		"part altered":            "UPDATE evidence_part SET body = X'006F74686572'",
		"part empty":              "UPDATE evidence_part SET body = X''",
		"part of a new form":      "UPDATE evidence_part SET body = X'07'",
		"part not deflate":        "UPDATE evidence_part SET body = X'01FFFFFF'",
		"part missing":            "DELETE FROM evidence_part",
	} {
		t.Run(what, func(t *testing.T) {
			s, file := openStore(t, Config{})
			d := decision(1, `{"type":"tpm","eventLog":"`+long+`"}`)
			if err := s.Decide(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Evidence(t.Context(), d.Appraisal.Evidence); err != nil || string(got) != string(d.Bundle) {
				t.Fatalf("before the damage: %d bytes, %v", len(got), err)
			}
			if _, err := connect(t, file, 1).Exec(damage); err != nil {
				t.Fatal(err)
			}
			got, err := s.Evidence(t.Context(), d.Appraisal.Evidence)
			if !errors.Is(err, ErrCorrupt) && what != "part missing" || err == nil || got != nil {
				t.Errorf("%d bytes, %v, want ErrCorrupt", len(got), err)
			}
		})
	}
}

func TestDamagedVerdictIsNotRead(t *testing.T) {
	s, file := openStore(t, Config{})
	if err := s.Decide(t.Context(), decision(1, "")); err != nil {
		t.Fatal(err)
	}
	for _, damage := range []string{
		"UPDATE appraisal SET verdict = 257", "UPDATE appraisal SET verdict = -1", "UPDATE appraisal SET verdict = 0, findings = X'7B'",
	} {
		if _, err := connect(t, file, 1).Exec(damage); err != nil {
			t.Fatal(err)
		}
		if a, err := s.Appraisal(t.Context(), "id-000001"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, %v, want ErrCorrupt", damage, a.Verdict, err)
		}
	}
}

func TestSameEvidenceIsStoredOnce(t *testing.T) {
	s, file := openStore(t, Config{})
	log := strings.Repeat("event ", 1000)
	for n := range 20 {
		if err := s.Decide(t.Context(), decision(n, fmt.Sprintf(`{"n":%d,"log":"%s"}`, n/2, log))); err != nil {
			t.Fatal(err)
		}
	}
	var bundles, parts, bytes int
	const count = "SELECT (SELECT count(*) FROM evidence), (SELECT count(*) FROM evidence_part), (SELECT sum(length(body)) FROM evidence_part)"
	if err := connect(t, file, 1).QueryRow(count).Scan(&bundles, &parts, &bytes); err != nil {
		t.Fatal(err)
	}
	if bundles != 10 || parts != 1 || bytes > len(log)/2 {
		t.Errorf("20 decisions over 10 bundles with one log keep %d bundles, %d parts, %d bytes", bundles, parts, bytes)
	}
}

func FuzzEvidenceComesBack(f *testing.F) {
	long := strings.Repeat("x", partMin)
	for _, seed := range []string{"", `"`, `{"a":"` + long + `"}`, long + `"` + long + `"` + long} {
		f.Add([]byte(seed))
	}
	var p packer
	f.Fuzz(func(t *testing.T, bundle []byte) {
		recipe, parts := split(bundle, new(digestMemo).digest)
		stored := map[digest][]byte{}
		for _, part := range parts {
			stored[part.digest] = p.pack(part.body)
		}
		got, err := join(recipe, int64(len(bundle)), func(d digest) ([]byte, error) { return stored[d], nil })
		if err != nil || string(got) != string(bundle) {
			t.Errorf("%q came back as %q, %v", bundle, got, err)
		}
	})
}

func FuzzJoinOfDamagedRecipes(f *testing.F) {
	recipe, parts := split([]byte(`{"a":"`+strings.Repeat("x", partMin)+`"}`), new(digestMemo).digest)
	var p packer
	f.Add(recipe, p.pack(parts[0].body), int64(2000))
	f.Add(recipe, []byte{partPlain}, int64(2000))
	f.Fuzz(func(t *testing.T, recipe, part []byte, size int64) {
		got, err := join(recipe, size, func(digest) ([]byte, error) { return part, nil })
		if err == nil && len(got) > len(recipe)+int(size) {
			t.Errorf("join gave %d bytes from a recipe of %d for a size of %d", len(got), len(recipe), size)
		}
	})
}

func TestMigrationsAreCheckedAndForwardOnly(t *testing.T) {
	one := fstest.MapFS{"migrations/0001_a.sql": {Data: []byte("CREATE TABLE state (id BIGINT PRIMARY KEY, generation BIGINT, audit_seq BIGINT, audit_hash BYTES); -- one; two")}}
	two := fstest.MapFS{"migrations/0001_a.sql": one["migrations/0001_a.sql"], "migrations/0002_b.sql": {Data: []byte("CREATE TABLE b (id BYTES PRIMARY KEY) ROWLESS;\nCREATE INDEX bb ON b (id);")}}
	edited := fstest.MapFS{"migrations/0001_a.sql": {Data: []byte("CREATE TABLE state (id BIGINT);")}}
	broken := fstest.MapFS{"migrations/0001_a.sql": one["migrations/0001_a.sql"], "migrations/0002_b.sql": {Data: []byte("CREATE TABLE b (id BYTES PRIMARY KEY);CREATE TABLE oops")}}
	gap := fstest.MapFS{"migrations/0002_b.sql": {}}
	db := connect(t, filepath.Join(t.TempDir(), "m.db"), 1)
	for i, step := range []struct {
		files fstest.MapFS
		want  error // nil for none; errAny for any
	}{
		{gap, errAny}, {one, nil}, {one, nil}, {edited, ErrSchema}, {broken, errAny}, {two, nil}, {two, nil}, {one, ErrNewer}, {edited, ErrSchema},
	} {
		err := migrate(t.Context(), db, testDialect(), step.files)
		if step.want == errAny && err == nil || step.want != errAny && !errors.Is(err, step.want) {
			t.Errorf("step %d: %v, want %v", i, err, step.want)
		}
	}
	for want, files := range map[error]fstest.MapFS{nil: two, ErrNewer: one, ErrSchema: edited} {
		if err := checkSchema(t.Context(), db, files); !errors.Is(err, want) {
			t.Errorf("checkSchema = %v, want %v", err, want)
		}
	}
	two["migrations/0003_c.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE c (id TEXT);")}
	if err := checkSchema(t.Context(), db, two); !errors.Is(err, ErrOutdated) {
		t.Errorf("checkSchema = %v, want ErrOutdated", err)
	}
}

var errAny = errors.New("any error")

func TestReleasedMigrationsNeverChange(t *testing.T) {
	// Databases keep these checksums: a released file must stay as it is.
	want := []string{
		"5ce34f2aad1ad8e2b8f5374c5a93198fc98b00137806535dac2e59bf222d66b5",
		"db1445e56440f8a0d5c83cab36ab82391cf570d111a1a769a09c0cbc48aa547a",
		"0043d11cfee372eac0193d618cb34dbd85c336726d8c6e7aa4ab6cf5b0538f25",
	}
	steps, err := migrations(migrationFiles)
	if err != nil || len(steps) != len(want) {
		t.Fatalf("%d migrations, %v, want %d", len(steps), err, len(want))
	}
	for i, m := range steps {
		if got := hex.EncodeToString(m.sum[:]); got != want[i] {
			t.Errorf("migration %d has checksum %s, want %s", m.version, got, want[i])
		}
	}
}

func TestDialects(t *testing.T) {
	pg := Dialect{Numbered: true, Bigint: "int8", Bytes: "bytea", Text: "text", Rowless: "", Table: ""}
	if got := pg.query("a = ? AND b IN (?,?)"); got != "a = $1 AND b IN ($2,$3)" {
		t.Errorf("query: %s", got)
	}
	got := pg.schema("CREATE TABLE a (x BIGINT, y BYTES, z TEXT) ROWLESS; -- no ; here\n\n;CREATE INDEX i ON a (x);")
	if strings.Join(got, "|") != "CREATE TABLE a (x int8, y bytea, z text)|CREATE INDEX i ON a (x)" {
		t.Errorf("schema: %q", got)
	}
}

func TestAGroupKnowsWhatItAccepted(t *testing.T) {
	attester := func(d attest.Decision, revision uint64, clock uint64) attest.Decision {
		d.Attester = &attest.Attester{AKName: "ak", Revision: revision, Last: &attest.Counters{Clock: clock}}
		return d
	}
	b := newBatch(state{generation: 1}, nil, 0)
	b.attesters["ak"] = &revision{number: 4}
	b.accept(&pending{decision: attester(decision(1, ""), 4, 10)})
	sameChallenge, sameID := decision(2, ""), decision(1, "")
	sameChallenge.Challenge, sameID.Challenge = decision(1, "").Challenge, nil
	for what, tc := range map[string]struct {
		d    attest.Decision
		want error
	}{
		"another":            {decision(2, ""), nil},
		"same challenge":     {sameChallenge, attest.ErrChallengeUsed},
		"same appraisal":     {sameID, attest.ErrExists},
		"revision before":    {attester(decision(3, ""), 4, 11), attest.ErrStale},
		"revision now":       {attester(decision(3, ""), 5, 11), nil},
		"revision not there": {attester(decision(3, ""), 6, 11), attest.ErrStale},
	} {
		if err := b.judge(&pending{decision: tc.d}); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", what, err, tc.want)
		}
	}
}
