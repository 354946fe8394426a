package vtpm

import (
	"context"
	"math"
	"testing"
)

// Who describes a TPM that runs is told what its journal lacks.
func TestDescribeTellsWhatTheJournalLacks(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	if d := mustDescribe(t, f.Root, "web"); d.Journal != nil {
		t.Errorf("a TPM that is off has the journal %+v", d.Journal)
	}
	i, c := f.started("web")
	defer i.Close()
	begun := *mustDescribe(t, f.Root, "web").Journal
	if begun.Records == 0 || begun != (Journal{Records: begun.Records}) {
		t.Fatalf("the journal of a start is %+v", begun)
	}
	const flood = 1200
	for range flood {
		if _, err := c.Run(extend(10)); err != nil {
			t.Fatal(err)
		}
	}
	d, err := f.Describe(context.Background(), "web")
	if err != nil {
		t.Fatal(err)
	}
	j := d.Journal
	if j.Omitted == 0 || j.AtLeast || j.Dropped != 0 || uint64(j.Records)+j.Omitted != uint64(begun.Records)+flood {
		t.Errorf("after %d extends of PCR 10 it is %+v, at first %+v", flood, j, begun)
	}
}

func TestAJournalInALine(t *testing.T) {
	for want, j := range map[string]Journal{
		"3 records since power on":                                                             {Records: 3},
		"3 records since power on; 5 of PCR 10 and from 16 on not kept":                        {Records: 3, Omitted: 5},
		"3 records since power on; 0 or more of PCR 10 and from 16 on not kept":                {Records: 3, AtLeast: true},
		"3 records since power on; full, 18446744073709551615 more not kept":                   {Records: 3, Dropped: math.MaxUint64},
		"3 records since power on; 5 of PCR 10 and from 16 on not kept; full, 1 more not kept": {Records: 3, Omitted: 5, Dropped: 1},
	} {
		if got := j.String(); got != want {
			t.Errorf("%+v is %q, want %q", j, got, want)
		}
	}
}
