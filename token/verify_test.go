package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// forge signs any header and payload whatever.
func forge(tb testing.TB, key crypto.Signer, header, payload string) string {
	tb.Helper()
	return forgeEncoded(tb, key, b64(header)+"."+b64(payload))
}

func forgeEncoded(tb testing.TB, key crypto.Signer, input string) string {
	tb.Helper()
	digest := sha256.Sum256([]byte(input))
	var sig []byte
	var err error
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		sig = signRaw(tb, k, digest[:])
	case *rsa.PrivateKey:
		sig, err = rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
	}
	if err != nil {
		tb.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

const goodHeader = `{"alg":"ES256","kid":"k1","typ":"JWT"}`

// payload is a good one with some members replaced, or dropped where nil.
func payload(tb testing.TB, change map[string]any) string {
	tb.Helper()
	claims := map[string]any{
		"iss": issuerURL, "aud": audience, "nonce": nonce, "jti": "1", "profile": assayProfile, "verdict": "trusted",
		"iat": noon.Unix(), "nbf": noon.Add(-time.Minute).Unix(), "exp": noon.Add(time.Hour).Unix(),
	}
	for name, v := range change {
		if v == nil {
			delete(claims, name)
			continue
		}
		claims[name] = v
	}
	out, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	return string(out)
}

// keysOf are the public keys of an issuer with these private keys.
func keysOf(tb testing.TB, issuer string, keys map[string]crypto.Signer) *PublicKeys {
	tb.Helper()
	var list []PublicKey
	for kid, k := range keys {
		alg, err := algOf(k.Public())
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, PublicKey{ID: kid, Alg: alg, Key: k.Public()})
	}
	jwks, err := MarshalKeys(list)
	if err != nil {
		tb.Fatal(err)
	}
	set, err := ParseKeys(issuer, jwks)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// codeOf returns the code of a refusal, or the error's text where it is none.
func codeOf(err error) string {
	if err == nil {
		return "accepted"
	}
	if reasons := evidence.Reasons(err); len(reasons) == 1 {
		return string(reasons[0].Code)
	}
	return "not a refusal: " + err.Error()
}

func TestVerifyAcceptsAGoodToken(t *testing.T) {
	key := newP256(t)
	v := mustVerifier(t, goodConfig(), keysOf(t, issuerURL, map[string]crypto.Signer{"k1": key}))
	got, err := v.Verify(context.Background(), forge(t, key, goodHeader, payload(t, nil)), noon)
	if err != nil {
		t.Fatal(err)
	}
	if got.Issuer() != issuerURL || got.KeyID() != "k1" || got.Algorithm() != ES256 || got.ID() != "1" ||
		!got.IssuedAt().Equal(noon) || !got.Expires().Equal(noon.Add(time.Hour)) || !got.NotBefore().Equal(noon.Add(-time.Minute)) {
		t.Errorf("Verified = %+v", got)
	}
	if diff := cmp.Diff([]string{audience}, got.Audience()); diff != "" || len(got.NotChecked()) != 0 {
		t.Errorf("audience %s, not checked %q", diff, got.NotChecked())
	}
	if verdict, err := got.Verdict(); verdict != evidence.Trusted || err != nil {
		t.Errorf("Verdict() = %v, %v", verdict, err)
	}
	raw, ok := got.Claim("nonce")
	if !ok || string(raw) != `"`+nonce+`"` {
		t.Errorf("Claim(nonce) = %s, %v", raw, ok)
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := got.Decode(&claims); err != nil || claims.Issuer != issuerURL {
		t.Errorf("Decode = %+v, %v", claims, err)
	}
}

func TestZeroValuesRefuseEverything(t *testing.T) {
	key := newP256(t)
	keys := keysOf(t, issuerURL, map[string]crypto.Signer{"k1": key})
	good := forge(t, key, goodHeader, payload(t, nil))
	for name, v := range map[string]*Verifier{"nil": nil, "zero": {}, "keys only": {keys: keys}, "no keys": {cfg: goodConfig()}} {
		if got, err := v.Verify(context.Background(), good, noon); err == nil || got != nil {
			t.Errorf("%s verifier accepts a token", name)
		}
	}
	without := func(change func(*VerifierConfig)) VerifierConfig { c := goodConfig(); change(&c); return c }
	for name, tc := range map[string]struct {
		cfg  VerifierConfig
		keys KeySource
	}{
		"zero config":          {VerifierConfig{}, keys},
		"no issuer":            {without(func(c *VerifierConfig) { c.Issuer = "" }), keys},
		"no algorithm":         {without(func(c *VerifierConfig) { c.Algorithms = nil }), keys},
		"algorithm none":       {without(func(c *VerifierConfig) { c.Algorithms = []Alg{"none"} }), keys},
		"an HMAC":              {without(func(c *VerifierConfig) { c.Algorithms = []Alg{ES256, "HS256"} }), keys},
		"no keys":              {goodConfig(), nil},
		"negative age":         {without(func(c *VerifierConfig) { c.MaxAge = -1 }), keys},
		"keys of another":      {goodConfig(), keysOf(t, "https://other.example.org", map[string]crypto.Signer{"k1": key})},
		"the zero PublicKeys":  {goodConfig(), &PublicKeys{}},
		"the zero PublicKeys,": {VerifierConfig{Algorithms: []Alg{ES256}}, &PublicKeys{}},
	} {
		if _, err := NewVerifier(tc.cfg, tc.keys); err == nil {
			t.Errorf("%s: NewVerifier accepts it", name)
		}
	}
	var zero Verified
	if verdict, err := zero.Verdict(); verdict != evidence.Refused || err == nil {
		t.Errorf("zero Verified: verdict %v, %v", verdict, err)
	}
	if err := zero.Decode(&struct{}{}); err == nil {
		t.Error("zero Verified decodes")
	}
}

// TestEachCheckRefusesForItsOwnReason has for every check of the verifier inputs
// that fail that check and no other.
func TestEachCheckRefusesForItsOwnReason(t *testing.T) {
	key := newP256(t)
	keys := keysOf(t, issuerURL, map[string]crypto.Signer{"k1": key, "r1": rsaKey()})
	claims := func(change map[string]any) string { return forge(t, key, goodHeader, payload(t, change)) }
	header := func(h string) string { return forge(t, key, h, payload(t, nil)) }
	raw := func(p string) string { return forge(t, key, goodHeader, p) }
	good := claims(nil)
	head, rest, _ := strings.Cut(good, ".")
	body, sig, _ := strings.Cut(rest, ".")
	at := func(d time.Duration) int64 { return noon.Add(d).Unix() }
	long := strings.Repeat("x", maxToken)
	for name, tc := range map[string]struct {
		token string
		want  string
	}{
		"too large":             {good + long, "token.too-large"},
		"empty":                 {"", "token.malformed"},
		"one part":              {head, "token.malformed"},
		"two parts":             {head + "." + body, "token.malformed"},
		"four parts":            {good + ".x", "token.malformed"},
		"five parts, a JWE":     {good + ".x.y", "token.encrypted"},
		"white space before":    {" " + good, "token.malformed"},
		"line end after":        {good + "\n", "token.malformed"},
		"line end inside":       {head + "." + body[:8] + "\n" + body[8:] + "." + sig, "token.malformed"},
		"padding":               {head + "." + body + "." + sig + "==", "token.malformed"},
		"standard base64":       {forgeEncoded(t, key, b64(goodHeader)+"."+base64.RawStdEncoding.EncodeToString([]byte(payload(t, map[string]any{"x": "???>>>"})))), "token.malformed"},
		"spare bits":            {head + "." + body + "." + spare(sig), "token.malformed"},
		"JSON serialization":    {`{"protected":"` + head + `","payload":"` + body + `","signature":"` + sig + `"}`, "token.malformed"},
		"header no JSON":        {header("alg"), "token.malformed"},
		"header an array":       {header(`["ES256"]`), "token.malformed"},
		"header with a tail":    {header(goodHeader + "x"), "token.malformed"},
		"header not UTF-8":      {header("{\"alg\":\"ES256\",\"kid\":\"k1\",\"x\":\"\xff\"}"), "token.malformed"},
		"header nested deep":    {header(`{"alg":"ES256","kid":"k1","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`), "token.malformed"},
		"two algorithms":        {header(`{"alg":"ES256","alg":"none","kid":"k1"}`), "token.duplicate-member"},
		"two names of a key":    {header(`{"alg":"ES256","kid":"k1","k\u0069d":"k2"}`), "token.duplicate-member"},
		"critical extension":    {header(`{"alg":"ES256","kid":"k1","crit":["exp"],"exp":1}`), "token.critical-header"},
		"critical, empty":       {header(`{"alg":"ES256","kid":"k1","crit":[]}`), "token.critical-header"},
		"payload not encoded":   {header(`{"alg":"ES256","kid":"k1","b64":false}`), "token.critical-header"},
		"compressed":            {header(`{"alg":"ES256","kid":"k1","zip":"DEF"}`), "token.critical-header"},
		"header with enc":       {header(`{"alg":"ES256","kid":"k1","enc":"A128GCM"}`), "token.critical-header"},
		"nested by cty":         {header(`{"alg":"ES256","kid":"k1","cty":"JWT"}`), "token.nested"},
		"other type":            {header(`{"alg":"ES256","kid":"k1","typ":"logout+jwt"}`), "token.type-refused"},
		"type a number":         {header(`{"alg":"ES256","kid":"k1","typ":1}`), "token.malformed"},
		"no alg":                {header(`{"kid":"k1"}`), "token.malformed"},
		"alg a number":          {header(`{"alg":1,"kid":"k1"}`), "token.malformed"},
		"alg none":              {b64(`{"alg":"none","kid":"k1"}`) + "." + body + ".", "token.unsigned"},
		"alg nOnE":              {b64(`{"alg":"nOnE","kid":"k1"}`) + "." + body + ".", "token.unsigned"},
		"alg not accepted":      {forge(t, rsaKey(), `{"alg":"RS256","kid":"r1"}`, payload(t, nil)), "token.alg-refused"},
		"alg unknown":           {header(`{"alg":"XX","kid":"k1"}`), "token.alg-refused"},
		"alg in lower case":     {header(`{"alg":"es256","kid":"k1"}`), "token.alg-refused"},
		"no kid":                {header(`{"alg":"ES256"}`), "token.kid-missing"},
		"empty kid":             {header(`{"alg":"ES256","kid":""}`), "token.kid-missing"},
		"KID is not kid":        {header(`{"alg":"ES256","KID":"k1"}`), "token.kid-missing"},
		"kid a number":          {header(`{"alg":"ES256","kid":1}`), "token.malformed"},
		"kid too long":          {header(`{"alg":"ES256","kid":"` + long[:maxName+1] + `"}`), "token.malformed"},
		"unknown kid":           {header(`{"alg":"ES256","kid":"k2"}`), "token.key-unknown"},
		"key of another type":   {header(`{"alg":"ES256","kid":"r1"}`), "token.alg-key-mismatch"},
		"altered payload":       {head + "." + b64(payload(t, map[string]any{"verdict": "trusted!"})) + "." + sig, "token.signature-invalid"},
		"altered header":        {b64(`{"alg":"ES256","kid":"k1","typ":"jwt"}`) + "." + body + "." + sig, "token.signature-invalid"},
		"no signature":          {head + "." + body + ".", "token.signature-invalid"},
		"short signature":       {head + "." + body + "." + sig[:80], "token.signature-invalid"},
		"zero signature":        {head + "." + body + "." + strings.Repeat("A", 86), "token.signature-invalid"},
		"signature in ASN.1":    {asn1Signature(t, key, head+"."+body), "token.signature-invalid"},
		"payload no JSON":       {raw("x"), "token.malformed"},
		"payload a token":       {raw(good), "token.malformed"},
		"payload an array":      {raw("[]"), "token.malformed"},
		"payload empty":         {forgeEncoded(t, key, head+"."), "token.malformed"},
		"two issuers":           {raw(strings.Replace(payload(t, nil), "{", `{"iss":"https://evil.example.org",`, 1)), "token.duplicate-member"},
		"two verdicts, deep":    {raw(strings.Replace(payload(t, nil), "{", `{"a":[{"b":{"c":1,"c":2}}],`, 1)), "token.duplicate-member"},
		"no issuer":             {claims(map[string]any{"iss": nil}), "token.claim-missing"},
		"ISS is not iss":        {claims(map[string]any{"iss": nil, "ISS": issuerURL}), "token.claim-missing"},
		"issuer a list":         {claims(map[string]any{"iss": []string{issuerURL}}), "token.claim-malformed"},
		"other issuer":          {claims(map[string]any{"iss": "https://other.example.org"}), "token.issuer-mismatch"},
		"issuer with a slash":   {claims(map[string]any{"iss": issuerURL + "/"}), "token.issuer-mismatch"},
		"issuer in upper case":  {claims(map[string]any{"iss": strings.ToUpper(issuerURL)}), "token.issuer-mismatch"},
		"no audience":           {claims(map[string]any{"aud": nil}), "token.audience-mismatch"},
		"other audience":        {claims(map[string]any{"aud": "https://other.example.org"}), "token.audience-mismatch"},
		"other audiences":       {claims(map[string]any{"aud": []string{"a", "b"}}), "token.audience-mismatch"},
		"empty audiences":       {claims(map[string]any{"aud": []string{}}), "token.audience-mismatch"},
		"too many audiences":    {claims(map[string]any{"aud": make([]string, maxTexts+1)}), "token.claim-malformed"},
		"audience a number":     {claims(map[string]any{"aud": 1}), "token.claim-malformed"},
		"audience of numbers":   {claims(map[string]any{"aud": []any{audience, 1}}), "token.claim-malformed"},
		"no nonce":              {claims(map[string]any{"nonce": nil}), "token.nonce-mismatch"},
		"other nonce":           {claims(map[string]any{"nonce": "other"}), "token.nonce-mismatch"},
		"nonce in upper case":   {claims(map[string]any{"nonce": strings.ToUpper(nonce)}), "token.nonce-mismatch"},
		"other eat_nonce":       {claims(map[string]any{"eat_nonce": "other"}), "token.nonce-mismatch"},
		"nonce a number":        {claims(map[string]any{"nonce": 1}), "token.claim-malformed"},
		"no iat":                {claims(map[string]any{"iat": nil}), "token.claim-missing"},
		"no exp":                {claims(map[string]any{"exp": nil}), "token.claim-missing"},
		"exp a text":            {claims(map[string]any{"exp": "tomorrow"}), "token.claim-malformed"},
		"exp a fraction":        {claims(map[string]any{"exp": 1.5}), "token.claim-malformed"},
		"exp with an exponent":  {raw(strings.Replace(payload(t, map[string]any{"exp": nil}), "{", `{"exp":1e12,`, 1)), "token.claim-malformed"},
		"exp beyond all years":  {claims(map[string]any{"exp": int64(1) << 62}), "token.claim-malformed"},
		"exp negative":          {claims(map[string]any{"exp": -1}), "token.claim-malformed"},
		"nbf null":              {raw(strings.Replace(payload(t, map[string]any{"nbf": nil}), "{", `{"nbf":null,`, 1)), "token.claim-malformed"},
		"exp is iat":            {claims(map[string]any{"exp": at(0)}), "token.times-inconsistent"},
		"nbf after exp":         {claims(map[string]any{"nbf": at(2 * time.Hour)}), "token.times-inconsistent"},
		"jti a number":          {claims(map[string]any{"jti": 1}), "token.claim-malformed"},
		"expired":               {claims(map[string]any{"iat": at(-2 * time.Hour), "nbf": at(-2 * time.Hour), "exp": at(-time.Minute)}), "token.expired"},
		"not yet valid":         {claims(map[string]any{"nbf": at(time.Minute + time.Second)}), "token.not-yet-valid"},
		"issued in the future":  {claims(map[string]any{"iat": at(time.Minute + time.Second)}), "token.issued-in-future"},
		"too old":               {claims(map[string]any{"iat": at(-11*time.Minute - time.Second), "nbf": at(-12 * time.Minute)}), "token.too-old"},
		"good":                  {good, "accepted"},
		"good, no nbf, no jti":  {claims(map[string]any{"nbf": nil, "jti": nil}), "accepted"},
		"good, many audiences":  {claims(map[string]any{"aud": []string{"a", audience}}), "accepted"},
		"good, eat_nonce":       {claims(map[string]any{"nonce": nil, "eat_nonce": []string{"a-longer-one", nonce}}), "accepted"},
		"good, EAT media type":  {header(`{"alg":"ES256","kid":"k1","typ":"application/eat+jwt"}`), "accepted"},
		"good, no typ":          {header(`{"alg":"ES256","kid":"k1"}`), "accepted"},
		"good, just not late":   {claims(map[string]any{"exp": at(-59 * time.Second), "iat": at(-time.Minute * 5), "nbf": nil}), "accepted"},
		"good, just not early":  {claims(map[string]any{"nbf": at(time.Minute), "iat": at(time.Minute)}), "accepted"},
		"good, just not old":    {claims(map[string]any{"iat": at(-11 * time.Minute), "nbf": nil}), "accepted"},
		"good, unknown members": {claims(map[string]any{"x": map[string]any{"y": []int{1}}}), "accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			v := mustVerifier(t, goodConfig(), keys)
			got, err := v.Verify(context.Background(), tc.token, noon)
			if code := codeOf(err); code != tc.want {
				t.Errorf("Verify = %s (%v), want %s", code, err, tc.want)
			}
			if (got != nil) != (err == nil) {
				t.Errorf("Verify returns %v with %v", got, err)
			}
		})
	}
}

// spare sets a bit of the last character that base64 has no use for.
func spare(sig string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return sig[:len(sig)-1] + string(alphabet[strings.IndexByte(alphabet, sig[len(sig)-1])|1])
}

func asn1Signature(tb testing.TB, key *ecdsa.PrivateKey, input string) string {
	tb.Helper()
	digest := sha256.Sum256([]byte(input))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// A17: the public key, which everybody has, taken for the secret of an HMAC.
func TestA17HMACWithThePublicKeyIsRefused(t *testing.T) {
	key := rsaKey()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys := keysOf(t, issuerURL, map[string]crypto.Signer{"r1": key})
	cfg := goodConfig()
	cfg.Algorithms = []Alg{ES256, RS256}
	v := mustVerifier(t, cfg, keys)
	for _, secret := range [][]byte{der, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), key.N.Bytes()} {
		for _, alg := range []string{"HS256", "RS256"} {
			input := b64(`{"alg":"`+alg+`","kid":"r1"}`) + "." + b64(payload(t, nil))
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(input))
			want := map[string]string{"HS256": "token.alg-refused", "RS256": "token.signature-invalid"}[alg]
			if _, err := v.Verify(context.Background(), input+"."+base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), noon); codeOf(err) != want {
				t.Errorf("%s: %v, want %s", alg, err, want)
			}
		}
	}
}

