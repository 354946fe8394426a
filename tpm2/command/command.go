// Package command has the commands of TPM 2.0 as data: for each its code,
// handles, authorizations, attributes, and the layouts of its parameters.
//
// It proves nothing and runs nothing. That a handle is of its type does not say
// that it names a resource; a decoded parameter is what the caller sent. Start
// with [Lookup]; [Info] is a row of the table, and CreateIn and CreateOut show
// what parameters look like.
//
// TPM 2.0 Library, Part 3: Commands, version 1.83; the commands of version 1.85
// are marked.
package command

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Role is the authorization role that a command needs for a handle (Part 1, 19.2).
type Role uint8

// The roles.
const (
	RoleNone  Role = iota // no authorization
	RoleUser              // USER
	RoleAdmin             // ADMIN
	RoleDup               // DUP: only by policy
)

func (r Role) String() string {
	switch r {
	case RoleNone:
		return "none"
	case RoleUser:
		return "USER"
	case RoleAdmin:
		return "ADMIN"
	case RoleDup:
		return "DUP"
	}
	return "unknown"
}

// Presence says whether a command can be made to need physical presence
// (Part 3, 26.2). The zero value is for commands that never do.
type Presence uint8

// The values of [Presence].
const (
	PPNever    Presence = iota
	PPSettable          // when TPM2_PP_Commands says so
	PPAlways            // TPM2_PP_Commands itself
)

// Handle is one handle of a command's handle area.
type Handle struct {
	Name string
	Type HandleType
	Role Role // how it must be authorized
}

// Info is what Part 3 says of one command. Callers must not change it.
type Info struct {
	Code     tpm2.CC
	Name     string // "TPM2_Create"
	Chapter  string // of Part 3: "Object Commands"
	Handles  []Handle
	Response string // name of the handle in the response, "" when it has none
	Attr     tpm2.CommandAttributes

	DecryptFirst bool // the first parameter is a TPM2B: a session may decrypt it
	EncryptFirst bool // so is the first one of the response: a session may encrypt it
	NoSessions   bool // the tag must be TPM_ST_NO_SESSIONS
	NotReadOnly  bool // refused in read-only mode (Part 3, TPM2_ReadOnlyControl)
	Presence     Presence
	Version185   bool // of version 1.85

	// New returns fresh parameters of the command and of its response.
	New func() (in, out wire.Layout)
}

// Auths returns how many handles need authorization; they are the first ones.
func (i *Info) Auths() int {
	n := 0
	for n < len(i.Handles) && i.Handles[n].Role != RoleNone {
		n++
	}
	return n
}

// ChangesState reports whether read-only mode refuses the command (Part 3, TPM2_ReadOnlyControl).
func (i *Info) ChangesState() bool { return i.NotReadOnly }

// WritesNV reports whether the command needs the authorization to write an NV
// index, not to read it (Part 2, 13.4: TPMA_NV_AUTHWRITE and POLICYWRITE).
func (i *Info) WritesNV() bool {
	switch i.Code {
	case tpm2.CCNVWrite, tpm2.CCNVIncrement, tpm2.CCNVExtend, tpm2.CCNVSetBits, tpm2.CCNVWriteLock:
		return true
	}
	return false
}

// Lookup returns the command of a code; ok is false when Part 3 has none, or
// none that is known here. The result must not be changed.
func Lookup(code tpm2.CC) (info *Info, ok bool) {
	if code < firstCode || code > lastCode {
		return nil, false
	}
	i := byCode[code-firstCode]
	if i == 0 {
		return nil, false
	}
	return all[i-1], true
}

// All returns the commands by ascending code. It must not be changed.
func All() []*Info { return all }

const (
	firstCode = tpm2.CCNVUndefineSpaceSpecial
	lastCode  = tpm2.CCSignSequenceStart
)

// all is the table in the order of codes, byCode the place of each code in it,
// from 1. Neither changes.
var (
	all    = ordered()
	byCode = places()
)

// ordered completes the rows of the table and puts them into order.
func ordered() []*Info {
	out := make([]*Info, 0, len(table))
	for code := firstCode; code <= lastCode; code++ {
		for _, row := range table {
			if row.Code == code {
				out = append(out, complete(row))
			}
		}
	}
	return out
}

// complete derives from a row what follows from its other members.
func complete(i Info) *Info {
	bits := i.Attr
	if i.Response != "" {
		bits |= tpm2.CommandRHandle
	}
	i.Attr = tpm2.NewCommandAttributes(i.Code, len(i.Handles), bits)
	if i.New == nil {
		i.New = pair[None, None]
	}
	return &i
}

func places() (out [lastCode - firstCode + 1]uint8) {
	for i, info := range all {
		out[info.Code-firstCode] = uint8(i + 1) // there are fewer than 255 commands
	}
	return out
}

// pair makes the parameters of a command and of its response, in one piece of memory.
func pair[In, Out any, I wire.LayoutOf[In], O wire.LayoutOf[Out]]() (in, out wire.Layout) {
	p := new(struct {
		in  In
		out Out
	})
	return I(&p.in), O(&p.out)
}

// None is the parameters of a command or response that has none.
type None struct{}

// Wire lays out nothing.
func (*None) Wire(*wire.Codec) {}
