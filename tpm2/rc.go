package tpm2

import "fmt"

// RC is a TPM_RC: the response code of a command (Part 2, 6.6). Zero is success.
type RC uint32

// The fields of a response code (Part 2, 6.6.2).
const (
	rcFormat1   RC = 1 << 7 // error of a handle, session or parameter
	rcParameter RC = 1 << 6 // in format one: of a parameter
	rcVersion   RC = 1 << 8 // in format zero: TPM 2.0
	rcWarning   RC = 1 << 11
)

// Of which part of a command a format-one code speaks.
const (
	RCHandle    RCSubject = iota + 1 // a handle, from 1 to 7
	RCSession                        // a session, from 1 to 7
	RCParameter                      // a parameter, from 1 to 15
)

// RCSubject says whether a code speaks of a handle, a session or a parameter;
// 0 when it speaks of neither.
type RCSubject uint8

func (s RCSubject) String() string {
	switch s {
	case RCHandle:
		return "handle"
	case RCSession:
		return "session"
	case RCParameter:
		return "parameter"
	}
	return "command"
}

// Base returns the code without the number of its handle, session or parameter,
// to compare with the RC constants.
func (r RC) Base() RC {
	if r&rcFormat1 == 0 {
		return r
	}
	return r & (rcFormat1 | 0x3f)
}

// Subject returns what a format-one code speaks of and its number, from 1;
// number 0 says that it is not told.
func (r RC) Subject() (s RCSubject, number int) {
	if r&rcFormat1 == 0 {
		return 0, 0
	}
	n := int(r >> 8 & 0xf)
	switch {
	case r&rcParameter != 0:
		return RCParameter, n
	case n >= 8:
		return RCSession, n - 8
	default:
		return RCHandle, n
	}
}

// Of returns the code r as an error of the numbered handle, session or parameter.
// Codes of format zero, and numbers that no code can carry, are returned unchanged.
func (r RC) Of(s RCSubject, number int) RC {
	if r&rcFormat1 == 0 || number < 1 || number > 15 || number > 7 && s != RCParameter {
		return r
	}
	n := RC(number) << 8 // bounded above
	switch s {
	case RCParameter:
		return r.Base() | rcParameter | n
	case RCSession:
		return r.Base() | 8<<8 | n
	case RCHandle:
		return r.Base() | n
	}
	return r
}

// Warning reports whether the command may be tried again as it is (Part 2, 6.6.2).
func (r RC) Warning() bool { return r&rcFormat1 == 0 && r&(rcVersion|rcWarning) == rcVersion|rcWarning }

// Error makes RC an error; callers must not wrap [RCSuccess].
func (r RC) Error() string { return r.String() }

// String gives the name of the code and what it speaks of:
// "TPM_RC_INTEGRITY (parameter 1)". Unknown codes give their number.
func (r RC) String() string {
	name := r.Base().name()
	if name == "" {
		return fmt.Sprintf("TPM_RC %#03x", uint32(r))
	}
	if s, n := r.Subject(); s != 0 && n != 0 {
		return fmt.Sprintf("%s (%v %d)", name, s, n)
	}
	return name
}
