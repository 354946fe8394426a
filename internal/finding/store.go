package finding

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/durable"
)

// Folder is the name of a store's folder below a root of virtual TPMs.
const Folder = "findings"

const (
	bookFile    = "findings.json"
	queueFolder = "queue"
	queueSuffix = ".json"
	queueLimit  = 4096
	lockPoll    = 10 * time.Millisecond
)

// A Store keeps a book in a folder: the book, and while there is a route the queue of
// changes that are to be delivered. Any number of processes may use one folder.
type Store struct {
	Dir    string
	Random io.Reader // names a new book
	// QueueLimit is how many changes wait at most; 0 means 4096.
	QueueLimit int
}

// QueueDir is the folder of the queue. It is there while something is to be delivered
// to; who makes it has every change from then on.
func (s *Store) QueueDir() string { return filepath.Join(s.Dir, queueFolder) }

// Load reads the book. One that was never written is empty.
func (s *Store) Load() (*Book, error) {
	text, err := ReadFile(filepath.Join(s.Dir, bookFile), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return New(s.Random)
	}
	if err != nil {
		return nil, err
	}
	b, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(s.Dir, bookFile), err)
	}
	return b, nil
}

// ReadFile reads a file of at most limit bytes, which is no link.
func ReadFile(name string, limit int64) ([]byte, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is no file of at most %d bytes: %w", name, limit, ErrFormat)
	}
	return os.ReadFile(name)
}

// Locked has do work while no other process changes what is in the folder.
func (s *Store) Locked(ctx context.Context, do func() error) (err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	lock, err := durable.LockDir(s.Dir)
	for errors.Is(err, durable.ErrLocked) {
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(lockPoll):
			lock, err = durable.LockDir(s.Dir)
		}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := durable.Sweep(s.Dir); err != nil {
		return err
	}
	return do()
}

// Update has change work on the book, and writes it and its changes: when it returns
// nil all of it survives a crash; on an error none of it took place, or all of it.
func (s *Store) Update(ctx context.Context, at time.Time, change func(*Book) error) error {
	return s.Locked(ctx, func() error {
		b, err := s.Load()
		if err != nil {
			return err
		}
		if err := change(b); err != nil {
			return err
		}
		return s.write(b, at)
	})
}

// write puts the changes into the queue first: a file there counts once the book has
// come to its number, so that a crash between leaves nothing that anybody acts on.
func (s *Store) write(b *Book, at time.Time) error {
	if !b.dirty {
		return nil
	}
	if len(b.fresh) > 0 {
		if err := s.queue(b, at); err != nil {
			return fmt.Errorf("queue changes of findings: %w", err)
		}
	}
	text, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if len(text) >= maxFile {
		return fmt.Errorf("write findings: %w: %d bytes", ErrFull, len(text))
	}
	if err := durable.WriteFile(filepath.Join(s.Dir, bookFile), append(text, '\n'), 0o600); err != nil {
		return err
	}
	b.fresh, b.dirty = nil, false
	return nil
}

func (s *Store) queue(b *Book, at time.Time) error {
	waiting, err := s.Queued(b.changes - uint64(len(b.fresh)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody is to be told
	}
	if err != nil {
		return err
	}
	if limit := cmp.Or(s.QueueLimit, queueLimit); len(waiting) >= limit { // what is lost is in the book, and so is that it was lost
		return s.full(b, at, limit)
	}
	for _, c := range b.fresh {
		text, err := json.Marshal(queued{formatVersion, b.origin, c})
		if err != nil {
			return err
		}
		if err := durable.WriteFile(s.queueFile(c.Number), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// full keeps the changes of a book out of the queue, and says so in the book.
func (s *Store) full(b *Book, at time.Time, limit int) error {
	signal := QueueFull()
	signal.Reasons = []evidence.Reason{{
		Code: DeliveryFailed, Message: fmt.Sprintf("%d changes wait to be delivered, and no more are taken: does assay finding deliver run?", limit),
	}}
	if err := b.Apply(at, signal); err != nil {
		return err
	}
	for _, c := range b.fresh { // a crash may have left files of these numbers
		if err := s.Delivered(c.Number); err != nil {
			return err
		}
	}
	return nil
}

// QueueFull is the condition that changes are no longer queued. Who empties the queue
// ends it.
func QueueFull() Signal { return Signal{Kind: DeliveryFailed, Component: queueFolder} }

// Stamp tells whether the book was written since: see [durable.Stamp].
func (s *Store) Stamp() (string, error) { return durable.Stamp(filepath.Join(s.Dir, bookFile)) }

// queueFile is the name of a change's file; names sort as numbers do.
func (s *Store) queueFile(n uint64) string {
	return filepath.Join(s.QueueDir(), fmt.Sprintf("%020d%s", n, queueSuffix))
}

// Queued returns the numbers of the changes in the queue up to latest, which is
// [Book.Changes] of the book, in order.
func (s *Store) Queued(latest uint64) ([]uint64, error) {
	entries, err := os.ReadDir(s.QueueDir())
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), queueSuffix)
		n, err := strconv.ParseUint(name, 10, 64)
		if ok && err == nil && n <= latest && len(name) == 20 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Change reads a change of the queue.
func (s *Store) Change(n uint64) (origin string, c Change, err error) {
	text, err := ReadFile(s.queueFile(n), maxChangeFile)
	if err != nil {
		return "", Change{}, err
	}
	if origin, c, err = ParseChange(text); err == nil && c.Number != n {
		err = fmt.Errorf("%w: change %d in the file of %d", ErrFormat, c.Number, n)
	}
	return origin, c, err
}

// Delivered removes a change from the queue, if it is there.
func (s *Store) Delivered(n uint64) error {
	if err := os.Remove(s.queueFile(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
