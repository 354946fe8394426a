package httpapi

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// described are the operations of the description: a new route cannot be forgotten.
type described struct {
	method, path, permission string
	open, body               bool
}

func operations(t *testing.T) []described {
	t.Helper()
	text, err := OpenAPI()
	must(t, err)
	var api struct {
		Paths map[string]map[string]struct {
			Permission  string           `json:"x-permission"`
			Security    []map[string]any `json:"security"`
			RequestBody json.RawMessage  `json:"requestBody"`
		} `json:"paths"`
	}
	must(t, json.Unmarshal(text, &api))
	var out []described
	for path, methods := range api.Paths {
		for method, o := range methods {
			out = append(out, described{strings.ToUpper(method), path, o.Permission, len(o.Security) == 0, o.RequestBody != nil})
		}
	}
	if len(out) < 30 {
		t.Fatalf("the description has %d operations", len(out))
	}
	return out
}

// path puts something that exists nowhere in for each parameter.
func (d described) filled() string {
	p := strings.NewReplacer("{digest}", strings.Repeat("0", 64)).Replace(d.path)
	for strings.Contains(p, "{") {
		a, rest, _ := strings.Cut(p, "{")
		_, b, _ := strings.Cut(rest, "}")
		p = a + "nothing" + b
	}
	return p
}

// A7 of the attack list: a management interface without client authentication.
func TestA7NothingIsOpenWithoutACredential(t *testing.T) {
	f := newFixture(t, nil)
	before := len(f.trail())
	open := []string{"/healthz", "/certs", "/.well-known/openid-configuration"}
	for _, o := range operations(t) {
		if o.open {
			if o.method != "GET" || !slices.Contains(open, o.path) {
				t.Errorf("%s %s needs no credential", o.method, o.path)
			}
			continue
		}
		stranger, _, _, _ := access.NewToken(rand.Reader)
		for what, tc := range map[string]struct{ token, code string }{
			"none": {"", "access.no-credential"}, "unknown": {stranger, "access.credential-refused"},
			"malformed": {"assay_x", "access.credential-refused"}, "empty": {" ", "access.credential-refused"},
		} {
			f.clock.advance(time.Second) // failures are limited by address
			got := f.do(tc.token, o.method, o.filled(), "{}")
			if got.status != http.StatusUnauthorized || got.code() != tc.code || got.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s with credential %s: %d %s %s", o.method, o.path, what, got.status, got.code(), got.body)
			}
		}
	}
	if after := len(f.trail()); after != before {
		t.Errorf("%d entries were added to the audit chain", after-before)
	}
}

func TestEveryRouteNeedsItsPermission(t *testing.T) {
	f := newFixture(t, nil)
	for _, o := range operations(t) {
		if o.open || o.permission == "" {
			continue
		}
		// One principal has every permission but the one, another has only it.
		var others []access.Permission
		for _, p := range access.Permissions() {
			if string(p) != o.permission {
				others = append(others, p)
			}
		}
		f.clock.advance(time.Minute)
		name := o.method + o.path
		without := f.principal("without "+name, access.Principal{Permissions: others})
		with := f.principal("with "+name, access.Principal{Permissions: []access.Permission{access.Permission(o.permission)}})
		before := f.trail()
		got := f.do(without, o.method, o.filled(), `{"no":"sense"}`)
		if got.status != http.StatusForbidden || got.code() != "access.denied" {
			t.Errorf("%s without %s: %d %s", name, o.permission, got.status, got.body)
		}
		trail := f.trail()
		if last := trail[len(trail)-1]; len(trail) != len(before)+1 || last.Outcome != "denied" || last.Actor != "without "+name {
			t.Errorf("%s: denial is not in the audit chain: %+v", name, last)
		}
		if got := f.do(with, o.method, o.filled(), `{"no":"sense"}`); got.status == http.StatusForbidden || got.status == http.StatusUnauthorized {
			t.Errorf("%s with %s: %d %s", name, o.permission, got.status, got.body)
		}
	}
}

