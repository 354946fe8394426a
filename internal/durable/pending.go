//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