// A17: one key type taken for another, with both algorithms accepted.
func TestA17TheKeyDecidesTheAlgorithm(t *testing.T) {
	ec := newP256(t)
	keys := keysOf(t, issuerURL, map[string]crypto.Signer{"e1": ec, "r1": rsaKey()})
	cfg := goodConfig()
	cfg.Algorithms = []Alg{ES256, RS256}
	v := mustVerifier(t, cfg, keys)
	for _, tc := range []struct {
		alg, kid string
		key      crypto.Signer
		want     string
	}{
		{"ES256", "e1", ec, "accepted"},
		{"RS256", "r1", rsaKey(), "accepted"},
		{"RS256", "e1", ec, "token.alg-key-mismatch"},
		{"ES256", "r1", rsaKey(), "token.alg-key-mismatch"},
		{"RS256", "e1", rsaKey(), "token.alg-key-mismatch"},
		{"ES256", "e1", rsaKey(), "token.signature-invalid"},
	} {
		raw := forge(t, tc.key, fmt.Sprintf(`{"alg":%q,"kid":%q}`, tc.alg, tc.kid), payload(t, nil))
		if _, err := v.Verify(context.Background(), raw, noon); codeOf(err) != tc.want {
			t.Errorf("%s with key %s: %v, want %s", tc.alg, tc.kid, err, tc.want)
		}
	}
}

