package httpapi

import (
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/pki"
	"github.com/assay-project/assay/tpm2"
)

// want reports an answer of another status or code; "" is no problem.
func (a answer) want(t *testing.T, what string, status int, code string) {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Errorf("%s: %d %s, want %d %s", what, a.status, a.body, status, code)
	}
}

const somePolicy = `version= 1.2;
authorizationrules {
    [type == "secureBoot", value == true] => permit();
};
issuancerules {
};
`

func TestPoliciesHaveAHistory(t *testing.T) {
	f := newFixture(t, nil)
	put := func(replaces int, comment string) answer {
		return f.as(access.SecurityAdmin, "PUT", "/v1/policies/web", map[string]any{"text": somePolicy, "replaces": replaces, "comment": comment})
	}
	put(0, "first").want(t, "new name", 200, "")
	put(0, "again").want(t, "new name that is taken", 409, "request.conflict")
	put(1, "second").want(t, "second version", 200, "")
	got := f.as(access.SecurityAdmin, "POST", "/v1/policies/web/rollback", `{"version":1}`)
	got.want(t, "roll back", 200, "")
	var rolled policyBody
	got.into(t, &rolled)
	if rolled.Policy.Version != 3 || rolled.Policy.Name != "web" || rolled.Policy.Author != "security-admin" {
		t.Errorf("rolled back to %+v", rolled.Policy)
	}
	var history historyBody
	f.as(access.Viewer, "GET", "/v1/policies/web", nil).into(t, &history)
	if len(history.Versions) != 3 || history.Versions[2].Comment != "first" {
		t.Errorf("history %+v", history.Versions)
	}
	var all policiesBody
	f.as(access.Viewer, "GET", "/v1/policies", nil).into(t, &all)
	if len(all.Policies) != 2 { // the built-in one beside ours
		t.Errorf("policies %+v", all.Policies)
	}
	f.as(access.SecurityAdmin, "POST", "/v1/policies/web/rollback", `{"version":9}`).want(t, "version that is not there", 404, "request.not-found")
	f.as(access.Viewer, "GET", "/v1/policies/nothing", nil).want(t, "policy that is not there", 404, "request.not-found")
}

func TestPoliciesThatAreRefused(t *testing.T) {
	f := newFixture(t, nil)
	for what, tc := range map[string]struct {
		name, ifMatch string
		body          map[string]any
		status        int
		code          string
	}{
		"no premise":          {"p", "", map[string]any{"text": somePolicy}, 422, "request.invalid"},
		"If-Match":            {"p", `"0"`, map[string]any{"text": somePolicy}, 200, ""},
		"stale If-Match":      {"p2", `"7"`, map[string]any{"text": somePolicy}, 409, "request.conflict"},
		"If-Match unquoted":   {"p2", `0`, map[string]any{"text": somePolicy}, 422, "request.invalid"},
		"If-Match of any":     {"p2", `*`, map[string]any{"text": somePolicy}, 422, "request.invalid"},
		"premises that clash": {"p2", `"0"`, map[string]any{"text": somePolicy, "replaces": 1}, 422, "request.invalid"},
		"negative premise":    {"p2", "", map[string]any{"text": somePolicy, "replaces": -1}, 422, "request.invalid"},
		"no policy at all":    {"p2", "", map[string]any{"text": "permit everything", "replaces": 0}, 422, "policy.invalid"},
		"vacuous":             {"p2", "", map[string]any{"text": "version= 1.0;\nauthorizationrules {\n    => permit();\n};\n", "replaces": 0}, 422, "policy.vacuous"},
		"vacuous, as meant":   {"p3", "", map[string]any{"text": "version= 1.0;\nauthorizationrules {\n    => permit();\n};\nissuancerules {\n};\n", "replaces": 0, "allowVacuous": true}, 200, ""},
		"name that is none":   {"P%20", "", map[string]any{"text": somePolicy, "replaces": 0}, 422, "request.invalid"},
		"wrong type":          {"p2", "", map[string]any{"text": 7, "replaces": 0}, 422, "request.invalid"},
	} {
		text, err := json.Marshal(tc.body)
		must(t, err)
		req, err := http.NewRequestWithContext(t.Context(), "PUT", f.server.URL+"/v1/policies/"+tc.name, strings.NewReader(string(text)))
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+f.tokens[access.Admin])
		req.Header.Set("Content-Type", "application/json")
		if tc.ifMatch != "" {
			req.Header.Set("If-Match", tc.ifMatch)
		}
		f.send(req).want(t, what, tc.status, tc.code)
	}
}

