package finding_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/integrity"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// later is a time in minutes after the beginning.
func later(minutes int) time.Time { return t0.Add(time.Duration(minutes) * time.Minute) }

func newBook(t testing.TB) *finding.Book {
	t.Helper()
	b, err := finding.New(strings.NewReader("12345678"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func raise(code evidence.Code, words ...string) finding.Signal {
	s := finding.Signal{Kind: code, Machine: "web-1", Boot: 7}
	for _, w := range words {
		s.Reasons = append(s.Reasons, evidence.Reason{Code: "integrity.late-boot-mismatch", Message: w})
	}
	return s
}

func over(code evidence.Code) finding.Signal {
	return finding.Signal{Kind: code, Machine: "web-1", Ends: true}
}

func apply(signals ...finding.Signal) func(*finding.Book, time.Time) error {
	return func(b *finding.Book, at time.Time) error { return b.Apply(at, signals...) }
}

func suppress(code evidence.Code, minutes int) func(*finding.Book, time.Time) error {
	return func(b *finding.Book, at time.Time) error {
		return b.Suppress(finding.Suppression{Kind: code, Machine: "web-1", Reason: "test rig", Author: "ada", Made: at, Until: at.Add(time.Duration(minutes) * time.Minute)})
	}
}

func ack(b *finding.Book, at time.Time) error {
	return b.Acknowledge(1, finding.Note{Author: "ada", Time: at, Text: "looking"})
}

func tick(b *finding.Book, at time.Time) error { b.Settle(at); return nil }

// What nobody looks at any more ends, and the history says why.
func TestAnEndWithoutALookSaysWhy(t *testing.T) {
	const kind = finding.LateBootFailed
	for name, tc := range map[string]struct {
		end  func(*finding.Book, time.Time) error
		want string
	}{
		"the condition is over": {apply(over(kind)), ""},
		"monitoring is off": {
			apply(finding.FromNotice(&integrity.Notice{Type: integrity.EventConfig, Instance: "web-1", Reasons: []evidence.Reason{{Code: "machine.monitoring-off", Message: "monitoring was turned off"}}})...),
			"monitoring was turned off",
		},
		"the machine is gone": {func(b *finding.Book, at time.Time) error { b.Forget("web-1", at); return nil }, "the machine is not here any more"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			if err := b.Apply(t0, raise(kind)); err != nil {
				t.Fatal(err)
			}
			if err := tc.end(b, later(1)); err != nil {
				t.Fatal(err)
			}
			f, err := b.Finding(1, later(1))
			if err != nil || f.State != finding.Resolved {
				t.Fatalf("finding is %s, %v", f.State, err)
			}
			if last := f.History[len(f.History)-1]; last.Text != tc.want || last.State != finding.Resolved {
				t.Errorf("last step is %+v, want text %q", last, tc.want)
			}
		})
	}
}

// Each step comes ten minutes after the one before.
func TestWhatPeopleHear(t *testing.T) {
	const kind = finding.LateBootFailed
	a, other := raise(kind, "kernel: 1 -> 2"), raise(kind, "kernel: 1 -> 3")
	marked := a
	marked.Mark = "another digest under the same words"
	type steps []func(*finding.Book, time.Time) error
	for name, tc := range map[string]struct {
		steps steps
		heard []string
		state finding.State
		count int
	}{
		"begins and ends":                       {steps{apply(a), apply(over(kind))}, []string{"open", "resolved"}, finding.Resolved, 1},
		"seen again is told once":               {steps{apply(a), apply(a), apply(a)}, []string{"open"}, finding.Open, 3},
		"other reasons are told":                {steps{apply(a), apply(other)}, []string{"open", "changed"}, finding.Open, 2},
		"comes back":                            {steps{apply(a), apply(over(kind)), apply(a)}, []string{"open", "resolved", "open"}, finding.Open, 2},
		"acknowledged stays so":                 {steps{apply(a), ack, apply(a)}, []string{"open", "acknowledged"}, finding.Acknowledged, 2},
		"acknowledged is not for other reasons": {steps{apply(a), ack, apply(other)}, []string{"open", "acknowledged", "open"}, finding.Open, 2},
		"nor for other digests":                 {steps{apply(a), ack, apply(marked)}, []string{"open", "acknowledged", "open"}, finding.Open, 2},
		"nor for the next time":                 {steps{apply(a), ack, apply(over(kind)), apply(a)}, []string{"open", "acknowledged", "resolved", "open"}, finding.Open, 2},
		"suppressed":                            {steps{apply(a), suppress(kind, 1000)}, []string{"open", "suppressed"}, finding.Suppressed, 1},
		"suppressed before it begins":           {steps{suppress(kind, 1000), apply(a), apply(other), apply(over(kind))}, nil, finding.Resolved, 2},
		"suppression ends":                      {steps{suppress(kind, 15), apply(a), tick}, []string{"open"}, finding.Open, 1},
		"suppression ends after the condition":  {steps{suppress(kind, 25), apply(a), apply(over(kind)), tick}, nil, finding.Resolved, 1},
		"suppression is taken back": {steps{apply(a), suppress(kind, 1000), func(b *finding.Book, at time.Time) error {
			b.Unsuppress(finding.Suppression{Kind: kind, Machine: "web-1"}, at)
			return nil
		}}, []string{"open", "suppressed", "open"}, finding.Open, 1},
		"machine is deleted": {steps{apply(a), suppress(kind, 1000), func(b *finding.Book, at time.Time) error {
			b.Forget("web-1", at)
			return nil
		}, apply(a)}, []string{"open", "suppressed", "open"}, finding.Open, 2},
		"suppressing another kind": {steps{apply(a), suppress(finding.EarlyBootFailed, 1000)}, []string{"open"}, finding.Open, 1},
		"an event is over when acknowledged": {
			steps{apply(raise(finding.TPMCleared)), ack}, []string{"open", "resolved"}, finding.Resolved, 1,
		},
		"a standing condition is counted once": {
			steps{apply(raise(finding.VTPMOff)), apply(raise(finding.VTPMOff)), apply(raise(finding.VTPMOff))}, []string{"open"}, finding.Open, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, true)
			var b *finding.Book
			at := t0
			for i, step := range tc.steps {
				at = later(10 * i)
				if err := s.Update(t.Context(), at, func(now *finding.Book) error { b = now; return step(now, at) }); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
			}
			var heard []string
			for _, c := range queued(t, s) {
				heard = append(heard, c.Event)
			}
			if diff := cmp.Diff(tc.heard, heard); diff != "" {
				t.Errorf("people hear (-want +got):\n%s", diff)
			}
			f, err := b.Finding(1, at)
			if err != nil || f.State != tc.state || f.Count != tc.count {
				t.Errorf("finding is %s, seen %d times, %v; want %s, %d", f.State, f.Count, err, tc.state, tc.count)
			}
		})
	}
}

