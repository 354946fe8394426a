package engine

import (
	"fmt"
	"math"
	"slices"

	"github.com/assay-project/assay/wire"
)

// omitted counts the records of registers beside the boot that the journal did not take.
type omitted struct {
	places []omission // in order
	rest   uint64     // those after the last place, when there are maxPlaces
	unsure bool       // there may be more: state of version 1 does not say
}

// An omission is how many records were not kept between two that were.
type omission struct {
	at    uint32 // the size of the journal then
	count uint64
}

// maxPlaces bounds the places that are told apart: a guest makes as many as it likes, by
// extending PCR 14 and PCR 16 in turns.
const maxPlaces = 256

// JournalOmitted returns how many records of PCR 10 and from 16 on were not kept since
// power came on. All came after the last of these registers that was kept; of each place
// [JournalRecord.Omitted] of the record behind it says how many, for the first 256 places.
// Where exact is false there may be more: the TPM went on from a snapshot of a program
// that did not count, or the number is the largest there is.
func (t *TPM) JournalOmitted() (n uint64, exact bool) {
	o := &t.journal.omitted
	n = o.rest
	for _, p := range o.places {
		if n += p.count; n < p.count {
			n = math.MaxUint64
			break
		}
	}
	return n, !o.unsure && n != math.MaxUint64
}

// add counts one at the place that the journal has got to.
func (o *omitted) add(size int) {
	n := len(o.places)
	switch {
	case n > 0 && int(o.places[n-1].at) == size:
		p := &o.places[n-1]
		p.count = oneMore(p.count)
	case n < maxPlaces:
		o.places = append(o.places, omission{uint32(size), 1}) // at most maxJournal
	default:
		o.rest = oneMore(o.rest)
	}
}

// oneMore counts, and stays at the largest number.
func oneMore(n uint64) uint64 {
	if n == math.MaxUint64 {
		return n
	}
	return n + 1
}

// before returns the count of the place at a size of the journal.
func (o *omitted) before(size int) uint64 {
	i, ok := slices.BinarySearchFunc(o.places, size, func(p omission, size int) int { return int(p.at) - size })
	if !ok {
		return 0
	}
	return o.places[i].count
}

// Wire lays out the counts.
func (o *omitted) Wire(c *wire.Codec) {
	wire.List32(c, &o.places, maxPlaces)
	wire.U64(c, &o.rest)
	c.Check(o.rest == 0 || len(o.places) == maxPlaces, wire.ErrRange)
	c.Bool(&o.unsure)
}

// Wire lays out a place.
func (p *omission) Wire(c *wire.Codec) {
	wire.U32(c, &p.at)
	wire.U64(c, &p.count)
	c.Check(p.count != 0, wire.ErrRange)
}

// extra is what version 2 of the volatile state has behind the parts: nothing until the
// journal can have omitted a record.
func (j *journal) extra() extra {
	if len(j.buf) < besideLimit {
		return nil
	}
	b, err := wire.Encode(&j.omitted)
	if err != nil {
		panic(fmt.Errorf("the journal breaks its own limits: %w", err))
	}
	return b
}

// restored reads what stands behind the parts of a volatile blob, when the records are
// there.
func (j *journal) restored(l *later) error {
	j.omitted = omitted{}
	full := len(j.buf) >= besideLimit
	switch {
	case l.version == 1:
		j.omitted.unsure = full
	case full:
		if err := l.read(&j.omitted); err != nil {
			return err
		}
	}
	if !j.placed() {
		return fmt.Errorf("the journal has omitted records where it has no place for them: %w", ErrState)
	}
	return l.end(volatileVersion)
}

// placed reports whether the places are between records, in order, and where records were
// omitted by then.
func (j *journal) placed() bool {
	places := j.omitted.places
	for rest := j.buf; len(places) > 0; {
		size := len(j.buf) - len(rest)
		if at := int(places[0].at); at == size && at >= besideLimit {
			places = places[1:]
		}
		if len(rest) == 0 {
			break
		}
		var r JournalRecord
		var err error
		if rest, err = wire.DecodePrefix(rest, &r); err != nil {
			return false
		}
	}
	return len(places) == 0
}
