package vtpmcli

import "syscall"

// hardenProcess keeps the memory of this process out of core files, and from other
// processes of its user (prctl(2), PR_SET_DUMPABLE): it holds the secrets of TPMs.
func hardenProcess() error {
	const prSetDumpable = 4
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetDumpable, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