func TestWhatCannotBeSaid(t *testing.T) {
	good := finding.Suppression{Kind: finding.VTPMOff, Machine: "web-1", Reason: "r", Author: "a", Made: t0, Until: later(1)}
	with := func(change func(*finding.Suppression)) func(b *finding.Book) error {
		s := good
		change(&s)
		return func(b *finding.Book) error { return b.Suppress(s) }
	}
	for name, tc := range map[string]struct {
		do   func(b *finding.Book) error
		want error
	}{
		"a good suppression":          {with(func(*finding.Suppression) {}), nil},
		"suppression without reason":  {with(func(s *finding.Suppression) { s.Reason = " " }), finding.ErrMust},
		"suppression without author":  {with(func(s *finding.Suppression) { s.Author = "" }), finding.ErrMust},
		"suppression of no kind":      {with(func(s *finding.Suppression) { s.Kind = "finding.nothing" }), finding.ErrMust},
		"suppression without end":     {with(func(s *finding.Suppression) { s.Until = time.Time{} }), finding.ErrMust},
		"suppression that is over":    {with(func(s *finding.Suppression) { s.Until = t0 }), finding.ErrMust},
		"suppression of two years":    {with(func(s *finding.Suppression) { s.Until = t0.AddDate(2, 0, 0) }), finding.ErrMust},
		"signal of no kind":           {func(b *finding.Book) error { return b.Apply(t0, raise("finding.nothing")) }, finding.ErrMust},
		"acknowledgement by nobody":   {func(b *finding.Book) error { return b.Acknowledge(1, finding.Note{Time: t0}) }, finding.ErrMust},
		"acknowledgement of nothing":  {func(b *finding.Book) error { return b.Acknowledge(9, finding.Note{Author: "a", Time: t0}) }, finding.ErrNone},
		"acknowledgement of the past": {func(b *finding.Book) error { return errors.Join(b.Apply(t0, over(finding.SecureBootOff)), ack(b, t0)) }, finding.ErrOver},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook(t)
			if err := b.Apply(t0, raise(finding.SecureBootOff)); err != nil {
				t.Fatal(err)
			}
			if err := tc.do(b); !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("error is %v, want %v", err, tc.want)
			}
		})
	}
}

