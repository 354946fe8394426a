package attest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
)

func TestAnswersAndFindingsAreWrittenAsEncodingJSONWritesThem(t *testing.T) {
	claims := evidence.Claims{}
	claims.Set("secureBoot", evidence.Bool(true), 7)
	claims.Set("kernelCommandLine", evidence.Text("root=\"/dev/vda1\" <quiet> & \n\xff"), 8)
	claims.Unknown("hvci", "sipa.absent", 12)
	full := Appraisal{
		ID: "01JD", Time: time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC), Type: "tpm", Attester: "000b", Machine: "web-1",
		Verdict: evidence.Trusted, Reasons: []evidence.Reason{{Code: "a.b", Message: "why <", Component: "PCR 7"}}, Claims: claims,
		NotChecked: []string{"freshness", "a & b"}, Policy: "default", PolicyRev: 3, Evidence: "00ff", TokenID: "abc",
	}
	for name, r := range map[string]Result{
		"full":      {Appraisal: full, Token: "a.b.c"},
		"encoded":   {Appraisal: full, Token: "a.b.c", claims: claims.AppendJSON(nil)},
		"minimal":   {Appraisal: Appraisal{Reasons: []evidence.Reason{}, NotChecked: []string{}, Claims: evidence.Claims{}}},
		"whole day": {Appraisal: Appraisal{Time: full.Time.Truncate(time.Hour), Reasons: full.Reasons, NotChecked: full.NotChecked, Claims: claims}},
	} {
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.JSON(); string(got) != string(want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		want, err = json.Marshal(struct {
			Reasons    []evidence.Reason `json:"reasons"`
			Claims     evidence.Claims   `json:"claims"`
			NotChecked []string          `json:"notChecked"`
		}{r.Reasons, r.Claims, r.NotChecked})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Findings(); string(got) != string(want) {
			t.Errorf("findings of %s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestEmptyListsInAnswersAreNotNull(t *testing.T) {
	var r Result
	var got map[string]any
	if err := json.Unmarshal(r.JSON(), &got); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"reasons", "claims", "notChecked"} {
		if got[name] == nil {
			t.Errorf("%s is null", name)
		}
	}
}
