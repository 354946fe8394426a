//go:build unix

package state

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// A Kind says what is wrong with a file. It is an error, for errors.Is.
type Kind string

// The kinds of fault.
const (
	NotOurs         Kind = "not a TPM state file"
	NewerFormat     Kind = "written by a newer version of this program"
	Truncated       Kind = "the file was cut"
	Damaged         Kind = "damaged"
	Torn            Kind = "the newest generation was not written to its end"
	Altered         Kind = "altered by somebody without the key"
	Swapped         Kind = "parts of the file have changed places"
	Foreign         Kind = "of another TPM"
	RolledBack      Kind = "older than what this TPM has told before"
	Forked          Kind = "another history of this TPM than the one that was told before"
	Unanchored      Kind = "the ledger that knew this TPM does not know it any more"
	AnchorDown      Kind = "the ledger of generations cannot be used"
	WrongKey        Kind = "the key provider does not hold the key of this file"
	ProviderDown    Kind = "the key provider cannot be reached"
	ProviderRefuses Kind = "the key provider refuses the credential"
	BadProvider     Kind = "the key provider answers garbage"
	Locked          Kind = "in use by another process"
	Missing         Kind = "there is no such file"
	Exists          Kind = "there is such a file already"
	NoSpace         Kind = "the disk is full"
	ReadOnly        Kind = "the disk is read-only"
	Failed          Kind = "the disk fails"
	Released        Kind = "the lock was given away"
	Taken           Kind = "another process wrote the file while the lock was given away"
	Gone            Kind = "the file was removed or replaced while it was open"
	Closed          Kind = "closed"
	Denied          Kind = "this user may not open it"
	ClockBack       Kind = "the clock went back"
)

func (k Kind) Error() string { return string(k) }

// advice is what the operator can do.
func (k Kind) advice() string {
	switch k {
	case ProviderDown:
		return "nothing is lost; try again when it answers"
	case ProviderRefuses:
		return "renew its credential"
	case WrongKey:
		return "name the provider that wrapped it, or restore that provider's keys"
	case Unanchored:
		return "was the right root folder given? if the ledger is really lost, recover the file"
	case RolledBack, Forked:
		return "put the newest copy back, or accept this one by recovering it"
	case Torn, Damaged, Altered, Swapped, Truncated:
		return "restore a backup, or recover a generation that is good"
	case Taken:
		return "open it again"
	case Gone:
		return "put it back under its name before the TPM ends, or what it did is lost"
	default:
		return ""
	}
}

// noSlot is the slot of a fault that is in none.
const noSlot = -1

// A Fault says what is wrong with a file, where, and what of it is still good.
// errors.Is finds its Kind and its cause.
type Fault struct {
	Kind   Kind
	Path   string
	ID     ID     // of the TPM, as far as it is known
	Slot   int    // where the fault is; -1 outside the slots
	Offset int64  // byte of the file; -1 when there is none to name
	Found  uint64 // generation that the fault is about; 0 when it is not known
	Known  uint64 // generation that was told to the outside; 0 when none is known
	// Good are the generations that open, newest first. [Recover] takes them.
	Good  []uint64
	Owner string // who has the lock
	Err   error  // cause; may be nil
}

// LastGood is the newest generation that could be recovered; 0 when there is none.
func (f *Fault) LastGood() uint64 {
	if len(f.Good) == 0 {
		return 0
	}
	return f.Good[0]
}

func (f *Fault) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "TPM state %q: %s", f.Path, f.Kind)
	if f.Slot != noSlot {
		fmt.Fprintf(&b, ", slot %d", f.Slot)
	}
	if f.Offset >= 0 {
		fmt.Fprintf(&b, ", byte %d", f.Offset)
	}
	switch {
	case f.Kind == RolledBack || f.Kind == Forked:
		fmt.Fprintf(&b, ": the file has generation %d, the ledger knows %d", f.Found, f.Known)
	case f.Found != 0:
		fmt.Fprintf(&b, ", generation %d", f.Found)
	}
	if f.Kind == Foreign && !f.ID.IsZero() {
		fmt.Fprintf(&b, " %s", f.ID)
	}
	if f.Owner != "" {
		fmt.Fprintf(&b, ": %s", f.Owner)
	}
	if f.Err != nil {
		fmt.Fprintf(&b, ": %s", strings.TrimPrefix(f.Err.Error(), string(f.Kind)+": "))
	}
	if n := f.LastGood(); n != 0 && n != f.Found {
		fmt.Fprintf(&b, "; the last good generation is %d", n)
	}
	if a := f.Kind.advice(); a != "" {
		fmt.Fprintf(&b, " (%s)", a)
	}
	return b.String()
}

// Unwrap gives the kind and the cause.
func (f *Fault) Unwrap() []error {
	if f.Err == nil {
		return []error{f.Kind}
	}
	return []error{f.Kind, f.Err}
}

// A Notice is something found in a file that takes nothing from its newest
// generation, but that the operator should hear of.
type Notice struct {
	Kind   Kind
	Slot   int // -1 outside the slots
	Offset int64
	Text   string
}

func (n Notice) String() string { return n.Text }

// fault is a fault outside the slots.
func (f *file) fault(k Kind, cause error) *Fault {
	return &Fault{Kind: k, Path: f.path, ID: f.id, Slot: noSlot, Offset: -1, Err: cause}
}

// ioFault tells what of the disk an operator can mend.
func (f *file) ioFault(cause error) *Fault {
	k := Failed
	switch {
	case errors.Is(cause, syscall.ENOSPC), errors.Is(cause, syscall.EDQUOT):
		k = NoSpace
	case errors.Is(cause, syscall.EROFS):
		k = ReadOnly
	}
	return f.fault(k, cause)
}