func TestEveryBodyIsStrict(t *testing.T) {
	f := newFixture(t, nil)
	for _, o := range operations(t) {
		if !o.body {
			continue
		}
		for what, tc := range map[string]struct {
			body, code string
			status     int
		}{
			"no JSON":        {"}{", "request.malformed", 400},
			"cut":            {`{"a":`, "request.malformed", 400},
			"member twice":   {`{"a":1,"a":2}`, "request.malformed", 400},
			"in other case":  {`{"type":"tpm","TYPE":"sgx"}`, "request.malformed", 400},
			"text after":     {`{} {}`, "request.malformed", 400},
			"array":          {`[]`, "", 0},
			"unknown member": {`{"surprise":1}`, "", 0},
			"not UTF-8":      {"{\"a\xff\":1}", "request.malformed", 400},
			"nothing":        {"", "", 0},
		} {
			got := f.as(access.Admin, o.method, o.filled(), tc.body)
			// The library tells a body that cannot be read from one whose members are wrong.
			ok := got.status == tc.status && got.code() == tc.code
			if tc.status == 0 {
				ok = got.status == 400 && got.code() == "request.malformed" || got.status == 422 && got.code() == "request.invalid"
			}
			if !ok && !(what == "nothing" && strings.HasSuffix(o.path, "/rotate")) {
				t.Errorf("%s %s with body %q: %d %.300s", o.method, o.path, what, got.status, got.body)
			}
		}
		req, err := http.NewRequestWithContext(t.Context(), o.method, f.server.URL+o.filled(), strings.NewReader("{}"))
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+f.tokens[access.Admin])
		req.Header.Set("Content-Type", "text/plain")
		if got := f.send(req); got.status != http.StatusUnsupportedMediaType || got.code() != "request.media-type" {
			t.Errorf("%s %s as text: %d %s", o.method, o.path, got.status, got.body)
		}
	}
}

func TestEveryBodyHasALimit(t *testing.T) {
	f := newFixture(t, nil)
	body := `{"a":"` + strings.Repeat("a", 9<<20) + `"}`
	for _, o := range operations(t) {
		if !o.body {
			continue
		}
		for _, length := range []int64{int64(len(body)), -1} {
			req := httptest.NewRequestWithContext(t.Context(), o.method, o.filled(), strings.NewReader(body))
			req.ContentLength = length
			req.Header.Set("Authorization", "Bearer "+f.tokens[access.Admin])
			req.Header.Set("Content-Type", "application/json")
			got := httptest.NewRecorder()
			f.server.Config.Handler.ServeHTTP(got, req)
			if a := (answer{got.Code, got.Header(), got.Body.Bytes()}); a.status != 413 || a.code() != "request.too-large" {
				t.Errorf("%s %s with length %d: %d %s", o.method, o.path, length, a.status, a.body)
			}
		}
	}
}

func TestEveryUnknownQueryParameterIsRefused(t *testing.T) {
	f := newFixture(t, nil)
	for _, o := range operations(t) {
		if o.open || o.method != "GET" {
			continue
		}
		if got := f.as(access.Admin, o.method, o.filled()+"?surprise=1", nil); got.status != 422 || got.code() != "request.invalid" {
			t.Errorf("%s %s: %d %s", o.method, o.path, got.status, got.body)
		}
	}
}

// The library passes over parameters that it cannot set, without a word.
func TestEveryPartOfAPathIsRead(t *testing.T) {
	text, err := OpenAPI()
	must(t, err)
	var api struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ In, Name string }
		}
	}
	must(t, json.Unmarshal(text, &api))
	for path, methods := range api.Paths {
		for method, o := range methods {
			named := 0
			for _, p := range o.Parameters {
				if p.In == "path" && strings.Contains(path, "{"+p.Name+"}") {
					named++
				}
			}
			if want := strings.Count(path, "{"); named != want {
				t.Errorf("%s %s reads %d parts of its path, want %d", method, path, named, want)
			}
		}
	}
}

func TestAnswersAreHardened(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range []string{"/healthz", "/v1/whoami", "/nowhere", "/v1/principals"} {
		got := f.as(access.Admin, "GET", path, nil)
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Access-Control-Allow-Origin": "",
		} {
			if have := got.header.Get(name); have != want {
				t.Errorf("%s: %s = %q, want %q", path, name, have, want)
			}
		}
	}
}

func TestPathsAndMethodsThatDoNotExist(t *testing.T) {
	f := newFixture(t, nil)
	if got := f.do("", "GET", "/v2/attest", nil); got.status != 404 || got.code() != "request.no-route" {
		t.Errorf("unknown path: %d %s", got.status, got.body)
	}
	got := f.do("", "PATCH", "/v1/policies", nil)
	if got.status != 405 || got.code() != "request.method" || got.header.Get("Allow") != "GET" {
		t.Errorf("unknown method: %d %q %s", got.status, got.header.Get("Allow"), got.body)
	}
}

