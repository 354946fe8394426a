package baseline

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/assay-project/assay/tpm2"
)

// Attempt returns what the baseline says of the early boot when firmware tries its boot
// option for the n-th time, counted from 1, and hands over to its program: PCR 4 ends
// with the program that this attempt started in the boot that the baseline was made of,
// or where that started none, without one. It judges only that moment, and all of it is
// early; [Baseline.Compare] without it judges a boot whose attempts are over. Of the last
// attempt of that boot, and of those that it did not come to, it is b itself, and so it is
// where the events do not tell how often firmware tried.
//
// An attempt that comes back is followed by EV_EFI_ACTION "Returning from EFI Application
// from Boot Option" (PFP 10.4.4); a program is what is measured after the separator and
// is no such text.
func (b *Baseline) Attempt(n int) *Baseline {
	r, ok := b.pcrs[4]
	if !ok {
		return b
	}
	if _, explained := replay(b.bank, r.events, r.late); !explained {
		return b
	}
	m := marksOf(b.bank)
	end, ok := attemptEnd(r.events, n, m)
	if !ok {
		return b
	}
	cut := register{events: slices.Clone(r.events[:end])}
	for i := range cut.events {
		cut.events[i].late = false
	}
	value := extended(b.bank, 0, cut.events) // PCR 4 starts at 0 (PFP 3.3.4)
	cut.early, cut.late = [][]byte{value}, [][]byte{value}
	out := *b
	out.pcrs, out.others = maps.Clone(b.pcrs), nil
	out.pcrs[4] = cut
	for _, pcr := range []int{5, 7} {
		if of, ok := out.pcrs[pcr]; ok {
			out.pcrs[pcr] = of.untilSeparator(b.bank, m)
		}
	}
	for _, o := range b.others {
		out.others = append(out.others, o.Attempt(n))
	}
	return &out
}

// untilSeparator is a register whose early part ends with its separator or after the next
// event: the partition table and what verified the program come with the first attempt that
// reads a disk, or a signature, which need not be the first of all.
func (r register) untilSeparator(bank tpm2.Alg, m marks) register {
	end := slices.IndexFunc(r.events, func(e event) bool { return holds(m.separators, e.digests[0]) }) + 1
	if _, explained := replay(bank, r.events, r.late); !explained || end == 0 {
		return r
	}
	r.events = slices.Clone(r.events)
	for i := range r.events {
		r.events[i].late = i >= end
	}
	r.early = append(slices.Clone(r.early), extended(bank, 0, r.events[:end]))
	return r
}

// marks are the digests of what PCR 4 has between programs.
type marks struct {
	separators, actions [][]byte
	returning           []byte
}

func marksOf(bank tpm2.Alg) marks {
	m := marks{returning: digest(bank, []byte("Returning from EFI Application from Boot Option"))}
	m.actions = [][]byte{m.returning, digest(bank, []byte("Calling EFI Application from Boot Option"))}
	for _, s := range []string{"\x00\x00\x00\x00", "\xff\xff\xff\xff", "\x01\x00\x00\x00"} { // PFP 3.3.2.2
		m.separators = append(m.separators, digest(bank, []byte(s)))
	}
	return m
}

// attemptEnd is how many events of PCR 4 there were when the n-th attempt handed over; ok
// is false when no attempt came after it.
func attemptEnd(events []event, n int, m marks) (end int, ok bool) {
	attempt, closed := 1, false
	for i := range events {
		d := events[i].digests[0]
		switch {
		case bytes.Equal(d, m.returning):
			if attempt == n {
				return cmp.Or(end, i), true
			}
			attempt++
		case holds(m.separators, d):
			closed = true
		case closed && attempt == n && end == 0 && !holds(m.actions, d):
			end = i + 1
		}
	}
	return 0, false
}
