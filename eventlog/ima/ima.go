// Package ima reads the runtime measurement list of Linux's Integrity
// Measurement Architecture, binary or ASCII, and says what PCR 10 proves of it.
//
// [Parse] checks shape only. [List.Confirm] compares the list with a PCR 10 that
// a verified quote signed, and is the only maker of a [Confirmed]. It proves
// that the kernel measured these files, keys and command lines, in this order;
// not that it measured all that ran, which depends on the IMA policy, nor that
// any of them is good.
//
// Formats as in the kernel's Documentation/security/IMA-templates.rst and
// security/integrity/ima/ima_fs.c. Start with [Parse] and [List.Confirm].
package ima

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/assay-project/assay/tpm2"
)

// PCR is the register that IMA extends by default (CONFIG_IMA_MEASURE_PCR_IDX).
const PCR = 10

// Limits. The list of a server with a measure-all policy and months of uptime
// stays below the first; the others are the kernel's own.
const (
	maxList     = 64 << 20
	maxTemplate = 255     // TCG_EVENT_NAME_LEN_MAX
	maxData     = 4 << 20 // one entry; a measured buffer is a key, a command line or a policy
	maxName     = 255     // IMA_EVENT_NAME_LEN_MAX, of the original template
)

// The ways in which a list can be malformed.
var (
	// ErrEmpty is a list without entries; IMA always measures boot_aggregate.
	ErrEmpty = errors.New("list has no entry")
	// ErrShort is an entry that ends after the list.
	ErrShort = errors.New("entry continues after the end of the list")
	// ErrSize is a length above its limit.
	ErrSize = errors.New("length exceeds its limit")
	// ErrFormat is a beginning that no digest size fits.
	ErrFormat = errors.New("not a measurement list: no template name at its place")
	// ErrRegister is a PCR index that no TPM has.
	ErrRegister = errors.New("register index is out of range")
)

// A ParseError says where in a list parsing stopped.
type ParseError struct {
	Offset int // bytes from the start
	Entry  int // from 0
	Err    error
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("entry %d at byte %d: %v", e.Entry, e.Offset, e.Err)
}

// Unwrap gives the kind of failure.
func (e *ParseError) Unwrap() error { return e.Err }

// A List is a parsed measurement list: a claim by the machine. It aliases the
// bytes it was parsed from and is safe for concurrent use.
type List struct {
	data []byte
	alg  tpm2.Alg // of the digests in the list
	n    int
	tail int // bytes after the last whole entry
}

// An Entry is one measurement.
type Entry struct {
	PCR      uint32
	Template string
	Digest   []byte // of Data, as logged; all zero marks a violation
	Data     []byte // the fields of the template
}

// Violation reports whether the entry stands for a file that was being written
// while it was read, so that no digest could be true. The kernel then extends
// all ones (ima_add_violation).
func (e Entry) Violation() bool {
	for _, b := range e.Digest {
		if b != 0 {
			return false
		}
	}
	return true
}

// Parse checks the shape of a binary list. The size of its digests follows from
// where the first template name stands: kernels write lists for other hashes
// than SHA-1 too (binary_runtime_measurements_sha256 and so on).
//
// The list is read while it grows and may be cut at a limit of whoever read it,
// so an incomplete last entry is left out, see [List.Tail]; what a quote
// confirms comes before it anyway.
func Parse(data []byte) (*List, error) {
	if len(data) == 0 {
		return nil, &ParseError{Err: ErrEmpty}
	}
	if len(data) > maxList {
		return nil, &ParseError{Err: ErrSize}
	}
	l := &List{data: data}
	for _, alg := range imaAlgs {
		if templateAt(data, 4+alg.DigestSize()) {
			l.alg = alg
			break
		}
	}
	if l.alg == tpm2.AlgError {
		return nil, &ParseError{Err: ErrFormat}
	}
	for at := 0; at < len(data); l.n++ {
		_, n, err := l.cut(at)
		if errors.Is(err, ErrShort) && l.n > 0 {
			l.tail = len(data) - at
			break
		}
		if err != nil {
			return nil, &ParseError{at, l.n, err}
		}
		at += n
	}
	return l, nil
}

// imaAlgs are the hashes that a list can carry.
var imaAlgs = [...]tpm2.Alg{tpm2.AlgSHA1, tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512}

// templateAt reports whether a length and a template's name stand at an offset:
// a known name, or a list of fields.
func templateAt(data []byte, at int) bool {
	if at+4 > len(data) {
		return false
	}
	n := binary.LittleEndian.Uint32(data[at:])
	if n == 0 || n > maxTemplate || at+4+int(n) > len(data) {
		return false
	}
	_, known := fieldsOf(string(data[at+4 : at+4+int(n)]))
	return known
}

// cut reads the entry at an offset and returns its length.
func (l *List) cut(at int) (e Entry, size int, err error) {
	c := cursor{rest: l.data[at:]}
	e.PCR = c.u32()
	e.Digest = c.take(l.alg.DigestSize())
	e.Template = template(c.sized(maxTemplate))
	if e.Template == legacyTemplate {
		// ima_fs.c: the original template has no length of its data.
		start := c.rest
		c.take(tpm2.AlgSHA1.DigestSize())
		c.sized(maxName)
		e.Data = start[:len(start)-len(c.rest)]
	} else {
		e.Data = c.sized(maxData)
	}
	switch {
	case c.err != nil:
		return Entry{}, 0, c.err
	case e.PCR >= 24:
		return Entry{}, 0, ErrRegister
	}
	return e, len(l.data) - at - len(c.rest), nil
}

// template returns the name as a string, without allocating for the usual ones.
func template(b []byte) string {
	for _, t := range templates {
		if string(b) == t.name {
			return t.name
		}
	}
	return string(b)
}

// Len returns the number of entries.
func (l *List) Len() int { return l.n }

// Tail returns how many bytes of an incomplete entry follow the last whole one.
func (l *List) Tail() int { return l.tail }

// Alg returns the algorithm of the digests that the list carries.
func (l *List) Alg() tpm2.Alg { return l.alg }

// Entries yields each entry with its index, in order.
func (l *List) Entries() iter.Seq2[int, Entry] {
	return func(yield func(int, Entry) bool) {
		at := 0
		for i := range l.n {
			e, n, err := l.cut(at)
			if err != nil { // Parse has read it before
				panic("unreachable: " + err.Error())
			}
			if !yield(i, e) {
				return
			}
			at += n
		}
	}
}

// A cursor takes little-endian fields from the front of rest; the first error sticks.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) take(n int) []byte {
	if c.err == nil && n > len(c.rest) {
		c.err = ErrShort
	}
	if c.err != nil {
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) u32() uint32 {
	b := c.take(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

func (c *cursor) sized(limit uint32) []byte {
	n := c.u32()
	if c.err == nil && n > limit {
		c.err = ErrSize
	}
	if c.err != nil {
		return nil
	}
	return c.take(int(n))
}

// hashed returns what the kernel hashes of an entry: the fields as logged, but
// of the original template the digest and the name, padded to 256 bytes
// (ima_calc_field_array_hash_tfm). buf is reused.
func (e Entry) hashed(buf []byte) []byte {
	if e.Template != legacyTemplate {
		return e.Data
	}
	const digest = 20
	buf = append(buf[:0], e.Data[:digest]...)
	name := e.Data[digest+4:]
	buf = append(buf, name...)
	return append(buf, make([]byte, maxName+1-len(name))...)
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