func TestAttestationFromChallengeToToken(t *testing.T) {
	f := newFixture(t, nil)
	challenge := f.challenge()
	bundle := "{\"type\": \"tpm\",\n\t\"note\":  \"good \\u00e9\", \"x\": [1, {\"y\": \"}\\\"\"}] }"
	got := f.as(access.Attester, "POST", "/v1/attest", `{"evidence": `+bundle+` , "challenge":"`+challenge+`","audience":"rp"}`)
	var result attest.Result
	got.into(t, &result)
	if got.status != 200 || result.Verdict != evidence.Trusted || result.Token == "" {
		t.Fatalf("attest: %d %s", got.status, got.body)
	}
	if got := f.as(access.Viewer, "GET", "/v1/evidence/"+result.Evidence, nil); string(got.body) != bundle {
		t.Errorf("evidence came back as %q, sent %q", got.body, bundle)
	}
	var one attest.Appraisal
	f.as(access.Viewer, "GET", "/v1/appraisals/"+result.ID, nil).into(t, &one)
	if one.ID != result.ID || one.TokenID != result.TokenID {
		t.Errorf("appraisal %+v, decided %+v", one, result)
	}
	again := f.as(access.Attester, "POST", "/v1/attest", `{"challenge":"`+challenge+`","evidence":`+bundle+`}`)
	if again.status != http.StatusConflict || again.code() != "challenge.used" {
		t.Errorf("second use: %d %s", again.status, again.body)
	}
	last := f.trail()
	if e := last[len(last)-1]; e.Action != "attest" || e.Actor != "attester" || e.Outcome != "trusted" || e.Subject != result.ID {
		t.Errorf("audit entry %+v", e)
	}
}

func TestRefusalIsADecisionWithoutAToken(t *testing.T) {
	f := newFixture(t, nil)
	got := f.attest(`{"type":"tpm"}`)
	var result attest.Result
	got.into(t, &result)
	if got.status != 200 || result.Verdict != evidence.Refused || result.Token != "" || len(result.Reasons) != 2 {
		t.Errorf("attest: %d %s", got.status, got.body)
	}
	if !bytes.Contains(got.body, []byte(`"notChecked":[]`)) {
		t.Errorf("empty list is not []: %s", got.body)
	}
}

func TestAttestRequestsThatAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	c := f.challenge()
	for what, tc := range map[string]struct {
		body, code string
		status     int
	}{
		"no challenge":         {`{"evidence":{"type":"tpm"}}`, "request.malformed", 400},
		"no evidence":          {`{"challenge":"` + c + `"}`, "request.malformed", 400},
		"no type":              {`{"challenge":"` + c + `","evidence":{}}`, "request.malformed", 400},
		"evidence a string":    {`{"challenge":"` + c + `","evidence":"e30="}`, "request.malformed", 400},
		"evidence twice":       {`{"challenge":"` + c + `","evidence":{"type":"tpm"},"evidence":{"type":"tpm"}}`, "request.malformed", 400},
		"bundle's type twice":  {`{"challenge":"` + c + `","evidence":{"type":"tpm","type":"sgx"}}`, "request.malformed", 400},
		"escaped name":         {`{"challenge":"` + c + `","evidenc\u0065":{"type":"tpm"}}`, "request.malformed", 400},
		"brackets":             {`{"challenge":"` + c + `","evidence":{"type":"tpm"]}`, "request.malformed", 400},
		"deep":                 {`{"challenge":"` + c + `","evidence":{"type":"tpm","x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}`, "request.malformed", 400},
		"a nonce of its own":   {`{"challenge":"` + strings.Repeat("A", len(c)) + `","evidence":{"type":"tpm"}}`, "challenge.malformed", 400},
		"altered challenge":    {`{"challenge":"` + c[:len(c)-1] + `_","evidence":{"type":"tpm"}}`, "challenge.malformed", 400},
		"other policy":         {`{"challenge":"` + c + `","policy":"other","evidence":{"type":"tpm"}}`, "policy.unknown", 422},
		"other type":           {`{"challenge":"` + c + `","evidence":{"type":"sgx"}}`, "evidence.type-unknown", 422},
		"type that is no text": {`{"challenge":"` + c + `","type":7,"evidence":{"type":"tpm"}}`, "request.malformed", 400},
		"unknown profile":      {`{"challenge":"` + c + `","profile":"unknown","evidence":{"type":"tpm"}}`, "request.invalid", 422},
	} {
		got := f.as(access.Attester, "POST", "/v1/attest", tc.body)
		if got.status != tc.status || got.code() != tc.code {
			t.Errorf("%s: %d %s, want %d %s", what, got.status, got.body, tc.status, tc.code)
		}
	}
	f.clock.advance(6 * time.Minute)
	if got := f.as(access.Attester, "POST", "/v1/attest", `{"challenge":"`+c+`","evidence":{"type":"tpm"}}`); got.status != 400 || got.code() != "challenge.expired" {
		t.Errorf("expired challenge: %d %s", got.status, got.body)
	}
	// A9 of the attack list: nothing dear is done for garbage.
	if n, m := f.kind.calls.Load(), f.store.calls.Load(); n != 0 || m != 0 {
		t.Errorf("A9: %d appraisals and %d writes for requests that cannot be answered", n, m)
	}
}

