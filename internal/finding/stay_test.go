package finding_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
)

// A finding that comes into the book long after its machine does not open what has ended on
// this host since: nobody would end it again.
func TestWhatEndedBeforeItsFindingCameStaysOver(t *testing.T) {
	t.Parallel()
	const kind = finding.LateBootFailed
	seen := func(minute int, s finding.Signal) finding.Signal {
		s.At = later(minute)
		return s
	}
	in := func(s finding.Signal, component string) finding.Signal {
		s.Component = component
		return s
	}
	but := func(s finding.Signal, boot uint64, keep ...string) finding.Signal {
		s.Boot, s.Keep = boot, keep
		return s
	}
	for name, tc := range map[string]struct {
		here []finding.Signal // applied to this host's book, at minutes 5, 6, ...
		seen []finding.Signal
		want finding.State
		told string // of this host's routes, the last
	}{
		"nothing was seen":            {want: finding.Open, told: "finding.late-boot-failed moved open of 61"},
		"it ended":                    {seen: []finding.Signal{seen(5, over(kind))}, want: finding.Resolved, told: "finding.late-boot-failed resolved resolved of 61"},
		"another ended":               {seen: []finding.Signal{seen(5, over(finding.EarlyBootFailed))}, want: finding.Open, told: "finding.late-boot-failed moved open of 61"},
		"another component's":         {seen: []finding.Signal{seen(5, in(over(kind), "x"))}, want: finding.Open, told: "finding.late-boot-failed moved open of 61"},
		"all but those of its boot":   {seen: []finding.Signal{seen(5, but(over(kind), 7))}, want: finding.Open, told: "finding.late-boot-failed moved open of 61"},
		"all but those of another":    {seen: []finding.Signal{seen(5, but(over(kind), 8))}, want: finding.Resolved, told: "finding.late-boot-failed resolved resolved of 61"},
		"all but itself":              {seen: []finding.Signal{seen(5, but(over(kind), 0, ""))}, want: finding.Open, told: "finding.late-boot-failed moved open of 61"},
		"another machine's":           {seen: []finding.Signal{seen(5, finding.Signal{Kind: kind, Machine: "db-1", Ends: true})}, want: finding.Open, told: "finding.late-boot-failed moved open of 61"},
		"it ended and began again":    {seen: []finding.Signal{seen(5, over(kind)), seen(6, raise(kind))}, want: finding.Open, told: "finding.late-boot-failed moved open of 61"},
		"it began again and ended":    {seen: []finding.Signal{seen(5, over(kind)), seen(6, raise(kind)), seen(7, over(kind))}, want: finding.Resolved, told: "finding.late-boot-failed resolved resolved of 61"},
		"it was seen here and lasts":  {here: []finding.Signal{raise(kind)}, want: finding.Open, told: "finding.late-boot-failed open open"},
		"it was seen here and ended":  {here: []finding.Signal{raise(kind), over(kind)}, want: finding.Resolved, told: "finding.late-boot-failed resolved resolved"},
		"by a clock that goes behind": {seen: []finding.Signal{seen(-90, over(kind))}, want: finding.Resolved, told: "finding.late-boot-failed resolved resolved of 61"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := hostStore(t, "a"), hostStore(t, "b")
			update(t, a, later(0), raise(kind, "kernel"))
			var parcel []byte
			change(t, a, later(4), func(b *finding.Book, at time.Time) (err error) { parcel, err = b.Pack("web-1", at); return err })
			for i, s := range tc.here {
				update(t, b, later(5+i), s)
			}
			for range 2 {
				change(t, b, later(9), func(b *finding.Book, at time.Time) error {
					p, err := finding.ParseParcel(parcel, "web-1", at)
					if err != nil {
						return err
					}
					return b.Unpack(p, at, finding.Stay{Began: later(4), Signals: tc.seen})
				})
			}
			if got := states(t, b, later(9)); !cmp.Equal(got, map[evidence.Code]finding.State{kind: tc.want}) {
				t.Errorf("states %v, want %s", got, tc.want)
			}
			told := heard(t, b, 0)
			if len(told) == 0 || told[len(told)-1] != tc.told {
				t.Errorf("told %q, want %q last", told, tc.told)
			}
			if f := must(b.Load()).Findings(later(9))[0]; f.Ended != nil && f.Ended.Before(f.Opened) {
				t.Errorf("it ended %s, before it was opened %s", f.Ended, f.Opened)
			}
		})
	}
}

// What ended here in an earlier stay of the machine is no word about this one.
func TestAnEarlierStayEndsNothing(t *testing.T) {
	t.Parallel()
	const kind = finding.LateBootFailed
	a, b := hostStore(t, "a"), hostStore(t, "b")
	update(t, b, later(0), raise(kind))
	update(t, b, later(1), over(kind))
	update(t, a, later(2), raise(kind))
	change(t, a, later(3), func(from *finding.Book, at time.Time) error {
		parcel, err := from.Pack("web-1", at)
		if err != nil {
			return err
		}
		change(t, b, later(5), func(to *finding.Book, at time.Time) error {
			p, err := finding.ParseParcel(parcel, "web-1", at)
			if err != nil {
				return err
			}
			return to.Unpack(p, at, finding.Stay{Began: later(4)})
		})
		return nil
	})
	if got := states(t, b, later(5))[kind]; got != finding.Open {
		t.Errorf("it is %s", got)
	}
}