// A guest chooses the names of modules.
func TestComponentsAreBounded(t *testing.T) {
	b := newBook(t)
	var many []evidence.Reason
	for i := range 200 {
		many = append(many, evidence.Reason{Code: "serial.module-refused", Component: fmt.Sprintf("module%03d", i), Message: "refused"})
	}
	if err := b.Apply(t0, finding.FromModules("web-1", 3, many)...); err != nil {
		t.Fatal(err)
	}
	all := b.Findings(t0)
	if len(all) != 33 || !slices.ContainsFunc(all, func(f finding.Finding) bool { return f.Component == finding.Others }) {
		t.Errorf("%d findings, want 32 and one for the others", len(all))
	}
	if err := b.Apply(later(1), finding.FromModules("web-1", 4, many[:1])...); err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(later(2), finding.FromModules("web-1", 5, nil)...); err != nil {
		t.Fatal(err)
	}
	for _, f := range b.Findings(later(2)) {
		if f.State != finding.Resolved {
			t.Errorf("%s is %s after a boot without refused modules", f.Component, f.State)
		}
	}
}

func TestResolvedFindingsAreBounded(t *testing.T) {
	b := newBook(t)
	cleared := func(machine int, ends bool) finding.Signal {
		return finding.Signal{Kind: finding.TPMCleared, Machine: fmt.Sprint("m", machine), Ends: ends}
	}
	if err := b.Apply(t0, cleared(0, false)); err != nil { // lasts
		t.Fatal(err)
	}
	for hour := range 13 {
		var some []finding.Signal
		for i := 1 + 100*hour; i <= 100*(hour+1); i++ {
			some = append(some, cleared(i, false), cleared(i, true))
		}
		if err := b.Apply(later(60*hour), some...); err != nil {
			t.Fatal(err)
		}
	}
	all := b.Findings(later(1300))
	if len(all) > 1002 || all[0].Machine != "m0" || all[0].State != finding.Open {
		t.Errorf("%d findings, the first of %s", len(all), all[0].Machine)
	}
	if f := all[len(all)-1]; f.Machine != "m1300" {
		t.Errorf("the newest is of %s", f.Machine)
	}
}

// A name or a message of a guest's moves no cursor of a terminal and begins no line.
func TestTextsAreShownOnOneLine(t *testing.T) {
	b := newBook(t)
	s := raise(finding.ModuleRefused, "evil\x1b[2J\nmodule\xff", strings.Repeat("ä", 4000))
	s.Component = "a\r\nb\x00"
	if err := b.Apply(t0, s); err != nil {
		t.Fatal(err)
	}
	f := b.Findings(t0)[0]
	if f.Component != "a? b?" || f.Reasons[0].Message != "evil?[2J module" || len(f.Reasons[1].Message) > 512 {
		t.Errorf("component %q, messages %q", f.Component, f.Reasons)
	}
	if got := bytes.Count(fmt.Append(nil, f), []byte("\n")); got != 0 {
		t.Errorf("%d line ends", got)
	}
}

// More reasons than are kept count all the same for what was acknowledged.
func TestAnAcknowledgementHoldsForAllReasons(t *testing.T) {
	b := newBook(t)
	words := make([]string, 40)
	for i := range words {
		words[i] = fmt.Sprint("component ", i)
	}
	if err := errors.Join(b.Apply(t0, raise(finding.LateBootFailed, words...)), ack(b, t0)); err != nil {
		t.Fatal(err)
	}
	words[39] = "another"
	if err := b.Apply(later(1), raise(finding.LateBootFailed, words...)); err != nil {
		t.Fatal(err)
	}
	if f := b.Findings(later(1))[0]; f.State != finding.Open || len(f.Reasons) != 8 {
		t.Errorf("state %s with %d reasons", f.State, len(f.Reasons))
	}
}

