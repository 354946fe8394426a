//go:build unix

package state

import "errors"

// Release gives the lock away and keeps the file open, for a TPM that migrates to
// another process over the same disk. Until [File.Reacquire] nothing can be saved.
func (f *File) Release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.usable(); err != nil {
		return err
	}
	if err := f.h.unlock(); err != nil {
		return f.ioFault(err)
	}
	f.free = true
	return nil
}

// Reacquire takes the lock back, as when a migration failed. The error is [Locked]
// while another has the file, and [Taken] when another wrote to it: the TPM in this
// process is not the newest any more, and must end.
func (f *File) Reacquire() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.h == nil {
		return f.fault(Closed, nil)
	}
	if !f.free {
		return nil
	}
	locked, err := f.h.lock()
	if err != nil {
		return f.ioFault(err)
	}
	if !locked {
		fault := f.fault(Locked, nil)
		fault.Owner = f.h.owner()
		return fault
	}
	if err := f.unchanged(); err != nil {
		return errors.Join(err, f.h.unlock())
	}
	f.free = false
	return nil
}

// unchanged sees that the file is the one that was released, with the same slots.
func (f *file) unchanged() error {
	named, err := f.h.named(f.path)
	if err != nil {
		return f.ioFault(err)
	}
	if !named {
		return f.fault(Taken, nil)
	}
	l := &loaded{}
	if err := f.readSlots(l); err != nil {
		return err
	}
	defer l.destroy()
	for i := range l.slots {
		s := &l.slots[i]
		if f.table[i] != 0 && (s.generation != f.table[i] || s.condition != isWhole) || s.generation > f.last.Generation {
			fault := f.fault(Taken, nil)
			fault.Slot, fault.Found = i, s.generation
			return fault
		}
	}
	return nil
}

// Close makes the anchor's knowledge durable, gives up the lock and destroys the
// keys. A second Close does nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.h == nil {
		return nil
	}
	var err error
	if !f.free {
		err = f.advance(true)
	}
	f.shut()
	return err
}
