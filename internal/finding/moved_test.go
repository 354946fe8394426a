package finding_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
)

// hostStore is the store of one of several hosts, with a queue.
func hostStore(t testing.TB, name string) *finding.Store {
	t.Helper()
	s := openStore(t, true)
	s.Random = strings.NewReader(name + "........")
	return s
}

// change has a step done in a store.
func change(t testing.TB, s *finding.Store, at time.Time, do func(*finding.Book, time.Time) error) {
	t.Helper()
	if err := s.Update(t.Context(), at, func(b *finding.Book) error { return do(b, at) }); err != nil {
		t.Fatal(err)
	}
}

// moves takes web-1 from one host to another.
func moves(t testing.TB, from, to *finding.Store, at time.Time) (parcel []byte) {
	t.Helper()
	change(t, from, at, func(b *finding.Book, at time.Time) (err error) { parcel, err = b.Pack("web-1", at); return err })
	for range 2 { // a crash may have it done again
		change(t, to, at, unpack(parcel))
		change(t, from, at, func(b *finding.Book, at time.Time) error { b.Depart("web-1", at); return nil })
	}
	return parcel
}

func unpack(parcel []byte) func(*finding.Book, time.Time) error {
	return func(b *finding.Book, at time.Time) error {
		p, err := finding.ParseParcel(parcel, "web-1", at)
		if err != nil {
			return err
		}
		return b.Unpack(p, at, finding.Stay{})
	}
}

// heard is what the routes of a host were told, beginning with the n-th change.
func heard(t testing.TB, s *finding.Store, n int) (out []string) {
	t.Helper()
	for _, c := range queued(t, s)[n:] {
		text := string(c.Finding.Kind) + " " + c.Event + " " + string(c.Finding.State)
		if from := c.Finding.MovedFrom; from != nil {
			text += " of " + from.Origin[:2]
		}
		out = append(out, text)
	}
	return out
}

func states(t testing.TB, s *finding.Store, at time.Time) map[evidence.Code]finding.State {
	t.Helper()
	b, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	out := map[evidence.Code]finding.State{}
	for _, f := range b.Findings(at) {
		if f.Machine == "web-1" {
			out[f.Kind] = f.State
		}
	}
	return out
}

// A machine's findings go with it, with what people said of them: nobody is told twice that
// one began, and who knows it by its first name hears its end.
func TestFindingsGoWithTheirMachine(t *testing.T) {
	t.Parallel()
	a, b := hostStore(t, "a"), hostStore(t, "b")
	update(t, a, later(0), raise(finding.LateBootFailed, "kernel"), raise(finding.TPMLost), raise(finding.SecureBootOff), raise(finding.BootDeadline))
	change(t, a, later(1), ack)
	change(t, a, later(1), suppress(finding.SecureBootOff, 600))
	update(t, a, later(2), over(finding.BootDeadline))
	update(t, a, later(2), finding.Signal{Kind: finding.TPMLost, Machine: "db-1"})
	update(t, b, later(2), finding.Signal{Kind: finding.TPMLost, Machine: "other"})
	before := states(t, a, later(3))
	first := len(queued(t, a))

	moves(t, a, b, later(3))
	if diff := cmp.Diff(before, states(t, b, later(3))); diff != "" {
		t.Errorf("states there (-before +there):\n%s", diff)
	}
	for kind, state := range states(t, a, later(3)) {
		if state != finding.Resolved {
			t.Errorf("%s is %s on the host that the machine left", kind, state)
		}
	}
	want := []string{"finding.late-boot-failed moved resolved", "finding.tpm-lost moved resolved"}
	if diff := cmp.Diff(want, heard(t, a, first)); diff != "" {
		t.Errorf("told here (-want +got):\n%s", diff)
	}
	want = []string{"finding.late-boot-failed moved acknowledged of 61", "finding.tpm-lost moved open of 61"}
	if diff := cmp.Diff(want, heard(t, b, 1)); diff != "" {
		t.Errorf("told there (-want +got):\n%s", diff)
	}
	book, err := b.Load()
	if err != nil {
		t.Fatal(err)
	}
	if s := book.Suppressions(later(3)); len(s) != 1 || s[0].Author != "ada" || s[0].Reason != "test rig" || !s[0].Until.Equal(later(601)) {
		t.Errorf("suppressions there: %+v", s)
	}

	// What ends there ends under its first name, and does not come back with the machine;
	// what lasts has its own name at home.
	update(t, b, later(4), over(finding.TPMLost))
	if got := heard(t, b, 3); len(got) != 1 || got[0] != "finding.tpm-lost resolved resolved of 61" {
		t.Errorf("told of the end: %q", got)
	}
	n := len(queued(t, a))
	moves(t, b, a, later(5))
	if diff := cmp.Diff([]string{"finding.late-boot-failed moved acknowledged"}, heard(t, a, n)); diff != "" {
		t.Errorf("told at home (-want +got):\n%s", diff)
	}
	got := states(t, a, later(5))
	if got[finding.LateBootFailed] != finding.Acknowledged || got[finding.TPMLost] != finding.Resolved || got[finding.SecureBootOff] != finding.Suppressed {
		t.Errorf("states at home: %v", got)
	}
	if f := must(a.Load()).Findings(later(5)); len(f) != 5 { // with that of db-1
		t.Errorf("%d findings at home, want 5", len(f))
	}
}

