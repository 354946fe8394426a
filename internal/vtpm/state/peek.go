//go:build unix

package state

import (
	"context"
	"errors"
	"time"
)

// A Snapshot is the newest generation of a file that stays with its owner.
type Snapshot struct {
	Content  Content // the caller destroys it
	ID       ID
	Mark     Mark
	Saved    time.Time // zero when it is not known
	Anchored bool      // as of [File]
	Notices  []Notice
}

// maxPeeks bounds how often a file that changes while it is read is read again.
const maxPeeks = 64

// Peek reads the newest generation without the lock, as for a backup of a TPM that
// runs: what it returns was the newest at some moment of the call. It is checked as
// by [Open], and changes nothing.
func Peek(ctx context.Context, path string, cfg Config) (*Snapshot, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	f := &file{path: path, cfg: cfg}
	defer f.shut()
	var last error
	for range maxPeeks {
		if err := ctx.Err(); err != nil {
			return nil, f.fault(ProviderDown, err)
		}
		s, err := f.peek(ctx)
		if err == nil {
			return s, nil
		}
		// What is wrong may be a save under way. Who reads it twice the same way, with
		// nothing written in between, has a fault of the file.
		if last != nil && last.Error() == err.Error() {
			return nil, err
		}
		last = err
	}
	return nil, last
}

// peek reads the file as it is at this moment.
func (f *file) peek(ctx context.Context) (*Snapshot, error) {
	h, err := f.cfg.disk.view(f.path)
	if err != nil {
		return nil, f.openFault(err)
	}
	f.h = h
	defer func() {
		h.Close()
		f.h = nil
	}()
	l := &loaded{}
	if l.size, err = h.size(); err != nil {
		return nil, f.ioFault(err)
	}
	held := f.head
	if err := f.readHeader(l); err != nil {
		return nil, err
	}
	if !f.head.same(&held) { // its key is not the one that we have
		f.key.Destroy()
		if err := f.unwrap(ctx); err != nil {
			f.head = header{}
			return nil, err
		}
	}
	if err := f.readSlots(l); err != nil {
		return nil, err
	}
	defer l.destroy()
	return f.snapshot(l)
}

func (f *file) snapshot(l *loaded) (*Snapshot, error) {
	if f.cfg.Anchor != nil {
		l.mark, l.known, l.lost = f.cfg.Anchor.Last(f.id)
		if l.lost != nil && !errors.Is(l.lost, ErrLedgerEntry) {
			return nil, f.fault(AnchorDown, l.lost)
		}
	}
	newest, fault := f.judge(l)
	if fault != nil {
		return nil, fault
	}
	return &Snapshot{
		Content: newest.record.content(), ID: f.id, Mark: Mark{newest.record.generation, digest(newest.record.text.Expose())},
		Saved: timeOf(newest.record.saved), Anchored: f.anchored, Notices: l.notices,
	}, nil
}
