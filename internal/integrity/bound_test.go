package integrity

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
)

// hostile is a notice of n differences whose texts are as long as a baseline's may be, of what
// JSON writes longest, and end as their number says.
func hostile(n int) *Notice {
	text := func(i int) string { return strings.Repeat("<", 4090) + fmt.Sprintf("%06d", i) }
	out := &Notice{Type: EventLateReport, Instance: "web-1", Report: &baseline.Report{}}
	for i := range n {
		side := &baseline.Side{Digest: strings.Repeat("ab", 32), Detail: text(i), Signer: text(i)}
		out.Differences = append(out.Differences, baseline.Difference{
			PCR: 8, Kind: "command", Component: text(i), Change: baseline.ChangeChanged, Old: side, New: side, Judged: true, Words: text(i), Cause: text(i), Action: text(i),
		})
		out.Reasons = append(out.Reasons, evidence.Reason{Code: codeLateMismatch, Message: text(i), Component: text(i)})
	}
	return out
}

func size(t *testing.T, n *Notice) int {
	t.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return len(text)
}

// A guest names what it measures, and people name themselves: no event is too long for its log.
func TestEveryNoticeFits(t *testing.T) {
	for _, count := range []int{0, 1, 20, 48, 300} {
		n := hostile(count)
		n.Actor, n.Instance = strings.Repeat("<", 2<<20), strings.Repeat("<", 2<<20)
		n.Bound()
		if got := size(t, n); got > MaxNotice {
			t.Errorf("%d differences: %d bytes are more than %d", count, got, MaxNotice)
		}
		if shown := len(n.Differences); shown+n.More != count || count > 0 && shown == 0 || (n.More > 0) != (n.Digest != "") {
			t.Errorf("%d differences: %d shown and %d more, digest %q", count, shown, n.More, n.Digest)
		}
		if shown := len(n.Reasons); shown < count {
			want := fmt.Sprintf("and %d more: ", count-shown+1)
			if last := n.Reasons[shown-1]; shown < 2 || last.Code != codeMore || !strings.HasPrefix(last.Message, want) {
				t.Errorf("%d reasons: %d shown, the last %+v", count, shown, last)
			}
		}
	}
}

// It is done where a notice is made, and again where reasons are added.
func TestBoundTwiceSaysTheSame(t *testing.T) {
	for _, count := range []int{1, 20, 48, 60, 300} {
		n := hostile(count)
		n.Bound()
		once := *n
		n.Bound()
		if diff := cmp.Diff(once, *n); diff != "" {
			t.Errorf("%d differences (-once +twice):\n%s", count, diff)
		}
		n.Reasons = append(n.Reasons, evidence.Reason{Code: "serial.refused", Message: "one"}, evidence.Reason{Code: "serial.refused", Message: "two"})
		n.Bound()
		said := 0
		for _, r := range n.Reasons {
			if _, err := fmt.Sscanf(r.Message, "and %d more", &said); err == nil {
				said--
			}
		}
		if len(n.Reasons)+said != count+2 {
			t.Errorf("%d reasons and two: %d shown, %d said to be more", count, len(n.Reasons), said)
		}
	}
}

// What is cut stays another thing than what begins like it, so that nobody acknowledges the
// one with the other.
func TestWhatIsCutStaysAnother(t *testing.T) {
	one, other := hostile(1), hostile(2)
	other.Differences, other.Reasons = other.Differences[1:], other.Reasons[1:]
	one.Bound()
	other.Bound()
	if one.Reasons[0].Component == other.Reasons[0].Component || one.Differences[0].Component == other.Differences[0].Component {
		t.Errorf("both are %q", one.Reasons[0].Component)
	}
}