func must(b *finding.Book, err error) *finding.Book {
	if err != nil {
		panic(err)
	}
	return b
}

// A suppression that ends on the way opens its finding where the machine is now.
func TestASuppressionThatEndsOnTheWayIsToldThere(t *testing.T) {
	t.Parallel()
	a, b := hostStore(t, "a"), hostStore(t, "b")
	change(t, a, later(0), suppress(finding.LateBootFailed, 10))
	update(t, a, later(1), raise(finding.LateBootFailed, "kernel"))
	var parcel []byte
	change(t, a, later(2), func(b *finding.Book, at time.Time) (err error) { parcel, err = b.Pack("web-1", at); return err })
	change(t, b, later(20), unpack(parcel))
	change(t, a, later(20), func(b *finding.Book, at time.Time) error { b.Depart("web-1", at); return nil })
	if got := heard(t, a, 0); len(got) != 0 {
		t.Errorf("told here: %q", got)
	}
	if diff := cmp.Diff([]string{"finding.late-boot-failed open open of 61"}, heard(t, b, 0)); diff != "" {
		t.Errorf("told there (-want +got):\n%s", diff)
	}
}

// What was seen on the new host before the rest came is not undone by it.
func TestWhatWasSeenHereMeanwhileStays(t *testing.T) {
	t.Parallel()
	a, b := hostStore(t, "a"), hostStore(t, "b")
	update(t, a, later(0), raise(finding.LateBootFailed, "kernel"))
	update(t, b, later(1), raise(finding.LateBootFailed, "another"))
	moves(t, a, b, later(2))
	f, err := must(b.Load()).Finding(1, later(2))
	if err != nil || f.State != finding.Open || f.Reasons[0].Message != "another" || f.MovedFrom != nil {
		t.Errorf("the finding is %+v, %v", f, err)
	}
	if got := heard(t, b, 0); len(got) != 1 {
		t.Errorf("told: %q", got)
	}
}

// A machine of the same name that is made after one went away has its own findings.
func TestAnotherMachineOfTheNameBeginsAnew(t *testing.T) {
	t.Parallel()
	a, b := hostStore(t, "a"), hostStore(t, "b")
	update(t, b, later(0), raise(finding.LateBootFailed, "kernel"))
	moves(t, b, a, later(1))
	moves(t, a, hostStore(t, "c"), later(2))
	n := len(queued(t, a))
	update(t, a, later(3), raise(finding.LateBootFailed, "kernel"))
	if got := heard(t, a, n); len(got) != 1 || got[0] != "finding.late-boot-failed open open" {
		t.Errorf("told: %q", got)
	}
}

