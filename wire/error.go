package wire

import (
	"errors"
	"fmt"
)

// The kinds of failure. A caller maps them to the response codes or reason
// codes of its own format; [Error] says where in the input each was met.
var (
	// ErrShort is a structure that ends before its last field.
	ErrShort = errors.New("input ends too early")
	// ErrTrailing is input left over after the last field.
	ErrTrailing = errors.New("input continues after the structure")
	// ErrSize is a length or count above the limit of its field.
	ErrSize = errors.New("length exceeds its limit")
	// ErrSelector is a union selector that names no member.
	ErrSelector = errors.New("selector is not known")
	// ErrRange is a value outside the set that its type allows.
	ErrRange = errors.New("value is out of range")
	// ErrReserved is a reserved field that is not zero.
	ErrReserved = errors.New("reserved field is not zero")
)

// ErrOverrun is a structure that needs more bytes than the length before it
// gives. It is an [ErrShort], too.
var ErrOverrun = fmt.Errorf("structure is longer than the length before it: %w", ErrShort)

// ErrOverlong is a length that reaches beyond the input although the structure
// after it is complete. It is an [ErrShort], too.
var ErrOverlong = fmt.Errorf("length is larger than the structure after it: %w", ErrShort)

// An Error says at which byte of the input decoding stopped, and why.
type Error struct {
	Offset int   // bytes from the start of the input
	Part   int   // number of the part, from 1, when the layout numbers them with [Codec.Part]
	Err    error // one of the kinds above, or what a Wire method gave to [Codec.Fail]
}

func (e *Error) Error() string {
	if e.Part != 0 {
		return fmt.Sprintf("part %d, at byte %d: %v", e.Part, e.Offset, e.Err)
	}
	return fmt.Sprintf("at byte %d: %v", e.Offset, e.Err)
}

// Unwrap gives the kind of failure.
func (e *Error) Unwrap() error { return e.Err }
