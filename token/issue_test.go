package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
)

// bothKeys signs every profile.
func bothKeys(tb testing.TB) (ec, rs *Key) {
	tb.Helper()
	return mustKey(tb, newP256(tb), ""), mustKey(tb, rsaKey(), "")
}

// issued returns the claims of a token that a relying party has verified.
func issued(tb testing.TB, i *Issuer, p Profile, r Result) (map[string]any, *Verified) {
	tb.Helper()
	token := mustIssue(tb, i, p, r)
	cfg := goodConfig()
	cfg.Algorithms = []Alg{p.alg()}
	cfg.Audience, cfg.Nonce = r.Audience, r.Nonce
	got, err := mustVerifier(tb, cfg, published(tb, i)).Verify(context.Background(), token.Raw, noon)
	if err != nil {
		tb.Fatal(err)
	}
	var claims map[string]any
	if err := got.Decode(&claims); err != nil {
		tb.Fatal(err)
	}
	if claims["jti"] != token.ID || len(token.ID) != 64 {
		tb.Errorf("jti is %v, token says %q", claims["jti"], token.ID)
	}
	delete(claims, "jti")
	return claims, got
}

func TestAssayTokenStatesTheResult(t *testing.T) {
	ec, rs := bothKeys(t)
	claims, got := issued(t, mustIssuer(t, ec, rs), ProfileAssay, goodResult())
	want := map[string]any{
		"iss": issuerURL, "aud": audience, "nonce": nonce,
		"iat": float64(noon.Unix()), "nbf": float64(noon.Unix() - 60), "exp": float64(noon.Unix() + 8*3600),
		"profile": "assay/1", "verdict": "trusted", "evidenceType": "tpm", "machine": "web-1", "baseline": "web-1 gold",
		"attester":   "000b0000000000000000000000000000000000000000000000000000000000000000",
		"appraisal":  "01JD9Z3M3R5V8X7Y6W4T2S1Q0P",
		"notChecked": []any{"IMA: no list was sent"},
		"policy":     map[string]any{"name": "default", "version": 3.0, "sha256": PolicyDigest("text")},
		"issued":     map[string]any{"level": "high", "group": []any{1.0, 2.0}, "checked": true},
	}
	list := claims["claims"].(map[string]any)
	delete(claims, "claims")
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
	if list["secureBoot"] != true || list["commandLine"] != `BOOT_IMAGE=/vmlinuz root="/dev/sda1" ro` || list["bitLocker"] != nil || len(list) != 12 {
		t.Errorf("claims are %v", list)
	}
	if verdict, err := got.Verdict(); verdict != evidence.Trusted || err != nil || got.Profile() != ProfileAssay {
		t.Errorf("Verdict() = %v, %v", verdict, err)
	}
}

func TestAzureTokenHasTheFixedClaims(t *testing.T) {
	ec, rs := bothKeys(t)
	r := goodResult()
	r.Audience = ""
	r.Runtime = json.RawMessage(`{"keys":[]}`)
	r.InitTime = json.RawMessage(`{"a":1}`)
	r.Policy.Signer = json.RawMessage(`{"kty":"RSA"}`)
	i := mustIssuer(t, ec, rs)
	claims, got := issued(t, i, ProfileAzure, r)
	want := map[string]any{
		"iss": issuerURL, "nonce": nonce,
		"iat": float64(noon.Unix()), "nbf": float64(noon.Unix() - 60), "exp": float64(noon.Unix() + 8*3600),
		"x-ms-ver": "1.0", "x-ms-attestation-type": "tpm", "x-ms-policy-hash": AzurePolicyHash("text"),
		"x-ms-policy-signer": map[string]any{"jwk": map[string]any{"kty": "RSA"}},
		"x-ms-runtime":       map[string]any{"keys": []any{}}, "x-ms-inittime": map[string]any{"a": 1.0},
		"level": "high", "group": []any{1.0, 2.0}, "checked": true,
	}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
	header := headerOf(t, mustIssue(t, i, ProfileAzure, r).Raw)
	kid, err := AzureKeyID(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"alg": "RS256", "typ": "JWT", "kid": kid, "jku": issuerURL + "/certs"}, header); diff != "" {
		t.Error(diff)
	}
	if verdict, err := got.Verdict(); verdict != evidence.Trusted || err != nil {
		t.Errorf("Verdict() = %v, %v", verdict, err)
	}
}

func headerOf(tb testing.TB, raw string) map[string]any {
	tb.Helper()
	head, _, _ := strings.Cut(raw, ".")
	text, err := encoding.DecodeString(head)
	if err != nil {
		tb.Fatal(err)
	}
	var header map[string]any
	if err := json.Unmarshal(text, &header); err != nil {
		tb.Fatal(err)
	}
	return header
}

