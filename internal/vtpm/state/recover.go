//go:build unix

package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Recover makes one of a damaged file's generations its newest, as the operator
// decides: what the TPM did since is lost, and it will have told others of a state
// that it is not in any more. The file as it was stays beside it under another name,
// which is returned. The ledger takes the generation that results for the truth.
func Recover(ctx context.Context, path string, generation uint64, cfg Config) (aside string, err error) {
	if err := cfg.check(); err != nil {
		return "", err
	}
	f := &file{path: path, cfg: cfg}
	l, err := f.load(ctx)
	if err != nil {
		return "", err
	}
	defer f.shut()
	defer l.destroy()
	good := l.good()
	at := slices.IndexFunc(good, func(s *slot) bool { return s.record.generation == generation })
	if at < 0 {
		fault := f.fault(Damaged, fmt.Errorf("generation %d does not open", generation))
		fault.Good = l.generations()
		return "", fault
	}
	f.next = l.highest() + 1
	if aside, err = f.setAside(); err != nil {
		return "", err
	}
	c := good[at].record.content()
	defer c.Destroy()
	return aside, f.rewrite(c, change{head: f.head, key: f.key, recovered: generation})
}

// maxAsides bounds the files that are kept of one TPM.
const maxAsides = 100

// setAside gives the file a second name.
func (f *file) setAside() (string, error) {
	for i := range maxAsides {
		aside := fmt.Sprintf("%s.before-%d", f.path, f.next)
		if i > 0 {
			aside = fmt.Sprintf("%s-%d", aside, i)
		}
		err := f.cfg.disk.link(f.path, aside)
		if err == nil {
			return aside, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", f.ioFault(err)
		}
	}
	return "", f.fault(Exists, errors.New("too many files that were set aside"))
}

// Replace puts a new file with this content in the place of whatever has the name,
// as when a backup is restored over a TPM whose file is damaged or lost. What was
// there stays beside it under another name, which is returned; empty when there was
// nothing. Its generation is above every one that the old file or the ledger knows.
func Replace(ctx context.Context, path string, id ID, c Content, cfg Config) (aside string, err error) {
	if err := cfg.check(); err != nil {
		return "", err
	}
	if id.IsZero() {
		return "", errors.New("state of a TPM without an id")
	}
	if err := c.check(); err != nil {
		return "", err
	}
	f := &file{path: path, cfg: cfg, id: id}
	defer f.shut()
	highest, err := f.outgoing()
	if err != nil {
		return "", err
	}
	if err := f.prepare(ctx, c); err != nil {
		return "", err
	}
	f.next = max(f.next, highest+1)
	if highest > 0 || f.h != nil {
		if aside, err = f.setAside(); err != nil {
			return "", err
		}
	}
	return aside, f.rewrite(c, change{head: f.head, key: f.key, fresh: f.h == nil})
}

// outgoing locks the file that is to be replaced, if there is one, and returns the
// greatest generation that it claims to have.
func (f *file) outgoing() (uint64, error) {
	var fault *Fault
	err := f.acquire()
	if errors.As(err, &fault) && fault.Kind == Missing {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	info, err := inspectOn(f.cfg.disk, f.path)
	if err != nil {
		return 0, nil //nolint:nilerr // no state file, or one that cannot be read: it has no generations
	}
	highest := uint64(0)
	for _, s := range info.Slots {
		highest = max(highest, s.Generation)
	}
	return highest, nil
}
