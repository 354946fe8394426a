package instances

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/diskcopy"
)

// Limits of the folder for backups.
const (
	usualOfOne  = 32     // backups of one machine, unless the configuration says otherwise
	mostBackups = 10_000 // of all machines
)

// copyNow takes the one turn to write or read a backup, which leave ends. Nobody waits for
// it: who did would hold a machine and an operation for as long.
func (a *API) copyNow() (leave func(), err error) {
	select {
	case a.copying <- struct{}{}:
		return func() { <-a.copying }, nil
	default:
		return nil, apiserver.NewProblem(http.StatusConflict, codeBusy, "another backup is being written or read: ask again when it has ended")
	}
}

// backupRoom refuses a backup of a machine whose disks have so many bytes where the folder
// for backups has no room for it.
func (a *API) backupRoom(ctx context.Context, machine string, disks int64) error {
	entries, err := os.ReadDir(a.cfg.BackupDir)
	if err != nil {
		return err
	}
	need, all, own, bytes := uint64(disks)+uint64(disks)/64+16<<20, 0, 0, uint64(0) //nolint:gosec // never negative
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue // removed meanwhile, or none
		}
		bytes += uint64(info.Size()) //nolint:gosec // never negative
		if !backupRule().MatchString(e.Name()) {
			continue
		}
		all++
		if isBackupOf(e.Name(), machine) {
			own++
		}
	}
	free, err := diskcopy.Room(ctx, a.cfg.BackupDir, "")
	if err != nil {
		return err
	}
	switch most := uint64(a.cfg.BackupBytes); { //nolint:gosec // never negative
	case own >= a.cfg.BackupsOfOne:
		return noRoom(fmt.Sprintf("there are %d backups of the machine", own))
	case all >= mostBackups:
		return noRoom(fmt.Sprintf("there are %d backups", all))
	case most > 0 && bytes+need > most:
		return noRoom(fmt.Sprintf("the backup may have %d bytes, and all have %d of the %d that they may have", need, bytes, most))
	case need > free:
		return noRoom(fmt.Sprintf("the backup may have %d bytes, and there is no room for it", need))
	}
	return nil
}

func noRoom(why string) error {
	return apiserver.NewProblem(http.StatusConflict, codeBackup, "the folder for backups is full: "+why+"; whoever has the host removes some")
}

// isBackupOf reports whether a file has the name of a backup of a machine: NAME-TIME.assayvm.
func isBackupOf(file, machine string) bool {
	rest, ok := strings.CutPrefix(file, machine+"-")
	return ok && len(rest) == len("20060102T150405Z.assayvm")
}