// The policy hash of real tokens (facts of Azure Attestation's default policies).
func TestAzurePolicyHashIsThatOfRealTokens(t *testing.T) {
	if got, want := AzurePolicyHash("version= 1.0;authorizationrules{=> permit();};"), "9NY0VnTQ-IiBriBplVUpFbczcDaEBUwsiFYAzHu_gco"; got != want {
		t.Errorf("AzurePolicyHash = %s, want %s", got, want)
	}
}

func TestEARFollowsTheDraft(t *testing.T) {
	ec, rs := bothKeys(t)
	i := mustIssuer(t, ec, rs)
	for name, tc := range map[string]struct {
		change func(*Result)
		vector map[string]any
		status string
		want   evidence.Verdict
	}{
		"all known":           {func(*Result) {}, map[string]any{"instance-identity": 2.0, "hardware": 2.0, "configuration": 2.0, "executables": 3.0}, "affirming", evidence.Trusted},
		"no baseline":         {func(r *Result) { r.Baseline = "" }, map[string]any{"instance-identity": 2.0, "hardware": 2.0, "configuration": 2.0}, "affirming", evidence.Trusted},
		"secure boot unknown": {func(r *Result) { r.Claims.Unknown("secureBoot", "log.events-missing") }, map[string]any{"instance-identity": 2.0, "hardware": 2.0, "executables": 3.0}, "affirming", evidence.Trusted},
		"secure boot off":     {func(r *Result) { r.Claims.Set("secureBoot", evidence.Bool(false)) }, map[string]any{"instance-identity": 2.0, "hardware": 2.0, "configuration": 32.0, "executables": 3.0}, "warning", evidence.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			r := goodResult()
			tc.change(&r)
			claims, got := issued(t, i, ProfileEAR, r)
			appraisal := claims["submods"].(map[string]any)["tpm"].(map[string]any)
			if diff := cmp.Diff(tc.vector, appraisal["ear_trustworthiness_vector"]); diff != "" {
				t.Error(diff)
			}
			if appraisal["ear_status"] != tc.status {
				t.Errorf("ear_status = %v, want %s", appraisal["ear_status"], tc.status)
			}
			if diff := cmp.Diff([]any{"policy:default/3?sha256=" + PolicyDigest("text")}, appraisal["ear_appraisal_policy_ids"]); diff != "" {
				t.Error(diff)
			}
			if claims["eat_profile"] != earProfile || claims["eat_nonce"] != nonce || claims["nonce"] != nil {
				t.Errorf("claims are %v", claims)
			}
			if diff := cmp.Diff(map[string]any{"developer": "Assay", "build": "assay test"}, claims["ear_verifier_id"]); diff != "" {
				t.Error(diff)
			}
			if verdict, _ := got.Verdict(); verdict != tc.want {
				t.Errorf("Verdict() = %v, want %v", verdict, tc.want)
			}
		})
	}
	if s := status(evidence.Refused, nil); s.word() != "contraindicated" {
		t.Errorf("a refused result is %s", s.word())
	}
	if s := status(evidence.Trusted, map[string]int{"a": 96, "b": 32}); s.word() != "contraindicated" {
		t.Errorf("the worst of the vector does not decide: %s", s.word())
	}
	if vector(&Result{}) != nil {
		t.Error("the zero result has a vector")
	}
}

// No profile turns anything but Trusted into a token.
func TestOnlyATrustedResultBecomesAToken(t *testing.T) {
	ec, rs := bothKeys(t)
	i := mustIssuer(t, ec, rs)
	for _, p := range []Profile{ProfileAssay, ProfileAzure, ProfileEAR} {
		for _, verdict := range []evidence.Verdict{evidence.Refused, evidence.Unusable} {
			r := goodResult()
			r.Verdict = verdict
			if token, err := i.Issue(noon, p, r); !errors.Is(err, ErrNotTrusted) || token.Raw != "" {
				t.Errorf("%s of a %s result: %q, %v", p, verdict, token.Raw, err)
			}
		}
		if _, err := i.Issue(noon, p, Result{}); !errors.Is(err, ErrNotTrusted) {
			t.Errorf("%s of the zero result: %v", p, err)
		}
	}
	if _, err := i.Issue(noon, ProfileUnknown, goodResult()); err == nil {
		t.Error("a token of no profile is issued")
	}
}