func TestOpenAttestationOpensAttestationOnly(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.OpenAttestation = true })
	got := f.do("", "POST", "/v1/challenges", "{}")
	var c challengeBody
	got.into(t, &c)
	got = f.do("", "POST", "/v1/attest", `{"challenge":"`+c.Challenge+`","evidence":`+goodBundle+`}`)
	if got.status != 200 {
		t.Errorf("attest: %d %s", got.status, got.body)
	}
	trail := f.trail()
	if e := trail[len(trail)-1]; e.Actor != "anonymous" {
		t.Errorf("actor %q", e.Actor)
	}
	for _, o := range operations(t) {
		if o.open || o.path == "/v1/challenges" || o.path == "/v1/attest" {
			continue
		}
		f.clock.advance(time.Second)
		if got := f.do("", o.method, o.filled(), "{}"); got.status != http.StatusUnauthorized {
			t.Errorf("%s %s: %d", o.method, o.path, got.status)
		}
	}
	f.clock.advance(time.Second)
	if got := f.do("assay_wrong", "POST", "/v1/challenges", "{}"); got.status != http.StatusUnauthorized {
		t.Errorf("a bad credential counts as none: %d", got.status)
	}
}

func TestInternalErrorsTellNothing(t *testing.T) {
	f := newFixture(t, nil)
	for _, word := range []string{"break", "panic"} {
		got := f.attest(`{"type":"tpm","note":"` + word + `"}`)
		var p apiserver.Problem
		got.into(t, &p)
		if got.status != 500 || got.code() != "service.internal" || p.RequestID == "" {
			t.Errorf("%s: %d %s", word, got.status, got.body)
		}
		for _, secret := range []string{"assay.db", "SELECT", "/secret", "goroutine"} {
			if bytes.Contains(got.body, []byte(secret)) {
				t.Errorf("%s: the answer tells %q: %s", word, secret, got.body)
			}
		}
		if !strings.Contains(f.log.String(), p.RequestID) {
			t.Errorf("%s: request id %q is not in the log", word, p.RequestID)
		}
	}
	if got := f.attest(goodBundle); got.status != 200 {
		t.Errorf("the server does not go on: %d %s", got.status, got.body)
	}
}

func TestPrincipalsComeAndGo(t *testing.T) {
	f := newFixture(t, nil)
	got := f.as(access.Admin, "POST", "/v1/principals", map[string]any{"name": "web/1 é", "roles": []string{"viewer"}})
	var added newPrincipalBody
	got.into(t, &added)
	if got.status != http.StatusCreated || added.Token == "" || added.Principal.AddedBy != "admin" {
		t.Fatalf("add: %d %s", got.status, got.body)
	}
	var who whoamiBody
	f.do(added.Token, "GET", "/v1/whoami", nil).into(t, &who)
	if who.Name != "web/1 é" || len(who.Permissions) == 0 {
		t.Errorf("whoami: %+v", who)
	}
	if list := f.as(access.Admin, "GET", "/v1/principals", nil); bytes.Contains(list.body, []byte(added.Token)) || !bytes.Contains(list.body, []byte("web/1")) {
		t.Errorf("list: %s", list.body)
	}
	if got := f.as(access.Admin, "DELETE", "/v1/principals/web%2F1%20%C3%A9", nil); got.status != http.StatusNoContent {
		t.Errorf("remove: %d %s", got.status, got.body)
	}
	if got := f.do(added.Token, "GET", "/v1/whoami", nil); got.status != http.StatusUnauthorized {
		t.Errorf("removed principal: %d", got.status)
	}
}

func TestPrincipalsThatAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	giver := f.principal("giver", access.Principal{Permissions: []access.Permission{access.SetPrincipals, access.ReadPrincipals}})
	past := f.clock.now().Add(-time.Second)
	for what, tc := range map[string]struct {
		token  string
		body   map[string]any
		status int
	}{
		"taken name":      {f.tokens[access.Admin], map[string]any{"name": "viewer", "roles": []string{"viewer"}}, 409},
		"no such role":    {f.tokens[access.Admin], map[string]any{"name": "x", "roles": []string{"root"}}, 422},
		"no such grant":   {f.tokens[access.Admin], map[string]any{"name": "x", "permissions": []string{"everything"}}, 422},
		"reserved name":   {f.tokens[access.Admin], map[string]any{"name": "service", "roles": []string{"viewer"}}, 422},
		"line end":        {f.tokens[access.Admin], map[string]any{"name": "a\nb", "roles": []string{"viewer"}}, 422},
		"in the past":     {f.tokens[access.Admin], map[string]any{"name": "x", "roles": []string{"viewer"}, "expires": past}, 422},
		"no certificate":  {f.tokens[access.Admin], map[string]any{"name": "x", "roles": []string{"viewer"}, "certificate": "x"}, 422},
		"more than giver": {giver, map[string]any{"name": "x", "roles": []string{"admin"}}, 403},
	} {
		if got := f.do(tc.token, "POST", "/v1/principals", tc.body); got.status != tc.status {
			t.Errorf("%s: %d %s, want %d", what, got.status, got.body, tc.status)
		}
	}
	if got := f.do(giver, "DELETE", "/v1/principals/admin", nil); got.status != http.StatusForbidden {
		t.Errorf("remove one who may do more: %d %s", got.status, got.body)
	}
	if got := f.as(access.Admin, "DELETE", "/v1/principals/admin", nil); got.status != http.StatusConflict {
		t.Errorf("remove oneself: %d %s", got.status, got.body)
	}
	if got := f.do(giver, "POST", "/v1/principals", map[string]any{"name": "x", "permissions": []string{"principals.read"}}); got.status != http.StatusCreated {
		t.Errorf("give what one has: %d %s", got.status, got.body)
	}
}

// certificate makes a self-signed client certificate.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotBefore: noon().Add(-time.Hour), NotAfter: noon().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestClientCertificateIsACredential(t *testing.T) {
	f := newFixture(t, nil)
	known, unknown := certificate(t), certificate(t)
	body := map[string]any{
		"name": "mtls", "roles": []string{"admin"},
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: known.Certificate[0]})),
	}
	if got := f.as(access.Admin, "POST", "/v1/principals", body); got.status != http.StatusCreated || bytes.Contains(got.body, []byte("assay_")) {
		t.Fatalf("add: %d %s", got.status, got.body)
	}
	for what, tc := range map[string]struct {
		cert   tls.Certificate
		token  string
		origin string
		status int
	}{
		"known":                     {known, "", "", 200},
		"unknown":                   {unknown, "", "", 401},
		"known beside a bad token":  {known, "assay_bad", "", 401},
		"known, from another page":  {known, "", "https://evil.test", 403},
		"unknown with a good token": {unknown, f.tokens[access.Viewer], "", 200},
	} {
		transport := f.client.Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = []tls.Certificate{tc.cert}
		req, err := http.NewRequestWithContext(t.Context(), "POST", f.server.URL+"/v1/keys/rotate", strings.NewReader("{}"))
		must(t, err)
		if tc.origin == "" {
			req, err = http.NewRequestWithContext(t.Context(), "GET", f.server.URL+"/v1/whoami", nil)
			must(t, err)
		} else {
			req.Header.Set("Origin", tc.origin)
			req.Header.Set("Sec-Fetch-Site", "cross-site")
		}
		if tc.token != "" {
			req.Header.Set("Authorization", "Bearer "+tc.token)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		must(t, err)
		resp.Body.Close()
		transport.CloseIdleConnections()
		if resp.StatusCode != tc.status {
			t.Errorf("%s: %d, want %d", what, resp.StatusCode, tc.status)
		}
	}
}

