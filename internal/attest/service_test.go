package attest_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/store"
	"github.com/assay-project/assay/internal/store/sqlite"
	"github.com/assay-project/assay/token"
	"github.com/assay-project/assay/tpm2"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const issuer = "https://assay.example"

// A clock is what a test says it is.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// recorded answers every challenge with the nonce of the recorded quotes, so
// that recorded evidence is fresh. Only tests may do that.
type recorded struct {
	attest.Challenges
	nonce []byte
}

func (r *recorded) Issue(context.Context, attest.Purpose) (attest.Challenge, error) {
	id := make([]byte, 16)
	rand.Read(id)
	return attest.Challenge{Challenge: hex.EncodeToString(id), Nonce: r.nonce}, nil
}

func (r *recorded) Open(_ context.Context, c string, _ attest.Purpose) (attest.Opened, error) {
	id, err := hex.DecodeString(c)
	return attest.Opened{ID: id, Nonce: r.nonce, Expires: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}, err
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type fixture struct {
	*attest.Service
	store *store.Store
	clock *clock
	t     testing.TB
}

// newFixture is a service over a real store; with replay, recorded evidence counts as fresh.
func newFixture(t testing.TB, replay bool) *fixture {
	t.Helper()
	if replay {
		return newFixtureWith(t, &recorded{nonce: read(t, "nonce.bin")})
	}
	return newFixtureWith(t, nil)
}

// newFixtureWith is a service over a real store; nil means its own challenges.
func newFixtureWith(t testing.TB, challenges attest.Challenges) *fixture {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	s, err := sqlite.Open(ctx, dir, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	key, err := keyprovider.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	provider, err := keyprovider.NewLocal(rand.Reader, key)
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	keys, err := attest.NewKeys(attest.KeysConfig{Issuer: issuer, Provider: provider, Now: c.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	cfg := attest.Config{Store: s, Kinds: []attest.Kind{attest.TPM{}}, Keys: keys, Challenges: challenges, Now: c.Now, Rand: rand.Reader}
	service, err := attest.New(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := service.MaintainKeys(ctx); err != nil {
		t.Fatal(err)
	}
	return &fixture{service, s, c, t}
}

func (f *fixture) attest(bundle []byte) attest.Result {
	f.t.Helper()
	ctx := context.Background()
	ch, err := f.NewChallenge(ctx, attest.Purpose{Type: "tpm"})
	if err != nil {
		f.t.Fatal(err)
	}
	r, err := f.Attest(ctx, "tester", attest.Request{Challenge: ch.Challenge, Type: "tpm", Bundle: bundle})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// member decodes one base64 member of a bundle.
func member(t testing.TB, bundle []byte, name string) []byte {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(bundle, &all); err != nil {
		t.Fatal(err)
	}
	var out []byte
	if err := json.Unmarshal(all[name], &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *fixture) register(machine string, bundle []byte, reference string) attest.Attester {
	f.t.Helper()
	a, err := f.RegisterAttester(context.Background(), "tester", attest.Registration{Machine: machine, AKPublic: member(f.t, bundle, "akPublic"), Baseline: reference})
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

func (f *fixture) reference(name string, bundle []byte) {
	f.t.Helper()
	log, err := eventlog.Parse(member(f.t, bundle, "eventLog"))
	if err != nil {
		f.t.Fatal(err)
	}
	boot, err := log.Inspect(tpm2.AlgSHA256)
	if err != nil {
		f.t.Fatal(err)
	}
	file, err := baseline.From(boot, baseline.Shape{}).MarshalJSON()
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.PutReference(context.Background(), "tester", name, file, 0); err != nil {
		f.t.Fatal(err)
	}
}

func codes(r attest.Result) []evidence.Code {
	var out []evidence.Code
	for _, reason := range r.Reasons {
		out = append(out, reason.Code)
	}
	return out
}

func TestGoodBootBecomesATokenThatVerifies(t *testing.T) {
	f := newFixture(t, true)
	good := read(t, "good.json")
	f.reference("web", good)
	f.register("web-1", good, "web")
	r := f.attest(good)
	if r.Verdict != evidence.Trusted || len(r.Reasons) != 0 || r.Token == "" || r.Machine != "web-1" {
		t.Fatalf("Attest = %+v, want a trusted result with a token", r)
	}
	jwks, err := f.JWKS()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := token.ParseKeys(issuer, jwks)
	if err != nil {
		t.Fatal(err)
	}
	v, err := token.NewVerifier(token.VerifierConfig{Issuer: issuer, Algorithms: []token.Alg{token.ES256}}, keys)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := v.Verify(context.Background(), r.Token, f.clock.Now())
	if err != nil || verified.ID() != r.TokenID {
		t.Errorf("the relying party's verifier says %v of the token, id %q, want %q", err, verified.ID(), r.TokenID)
	}
	kept, err := f.Appraisal(context.Background(), r.ID)
	if err != nil || kept.Verdict != evidence.Trusted || kept.TokenID != r.TokenID {
		t.Errorf("Appraisal = %+v, %v, want what Attest answered", kept, err)
	}
	if got, err := f.Evidence(context.Background(), r.Appraisal.Evidence); err != nil || !bytes.Equal(got, good) {
		t.Errorf("Evidence returns %d bytes, %v, want the %d that were sent", len(got), err, len(good))
	}
}

func TestEachBadBootIsRefusedForItsOwnReason(t *testing.T) {
	for name, tc := range map[string]struct {
		file     string
		register bool
		want     evidence.Code
	}{
		"kernel command line changed": {"command-line.json", true, "baseline.mismatch"},
		"log edited":                  {"edited-log.json", true, "eventlog.data-mismatch"},
		"key of another TPM":          {"foreign-key.json", false, "ak.untrusted"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, true)
			f.reference("web", read(t, "good.json"))
			bundle := read(t, tc.file)
			if tc.register {
				f.register("web-1", bundle, "web")
			}
			r := f.attest(bundle)
			if r.Verdict != evidence.Refused || !slices.Contains(codes(r), tc.want) || r.Token != "" {
				t.Errorf("Attest = %v for %v, token of %d bytes, want a refusal for %q and no token", r.Verdict, codes(r), len(r.Token), tc.want)
			}
		})
	}
}

func TestSecureBootOffIsDeniedByTheBuiltInPolicy(t *testing.T) {
	f := newFixture(t, true)
	bundle := read(t, "secure-boot-off.json")
	f.register("db-1", bundle, "")
	r := f.attest(bundle)
	if r.Verdict != evidence.Refused || !slices.Equal(codes(r), []evidence.Code{"policy.denied"}) || !r.Claims["secureBoot"].Value.IsFalse() {
		t.Errorf("Attest = %v for %v with secureBoot %v, want a denial by policy with secureBoot false", r.Verdict, codes(r), r.Claims["secureBoot"])
	}
}

// A3: a quote over another nonce is refused, whoever chose that nonce.
func TestA3StaleQuoteIsRefused(t *testing.T) {
	f := newFixture(t, false)
	good := read(t, "good.json")
	f.register("web-1", good, "")
	r := f.attest(good)
	if r.Verdict != evidence.Refused || !slices.Contains(codes(r), "quote.nonce-mismatch") {
		t.Errorf("Attest = %v for %v, want a refusal for quote.nonce-mismatch", r.Verdict, codes(r))
	}
}

func TestANonceInTheBundleProvesNothing(t *testing.T) {
	f := newFixture(t, false)
	good := read(t, "good.json")
	f.register("web-1", good, "")
	nonce := []byte(`{"nonce":"` + base64.StdEncoding.EncodeToString(read(t, "nonce.bin")) + `",`)
	r := f.attest(append(nonce, bytes.TrimPrefix(bytes.TrimSpace(good), []byte("{"))...))
	if r.Verdict != evidence.Refused || !slices.Contains(codes(r), "quote.nonce-mismatch") {
		t.Errorf("Attest = %v for %v, want a refusal for quote.nonce-mismatch", r.Verdict, codes(r))
	}
}

func TestAChallengeServesOnce(t *testing.T) {
	f := newFixture(t, true)
	good := read(t, "good.json")
	f.register("web-1", good, "")
	ctx := context.Background()
	ch, err := f.NewChallenge(ctx, attest.Purpose{Type: "tpm"})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make(chan error, 8)
	for range cap(outcomes) {
		go func() {
			_, err := f.Attest(ctx, "tester", attest.Request{Challenge: ch.Challenge, Type: "tpm", Bundle: good})
			outcomes <- err
		}()
	}
	accepted := 0
	for range cap(outcomes) {
		err := <-outcomes
		var refusal *evidence.Refusal
		switch {
		case err == nil:
			accepted++
		case !errors.As(err, &refusal) || refusal.Code != "challenge.used":
			t.Errorf("Attest = %v, want challenge.used", err)
		}
	}
	if accepted != 1 {
		t.Errorf("one challenge was accepted %d times, want once", accepted)
	}
}

func TestGarbageChallengesKeepNothing(t *testing.T) {
	f := newFixture(t, false)
	if _, err := f.Attest(context.Background(), "tester", attest.Request{Challenge: "garbage", Type: "tpm", Bundle: read(t, "good.json")}); err == nil {
		t.Fatal("Attest accepts a challenge that nobody issued")
	}
	if list, err := f.Appraisals(context.Background(), attest.AppraisalFilter{}); err != nil || len(list) != 0 {
		t.Errorf("after garbage the store has %d appraisals, %v, want none", len(list), err)
	}
}

func TestUnusableEvidenceIsKeptAsUnusable(t *testing.T) {
	f := newFixture(t, true)
	for _, bundle := range []string{`{}`, `{"type":"tpm","type":"tpm"}`, `not json`, `{"type":"sgx","quote":"AA=="}`} {
		r := f.attest([]byte(bundle))
		if r.Verdict == evidence.Trusted || len(r.Reasons) == 0 {
			t.Errorf("Attest(%s) = %v for %v, want no trust and a reason", bundle, r.Verdict, codes(r))
		}
	}
}

// A6: a machine that is known cannot be registered again from another TPM.
func TestA6KnownMachineIsNotTakenOverFromAnotherTPM(t *testing.T) {
	f := newFixture(t, true)
	first := f.register("web-1", read(t, "good.json"), "")
	_, err := f.RegisterAttester(context.Background(), "tester", attest.Registration{Machine: "web-1", AKPublic: member(t, read(t, "foreign-key.json"), "akPublic")})
	var conflict *attest.ConflictError
	if !errors.As(err, &conflict) || conflict.Code != "attester.taken" {
		t.Fatalf("RegisterAttester = %v, want attester.taken", err)
	}
	if err := f.RemoveAttester(context.Background(), "tester", first.AKName); err != nil {
		t.Fatal(err)
	}
	f.register("web-1", read(t, "foreign-key.json"), "")
	if r := f.attest(read(t, "good.json")); r.Verdict != evidence.Refused || !slices.Contains(codes(r), "ak.removed") {
		t.Errorf("the removed key is %v for %v, want refused for ak.removed", r.Verdict, codes(r))
	}
}

func TestARemovedKeyComesBackWithItsCounters(t *testing.T) {
	f := newFixture(t, true)
	ctx, good := context.Background(), read(t, "good.json")
	first := f.register("web-1", good, "")
	if r := f.attest(good); r.Verdict != evidence.Trusted {
		t.Fatalf("Attest = %v for %v", r.Verdict, codes(r))
	}
	if err := f.RemoveAttester(ctx, "tester", first.AKName); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(good); r.Verdict != evidence.Refused {
		t.Fatal("a key that was removed is trusted: the record was remembered")
	}
	again := f.register("web-1", good, "")
	if again.Removed || again.Last == nil || again.Revision <= first.Revision {
		t.Errorf("registered again: %+v, want a live record with the counters it had", again)
	}
	if r := f.attest(good); r.Verdict != evidence.Trusted {
		t.Errorf("Attest = %v for %v, want trusted again", r.Verdict, codes(r))
	}
}

func TestAKeyThatAnotherProcessAdmitsAgainIsNotRefusedForItsPast(t *testing.T) {
	f := newFixture(t, true)
	ctx, good := context.Background(), read(t, "good.json")
	name := f.register("web-1", good, "").AKName
	if err := f.RemoveAttester(ctx, "tester", name); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(good); !slices.Contains(codes(r), "ak.removed") {
		t.Fatalf("the removed key is %v for %v", r.Verdict, codes(r))
	}
	a, err := f.store.Attester(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	a.Removed = false
	if err := f.store.SetAttester(ctx, a, audit.Entry{Time: f.clock.Now(), Actor: "other", Action: "attester.register", Subject: name}); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(good); r.Verdict != evidence.Trusted {
		t.Errorf("Attest = %v for %v, want trusted: the record that was read before is outdated", r.Verdict, codes(r))
	}
}

// A15: a pass does not overwrite the refusal before it.
func TestA15APassHidesNoRefusal(t *testing.T) {
	f := newFixture(t, true)
	good := read(t, "good.json")
	refused := f.attest(good) // not registered yet
	f.clock.advance(time.Second)
	f.register("web-1", good, "")
	trusted := f.attest(good)
	list, err := f.Appraisals(context.Background(), attest.AppraisalFilter{Attester: trusted.Attester})
	if err != nil || len(list) != 2 || list[0].ID != trusted.ID || list[1].ID != refused.ID || list[1].Verdict != evidence.Refused {
		t.Errorf("Appraisals = %+v, %v, want the pass and, still there, the refusal before it", list, err)
	}
}

// A16: a TPM whose counters went back was reset to an old state.
func TestA16CountersThatWentBackAreRefused(t *testing.T) {
	f := newFixture(t, true)
	bundle := read(t, "secure-boot-off.json")
	a := f.register("db-1", bundle, "")
	f.attest(bundle)
	a, err := f.Attester(context.Background(), a.AKName)
	if err != nil || a.Last == nil {
		t.Fatalf("Attester = %+v, %v, want the counters of the quote", a, err)
	}
	ahead := a
	ahead.Last = &attest.Counters{Clock: a.Last.Clock, Reset: a.Last.Reset + 1, Restart: a.Last.Restart, Safe: a.Last.Safe}
	if err := f.store.SetAttester(context.Background(), ahead, audit.Entry{Time: f.clock.Now(), Actor: "tester", Action: "test", Subject: a.AKName}); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(bundle); !slices.Contains(codes(r), "quote.counters-rolled-back") {
		t.Errorf("Attest = %v for %v, want quote.counters-rolled-back", r.Verdict, codes(r))
	}
}

func TestPolicyChangesTakeEffectAtOnceAndCanBeRolledBack(t *testing.T) {
	f := newFixture(t, true)
	ctx, good := context.Background(), read(t, "good.json")
	f.register("web-1", good, "")
	deny := `version=1.0; authorizationrules { [type=="secureBoot", value==true] => deny(); [type=="secureBoot"] => permit(); }; issuancerules {};`
	permit := `version=1.0; authorizationrules { [type=="secureBoot", value==true] => permit(); }; issuancerules { [type=="secureBoot"] => issue(type="sb", value="on"); };`
	put := func(text string, replaces int) error {
		_, _, err := f.PutPolicy(ctx, "tester", attest.PolicyChange{Name: "default", Text: text, Replaces: replaces})
		return err
	}
	if err := put(permit, 0); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(good); r.Verdict != evidence.Trusted || r.PolicyRev != 1 {
		t.Fatalf("under version 1: %v for %v, version %d", r.Verdict, codes(r), r.PolicyRev)
	}
	if err := put(deny, 1); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(good); !slices.Contains(codes(r), "policy.denied") || r.PolicyRev != 2 {
		t.Errorf("under version 2: %v for %v, version %d, want policy.denied", r.Verdict, codes(r), r.PolicyRev)
	}
	var conflict *attest.ConflictError
	if err := put(permit, 1); !errors.As(err, &conflict) {
		t.Errorf("a change of an outdated version = %v, want a conflict", err)
	}
	if v, err := f.RollbackPolicy(ctx, "tester", "default", 1); err != nil || v.Version != 3 || v.Text != permit {
		t.Fatalf("RollbackPolicy = %+v, %v, want version 3 with the text of version 1", v, err)
	}
	if r := f.attest(good); r.Verdict != evidence.Trusted || r.PolicyRev != 3 {
		t.Errorf("after the roll-back: %v for %v, version %d", r.Verdict, codes(r), r.PolicyRev)
	}
	if h, err := f.PolicyHistory(ctx, "default"); err != nil || len(h) != 3 {
		t.Errorf("PolicyHistory has %d revisions, %v, want 3", len(h), err)
	}
}

// A14: a policy that checks nothing is not taken.
func TestA14VacuousPolicyIsRefusedUnlessAskedFor(t *testing.T) {
	f := newFixture(t, true)
	c := attest.PolicyChange{Name: "open", Text: `version=1.0; authorizationrules { => permit(); }; issuancerules {};`}
	var input *attest.InputError
	if _, _, err := f.PutPolicy(context.Background(), "tester", c); !errors.As(err, &input) || input.Code != "policy.vacuous" {
		t.Errorf("PutPolicy = %v, want policy.vacuous", err)
	}
	c.AllowVacuous = true
	if _, _, err := f.PutPolicy(context.Background(), "tester", c); err != nil {
		t.Errorf("PutPolicy with AllowVacuous = %v", err)
	}
}

func TestAChangeByAnotherProcessIsSeenBeforeADecisionIsKept(t *testing.T) {
	f := newFixture(t, true)
	ctx, good := context.Background(), read(t, "good.json")
	f.register("web-1", good, "")
	deny := attest.PolicyVersion{Name: "default", Version: 1, Text: `version=1.0; authorizationrules { [type=="secureBoot"] => deny(); }; issuancerules {};`, Author: "other", Time: f.clock.Now()}
	if err := f.store.PutPolicy(ctx, deny, audit.Entry{Time: f.clock.Now(), Actor: "other", Action: "policy.put", Subject: "default"}); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(good); r.Verdict == evidence.Trusted || r.PolicyRev != 1 {
		t.Errorf("Attest = %v under version %d, want the other process's version 1 to deny", r.Verdict, r.PolicyRev)
	}
}

func TestKeysRotateWithOverlap(t *testing.T) {
	f := newFixture(t, true)
	ctx, good := context.Background(), read(t, "good.json")
	f.register("web-1", good, "")
	before := f.attest(good).Token
	f.clock.advance(89 * 24 * time.Hour)
	if err := f.MaintainKeys(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(f.PublishedKeys()); n != 4 {
		t.Errorf("a day before the end %d keys are published, want the two that sign and their successors", n)
	}
	f.clock.advance(2 * 24 * time.Hour)
	if err := f.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	after := f.attest(good)
	if after.Token == "" || after.Token == before {
		t.Fatal("no token after the rotation")
	}
	if err := f.RotateKeys(ctx, "tester", 0); err != nil {
		t.Fatal(err)
	}
	if err := f.MaintainKeys(ctx); err != nil {
		t.Fatal(err)
	}
	if r := f.attest(good); r.Verdict != evidence.Trusted {
		t.Errorf("after a rotation by hand: %v for %v", r.Verdict, codes(r))
	}
}

// The record of a key may end its use early, also that of a key which is open.
func TestAKeyThatIsEndedEarlySignsNoMore(t *testing.T) {
	f := newFixture(t, true)
	ctx := context.Background()
	f.clock.advance(time.Hour)
	if err := f.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := f.store.Configuration(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	for _, k := range c.SigningKeys {
		if k.Alg != string(token.ES256) {
			continue
		}
		ended++
		k.NotAfter = f.clock.Now().Add(-time.Minute)
		if err := f.store.PutSigningKey(ctx, k, audit.Entry{Action: "key.end", Subject: k.ID}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Ready(ctx); ended != 1 || !errors.Is(err, token.ErrNoKey) {
		t.Errorf("after the end of %d keys: Ready = %v, want ErrNoKey", ended, err)
	}
	if n := len(f.PublishedKeys()); n != 2 {
		t.Errorf("%d keys are published, want 2: tokens of the ended one are still about", n)
	}
}

func TestEveryDecisionIsInTheAuditChain(t *testing.T) {
	f := newFixture(t, true)
	good := read(t, "good.json")
	f.attest(good)
	f.register("web-1", good, "")
	r := f.attest(good)
	entries, err := f.AuditEntries(context.Background(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var v audit.Verifier
	found := false
	for _, e := range entries {
		if err := v.Next(e); err != nil {
			t.Fatal(err)
		}
		found = found || e.Action == "attest" && e.Subject == r.ID && e.Outcome == "trusted" && e.Actor == "tester"
	}
	if !found {
		t.Errorf("the chain of %d entries does not have the decision %s", len(entries), r.ID)
	}
}
