package cli

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/token"
)

var tokenNoon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// tokenService is an issuer with its web site.
type tokenService struct {
	*httptest.Server
	issuer       *token.Issuer
	caFile, jwks string
}

func newTokenService(t *testing.T) *tokenService {
	t.Helper()
	s := &tokenService{}
	mux := http.NewServeMux()
	s.Server = httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	signer, err := token.Generate(rand.Reader, token.ES256)
	if err != nil {
		t.Fatal(err)
	}
	key, err := token.NewKey(signer, token.KeyConfig{NotBefore: tokenNoon.Add(-time.Hour), NotAfter: tokenNoon.Add(time.Hour), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	set, err := token.NewKeySet(9*time.Hour, key)
	if err != nil {
		t.Fatal(err)
	}
	if s.issuer, err = token.NewIssuer(token.IssuerConfig{URL: s.URL, Rand: rand.Reader}, set); err != nil {
		t.Fatal(err)
	}
	keys, err := set.JWKS(tokenNoon)
	if err != nil {
		t.Fatal(err)
	}
	metadata, err := token.Metadata(s.URL, s.URL+"/certs", []token.Alg{token.ES256})
	if err != nil {
		t.Fatal(err)
	}
	mux.HandleFunc("/certs", func(w http.ResponseWriter, _ *http.Request) { w.Write(keys) })
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { w.Write(metadata) })
	dir := t.TempDir()
	s.caFile, s.jwks = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "keys.json")
	mustWrite(t, s.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	mustWrite(t, s.jwks, keys)
	return s
}

func mustWrite(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *tokenService) issue(t *testing.T, p token.Profile, change func(*token.Result)) string {
	t.Helper()
	claims := evidence.Claims{}
	claims.Set("secureBoot", evidence.Bool(true), 7)
	claims.Set("commandLine", evidence.Text("quiet\x1b[2J"), 8)
	claims.Unknown("vbs", "log.events-missing")
	r := token.Result{
		Verdict: evidence.Trusted, Type: "tpm", Claims: claims, Machine: "web-1",
		Policy: token.Policy{Name: "default", Version: 1, Digest: token.PolicyDigest("text")}, Nonce: "n-1", Audience: "vault",
	}
	change(&r)
	out, err := s.issuer.Issue(tokenNoon, p, r)
	if err != nil {
		t.Fatal(err)
	}
	return out.Raw
}

// runToken runs assay token verify at five past noon.
func runToken(stdin string, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	env := &program.Env{
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs, Rand: rand.Reader,
		Getenv: func(string) string { return "" }, Now: func() time.Time { return tokenNoon.Add(5 * time.Minute) },
	}
	status = Main(env, append([]string{"token", "verify"}, args...))
	return status, out.String(), errs.String()
}

func TestTokenVerifyEndsWithTheStatusOfItsAnswer(t *testing.T) {
	s := newTokenService(t)
	good := s.issue(t, token.ProfileAssay, func(*token.Result) {})
	warned := s.issue(t, token.ProfileEAR, func(r *token.Result) { r.Claims.Set("secureBoot", evidence.Bool(false)) })
	empty := filepath.Join(t.TempDir(), "empty")
	mustWrite(t, empty, nil)
	expect := []string{"--issuer", s.URL, "--audience", "vault", "--nonce", "n-1"}
	online, offline := append(expect, "--ca", s.caFile), append(expect, "--jwks", s.jwks)
	with := func(base []string, more ...string) []string { return append(append([]string{}, base...), more...) }
	for name, tc := range map[string]struct {
		stdin  string
		args   []string
		status int
		say    string // in standard output, or in standard error for status 2
	}{
		"online":              {"", with(online, good), 0, "valid: " + s.URL + ` states that "web-1" is trusted`},
		"offline":             {"", with(offline, good), 0, "valid: "},
		"standard input":      {good + "\n", with(offline, "-"), 0, "valid: "},
		"young enough":        {"", with(offline, good, "--max-age", "6m"), 0, "valid: "},
		"too old":             {"", with(offline, good, "--max-age", "3m"), 1, "refused: token.too-old"},
		"other nonce":         {"", with(offline, good, "--nonce", "n-2"), 1, "refused: token.nonce-mismatch"},
		"other audience":      {"", with(offline, good, "--audience", "b"), 1, "refused: token.audience-mismatch"},
		"other algorithm":     {"", with(offline, good, "--algorithm", "RS256"), 1, "refused: token.alg-refused"},
		"altered":             {"", with(online, good[:len(good)-8]+"AAAAAAAA"), 1, "refused: token."},
		"not a token":         {"", with(online, "hello"), 1, "refused: token.malformed"},
		"genuine and warning": {"", with(offline, warned), 1, "refused: token.not-trusted"},
		"other issuer":        {"", []string{"--issuer", "https://other.example.org", "--jwks", s.jwks, "--audience", "vault", good}, 1, "refused: token.issuer-mismatch"},
		"no issuer":           {"", []string{"--jwks", s.jwks, good}, 2, "no --issuer"},
		"issuer no URL":       {"", []string{"--issuer", "attest", good}, 2, "issuer"},
		"no token":            {"", offline, 2, "accepts 1 arg"},
		"untrusted authority": {"", with(expect, good), 2, "certificate"},
		"CA file empty":       {"", with(expect, "--ca", empty, good), 2, "no certificate"},
		"CA file missing":     {"", with(expect, "--ca", empty+"x", good), 2, "no such file"},
		"keys missing":        {"", with(expect, "--jwks", empty+"x", good), 2, "no such file"},
		"keys empty":          {"", with(expect, "--jwks", empty, good), 2, "keyset.malformed"},
		"no such algorithm":   {"", with(offline, good, "--algorithm", "none"), 2, "algorithm"},
		"no such format":      {"", with(offline, good, "-o", "xml"), 2, "want one of"},
		"endless input":       {strings.Repeat("x", maxTokenInput+1), with(offline, "-"), 2, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := runToken(tc.stdin, tc.args...)
			said := stdout
			if tc.status == 2 {
				said = stderr
			}
			if status != tc.status || !strings.Contains(said, tc.say) {
				t.Errorf("status %d, want %d; %q wanted in:\n%s%s", status, tc.status, tc.say, stdout, stderr)
			}
			if tc.status == 2 && stdout != "" || tc.status != 2 && stderr != "" {
				t.Errorf("the other stream has %q %q", stdout, stderr)
			}
		})
	}
}

