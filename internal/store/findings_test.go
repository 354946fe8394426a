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
			list, err := s.Appraisals(t.Context(), attest.AppraisalFilter{})
			if err != nil || len(list) != 1 || !isDamaged(list[0], "id-000001") {
				t.Errorf("Appraisals: %v, %v, want one that is damaged", list, err)
			}
		})
	}
}

// isDamaged reports whether a list shows the row of id as damaged, and nothing of what
// it decided.
func isDamaged(a attest.Appraisal, id string) bool {
	return a.ID == id && a.Verdict == evidence.Unusable && a.Claims == nil && a.NotChecked == nil &&
		len(a.Reasons) == 1 && a.Reasons[0].Code == codeDamaged && strings.Contains(a.Reasons[0].Message, id)
}

func TestOneDamagedRowLeavesThePageReadable(t *testing.T) {
	for what, damage := range map[string]string{
		"findings": "UPDATE appraisal SET findings = X'02' WHERE id = 'id-000002'",
		"verdict":  "UPDATE appraisal SET verdict = 257 WHERE id = 'id-000002'",
	} {
		t.Run(what, func(t *testing.T) {
			s, file := openStore(t, Config{})
			for n := range 4 {
				d := talkative(n, "quiet")
				d.Appraisal.Verdict, d.Appraisal.Machine = evidence.Trusted, "web-1"
				if err := s.Decide(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := connect(t, file, 1).Exec(damage); err != nil {
				t.Fatal(err)
			}
			list, err := s.Appraisals(t.Context(), attest.AppraisalFilter{})
			if err != nil || len(list) != 4 {
				t.Fatalf("Appraisals: %d, %v, want 4", len(list), err)
			}
			for i, a := range list {
				switch {
				case i == 1:
					if !isDamaged(a, "id-000002") || a.Machine != "web-1" {
						t.Errorf("the damaged row is shown as %v", a)
					}
				case a.Verdict != evidence.Trusted || len(a.Claims) != 1 || a.Reasons[0].Code != "a.b":
					t.Errorf("row %d beside the damaged one: %v", i, a)
				}
			}
		})
	}
}

// A database that is away is no damage: the list fails, and says so.
func TestListOfAnUnavailableDatabaseShowsNoDamage(t *testing.T) {
	s, file := openStore(t, Config{})
	if err := s.Decide(t.Context(), talkative(1, "quiet")); err != nil {
		t.Fatal(err)
	}
	s.read.away = func(error) bool { return true }
	if _, err := connect(t, file, 1).Exec("ALTER TABLE evidence_part RENAME TO gone"); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Appraisals(t.Context(), attest.AppraisalFilter{}); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrCorrupt) {
		t.Errorf("Appraisals: %v, %v, want ErrUnavailable", list, err)
	}
}