func TestAnchorsComeAndGo(t *testing.T) {
	f := newFixture(t, nil)
	key, err := pki.GenerateKey(rand.Reader)
	must(t, err)
	serial, err := pki.NewSerial(rand.Reader)
	must(t, err)
	ca, err := pki.NewCA(rand.Reader, key, "ca", pki.Validity{Serial: serial, NotBefore: noon(), NotAfter: noon().Add(time.Hour)})
	must(t, err)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate()}))
	got := f.as(access.SecurityAdmin, "POST", "/v1/anchors", map[string]string{"kind": "ak-ca", "pem": text + text})
	got.want(t, "add", 201, "")
	var added anchorsBody
	f.as(access.Viewer, "GET", "/v1/anchors", nil).into(t, &added)
	if len(added.Anchors) != 1 || added.Anchors[0].AddedBy != "security-admin" {
		t.Fatalf("anchors %+v", added.Anchors)
	}
	f.as(access.SecurityAdmin, "POST", "/v1/anchors", map[string]string{"kind": "root", "pem": text}).want(t, "kind that is none", 422, "request.invalid")
	f.as(access.SecurityAdmin, "POST", "/v1/anchors", map[string]string{"kind": "ek-ca", "pem": "x"}).want(t, "no certificate", 422, "request.invalid")
	path := "/v1/anchors/" + added.Anchors[0].ID
	f.as(access.SecurityAdmin, "DELETE", path, nil).want(t, "remove", 204, "")
	f.as(access.SecurityAdmin, "DELETE", path, nil).want(t, "remove twice", 404, "request.not-found")
}

func TestReferencesAreVersioned(t *testing.T) {
	f := newFixture(t, nil)
	log, err := eventlog.Parse(evidencetest.Recorded(t, "good-uki", "rsa").EventLog)
	must(t, err)
	boot, err := log.Inspect(tpm2.AlgSHA256)
	must(t, err)
	file, err := baseline.From(boot, baseline.Shape{Machine: "test"}).MarshalJSON()
	must(t, err)
	body := map[string]any{"baseline": json.RawMessage(file), "replaces": 0}
	f.as(access.Operator, "PUT", "/v1/references/web", body).want(t, "put", 200, "")
	f.as(access.Operator, "PUT", "/v1/references/web", body).want(t, "put over one unseen", 409, "request.conflict")
	f.as(access.Operator, "PUT", "/v1/references/web", `{"baseline":{"no":"baseline"},"replaces":1}`).want(t, "no baseline", 422, "request.invalid")
	var all referencesBody
	f.as(access.Viewer, "GET", "/v1/references", nil).into(t, &all)
	if len(all.References) != 1 || all.References[0].Name != "web" || all.References[0].Version != 1 {
		t.Fatalf("references %+v", all.References)
	}
	if _, err := baseline.Parse(all.References[0].Baseline); err != nil {
		t.Errorf("the baseline comes back as no baseline: %v", err)
	}
}

// A6 of the attack list: somebody registers a machine that is known from another TPM.
func TestA6KnownMachineIsNotTakenOverByAnotherTPM(t *testing.T) {
	f := newFixture(t, nil)
	mine, other := evidencetest.Recorded(t, "good-uki", "rsa").AKPublic, evidencetest.Recorded(t, "good-uki", "ecc").AKPublic
	register := func(machine string, ak []byte) answer {
		return f.as(access.Operator, "POST", "/v1/attesters", map[string]any{"machine": machine, "akPublic": ak})
	}
	got := register("web-1", mine)
	got.want(t, "first", 201, "")
	var first attest.Attester
	got.into(t, &first)
	register("web-1", other).want(t, "the machine from another TPM", 409, "attester.taken")
	register("web-2", mine).want(t, "the key as another machine", 409, "attester.taken")
	var listed attestersBody
	f.as(access.Viewer, "GET", "/v1/attesters", nil).into(t, &listed)
	if len(listed.Attesters) != 1 || listed.Attesters[0].AKName != first.AKName {
		t.Errorf("attesters %+v", listed.Attesters)
	}
	f.as(access.Operator, "DELETE", "/v1/attesters/"+first.AKName, nil).want(t, "remove", 204, "")
	register("web-1", other).want(t, "after the operator removed the old record", 201, "")
}