func TestTokenVerifySpeaksToPeople(t *testing.T) {
	s := newTokenService(t)
	_, out, _ := runToken("", "--issuer", s.URL, "--jwks", s.jwks, "--audience", "vault", s.issue(t, token.ProfileAssay, func(*token.Result) {}))
	for _, want := range []string{
		"issued", "2026-11-22T12:00:00Z (5m0s ago)", "until", "2026-11-22T20:00:00Z", "ES256 key", "claims.secureBoot", "true",
		"claims.vbs", "unknown", "not checked", "freshness", `"quiet\x1b[2J"`, "policy.name",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	if strings.ContainsRune(out, 0x1b) {
		t.Error("what a guest wrote reaches the terminal as it is")
	}
}

func TestTokenVerifySpeaksJSON(t *testing.T) {
	s := newTokenService(t)
	good := s.issue(t, token.ProfileAssay, func(*token.Result) {})
	for nonce, want := range map[string]struct {
		status  int
		verdict string
		reasons int
	}{"n-1": {0, "trusted", 0}, "n-2": {1, "refused", 1}} {
		status, out, _ := runToken("", "--issuer", s.URL, "--jwks", s.jwks, "--audience", "vault", "--nonce", nonce, "-o", "json", good)
		var got struct {
			Verdict  string
			Reasons  []evidence.Reason
			Claims   map[string]any
			IssuedAt string
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		if status != want.status || got.Verdict != want.verdict || len(got.Reasons) != want.reasons {
			t.Errorf("nonce %s: status %d, %+v", nonce, status, got)
		}
		// What is not verified is not shown.
		if (want.status == 0) != (got.Claims["verdict"] == "trusted") || (want.status == 0) != (got.IssuedAt != "") {
			t.Errorf("nonce %s: shows %+v", nonce, got)
		}
	}
}