func TestAParcelIsBounded(t *testing.T) {
	t.Parallel()
	b := newBook(t)
	for i := range 2500 {
		s := raise(finding.ModuleRefused, "m")
		s.Component = strings.Repeat("x", i%200) + string(rune('a'+i/200))
		if err := b.Apply(later(i), s, finding.Signal{Kind: s.Kind, Machine: s.Machine, Component: s.Component, Ends: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Apply(later(2600), raise(finding.TPMLost)); err != nil {
		t.Fatal(err)
	}
	text, err := b.Pack("web-1", later(2600))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(text, []byte(`"kind"`)); n > 500 || !bytes.Contains(text, []byte(finding.TPMLost)) {
		t.Errorf("%d findings travel, with the one that lasts: %v", n, bytes.Contains(text, []byte(finding.TPMLost)))
	}
	if _, err := finding.ParseParcel(text, "web-1", later(2600)); err != nil {
		t.Error(err)
	}
}

// Who gives a machine away says nothing of others, and silences nothing for longer than a
// person could.
func TestAParcelThatSaysTooMuchIsRefused(t *testing.T) {
	t.Parallel()
	a := hostStore(t, "a")
	update(t, a, later(0), raise(finding.LateBootFailed, "kernel"))
	change(t, a, later(0), suppress(finding.SecureBootOff, 600))
	var parcel []byte
	change(t, a, later(0), func(b *finding.Book, at time.Time) (err error) { parcel, err = b.Pack("web-1", at); return err })
	for name, edit := range map[string][2]string{
		"another machine":        {`"assay findings of a machine","version":1,"machine":"web-1"`, `"assay findings of a machine","version":1,"machine":"db-1"`},
		"a finding of another":   {`"kind":"finding.late-boot-failed","machine":"web-1"`, `"kind":"finding.late-boot-failed","machine":"db-1"`},
		"a suppression of it":    {`"kind":"finding.secure-boot-off","machine":"web-1"`, `"kind":"finding.secure-boot-off","machine":"db-1"`},
		"an unknown kind":        {`"kind":"finding.late-boot-failed"`, `"kind":"finding.fine"`},
		"silence for ever":       {`"made":"2026-03-01T12:00:00Z","until":"2026-03-01T22:00:00Z"`, `"made":"3026-03-01T12:00:00Z","until":"3026-03-01T22:00:00Z"`},
		"no first name":          {`"from":{"origin":"612e2e2e2e2e2e2e","id":1}`, `"mark":""`},
		"no origin":              {`"origin":"612e2e2e2e2e2e2e"`, `"origin":"host-1"`},
		"gone already":           {`"from":{`, `"away":true,"from":{`},
		"a text of two lines":    {`"reasons":[`, `"component":"a\nb","reasons":[`},
		"a member more":          {`"findings":`, `"more":1,"findings":`},
		"a later version":        {`"version":1`, `"version":2`},
		"another format":         {`"assay findings of a machine"`, `"assay findings"`},
		"something after it":     {`]}`, `]}{}`},
		"a state of its own":     {`"told":"open"`, `"told":"splendid"`},
		"never seen":             {`"count":1`, `"count":0`},
		"seen more than can be":  {`"count":1`, `"count":9223372036854775807`},
		"a mark of any length":   {`"mark":"`, `"mark":"` + strings.Repeat("a", 1<<20)},
		"a mark that is none":    {`"toldMark":"`, `"toldMark":"x`},
		"many of a kind":         {`"findings":[`, `"findings":[` + named(one(t, parcel), 33) + `,`},
		"much silence":           {`"suppressions":[`, `"suppressions":[` + strings.Repeat(oneSuppression(t, parcel)+",", 200)},
		"twice the same finding": {`"findings":[`, `"findings":[` + one(t, parcel) + `,`},
	} {
		text := strings.Replace(string(parcel), edit[0], edit[1], 1)
		if text == string(parcel) {
			t.Errorf("%s: %q is not in %s", name, edit[0], parcel)
		}
		if _, err := finding.ParseParcel([]byte(text), "web-1", later(0)); !errors.Is(err, finding.ErrFormat) {
			t.Errorf("%s: ParseParcel = %v", name, err)
		}
	}
	for n := range len(parcel) {
		if _, err := finding.ParseParcel(parcel[:n], "web-1", later(0)); !errors.Is(err, finding.ErrFormat) {
			t.Fatalf("the first %d bytes: ParseParcel = %v", n, err)
		}
	}
}

// one is the only finding of a parcel.
func one(t testing.TB, parcel []byte) string {
	t.Helper()
	_, rest, _ := strings.Cut(string(parcel), `"findings":[`)
	text, _, ok := strings.Cut(rest, `],"suppressions"`)
	if !ok {
		t.Fatalf("no finding in %s", parcel)
	}
	return text
}

// named is a finding with n components.
func named(record string, n int) string {
	var all []string
	for i := range n {
		all = append(all, strings.Replace(record, `"firstSeen"`, fmt.Sprintf(`"component":"module-%d","firstSeen"`, i), 1))
	}
	return strings.Join(all, ",")
}

// oneSuppression is the only suppression of a parcel.
func oneSuppression(t testing.TB, parcel []byte) string {
	t.Helper()
	_, rest, _ := strings.Cut(string(parcel), `"suppressions":[`)
	text, _, ok := strings.Cut(rest, `]}`)
	if !ok {
		t.Fatalf("no suppression in %s", parcel)
	}
	return text
}

// What comes is made fit to be shown, and to the clock of the host that it comes to.
func TestAParcelIsMadeFitForItsHost(t *testing.T) {
	t.Parallel()
	a, b := hostStore(t, "a"), hostStore(t, "b")
	longest := int(finding.MaxSuppression / time.Minute)
	change(t, a, later(0), suppress(finding.SecureBootOff, longest))
	update(t, a, later(0), raise(finding.LateBootFailed, "kernel"))
	var parcel []byte
	change(t, a, later(0), func(b *finding.Book, at time.Time) (err error) { parcel, err = b.Pack("web-1", at); return err })
	text := strings.Replace(string(parcel), `"reason":"`, `"reason":"\u001b[2J\n`+strings.Repeat("x", 1<<20), 1)
	if text == string(parcel) {
		t.Fatalf("no reason in %s", parcel)
	}
	change(t, b, later(-60), unpack([]byte(text))) // its clock is an hour behind
	book, err := b.Load()
	if err != nil {
		t.Fatal(err)
	}
	all := book.Suppressions(later(-60))
	if len(all) != 1 {
		t.Fatalf("%d suppressions", len(all))
	}
	if s := all[0]; strings.ContainsAny(s.Reason, "\x1b\n") || len(s.Reason) > 600 || s.Made.After(later(-60)) || s.Until.After(later(longest-60)) {
		t.Errorf("made %v, until %v, reason of %d bytes %.20q", s.Made, s.Until, len(s.Reason), s.Reason)
	}
	for _, f := range book.Findings(later(-60)) {
		if f.FirstSeen.After(later(-60)) || f.LastSeen.After(later(-60)) || f.Opened.After(later(-60)) {
			t.Errorf("finding %+v is of the future", f)
		}
	}
}

// Texts that take more room here than in the parcel are not taken: the machine could not
// move on. What grew since is shortened.
func TestWhatIsTakenCanBeGivenAway(t *testing.T) {
	t.Parallel()
	long := func(text string) []evidence.Reason {
		reasons := make([]evidence.Reason, 8)
		for i := range reasons {
			reasons[i] = evidence.Reason{Code: "module.rejected", Message: strings.Repeat(text, 500), Component: fmt.Sprint(i, strings.Repeat(text, 240))}
		}
		return reasons
	}
	grown := func(text string) *finding.Book {
		b := newBook(t)
		for _, kind := range []evidence.Code{finding.LateBootFailed, finding.TPMLost, finding.BootRefused, finding.EarlyBootFailed} {
			for c := range 32 {
				if err := b.Apply(later(0), finding.Signal{Kind: kind, Machine: "web-1", Component: fmt.Sprint(c), Reasons: long(text)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		return b
	}
	small, err := grown("x").Pack("web-1", later(0))
	if err != nil {
		t.Fatal(err)
	}
	hostile := bytes.ReplaceAll(small, []byte("xxxxx"), []byte("<<<<<"))
	if _, err := finding.ParseParcel(small, "web-1", later(0)); err != nil {
		t.Error(err)
	}
	if _, err := finding.ParseParcel(hostile, "web-1", later(0)); len(hostile) > 1<<20 || !errors.Is(err, finding.ErrFull) {
		// fewer than the bytes that are allowed, and more once they are written
		t.Errorf("%d bytes: ParseParcel = %v", len(hostile), err)
	}
	text, err := grown("<").Pack("web-1", later(0))
	if err != nil {
		t.Fatal(err)
	}
	p, err := finding.ParseParcel(text, "web-1", later(0))
	if err != nil {
		t.Fatal(err)
	}
	to := newBook(t)
	if err := to.Unpack(p, later(0), finding.Stay{}); err != nil || len(to.Findings(later(0))) != 128 {
		t.Errorf("Unpack = %v, %d findings of 128", err, len(to.Findings(later(0))))
	}
}

// A host with no room for suppressions takes the findings all the same: more is told, not
// less.
func TestSuppressionsWithoutRoomKeepNoFindingOut(t *testing.T) {
	t.Parallel()
	a, b := newBook(t), newBook(t)
	err := errors.Join(a.Apply(later(0), raise(finding.LateBootFailed, "kernel")), suppress(finding.SecureBootOff, 600)(a, later(0)))
	parcel, packing := a.Pack("web-1", later(0))
	if err = errors.Join(err, packing); err != nil {
		t.Fatal(err)
	}
	empty, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	noise := strings.Repeat(`,{"kind":"finding.tpm-lost","machine":"db-1","reason":"noise","author":"ann","made":"2026-03-01T12:00:00Z","until":"2026-03-01T13:00:00Z"}`, 10000)
	if b, err = finding.Parse(bytes.Replace(empty, []byte(`"suppressions":[]`), []byte(`"suppressions":[`+noise[1:]+`]`), 1)); err != nil || len(b.Suppressions(later(0))) != 10000 {
		t.Fatal(err)
	}
	p, err := finding.ParseParcel(parcel, "web-1", later(0))
	if err == nil {
		err = b.Unpack(p, later(0), finding.Stay{})
	}
	if err != nil || len(b.Findings(later(0))) != 1 {
		t.Errorf("Unpack = %v, %d findings", err, len(b.Findings(later(0))))
	}
}

// A book of version 1 is read, and written as what it is now.
func TestABookOfVersion1IsRead(t *testing.T) {
	t.Parallel()
	s := openStore(t, false)
	s.Random = strings.NewReader("a........")
	update(t, s, later(0), raise(finding.LateBootFailed, "kernel"))
	file := filepath.Join(s.Dir, "findings.json")
	text, err := finding.ReadFile(file, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	old := bytes.Replace(text, []byte(`"version":2,"oldestReader":2`), []byte(`"version":1,"oldestReader":1`), 1)
	if bytes.Equal(old, text) {
		t.Fatalf("the book is %s", text)
	}
	if b, err := finding.Parse(old); err != nil || len(b.Findings(later(0))) != 1 {
		t.Errorf("Parse = %v", err)
	}
	if _, err := finding.Parse(bytes.Replace(text, []byte(`"oldestReader":2`), []byte(`"oldestReader":3`), 1)); !errors.Is(err, finding.ErrFormat) {
		t.Errorf("Parse of a book of tomorrow = %v", err)
	}
}

func FuzzParseParcel(f *testing.F) {
	b := newBook(f)
	if err := b.Apply(t0, raise(finding.LateBootFailed, "kernel")); err != nil {
		f.Fatal(err)
	}
	text, err := b.Pack("web-1", t0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := finding.ParseParcel(text, "web-1", t0)
		if err != nil {
			return
		}
		to := newBook(t)
		if err := to.Unpack(p, t0, finding.Stay{}); err != nil {
			t.Fatal(err)
		}
		for _, f := range to.Findings(t0) {
			if f.Machine != "web-1" {
				t.Errorf("a finding of %q", f.Machine)
			}
			again := finding.Signal{Kind: f.Kind, Machine: f.Machine, Component: f.Component, Boot: f.BootCounter}
			if err := to.Apply(t0.Add(time.Minute), again); err != nil {
				t.Fatal(err)
			}
		}
		book, err := json.Marshal(to)
		if err == nil {
			_, err = finding.Parse(book)
		}
		if err != nil {
			t.Fatalf("the host's book is no longer read: %v", err)
		}
		again, err := to.Pack("web-1", t0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := finding.ParseParcel(again, "web-1", t0); err != nil {
			t.Errorf("what was taken is not given: %v", err)
		}
	})
}
