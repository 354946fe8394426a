// Package sigdb reads and changes the databases that Secure Boot decides by:
// signature lists (PK, KEK, db, dbx) and the SBAT revocation text.
//
// [Parse] checks shape only; it verifies no signature and does not say whether
// a database is a good one. Certificates are kept as raw bytes, because firmware
// accepts encodings that a strict parser refuses; [Names] reads their names as
// far as it can. [Variables.Verify] decides about an authenticated update as
// firmware does, and makes a [Change]; it proves that a key that the variables
// name wants the change, not that the change is wise.
//
// UEFI Specification 2.10, 8.2.2, 32.3 and 32.4.1; shim's SBAT.md for SBAT.
package sigdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/assay-project/assay/uefi"
)

// Signature types (UEFI 2.10, 32.4.1). They are constants; do not assign.
var (
	X509       = uefi.MustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	SHA256     = uefi.MustGUID("c1c41626-504c-4092-aca9-41f936934328")
	SHA1       = uefi.MustGUID("826ca512-cf10-4ac9-b187-be01496631bd")
	SHA384     = uefi.MustGUID("ff3e5307-9fd0-48c9-85f1-8ad56c701e01")
	SHA512     = uefi.MustGUID("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a")
	RSA2048    = uefi.MustGUID("3c5766e8-269c-4e34-aa14-ed776e85b3b6")
	X509SHA256 = uefi.MustGUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")
	X509SHA384 = uefi.MustGUID("7076876e-80c2-4ee6-aad2-28b349a6865b")
	X509SHA512 = uefi.MustGUID("446dbf63-2502-4cda-bcfa-2465d2b0fe9d")
)

// ErrList is a signature list whose lengths contradict each other; every error of
// [Parse] wraps it.
var ErrList = errors.New("signature list is malformed")

// listHeader is the size of an EFI_SIGNATURE_LIST before its header field.
const listHeader = 16 + 4 + 4 + 4

// Database is a checked sequence of signature lists. It aliases its bytes.
type Database struct{ data []byte }

// Signature is one EFI_SIGNATURE_DATA: a certificate, a digest, or another type.
type Signature struct {
	Type  uefi.GUID
	Owner uefi.GUID
	Data  []byte
}

// Parse checks all lists of a database. The lists must fill b; an empty b is an
// empty database. Nothing is allocated.
func Parse(b []byte) (*Database, error) {
	for at := 0; at < len(b); {
		l, err := list(b[at:])
		if err != nil {
			return nil, fmt.Errorf("list at byte %d: %w", at, err)
		}
		at += l.size
	}
	return &Database{b}, nil
}

// lengths of one list.
type lengths struct{ size, header, each int }

// list checks the lengths of the list that b begins with. All sums are of 32-bit
// numbers in 64 bits, so none overflows.
func list(b []byte) (lengths, error) {
	if len(b) < listHeader {
		return lengths{}, fmt.Errorf("%w: header is cut short", ErrList)
	}
	size := uint64(binary.LittleEndian.Uint32(b[16:]))
	header := uint64(binary.LittleEndian.Uint32(b[20:]))
	each := uint64(binary.LittleEndian.Uint32(b[24:]))
	switch {
	case size < listHeader+header || size > uint64(len(b)):
		return lengths{}, fmt.Errorf("%w: list of %d bytes", ErrList, size)
	case each <= 16:
		// Each signature begins with its owner, so 16 bytes leave nothing to say.
		return lengths{}, fmt.Errorf("%w: signatures of %d bytes", ErrList, each)
	case (size-listHeader-header)%each != 0:
		return lengths{}, fmt.Errorf("%w: signatures do not fill it", ErrList)
	}
	return lengths{int(size), int(header), int(each)}, nil
}

// All iterates over the signatures of all lists, in order.
func (d *Database) All() iter.Seq[Signature] {
	return func(yield func(Signature) bool) {
		for b := d.data; len(b) > 0; {
			l, err := list(b)
			if err != nil {
				return // Parse has seen the same bytes
			}
			typ := uefi.GUID(b[:16])
			for s := b[listHeader+l.header : l.size]; len(s) >= l.each; s = s[l.each:] {
				if !yield(Signature{typ, uefi.GUID(s[:16]), s[16:l.each:l.each]}) {
					return
				}
			}
			b = b[l.size:]
		}
	}
}

// Count says how many signatures of a kind a database has.
type Count struct {
	Certificates int // X.509
	Digests      int // of images, or of certificates to be signed (X509SHA*)
	Others       int
}

// Count counts the signatures. Its cost is that of the lists, not of the entries.
func (d *Database) Count() Count {
	var c Count
	for b := d.data; len(b) > 0; {
		l, err := list(b)
		if err != nil {
			return c
		}
		n := (l.size - listHeader - l.header) / l.each
		switch uefi.GUID(b[:16]) {
		case X509:
			c.Certificates += n
		case SHA1, SHA256, SHA384, SHA512, X509SHA256, X509SHA384, X509SHA512:
			c.Digests += n
		default:
			c.Others += n
		}
		b = b[l.size:]
	}
	return c
}