func TestListsPageToTheirEnd(t *testing.T) {
	f := newFixture(t, nil)
	want := map[string]bool{}
	for range 5 {
		f.clock.advance(time.Second)
		var r attest.Result
		f.attest(goodBundle).into(t, &r)
		want[r.ID] = true
	}
	got := map[string]bool{}
	for next, n := "", 0; n < 10; n++ {
		var page appraisalsBody
		f.as(access.Viewer, "GET", "/v1/appraisals?limit=2&verdict=trusted&before="+next, nil).into(t, &page)
		for _, a := range page.Appraisals {
			got[a.ID] = true
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if len(got) != 5 || len(want) != 5 {
		t.Errorf("paged %d of %d appraisals", len(got), len(want))
	}
	var v audit.Verifier
	for next := uint64(0); ; {
		var page auditBody
		f.as(access.Auditor, "GET", fmt.Sprintf("/v1/audit?limit=3&after=%d", next), nil).into(t, &page)
		for _, e := range page.Entries {
			must(t, v.Next(e))
		}
		if next = page.Next; next == 0 {
			break
		}
	}
	if n := len(f.trail()); v.Head().Seq != uint64(n) {
		t.Errorf("paged %d of %d audit entries", v.Head().Seq, n)
	}
	var none appraisalsBody
	if got := f.as(access.Viewer, "GET", "/v1/appraisals?verdict=refused", nil); !bytes.Contains(got.body, []byte(`"appraisals":[]`)) {
		t.Errorf("empty list: %s", got.body)
	} else {
		got.into(t, &none)
	}
}

func TestHealthFollowsTheStore(t *testing.T) {
	f := newFixture(t, nil)
	if got := f.do("", "GET", "/healthz", nil); got.status != 200 {
		t.Errorf("healthy: %d %s", got.status, got.body)
	}
	must(t, f.store.Close())
	if got := f.do("", "GET", "/healthz", nil); got.status != 200 {
		t.Errorf("within half a second the answer holds: %d", got.status)
	}
	f.clock.advance(time.Second)
	got := f.do("", "GET", "/healthz", nil)
	if got.status != 503 || got.code() != "service.unavailable" || got.header.Get("Retry-After") == "" || bytes.Contains(got.body, []byte("sql")) {
		t.Errorf("store closed: %d %s", got.status, got.body)
	}
}

func TestKeysArePublished(t *testing.T) {
	f := newFixture(t, nil)
	var set struct {
		Keys []struct{ Kid string }
	}
	got := f.do("", "GET", "/certs", nil)
	got.into(t, &set)
	if len(set.Keys) != 2 || got.header.Get("Content-Type") != "application/json" || got.header.Get("Cache-Control") == "no-store" {
		t.Errorf("keys: %v %s", got.header, got.body)
	}
	var meta struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	f.do("", "GET", "/.well-known/openid-configuration", nil).into(t, &meta)
	if meta.Issuer != "https://assay.test" || meta.JWKSURI != "https://assay.test/certs" {
		t.Errorf("metadata: %+v", meta)
	}
	if got := f.as(access.SecurityAdmin, "POST", "/v1/keys/rotate", `{"delaySeconds":0}`); got.status != 200 {
		t.Errorf("rotate: %d %s", got.status, got.body)
	}
	f.do("", "GET", "/certs", nil).into(t, &set)
	if len(set.Keys) != 4 {
		t.Errorf("%d keys after rotation, want 4: the old ones stay", len(set.Keys))
	}
}

func TestMetricsHaveBoundedLabels(t *testing.T) {
	f := newFixture(t, nil)
	f.attest(goodBundle)
	f.attest(`{"type":"tpm"}`)
	for i := range 20 {
		f.do("", "GET", fmt.Sprintf("/scan/%d", i), nil)
	}
	if got := f.do("", "GET", "/metrics", nil); got.status != 401 {
		t.Errorf("metrics without a credential: %d", got.status)
	}
	text := string(f.as(access.Viewer, "GET", "/metrics", nil).body)
	for _, want := range []string{
		`assay_appraisals_total{type="tpm",verdict="trusted"} 1`, `assay_appraisal_reasons_total{code="other"} 1`,
		`assay_challenges_total{outcome="issued"} 2`, `assay_http_requests_total{route="POST /v1/attest",status="200"} 2`,
		`assay_http_requests_total{route="/",status="404"} 20`, `assay_store_group_size_count 2`, "assay_http_in_flight 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(text, "no.such-code") || strings.Contains(text, "/scan/") {
		t.Error("a caller's text became a label")
	}
}
