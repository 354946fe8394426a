package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/internal/vtpm/state"
)

// ErrNoState is a folder with the files of a virtual machine and no state of its TPM.
var ErrNoState = errors.New("no .nvram file and no backup of a TPM: a machine restored from it has lost all that its TPM protected")

// Found is a state of a TPM in a folder: all of it is a claim.
type Found struct {
	Path       string
	State      bool // a .nvram file; else a backup
	ID         state.ID
	Generation uint64
	Provider   string // key provider that it needs; empty when it needs an age identity
	Err        error  // why it is of no use; nil when it seems to be
}

// maxFiles bounds what is looked at in a folder, maxDepth how deep.
const (
	maxFiles = 1 << 16
	maxDepth = 4
)

// Look finds the states of TPMs in the backup of a virtual machine: [ErrNoState]
// when there is none that can be used.
func Look(dir string) ([]Found, error) {
	var out []Found
	n, usable := 0, false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n++; n > maxFiles {
			return fmt.Errorf("%q has more than %d files", dir, maxFiles)
		}
		if d.IsDir() && strings.Count(strings.TrimPrefix(path, dir), string(filepath.Separator)) > maxDepth {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		if f, ok := look(path); ok {
			out = append(out, f)
			usable = usable || f.Err == nil
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for the state of a TPM: %w", err)
	}
	if !usable {
		return out, fmt.Errorf("%q has %w", dir, ErrNoState)
	}
	return out, nil
}

// look reads a file by its first bytes, or by its name when those are damaged.
func look(path string) (Found, bool) {
	begin, err := firstBytes(path)
	if err != nil {
		return Found{}, false
	}
	switch {
	case strings.HasPrefix(begin, Magic):
		f, err := Read(path)
		if err != nil {
			return Found{Path: path, Err: err}, true
		}
		return Found{Path: path, ID: f.ID, Generation: f.Generation, Provider: f.Provider}, true
	case strings.HasPrefix(begin, state.Magic) || strings.HasSuffix(path, ".nvram"):
		info, err := state.Inspect(path)
		if err == nil && info.Newest() == 0 {
			err = errors.New("no generation of it is whole")
		}
		return Found{Path: path, State: true, ID: info.ID, Generation: info.Newest(), Provider: info.Provider, Err: err}, true
	}
	return Found{}, false
}

func firstBytes(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, len(Magic))
	n, err := f.Read(b)
	return string(b[:n]), err
}