// A policy's author must not be able to speak with the service's voice.
func TestPolicyCannotIssueTheServicesClaims(t *testing.T) {
	ec, rs := bothKeys(t)
	i := mustIssuer(t, ec, rs)
	for _, name := range []string{"iss", "aud", "exp", "nbf", "iat", "jti", "nonce", "x-ms-ver", "x-ms-policy-hash", "x-ms-attestation-type", "x-ms-runtime", "verdict", "profile", "eat_profile", "submods", ""} {
		r := goodResult()
		r.Issued = []Issued{{name, "x"}}
		if _, err := i.Issue(noon, ProfileAzure, r); err == nil {
			t.Errorf("azure: %q is issued", name)
		}
		if name == "" {
			continue
		}
		// In our own profile they have an object of their own.
		claims, _ := issued(t, i, ProfileAssay, r)
		if claims["issued"].(map[string]any)[name] != "x" || claims["verdict"] != "trusted" {
			t.Errorf("assay: %q is %v", name, claims["issued"])
		}
	}
	r := goodResult()
	r.Issued = []Issued{{"x", 1.5}}
	for _, p := range []Profile{ProfileAssay, ProfileAzure} {
		if _, err := i.Issue(noon, p, r); err == nil {
			t.Errorf("%s: a value of no type of the policy language is issued", p)
		}
	}
}

// faulty signs something else than it is asked to.
type faulty struct {
	crypto.Signer
	calls *int
}

func (f faulty) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if *f.calls++; *f.calls > 1 { // the first is the try of NewKey
		other := sha256.Sum256(digest)
		digest = other[:]
	}
	return f.Signer.Sign(random, digest, opts)
}

func TestAFaultySignatureNeverLeaves(t *testing.T) {
	for name, tc := range map[string]struct {
		signer crypto.Signer
		p      Profile
	}{"ES256": {newP256(t), ProfileAssay}, "RS256": {rsaKey(), ProfileAzure}} {
		i := mustIssuer(t, mustKey(t, faulty{tc.signer, new(int)}, "k"))
		if token, err := i.Issue(noon, tc.p, goodResult()); err == nil || token.Raw != "" || !strings.Contains(err.Error(), "own token does not verify") {
			t.Errorf("%s: Issue = %q, %v", name, token.Raw, err)
		}
	}
	// The own check refuses it as well as the ordinary one does.
	ec := newP256(t)
	key := mustKey(t, ec, "k")
	mustOwnCheck(t, ec)
	key.signer = faulty{ec, &[]int{1}[0]}
	if _, err := mustIssuer(t, key).Issue(noon, ProfileAssay, goodResult()); err == nil {
		t.Error("the own check passes a faulty signature")
	}
}

// What the issuer would not accept itself it does not send: here the payload
// outgrows what a relying party reads.
func TestATokenTooLargeForItsReadersNeverLeaves(t *testing.T) {
	i := mustIssuer(t, mustKey(t, newP256(t), "k"))
	r := goodResult()
	r.Claims.Set("commandLine", evidence.Text(strings.Repeat("x", maxToken)))
	if _, err := i.Issue(noon, ProfileAssay, r); codeOf(err) != "token.too-large" {
		t.Errorf("Issue = %v", err)
	}
	r = goodResult()
	r.Runtime = json.RawMessage(`{"a":1,"a":2}`)
	if _, err := mustIssuer(t, mustKey(t, rsaKey(), "k")).Issue(noon, ProfileAzure, r); codeOf(err) != "token.duplicate-member" {
		t.Errorf("Issue = %v", err)
	}
}

