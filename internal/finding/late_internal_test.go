package finding

import (
	"bytes"
	"testing"
	"time"
)

// What is found later, after a kill, is held against what was said of its kind: a model of a
// day, in minutes after ten.
func TestWhatIsFoundLaterInABook(t *testing.T) {
	t.Parallel()
	ten := time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)
	begins := func(kind Signal, at int, mark string) Signal {
		kind.At, kind.Mark = ten.Add(time.Duration(at)*time.Minute), mark
		return kind
	}
	ends := func(kind Signal, at int) Signal {
		kind = begins(kind, at, "")
		kind.Ends = true
		return kind
	}
	found := func(s Signal) Signal {
		s.Found = true
		return s
	}
	late, register, standing := Signal{Kind: LateBootFailed, Machine: "m"}, Signal{Kind: RegisterChanged, Machine: "m"}, Signal{Kind: AttestationUnhealthy, Machine: "m"}
	type said struct {
		at  int // when the book hears of it
		s   Signal
		ack bool // a person acknowledges the finding, and nothing is said
	}
	for name, tc := range map[string]struct {
		said  []said
		count int
		lasts bool
	}{
		"it was told, and lasts":       {[]said{{at: 0, s: begins(late, 0, "")}, {at: 60, s: found(begins(late, 0, ""))}}, 1, true},
		"it was told, and ended":       {[]said{{at: 0, s: begins(late, 0, "")}, {at: 1, s: ends(late, 1)}, {at: 60, s: found(begins(late, 0, ""))}}, 1, false},
		"it began and ended at once":   {[]said{{at: 0, s: begins(late, 0, "")}, {at: 0, s: ends(late, 0)}, {at: 60, s: found(begins(late, 0, ""))}, {at: 60, s: found(ends(late, 0))}}, 1, false},
		"it was not told":              {[]said{{at: 60, s: found(begins(late, 0, ""))}}, 1, true},
		"nor was its end":              {[]said{{at: 60, s: found(begins(late, 0, ""))}, {at: 60, s: found(ends(late, 1))}}, 1, false},
		"an end before it":             {[]said{{at: 1, s: begins(late, 1, "")}, {at: 60, s: found(ends(late, 0))}}, 1, true},
		"an end by a clock ahead":      {[]said{{at: 10, s: begins(late, 10, "")}, {at: 20, s: found(ends(late, 60))}}, 1, true},
		"an end that lies ahead":       {[]said{{at: 60, s: begins(late, 60, "")}, {at: 60, s: ends(late, 60)}, {at: 2, s: found(begins(late, 1, ""))}}, 2, true},
		"another was acknowledged":     {[]said{{at: 0, s: begins(register, 0, "PCR 4")}, {at: 120, ack: true}, {at: 180, s: found(begins(register, 60, "PCR 7"))}}, 2, true},
		"standing, seen again since":   {[]said{{at: 0, s: begins(standing, 0, "")}, {at: 30, s: begins(standing, 30, "")}, {at: 90, s: found(ends(standing, 20))}}, 1, true},
		"standing, and ended for sure": {[]said{{at: 0, s: begins(standing, 0, "")}, {at: 180, s: found(ends(standing, 120))}}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := New(bytes.NewReader(make([]byte, originSize)))
			if err != nil {
				t.Fatal(err)
			}
			var last Signal
			for _, x := range tc.said {
				at := ten.Add(time.Duration(x.at) * time.Minute)
				if x.ack {
					err = b.Acknowledge(1, Note{Author: "ann", Time: at})
				} else {
					err, last = b.Apply(at, x.s), x.s
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			list := b.Findings(ten)
			if len(list) != 1 || list[0].Count != tc.count || b.Lasts(last) != tc.lasts {
				t.Errorf("it lasts: %v, want %v; want it seen %d times: %+v", b.Lasts(last), tc.lasts, tc.count, list)
			}
		})
	}
}
