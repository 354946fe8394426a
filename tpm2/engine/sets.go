package engine

import "github.com/assay-project/assay/tpm2"

// commandSet is a set of command codes: bit code-0x11f. Codes of v1.85 reach 0x1aa.
type commandSet [3]uint64

const (
	firstCommand = 0x11f
	lastCommand  = firstCommand + 3*64 - 1
)

func (s *commandSet) has(cc tpm2.CC) bool {
	if cc < firstCommand || cc > lastCommand {
		return false
	}
	n := cc - firstCommand
	return s[n/64]>>(n%64)&1 == 1
}

// set puts cc in the set, or takes it out.
func (s *commandSet) set(cc tpm2.CC, in bool) {
	if cc < firstCommand || cc > lastCommand {
		return
	}
	n := cc - firstCommand
	s[n/64] &^= 1 << (n % 64)
	if in {
		s[n/64] |= 1 << (n % 64)
	}
}
