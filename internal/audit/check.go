package audit

import (
	"context"
	"errors"
	"fmt"
)

// A Source is a stored chain.
type Source interface {
	// AuditEntries reads in order, above the sequence number after.
	AuditEntries(ctx context.Context, after uint64, limit int) ([]Entry, error)
	// AuditHead is the entry that the next one will be linked to.
	AuditHead(context.Context) (Head, error)
}

// pageEntries are read at once.
const pageEntries = 1000

// Check walks the whole chain of src, also while it grows, and returns how far it
// holds. The chain must reach the head that the store keeps, and each one that
// was noted. The error is a [*BreakError], or that of src. Progress is called
// after each page.
func Check(ctx context.Context, src Source, noted []Head, progress func(seq uint64)) (Head, error) {
	before, err := src.AuditHead(ctx)
	if err != nil {
		return Head{}, err
	}
	noted = append([]Head{before}, noted...)
	passed := map[uint64]Hash{0: {}}
	for _, h := range noted {
		if h.Seq != 0 {
			passed[h.Seq] = Hash{} // replaced when the walk gets there
		}
	}
	v, err := walk(ctx, src, passed, progress)
	if err != nil {
		return v.Head(), err
	}
	at := func(seq uint64) (Hash, bool) { h, ok := passed[seq]; return h, ok }
	for _, h := range noted {
		if err := v.Reached(h, at); err != nil {
			return v.Head(), err
		}
	}
	after, err := src.AuditHead(ctx)
	if err != nil {
		return v.Head(), err
	}
	if v.Head().Seq > after.Seq {
		return v.Head(), &BreakError{after.Seq + 1, fmt.Sprintf("was put in behind the store's back: its head is entry %d", after.Seq)}
	}
	return v.Head(), nil
}

// walk verifies each entry and fills in the hashes of those in passed.
func walk(ctx context.Context, src Source, passed map[uint64]Hash, progress func(uint64)) (Verifier, error) {
	var v Verifier
	for {
		page, err := src.AuditEntries(ctx, v.Head().Seq, pageEntries)
		for _, e := range page {
			if broken := v.Next(e); broken != nil {
				return v, broken
			}
			if _, wanted := passed[e.Seq]; wanted {
				passed[e.Seq] = e.Hash
			}
		}
		if err != nil {
			return v, readError(v, err)
		}
		if len(page) == 0 {
			return v, nil
		}
		progress(v.Head().Seq)
	}
}

// readError gives an entry that cannot be read its due: a gap before it is the
// first fault.
func readError(v Verifier, err error) error {
	var broken *BreakError
	if errors.As(err, &broken) && broken.Seq > v.Head().Seq+1 {
		return &BreakError{v.Head().Seq + 1, fmt.Sprintf("missing: the next entry is %d", broken.Seq)}
	}
	return err
}
