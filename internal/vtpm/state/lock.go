//go:build unix

package state

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockOwner finds who has the lock of a file, in /proc/locks (proc_locks(5)). Where
// there is none, as for a lock taken over a network, it says nothing.
func lockOwner(f *os.File) string {
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return ""
	}
	defer locks.Close()
	for s := bufio.NewScanner(locks); s.Scan(); {
		pid, inode, ok := parseLock(s.Text())
		if !ok || inode != st.Ino {
			continue
		}
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil {
			return fmt.Sprintf("process %d", pid)
		}
		return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
	}
	return ""
}

// parseLock reads a line such as
//
//	4: FLOCK  ADVISORY  WRITE 4711 fe:00:1311 0 EOF
//
// The device is passed over: some file systems give files another one than their locks.
func parseLock(line string) (pid int, inode uint64, ok bool) {
	words := strings.Fields(line)
	if len(words) < 6 || words[1] != "FLOCK" || words[3] != "WRITE" {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(words[4])
	if err != nil || pid <= 0 {
		return 0, 0, false
	}
	at := strings.LastIndexByte(words[5], ':')
	inode, err = strconv.ParseUint(words[5][at+1:], 10, 64)
	return pid, inode, err == nil
}