func TestAttestersAreRead(t *testing.T) {
	f := newFixture(t, nil)
	ak := evidencetest.Recorded(t, "good-uki", "rsa").AKPublic
	for what, body := range map[string]map[string]any{
		"no key":         {"machine": "m", "akPublic": []byte{}},
		"garbage":        {"machine": "m", "akPublic": []byte("garbage")},
		"no machine":     {"machine": "", "akPublic": ak},
		"no such file":   {"machine": "m", "akPublic": ak, "baseline": "nothing"},
		"an EK, no AK":   {"machine": "m", "akPublic": evidencetest.Recorded(t, "good-uki", "rsa").EKPublic},
		"not base64":     {"machine": "m", "akPublic": "%%%"},
		"name in caps":   {"machine": "M", "akPublic": ak},
		"line end in it": {"machine": "a\n", "akPublic": ak},
	} {
		if got := f.as(access.Operator, "POST", "/v1/attesters", body); got.status != 422 || got.code() == "" {
			t.Errorf("%s: %d %s", what, got.status, got.body)
		}
	}
	var one attest.Attester
	f.as(access.Operator, "POST", "/v1/attesters", map[string]any{"machine": "m", "akPublic": ak}).into(t, &one)
	path := "/v1/attesters/" + one.AKName
	var again attest.Attester
	f.as(access.Viewer, "GET", path, nil).into(t, &again)
	if again.Machine != "m" || again.Proof != "registered" || again.AddedBy != "operator" {
		t.Errorf("attester %+v", again)
	}
	f.as(access.Operator, "PUT", path+"/baseline", `{"baseline":"nothing"}`).want(t, "reference that is not there", 422, "request.invalid")
	f.as(access.Operator, "PUT", path+"/baseline", `{"baseline":""}`).want(t, "no reference", 204, "")
	f.as(access.Viewer, "GET", "/v1/attesters/000bff", nil).want(t, "key that is not there", 404, "request.not-found")
}

func TestEnrolmentOverTheAPI(t *testing.T) {
	f := newFixture(t, nil)
	parts := evidencetest.Recorded(t, "good-uki", "rsa")
	got := f.as(access.Operator, "POST", "/v1/enrolments", map[string]any{
		"machine": "web-1", "akPublic": parts.AKPublic, "ekPublic": parts.EKPublic, "trustEK": true,
	})
	got.want(t, "begin", 201, "")
	var c attest.CredentialChallenge
	got.into(t, &c)
	if c.ID == "" || len(c.CredentialBlob) == 0 || len(c.EncryptedSecret) == 0 {
		t.Fatalf("credential %+v", c)
	}
	finish := func(id string, secret []byte) answer {
		return f.as(access.Operator, "POST", "/v1/enrolments/"+id+"/finish", map[string]any{"secret": secret})
	}
	finish(c.ID, make([]byte, 32)).want(t, "guess", 422, "enrolment.secret-mismatch")
	finish("nothing", make([]byte, 32)).want(t, "enrolment that is not there", 404, "request.not-found")
	f.clock.advance(time.Hour)
	finish(c.ID, make([]byte, 32)).want(t, "too late", 422, "enrolment.expired")
	f.as(access.Operator, "POST", "/v1/enrolments", map[string]any{"machine": "web-1", "akPublic": parts.AKPublic, "ekPublic": parts.EKPublic, "ekCert": parts.EKCert}).
		want(t, "certificate of an authority that nobody named", 422, "ek.certificate-foreign")
}
