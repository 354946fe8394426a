package vtpm

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
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

// Who describes a TPM does not wait for the key that it makes, with a deadline or without.
func TestDescribeDoesNotWaitForTheGuest(t *testing.T) {
	f := newFixture(t)
	f.create("web")
	i, _ := f.started("web")
	defer i.Close()
	synctest.Test(t, func(t *testing.T) {
		busy, free, idle := make(chan struct{}), make(chan struct{}), make(chan bool)
		go func() { // a command that takes its time
			idle <- i.machine.TryBetween(func() { close(busy); <-free })
		}()
		<-busy
		for _, wait := range []time.Duration{journalWait / 4, time.Hour} {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			begun := time.Now()
			d, err := f.Describe(ctx, "web")
			if err != nil || !d.Proved || d.Journal != nil {
				t.Fatalf("a busy TPM is %+v, %v", d, err)
			}
			if took := time.Since(begun); took != min(wait, journalWait) {
				t.Errorf("with %v to wait it took %v", wait, took)
			}
		}
		time.AfterFunc(journalWait/2, func() { close(free) })
		if d := mustDescribe(t, f.Root, "web"); d.Journal == nil {
			t.Error("a command that is short is not waited for")
		}
		if !<-idle {
			t.Error("the TPM was in use")
		}
	})
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