// A17: the token brings its own key, in each way that RFC 7515 has for it.
func TestA17KeyInTheHeaderIsNeverUsed(t *testing.T) {
	honest, mine := newP256(t), newP256(t)
	v := mustVerifier(t, goodConfig(), keysOf(t, issuerURL, map[string]crypto.Signer{"k1": honest}))
	jwk, err := marshalKey(PublicKey{ID: "k1", Alg: ES256, Key: mine.Public()})
	if err != nil {
		t.Fatal(err)
	}
	chain := base64.StdEncoding.EncodeToString(selfSigned(t, mine))
	for name, tc := range map[string]struct{ member, want string }{
		"jwk": {`"jwk":` + string(jwk), "token.key-in-header"},
		"x5u": {`"x5u":"https://evil.example.org/cert"`, "token.key-in-header"},
		"jku": {`"jku":"https://evil.example.org/keys"`, "token.signature-invalid"},
		"x5c": {`"x5c":["` + chain + `"]`, "token.signature-invalid"},
		"x5t": {`"x5t":"abc"`, "token.signature-invalid"},
	} {
		raw := forge(t, mine, `{"alg":"ES256","kid":"k1",`+tc.member+`}`, payload(t, nil))
		if _, err := v.Verify(context.Background(), raw, noon); codeOf(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	// Azure's tokens carry jku; a good signature with it is a good token.
	raw := forge(t, honest, `{"alg":"ES256","kid":"k1","jku":"https://evil.example.org/keys"}`, payload(t, nil))
	if _, err := v.Verify(context.Background(), raw, noon); err != nil {
		t.Errorf("good token with jku: %v", err)
	}
}

// A17: two tenants of one operator share a key (as Azure's regions did in 2020);
// one of them writes its own policy.
func TestA17TokenOfAnotherTenantWithTheSameKeyIsRefused(t *testing.T) {
	shared := newP256(t)
	const tenant = "https://tenant-b.example.org"
	raw := forge(t, shared, goodHeader, payload(t, map[string]any{"iss": tenant}))
	v := mustVerifier(t, goodConfig(), keysOf(t, issuerURL, map[string]crypto.Signer{"k1": shared}))
	if _, err := v.Verify(context.Background(), raw, noon); codeOf(err) != "token.issuer-mismatch" {
		t.Errorf("Verify = %v, want token.issuer-mismatch", err)
	}
	cfg := goodConfig()
	cfg.Issuer = tenant
	v = mustVerifier(t, cfg, keysOf(t, tenant, map[string]crypto.Signer{"k1": shared}))
	if _, err := v.Verify(context.Background(), raw, noon); err != nil {
		t.Errorf("its own relying party: %v", err)
	}
}

// A17: a token for somebody else, or a recorded one, used here.
func TestA17AudienceAndNonceAreCompared(t *testing.T) {
	key := newP256(t)
	keys := keysOf(t, issuerURL, map[string]crypto.Signer{"k1": key})
	raw := forge(t, key, goodHeader, payload(t, nil))
	for name, tc := range map[string]struct {
		change func(*VerifierConfig)
		want   string
		open   int // entries of NotChecked
	}{
		"as expected":      {func(*VerifierConfig) {}, "accepted", 0},
		"another audience": {func(c *VerifierConfig) { c.Audience = "https://b.example.org" }, "token.audience-mismatch", 0},
		"none expected":    {func(c *VerifierConfig) { c.Audience = "" }, "token.audience-mismatch", 0},
		"another nonce":    {func(c *VerifierConfig) { c.Nonce = "b" }, "token.nonce-mismatch", 0},
		"no nonce asked":   {func(c *VerifierConfig) { c.Nonce = "" }, "accepted", 1},
	} {
		cfg := goodConfig()
		tc.change(&cfg)
		got, err := mustVerifier(t, cfg, keys).Verify(context.Background(), raw, noon)
		if codeOf(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		} else if err == nil && len(got.NotChecked()) != tc.open {
			t.Errorf("%s: not checked %q", name, got.NotChecked())
		}
	}
}

func TestLeewayIsWhatTheConfigSays(t *testing.T) {
	key := newP256(t)
	keys := keysOf(t, issuerURL, map[string]crypto.Signer{"k1": key})
	raw := forge(t, key, goodHeader, payload(t, nil)) // expires at one o'clock
	for _, tc := range []struct {
		leeway time.Duration
		after  time.Duration
		want   string
	}{
		{0, 59 * time.Second, "accepted"},
		{0, 60 * time.Second, "token.expired"},
		{-1, -1 * time.Second, "accepted"},
		{-1, 0, "token.expired"},
		{5 * time.Minute, 299 * time.Second, "accepted"},
		{5 * time.Minute, 300 * time.Second, "token.expired"},
	} {
		cfg := goodConfig()
		cfg.Leeway, cfg.MaxAge = tc.leeway, 0
		_, err := mustVerifier(t, cfg, keys).Verify(context.Background(), raw, noon.Add(time.Hour+tc.after))
		if codeOf(err) != tc.want {
			t.Errorf("leeway %v, %v after expiry: %v, want %s", tc.leeway, tc.after, err, tc.want)
		}
	}
}

// A key source that cannot answer must not look like a refusal, nor like consent.
func TestKeysThatCannotBeHadAreNoRefusal(t *testing.T) {
	key := newP256(t)
	v := mustVerifier(t, goodConfig(), brokenSource{})
	_, err := v.Verify(context.Background(), forge(t, key, goodHeader, payload(t, nil)), noon)
	if !errors.Is(err, errBroken) || evidence.Reasons(err) != nil {
		t.Errorf("Verify = %v", err)
	}
}

var errBroken = errors.New("network is down")

type brokenSource struct{}

func (brokenSource) Issuer() string { return issuerURL }

func (brokenSource) Key(context.Context, string, time.Time) (PublicKey, error) {
	return PublicKey{}, errBroken
}

// A source that answers with a key that holds nothing verifies nothing.
func TestTheZeroPublicKeyVerifiesNothing(t *testing.T) {
	key := newP256(t)
	v := mustVerifier(t, goodConfig(), zeroSource{})
	if _, err := v.Verify(context.Background(), forge(t, key, goodHeader, payload(t, nil)), noon); codeOf(err) != "token.alg-key-mismatch" {
		t.Errorf("Verify = %v", err)
	}
	if err := (PublicKey{Alg: ES256}).verify(&parts{raw: forge(t, key, goodHeader, payload(t, nil))}); err == nil {
		t.Error("a PublicKey without a key verifies")
	}
}

type zeroSource struct{ brokenSource }

func (zeroSource) Key(context.Context, string, time.Time) (PublicKey, error) { return PublicKey{}, nil }

// Real tokens whose keys were never published: they read, and are refused for
// their keys, whatever the header brings.
func TestRealAzureTokensAreReadAndNotBelieved(t *testing.T) {
	for file, issuer := range map[string]string{
		"azurevm-trustedlaunch.2022-04.sharedeus2.jwt": "https://sharedeus2.eus2.attest.azure.net",
		"sevsnpvm.2025-04.sharedweu-test.jwt":          "https://sharedweu.weu.test.attest.azure.net",
	} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		raw := strings.TrimSpace(string(text))
		p, err := split(raw, []Alg{RS256})
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if _, err := parseObject(p.payload); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		v := mustVerifier(t, VerifierConfig{Issuer: issuer, Algorithms: []Alg{RS256}}, keysOf(t, issuer, map[string]crypto.Signer{p.kid: rsaKey()}))
		if _, err := v.Verify(context.Background(), raw, noon); codeOf(err) != "token.signature-invalid" {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	key := newP256(f)
	v := mustVerifier(f, goodConfig(), keysOf(f, issuerURL, map[string]crypto.Signer{"k1": key}))
	good := forge(f, key, goodHeader, payload(f, nil))
	f.Add(good)
	f.Add(forge(f, key, `{"alg":"none"}`, "{}"))
	f.Add("a.b.c.d.e")
	f.Fuzz(func(t *testing.T, raw string) {
		if raw == good {
			return
		}
		// The fuzzer has no key: nothing it makes may pass, and every refusal has a code.
		if _, err := v.Verify(context.Background(), raw, noon); len(evidence.Reasons(err)) != 1 {
			t.Errorf("Verify(%q) = %v, want a refusal", raw, err)
		}
	})
}

// FuzzSigned signs what the fuzzer makes, to reach the checks of the claims.
func FuzzSigned(f *testing.F) {
	key := newP256(f)
	v := mustVerifier(f, goodConfig(), keysOf(f, issuerURL, map[string]crypto.Signer{"k1": key}))
	f.Add(goodHeader, payload(f, nil))
	f.Fuzz(func(t *testing.T, header, body string) {
		got, err := v.Verify(context.Background(), forge(t, key, header, body), noon)
		if err != nil {
			if len(evidence.Reasons(err)) != 1 {
				t.Errorf("header %q, payload %q: %v is no refusal", header, body, err)
			}
			return
		}
		// What passed must say so to an ordinary reader too.
		var claims map[string]any
		if err := json.Unmarshal([]byte(body), &claims); err != nil || claims["iss"] != issuerURL {
			t.Errorf("payload %q passed; it reads as %v, %v", body, claims, err)
		}
		if _, err := got.Verdict(); err == nil && claims["profile"] == nil && claims["eat_profile"] == nil && claims["x-ms-attestation-type"] == nil {
			t.Errorf("payload %q has a verdict without a profile", body)
		}
	})
}
