//go:build unix

package state

import (
	"errors"
	"io"
	"time"
)

// Info is what a file says of itself without its key: all of it is a claim.
type Info struct {
	ID              ID
	Version, Oldest uint16
	Provider        string // name of the key provider, as it was called
	Wrapped         []byte // the file's key, by the provider
	Size            int64
	SlotSize        int
	Slots           []SlotInfo
	Notices         []Notice
}

// Newest is the greatest generation that is whole; 0 when there is none.
func (i *Info) Newest() uint64 {
	n := uint64(0)
	for _, s := range i.Slots {
		if s.Condition == isWhole.String() {
			n = max(n, s.Generation)
		}
	}
	return n
}

// SlotInfo is what one slot says.
type SlotInfo struct {
	Condition  string // "blank", "whole", "torn", "damaged", "misplaced", "foreign"
	Generation uint64
	Saved      time.Time // zero when it is not known
}

// Inspect reads a file without its key and its lock. Of a file that is in use the
// slot that is being written may look torn.
func Inspect(path string) (Info, error) { return inspectOn(system{}, path) }

func inspectOn(d disk, path string) (Info, error) {
	f := &file{path: path, cfg: Config{disk: d}}
	h, err := d.view(path)
	if err != nil {
		return Info{}, f.openFault(err)
	}
	f.h = h
	defer f.shut()
	l := &loaded{}
	if l.size, err = h.size(); err != nil {
		return Info{}, f.ioFault(err)
	}
	if err := f.readHeader(l); err != nil {
		return Info{}, err
	}
	info := Info{
		ID: f.id, Version: f.head.Version, Oldest: f.head.Oldest, Provider: string(f.head.provider), Wrapped: f.head.wrapped,
		Size: l.size, SlotSize: int(f.head.slotSize), Notices: l.notices,
	}
	raw := make([]byte, f.head.slotSize)
	for i := range slotCount {
		n, err := h.ReadAt(raw, f.head.slotAt(i))
		if err != nil && !errors.Is(err, io.EOF) {
			return Info{}, f.ioFault(err)
		}
		clear(raw[n:])
		s := inspect(i, raw, f.id)
		info.Slots = append(info.Slots, SlotInfo{s.condition.String(), s.generation, s.head.time()})
	}
	return info, nil
}
