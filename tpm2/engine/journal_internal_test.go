package engine

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// halfFull is a TPM whose journal takes no more of the registers beside the boot.
func halfFull(t testing.TB) *TPM {
	t.Helper()
	x := keptTPM(t)
	for len(x.journal.buf) < besideLimit {
		x.record(JournalRecord{Kind: JournalReset, PCR: 16})
	}
	return x
}

func (t *TPM) again(tb testing.TB) *TPM {
	tb.Helper()
	x, err := Restore(testConfig(tb), t.MustPermanent(), t.MustVolatile())
	if err != nil {
		tb.Fatal(err)
	}
	return x
}

// Counts stay at the largest number, and say then that there may be more.
func TestCountsOfTheJournalDoNotBeginAgain(t *testing.T) {
	for name, fill := range map[string]func(x *TPM){
		"one place": func(x *TPM) {
			x.journal.omitted.places = []omission{{uint32(len(x.journal.buf)), math.MaxUint64 - 1}}
		},
		"two places": func(x *TPM) {
			x.journal.omitted.places = []omission{{uint32(len(x.journal.buf)), math.MaxUint64 - 1}}
			x.record(JournalRecord{Kind: JournalReset, PCR: 16})
			x.record(JournalRecord{Kind: JournalShutdown})
		},
		"the rest": func(x *TPM) {
			for range maxPlaces {
				x.record(JournalRecord{Kind: JournalReset, PCR: 16})
				x.record(JournalRecord{Kind: JournalShutdown})
			}
			x.journal.omitted.rest = math.MaxUint64 - 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := halfFull(t)
			fill(x)
			for range 3 {
				x.record(JournalRecord{Kind: JournalReset, PCR: 16})
				if n, exact := x.JournalOmitted(); n != math.MaxUint64 || exact {
					t.Errorf("JournalOmitted = %d, %v, want the largest number, which is not exact", n, exact)
				}
				x = x.again(t)
			}
		})
	}
	x := halfFull(t)
	x.journal.dropped = math.MaxUint64
	x.record(JournalRecord{Kind: JournalShutdown})
	if _, dropped := x.JournalSize(); dropped != math.MaxUint64 {
		t.Errorf("%d dropped, want the largest number", dropped)
	}
}

// ofVersion is a volatile blob with another version, and something else behind its parts.
func ofVersion(t *testing.T, blob []byte, version byte, had, more extra) []byte {
	t.Helper()
	old, err := wire.Encode(&had)
	if err != nil {
		t.Fatal(err)
	}
	b, ok := bytes.CutSuffix(body(blob), old)
	if !ok {
		t.Fatalf("the blob does not end with %x", old)
	}
	b = bytes.Clone(b)
	b[9] = version
	if b, err = wire.Append(b, &more); err != nil {
		t.Fatal(err)
	}
	return sealed(b)
}

// Version 1 of the volatile state counted nothing: whether records are missing shows in
// the size of the journal alone. What came later than this version is passed over.
func TestVersionsOfTheJournal(t *testing.T) {
	short, full := keptTPM(t), halfFull(t)
	for range 5 {
		full.record(JournalRecord{Kind: JournalReset, PCR: 16})
	}
	more := full.journal.extra()
	for name, tc := range map[string]struct {
		x       *TPM
		version byte
		more    extra
		n       uint64
		exact   bool
		fault   string
	}{
		"1":                      {x: short, version: 1, exact: true},
		"1, half full":           {x: full, version: 1},
		"1 with counts":          {x: full, version: 1, more: more, fault: "version 1 with 25 bytes of a later one"},
		"2":                      {x: short, version: 2, exact: true},
		"2, half full":           {x: full, version: 2, more: more, n: 5, exact: true},
		"2 without counts":       {x: full, version: 2, fault: "what version 2 has behind the parts"},
		"2 with counts of none":  {x: short, version: 2, more: more, fault: "version 2 with 25 bytes of a later one"},
		"2 with more":            {x: full, version: 2, more: append(slices.Clone(more), 7), fault: "version 2 with 1 bytes of a later one"},
		"3":                      {x: short, version: 3, more: extra{7}, exact: true},
		"3, half full":           {x: full, version: 3, more: append(slices.Clone(more), 7), n: 5, exact: true},
		"3, cut short":           {x: full, version: 3, more: more[:len(more)-1], fault: "what version 3 has behind the parts"},
		"2, and one digit wrong": {x: full, version: 2, more: append(slices.Clone(more[:len(more)-1]), 2), fault: "what version 2 has behind the parts"},
	} {
		t.Run(name, func(t *testing.T) {
			permanent := tc.x.MustPermanent()
			blob := ofVersion(t, tc.x.MustVolatile(), tc.version, tc.x.journal.extra(), tc.more)
			x, err := Restore(testConfig(t), permanent, blob)
			if tc.fault != "" {
				if !errors.Is(err, ErrState) || !strings.Contains(err.Error(), tc.fault) {
					t.Errorf("Restore = %v, want ErrState that tells %q", err, tc.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// What was not counted stays so, however often the state moves.
			for range 2 {
				if n, exact := x.JournalOmitted(); n != tc.n || exact != tc.exact {
					t.Errorf("JournalOmitted = %d, %v, want %d, %v", n, exact, tc.n, tc.exact)
				}
				x = x.again(t)
			}
		})
	}
}

// BenchmarkJournal is what the journal adds to a TPM2_PCR_Extend of one bank: a
// record alone, and the median of what the command takes longer with a journal than
// with one that refuses all records. Each begins anew after 200 records, as many as
// most boots make: a journal that is full costs nothing, and records that it omits are
// only counted.
func BenchmarkJournal(b *testing.B) {
	const records = 200
	t := keptTPM(b)
	b.Run(fmt.Sprint(records, " records"), func(b *testing.B) {
		digest := make([]byte, 32)
		for b.Loop() {
			t.journal.restart()
			for range records {
				t.journal.begin(JournalExtend, 0, 16, 0, t.vol.time)
				t.journal.digest(tpm2.AlgSHA256, digest)
			}
		}
	})
	b.Run(fmt.Sprint(records, " omitted"), func(b *testing.B) {
		x, digest := halfFull(b), make([]byte, 32)
		for b.Loop() {
			for range records {
				x.journal.begin(JournalExtend, 0, 16, 0, x.vol.time)
				x.journal.digest(tpm2.AlgSHA256, digest)
			}
		}
	})
	request := append([]byte{
		0x80, 2, 0, 0, 0, 65, 0, 0, 0x01, 0x82, 0, 0, 0, 16,
		0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b,
	}, make([]byte, 32)...)
	extends := func(dropped uint64) time.Duration {
		t.journal.restart()
		t.journal.dropped = dropped
		begun := time.Now()
		for range records {
			if rc := t.Execute(0, request)[9]; rc != 0 {
				b.Fatalf("TPM2_PCR_Extend = %#x", rc)
			}
		}
		return time.Since(begun)
	}
	b.Run("share", func(b *testing.B) {
		var shares []float64
		for b.Loop() {
			// In turns, as what the machine does beside changes; and each first as often.
			without, with := extends(1), extends(0)
			later, earlier := extends(0), extends(1)
			shares = append(shares, 100*(float64(with+later)/float64(without+earlier)-1))
		}
		slices.Sort(shares)
		b.ReportMetric(shares[len(shares)/2], "%of-extend")
	})
}
