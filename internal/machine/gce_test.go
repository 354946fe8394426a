package machine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// The seven events of SPEC G8 in the log of one machine, each with all its fields. What
// the lists of a report hold is looked at in package integrity, value by value.
func TestTheSevenEventsHaveTheirFields(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	h.run(boot(t, "good-uki-update"))
	if _, err := h.approve("web-1", "an update"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.root.Update(t.Context(), "carol", "web-1", UpdateOptions{Change: func(d *fleet.Definition) error {
		d.BootDeadline = 77
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	if err := h.root.ClearTPM(t.Context(), "dave", "web-1"); err != nil {
		t.Fatal(err)
	}
	got, err := h.root.Events(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	event := func(kind string, boot uint64) integrity.Notice {
		return integrity.Notice{Type: kind, Instance: "web-1", BootCounter: boot}
	}
	report := func(kind string, boot uint64, number int, passed bool, codes ...evidence.Code) integrity.Notice {
		n := event(kind, boot)
		n.Attempt, n.Profile, n.Baseline = 1, "default", number
		n.Report = &baseline.Report{PolicyEvaluationPassed: passed}
		for _, c := range codes {
			n.Reasons = append(n.Reasons, evidence.Reason{Code: c})
		}
		return n
	}
	by := func(n integrity.Notice, actor string, number int, codes ...evidence.Code) integrity.Notice {
		n.Actor, n.Baseline = actor, number
		for _, c := range codes {
			n.Reasons = append(n.Reasons, evidence.Reason{Code: c})
		}
		return n
	}
	startup := func(boot uint64) integrity.Notice {
		n := event(integrity.EventStartup, boot)
		n.Attempt = 1
		return n
	}
	want := []integrity.Notice{
		startup(1),
		// Only a whole boot becomes the baseline: the early report is before that.
		report(integrity.EventEarlyReport, 1, 0, true, "integrity.baseline-learned"),
		report(integrity.EventLateReport, 1, 1, true, "integrity.baseline-learned"),
		event(integrity.EventShutdown, 1),
		startup(2),
		report(integrity.EventEarlyReport, 2, 1, false, "integrity.early-boot-mismatch"),
		report(integrity.EventLateReport, 2, 1, false, "integrity.late-boot-mismatch"),
		event(integrity.EventShutdown, 2),
		by(event(integrity.EventSetPolicy, 2), "bob", 2),
		report(integrity.EventEarlyReport, 2, 2, true), report(integrity.EventLateReport, 2, 2, true),
		by(event(integrity.EventConfig, 2), "carol", 0, codeChanged),
		by(event(integrity.EventClearTPM, 2), "dave", 0, codeCleared),
	}
	for i := range got {
		n := &got[i]
		if n.Time.IsZero() || i > 0 && n.Time.Before(got[i-1].Time) {
			t.Errorf("event %d, %s, is of %v", i, n.Type, n.Time)
		}
		if payload, ok := n.GCE(); !ok || payload["bootCounter"] != fmt.Sprint(n.BootCounter) || len(payload) != 3 || payload[n.Type] == nil {
			t.Errorf("event %d, %s, in Google's form: %v", i, n.Type, payload)
		}
		sameCode := func(a, b evidence.Reason) bool { return a.Code == b.Code }
		n.Reasons = slices.CompactFunc(n.Reasons, sameCode) // one for each component
		if n.Report == nil {
			continue
		}
		if d := slices.ContainsFunc(n.Differences, func(d baseline.Difference) bool { return d.Judged }); d == n.Passed() {
			t.Errorf("event %d, %s, passed %v with differences %+v", i, n.Type, n.Passed(), n.Differences)
		}
		n.Report = &baseline.Report{PolicyEvaluationPassed: n.Passed()}
	}
	same := cmp.Options{
		cmpopts.IgnoreFields(integrity.Notice{}, "Time", "Differences", "More"),
		cmp.Comparer(func(a, b evidence.Reason) bool { return a.Code == b.Code }),
		cmpopts.EquateEmpty(),
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}