func TestTheOrderOfReasonsSaysNothing(t *testing.T) {
	b := newBook(t)
	err := errors.Join(b.Apply(t0, raise(finding.LateBootFailed, "a", "b")), ack(b, t0), b.Apply(later(1), raise(finding.LateBootFailed, "b", "a")))
	if f := b.Findings(later(1))[0]; err != nil || f.State != finding.Acknowledged {
		t.Errorf("state %s, %v", f.State, err)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	b := newBook(t)
	for i := range 40 {
		if err := errors.Join(b.Apply(later(2*i), raise(finding.LateBootFailed)), b.Apply(later(2*i+1), over(finding.LateBootFailed))); err != nil {
			t.Fatal(err)
		}
	}
	h := b.Findings(later(100))[0].History
	if len(h) != 32 || !h[31].Time.Equal(later(79)) {
		t.Errorf("%d steps, the last at %v", len(h), h[len(h)-1].Time)
	}
}

// What is suppressed makes no steps, whatever its reasons.
func TestSuppressionIsQuiet(t *testing.T) {
	b := newBook(t)
	for i := range 3 {
		if err := suppress(finding.LateBootFailed, 60)(b, later(i)); err != nil {
			t.Fatal(err)
		}
		if err := b.Apply(later(i), raise(finding.LateBootFailed, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if h := b.Findings(later(3))[0].History; len(h) != 1 {
		t.Errorf("steps %v", h)
	}
	if s := b.Suppressions(later(3)); len(s) != 1 || !s[0].Until.Equal(later(62)) {
		t.Errorf("suppressions %v", s)
	}
	b.Settle(later(62))
	text, err := json.Marshal(b)
	if err != nil || !strings.Contains(string(text), `"suppressions":[]`) {
		t.Errorf("a suppression that is over is kept: %s, %v", text, err)
	}
}

// What was folded into the others may be among those that go on.
func TestOthersLastWithTheListThatHasSome(t *testing.T) {
	b := newBook(t)
	var many []evidence.Reason
	for i := range 40 {
		many = append(many, evidence.Reason{Code: "agent.module-rejected", Component: fmt.Sprint("m", i)})
	}
	lasts := func() (n int, others bool) {
		for _, f := range b.Findings(t0) {
			if f.State == finding.Open {
				n++
				others = others || f.Component == finding.Others
			}
		}
		return n, others
	}
	if err := b.Apply(t0, finding.FromModules("web-1", 1, many)...); err != nil {
		t.Fatal(err)
	}
	if n, others := lasts(); n != 33 || !others {
		t.Errorf("%d last, others %v", n, others)
	}
	if err := b.Apply(t0, finding.FromModules("web-1", 2, many[38:])...); err != nil {
		t.Fatal(err)
	}
	if _, others := lasts(); !others {
		t.Error("a module that is still refused is nowhere")
	}
}

func TestEveryKindIsExplained(t *testing.T) {
	known := finding.Kinds()
	for _, code := range known {
		if _, ok := evidence.Describe(code); !ok {
			t.Errorf("%s is not in the table of codes", code)
		}
	}
	for _, c := range evidence.Codes() {
		if strings.HasPrefix(string(c.Code), "finding.") && !slices.Contains(known, c.Code) {
			t.Errorf("%s is no kind", c.Code)
		}
	}
}

// fullBook has everything that a book can hold.
func fullBook(t testing.TB) *finding.Book {
	t.Helper()
	b := newBook(t)
	err := errors.Join(
		b.Apply(t0, raise(finding.LateBootFailed, "kernel: 1 -> 2"), raise(finding.VTPMOff)),
		ack(b, later(1)),
		b.Suppress(finding.Suppression{Kind: finding.VTPMOff, Machine: "web-1", Reason: "old guest", Author: "ada", Made: later(2), Until: later(9)}),
		b.Apply(later(3), raise(finding.TPMCleared), over(finding.TPMCleared)),
	)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBookIsTheSameAfterItsFile(t *testing.T) {
	b := fullBook(t)
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := finding.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{later(3), later(9)} {
		if diff := cmp.Diff(b.Findings(at), again.Findings(at)); diff != "" {
			t.Errorf("findings differ (-before +after):\n%s", diff)
		}
	}
	if diff := cmp.Diff(b.Suppressions(later(3)), again.Suppressions(later(3))); diff != "" || again.Changes() != b.Changes() || again.Origin() != b.Origin() {
		t.Errorf("book differs: %s", diff)
	}
	for n := range text {
		if _, err := finding.Parse(text[:n]); !errors.Is(err, finding.ErrFormat) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
	for name, change := range map[string][2]string{
		"unknown member":      {`"nextId"`, `"next":1,"nextId"`},
		"member twice":        {`"nextId":4`, `"nextId":4,"nextId":4`},
		"newer reader":        {`"oldestReader":2`, `"oldestReader":3`},
		"unknown kind":        {`"kind":"finding.vtpm-off"`, `"kind":"finding.x"`},
		"id twice":            {`"id":2`, `"id":1`},
		"id beyond the next":  {`"nextId":4`, `"nextId":3`},
		"unknown state":       {`"told":"acknowledged"`, `"told":"seen"`},
		"no times":            {`"count":1`, `"count":0`},
		"origin":              {`"origin":"31`, `"origin":"3G`},
		"endless suppression": {`"until":"2026`, `"until":"2029`},
		"something after it":  {`"suppressions"`, `"suppressions":[]} {"suppressions"`},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if changed == string(text) {
			t.Fatalf("%s: %s is not there", name, change[0])
		}
		if _, err := finding.Parse([]byte(changed)); !errors.Is(err, finding.ErrFormat) {
			t.Errorf("%s: Parse = %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := json.Marshal(fullBook(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := finding.Parse(text)
		if err != nil {
			return
		}
		once, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := finding.Parse(once)
		if err != nil {
			t.Fatalf("%v of %s", err, once)
		}
		if twice, _ := json.Marshal(again); !bytes.Equal(once, twice) {
			t.Fatalf("%s becomes %s", once, twice)
		}
		b.Findings(t0)
		b.Settle(t0)
		if err := b.Apply(t0, raise(finding.LateBootFailed, "x"), over(finding.VTPMOff)); err != nil {
			t.Fatal(err)
		}
	})
}
