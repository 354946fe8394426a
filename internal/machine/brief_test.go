package machine

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/channel"
	"github.com/assay-project/assay/internal/health"
)

// hostileHealth is that of a machine whose guest puts as much into it as it can; each byte of
// its texts has six of JSON.
func hostileHealth() *HealthStatus {
	text := strings.Repeat("<", 4096)
	h := &HealthStatus{Assessment: health.Assessment{
		State: health.Departed, Comparison: &baseline.Comparison{LatePassed: false}, Result: new(evidence.Result),
		TokenProblem: text[:1024], TokenRefusal: text[:1024], Boot: text[:256],
	}, Heard: &health.Report{Boot: text[:256]}}
	for range 100 {
		r := evidence.Reason{Code: "baseline.mismatch", Message: text, Component: text}
		h.Reasons, h.Result.Reasons = append(h.Reasons, r), append(h.Result.Reasons, r)
		h.Comparison.Differences = append(h.Comparison.Differences, baseline.Difference{
			Component: text, New: &baseline.Side{Detail: text, Signer: text}, Old: &baseline.Side{Detail: text}, Words: text, Judged: len(h.Reasons) == 100,
		})
	}
	for range channel.MaxModules {
		h.Heard.Modules = append(h.Heard.Modules, channel.Module{Name: text[:channel.MaxText], Reason: text[:3*channel.MaxText]})
		h.Heard.Reasons = append(h.Heard.Reasons, evidence.Reason{Code: "agent.module-rejected", Message: text[:4*channel.MaxText+64], Component: text[:channel.MaxText]})
	}
	return h
}

// What is unread of a machine hides how it is: in lists, for metrics, for who starts it.
func TestNoGuestMakesTheAnswerOfItsSupervisorTooLong(t *testing.T) {
	t.Parallel()
	h := hostileHealth()
	var refused []evidence.Reason
	for range maxFindings {
		refused = append(refused, h.Reasons[0])
	}
	whole := Status{Name: "web-1", State: StateRunning, Boot: &BootStatus{Refused: refused, Reasons: slices.Concat(refused, refused)}, Health: h}
	for verb, answer := range map[string]any{
		verbStatus:   whole.brief(),
		verbObserve:  &Observation{Status: whole.brief()},
		verbDescribe: Description{Status: whole.bounded()},
	} {
		text, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		if q := (request{Verb: verb}); int64(len(text)) > q.most()*3/4 {
			t.Errorf("the answer to %s has %d bytes, and %d are read", verb, len(text), q.most())
		}
	}
	b := whole.brief()
	if b.Health.State != health.Departed || len(b.Health.Reasons) == 0 || b.Health.Reasons[0].Code != "baseline.mismatch" || len(b.Boot.Refused) == 0 {
		t.Errorf("what is said in short: %+v", b.Health)
	}
	d := whole.bounded()
	if c := d.Health.Comparison; c == nil || len(c.Differences) == 0 || !c.Differences[0].Judged || len(c.Differences)+d.Health.More != 100 {
		t.Error("the differences that decide are not the first, or not counted")
	}
	if len(h.Comparison.Differences) != 100 || h.Comparison.Differences[0].Judged || len(h.Reasons) != 100 || len(h.Reasons[0].Message) != 4096 {
		t.Error("what the supervisor has was changed")
	}
}
