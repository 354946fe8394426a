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
