package instances

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/fleet"
)

// errName is a change of a machine's name.
var errName = errors.New("a machine keeps its name")

// mayName refuses a definition that names what its caller may not give a machine: a disk
// outside the folders for disks, or, of who may do this on some machines only, outside
// the machine's own folder there; and a device of the host's network. What the machine
// has already it may keep, and use for no more than before.
func (a *API) mayName(ctx context.Context, permission access.Permission, before, after *fleet.Definition) error {
	everywhere := apiserver.Caller(ctx).May(permission)
	for i, d := range after.Disks {
		if slices.ContainsFunc(before.Disks, func(b fleet.Disk) bool { return keeps(b, d) }) {
			continue
		}
		folders := a.cfg.Disks
		if !everywhere {
			folders = nil
			for _, dir := range a.cfg.Disks {
				folders = append(folders, filepath.Join(dir, after.Name))
			}
		}
		if !lies(d.File, folders) {
			return notAllowed(fmt.Sprintf("disks[%d].file", i), "lies in no folder whose files this caller may give to this machine")
		}
	}
	for i, n := range after.Networks {
		if n.Kind != "user" && !everywhere && !slices.Contains(before.Networks, n) {
			return notAllowed(fmt.Sprintf("networks[%d]", i), "is a device of the host's: who may do this on some machines only cannot give one")
		}
	}
	return nil
}

// keeps reports whether a disk is one that the machine has, read in the same way, and
// written to only where it was.
func keeps(has, d fleet.Disk) bool {
	return has.File == d.File && has.Format == d.Format && has.Shared == d.Shared && has.Ephemeral == d.Ephemeral && (d.ReadOnly || !has.ReadOnly)
}

// lies reports whether a file is below one of some folders, links followed. A file that
// is not there is nowhere.
func lies(file string, folders []string) bool {
	real, err := filepath.EvalSymlinks(file)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(folders, func(dir string) bool {
		dir, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return false
		}
		rel, err := filepath.Rel(dir, real)
		return err == nil && rel != "." && filepath.IsLocal(rel)
	})
}

func notAllowed(field, detail string) *apiserver.Problem {
	p := apiserver.NewProblem(http.StatusForbidden, codeDisk, field+" "+detail)
	p.Errors = []apiserver.FieldError{{Field: field, Detail: detail}}
	return p
}
