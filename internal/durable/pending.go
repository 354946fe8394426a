//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Pending is an open file that gets its name last, so that its maker can lock
// and check it before anybody else sees it. Whoever began it commits or aborts it.
type Pending struct {
	*os.File
	final string
}

// Begin makes an empty file in the folder of name, to be written and then
// committed under that name. A crash leaves a file that [Sweep] and [SweepOf] remove.
func Begin(name string, perm fs.FileMode) (*Pending, error) {
	f, err := os.CreateTemp(filepath.Dir(name), pendingPrefix(name)+"*"+tempSuffix)
	if err != nil {
		return nil, fmt.Errorf("begin %q: %w", name, err)
	}
	if err := f.Chmod(perm); err != nil {
		return nil, fmt.Errorf("begin %q: %w", name, errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	return &Pending{f, name}, nil
}

func pendingPrefix(name string) string { return tempPrefix + filepath.Base(name) + "-" }

// Commit syncs the content and puts the file in place of what name held. When it
// returns nil both survive a crash. The file stays open.
func (p *Pending) Commit() error {
	if err := p.commit(os.Rename); err != nil {
		return fmt.Errorf("write %q: %w", p.final, err)
	}
	return nil
}

// CommitNew is [Pending.Commit] for a name that must not exist, else [ErrExists].
func (p *Pending) CommitNew() error {
	err := p.commit(func(from, to string) error {
		if err := os.Link(from, to); err != nil {
			return err
		}
		return os.Remove(from)
	})
	if errors.Is(err, fs.ErrExist) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("create %q: %w", p.final, err)
	}
	return nil
}

func (p *Pending) commit(name func(from, to string) error) error {
	if err := Synced(p.Sync()); err != nil {
		return err
	}
	if err := name(p.Name(), p.final); err != nil {
		return err
	}
	return disk{}.syncDir(filepath.Dir(p.final))
}

// Abort closes the file and removes it, unless it was committed.
func (p *Pending) Abort() error {
	err := os.Remove(p.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, p.Close())
}

// SweepOf removes the unfinished files that a crash of [Begin]'s caller left for
// name. Call it while nobody else writes there.
func SweepOf(name string) error {
	dir := filepath.Dir(name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweep %q: %w", dir, err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasPrefix(e.Name(), pendingPrefix(name)) || !strings.HasSuffix(e.Name(), tempSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweep %q: %w", dir, err)
		}
	}
	return nil
}

// BeginHeld is [Begin] for a file that takes long to write: [SweepUnheld] leaves it alone for as
// long as it is open, where the file system has locks ([Flock]).
func BeginHeld(name string, perm fs.FileMode) (*Pending, error) {
	for {
		p, err := Begin(name, perm)
		if err != nil {
			return nil, err
		}
		held, err := Flock(p.File)
		if errors.Is(err, ErrNoLocks) || err == nil && held && named(p.File) {
			return p, nil
		}
		// One that sweeps came between the two, and removes it.
		if err = errors.Join(err, p.Abort()); err != nil {
			return nil, err
		}
	}
}

// SweepUnheld removes the unfinished files of a folder that which chooses, by the name that
// they were for and when they were written last, and that nobody writes: see [BeginHeld]. One
// that cannot be removed stays, for it may be another's.
func SweepUnheld(dir string, which func(name string, written time.Time) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweep %q: %w", dir, err)
	}
	for _, e := range entries {
		name, begun := strings.CutPrefix(e.Name(), tempPrefix)
		name, ends := strings.CutSuffix(name, tempSuffix)
		if !begun || !ends || !e.Type().IsRegular() {
			continue
		}
		end := strings.LastIndexByte(name, '-')
		info, err := e.Info()
		if end > 0 && err == nil && which(name[:end], info.ModTime()) {
			removeUnheld(filepath.Join(dir, e.Name()))
		}
	}
	return nil
}

func removeUnheld(name string) {
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if free, err := Flock(f); err == nil && free && named(f) {
		os.Remove(name)
	}
}
