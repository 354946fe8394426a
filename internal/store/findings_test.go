package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
)

// talkative is a decision whose findings are long.
func talkative(n int, words string) attest.Decision {
	d := decision(n, "")
	d.Appraisal.Claims = evidence.Claims{}
	d.Appraisal.Claims.Set("kernelCommandLine", evidence.Text(strings.Repeat(words+" ", 500)), 8)
	d.Appraisal.NotChecked = []string{"the rest"}
	d.Appraisal.Reasons = []evidence.Reason{{Code: "a.b", Message: words}}
	return d
}

func TestSameFindingsAreStoredOnce(t *testing.T) {
	s, file := openStore(t, Config{})
	const n = 10
	for i := range n {
		d := talkative(i, []string{"quiet", "splash"}[i%2])
		if i >= n/2 {
			d.Findings = d.Appraisal.Findings() // as a caller that has them
		}
		if err := s.Decide(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	var parts, longest int
	const count = "SELECT (SELECT count(*) FROM evidence_part), (SELECT max(length(findings)) FROM appraisal)"
	if err := connect(t, file, 1).QueryRow(count).Scan(&parts, &longest); err != nil {
		t.Fatal(err)
	}
	if parts != 2 || longest > 100 {
		t.Errorf("%d decisions with 2 findings keep %d parts, and %d bytes in a row", n, parts, longest)
	}
	listed, err := s.Appraisals(t.Context(), attest.AppraisalFilter{})
	if err != nil || len(listed) != n {
		t.Fatalf("%d appraisals, %v", len(listed), err)
	}
	for i := range n {
		want := talkative(i, []string{"quiet", "splash"}[i%2]).Appraisal
		got, err := s.Appraisal(t.Context(), want.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range []attest.Appraisal{got, listed[n-1-i]} {
			if d := cmp.Diff(want.Claims, a.Claims, cmp.AllowUnexported(evidence.Value{})); d != "" {
				t.Errorf("claims of %d (-want +got):\n%s", i, d)
			}
			if d := cmp.Diff(want.Reasons, a.Reasons); d != "" || !cmp.Equal(want.NotChecked, a.NotChecked) {
				t.Errorf("reasons of %d (-want +got):\n%s\n%q", i, d, a.NotChecked)
			}
		}
	}
}

func TestFindingsLongerThanAnyBundleAreReadAgain(t *testing.T) {
	s, _ := openStore(t, Config{})
	d := talkative(1, "quiet")
	d.Appraisal.Reasons[0].Message = strings.Repeat("x", maxBundle+1)
	if err := s.Decide(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Appraisal(t.Context(), d.Appraisal.ID); err != nil || len(a.Reasons) != 1 || len(a.Reasons[0].Message) != maxBundle+1 {
		t.Errorf("Appraisal: %d reasons, %v", len(a.Reasons), err)
	}
	d = talkative(2, "quiet")
	d.Findings = make([]byte, maxFindings+1)
	if err := s.Decide(t.Context(), d); !errors.Is(err, ErrInvalid) {
		t.Errorf("findings that cannot be read again: %v, want ErrInvalid", err)
	}
}

func TestDamagedFindingsAreNotRead(t *testing.T) {
	for what, damage := range map[string]string{
		"part missing":    "DELETE FROM evidence_part",
		"part altered":    "UPDATE evidence_part SET body = X'007B7D'",
		"part empty":      "UPDATE evidence_part SET body = X''",
		"digest cut":      "UPDATE appraisal SET findings = substr(findings, 1, 20)",
		"digest missing":  "UPDATE appraisal SET findings = X'01'",
		"unknown form":    "UPDATE appraisal SET findings = X'02'",
		"nothing":         "UPDATE appraisal SET findings = X''",
		"another's parts": "UPDATE appraisal SET findings = CAST(X'01' || zeroblob(32) AS BLOB)",
	} {
		t.Run(what, func(t *testing.T) {
			s, file := openStore(t, Config{})
			if err := s.Decide(t.Context(), talkative(1, "quiet")); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Appraisal(t.Context(), "id-000001"); err != nil {
				t.Fatalf("before the damage: %v", err)
			}
			if _, err := connect(t, file, 1).Exec(damage); err != nil {
				t.Fatal(err)
			}
			if a, err := s.Appraisal(t.Context(), "id-000001"); !errors.Is(err, ErrCorrupt) || a.Claims != nil {
				t.Errorf("Appraisal: %v, %v, want ErrCorrupt", a, err)
			}
			if list, err := s.Appraisals(t.Context(), attest.AppraisalFilter{}); !errors.Is(err, ErrCorrupt) || list != nil {
				t.Errorf("Appraisals: %v, %v, want ErrCorrupt", list, err)
			}
		})
	}
}