// Anyone with a JOSE library and nothing of ours reads the tokens.
func TestTokensVerifyWithNothingButAJOSELibrary(t *testing.T) {
	ec, rs := bothKeys(t)
	i := mustIssuer(t, ec, rs)
	text, err := i.Keys().JWKS(noon)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Profile{ProfileAssay, ProfileAzure, ProfileEAR} {
		jws, err := jose.ParseSignedCompact(mustIssue(t, i, p, goodResult()).Raw, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jws.Verify(&set); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestDevicesSignToo(t *testing.T) {
	for p, signer := range map[Profile]crypto.Signer{ProfileAssay: ordinarySigner{newP256(t)}, ProfileAzure: ordinarySigner{rsaKey()}} {
		i := mustIssuer(t, mustKey(t, signer, "device"))
		if _, got := issued(t, i, p, goodResult()); got.KeyID() != "device" {
			t.Errorf("%s: signed by %q", p, got.KeyID())
		}
	}
}

func TestTokensDifferAndFollowTheClock(t *testing.T) {
	i := mustIssuer(t, mustKey(t, newP256(t), "k"))
	a, b := mustIssue(t, i, ProfileAssay, goodResult()), mustIssue(t, i, ProfileAssay, goodResult())
	if a.ID == b.ID || a.Raw == b.Raw {
		t.Error("two tokens are one")
	}
	// Half seconds are cut, so that no clock is behind what the token says.
	c, err := i.Issue(noon.Add(999*time.Millisecond), ProfileAssay, goodResult())
	if err != nil || !c.Issued.Equal(noon) || !c.Expires.Equal(noon.Add(DefaultLifetime)) {
		t.Errorf("issued %v, expires %v, %v", c.Issued, c.Expires, err)
	}
	i.cfg.Rand = iotest.ErrReader(errors.New("no entropy"))
	if _, err := i.Issue(noon, ProfileAssay, goodResult()); err == nil {
		t.Error("a token without an id is issued")
	}
}

func TestNewIssuerRefuses(t *testing.T) {
	set, err := NewKeySet(9*time.Hour, mustKey(t, newP256(t), "k"))
	if err != nil {
		t.Fatal(err)
	}
	short, err := NewKeySet(time.Hour, mustKey(t, newP256(t), "k"))
	if err != nil {
		t.Fatal(err)
	}
	good := IssuerConfig{URL: issuerURL, Rand: rand.Reader}
	if _, err := NewIssuer(good, set); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*IssuerConfig)
		set    *KeySet
	}{
		"no keys":            {func(*IssuerConfig) {}, nil},
		"keys go too early":  {func(*IssuerConfig) {}, short},
		"no random source":   {func(c *IssuerConfig) { c.Rand = nil }, set},
		"no URL":             {func(c *IssuerConfig) { c.URL = "" }, set},
		"plain http":         {func(c *IssuerConfig) { c.URL = "http://attest.example.org" }, set},
		"another scheme":     {func(c *IssuerConfig) { c.URL = "ftp://localhost" }, set},
		"a slash":            {func(c *IssuerConfig) { c.URL = issuerURL + "/" }, set},
		"a query":            {func(c *IssuerConfig) { c.URL = issuerURL + "?x" }, set},
		"an empty query":     {func(c *IssuerConfig) { c.URL = issuerURL + "?" }, set},
		"a fragment":         {func(c *IssuerConfig) { c.URL = issuerURL + "#x" }, set},
		"a user":             {func(c *IssuerConfig) { c.URL = "https://u@attest.example.org" }, set},
		"no host":            {func(c *IssuerConfig) { c.URL = "https:///x" }, set},
		"a long URL":         {func(c *IssuerConfig) { c.URL = issuerURL + strings.Repeat("/x", 300) }, set},
		"negative lifetime":  {func(c *IssuerConfig) { c.Lifetime = -time.Hour }, set},
		"negative back-date": {func(c *IssuerConfig) { c.Backdate = -time.Hour }, set},
	} {
		cfg := good
		tc.change(&cfg)
		if _, err := NewIssuer(cfg, tc.set); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, loopback := range []string{"http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:1/path"} {
		cfg := good
		cfg.URL = loopback
		if _, err := NewIssuer(cfg, set); err != nil {
			t.Errorf("%s: %v", loopback, err)
		}
	}
}

func TestMetadataSaysWhereTheKeysAre(t *testing.T) {
	text, err := Metadata(issuerURL, issuerURL+"/certs", []Alg{ES256, RS256})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if m["issuer"] != issuerURL || m["jwks_uri"] != issuerURL+"/certs" || fmt.Sprint(m["id_token_signing_alg_values_supported"]) != "[ES256 RS256]" {
		t.Errorf("metadata is %s", text)
	}
	if got, err := parseMetadata(issuerURL, text); err != nil || got != issuerURL+"/certs" {
		t.Errorf("parseMetadata = %q, %v", got, err)
	}
	for name, err := range map[string]error{
		"issuer": func() error { _, err := Metadata("x", "x/certs", []Alg{ES256}); return err }(),
		"keys":   func() error { _, err := Metadata(issuerURL, "https://b.example.org/certs", []Alg{ES256}); return err }(),
		"algs":   func() error { _, err := Metadata(issuerURL, issuerURL+"/certs", nil); return err }(),
	} {
		if err == nil {
			t.Errorf("bad %s: accepted", name)
		}
	}
}

func TestProfilesHaveWords(t *testing.T) {
	for _, p := range []Profile{ProfileAssay, ProfileAzure, ProfileEAR} {
		var back Profile
		text, err := p.MarshalText()
		if err != nil || back.UnmarshalText(text) != nil || back != p {
			t.Errorf("%s reads back as %s", p, back)
		}
	}
	var p Profile
	if p.UnmarshalText([]byte("unknown")) == nil || p.UnmarshalText([]byte("")) == nil || Profile(99).String() != "unknown" {
		t.Error("a profile that is none is read")
	}
}

func TestClaimsAreValidJSONWhateverTheyHold(t *testing.T) {
	c := &claimSet{}
	hostile := "\"\\\x00\x1f\u2028\xff</script>\x7f\U0001F600"
	c.text(hostile, hostile)
	c.number("n", -5)
	out, err := c.marshal(nil)
	if err != nil || !json.Valid(out) || bytes.ContainsRune(out, 0) {
		t.Errorf("marshal = %s, %v", out, err)
	}
	c.text("n", "again")
	if _, err := c.marshal(nil); err == nil {
		t.Error("a claim set twice is written")
	}
}
