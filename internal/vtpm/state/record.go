//go:build unix

package state

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/wire"
)

// record is the sealed part of a slot: one generation.
type record struct {
	generation uint64
	unique     [16]byte // random: hides the content from the digest in the ledger
	saved      int64    // microseconds since 1970; 0 when it is not known
	anchored   bool     // a ledger was told of it
	recovered  uint64   // generation that the operator went back to; else 0
	// table has the generation that each slot held once this one was saved. A slot
	// that was set back by itself does not agree with it.
	table     [slotCount]uint64
	permanent []byte
	volatile  []byte
	meta      []byte
	extra     []byte // for later versions
}

// recordOverhead is what a record adds to its content; it bounds buffers.
const recordOverhead = 8 + 16 + 8 + 1 + 8 + 8*slotCount + 4*4

const maxRecordExtra = 1 << 20

// Wire lays out the record (docs/formats/nvram.md).
func (r *record) Wire(c *wire.Codec) {
	wire.U64(c, &r.generation)
	c.Bytes(r.unique[:])
	saved := uint64(r.saved)
	wire.U64(c, &saved)
	r.saved = int64(saved)
	c.Bool(&r.anchored)
	wire.U64(c, &r.recovered)
	for i := range r.table {
		wire.U64(c, &r.table[i])
	}
	c.Sized32(&r.permanent, MaxContent)
	c.Sized32(&r.volatile, MaxContent)
	c.Sized32(&r.meta, MaxContent)
	c.Sized32(&r.extra, maxRecordExtra)
}

func (r *record) content() Content {
	c := Content{Permanent: bytes.Clone(r.permanent), Meta: bytes.Clone(r.meta)}
	if len(r.volatile) > 0 {
		c.Volatile = bytes.Clone(r.volatile)
	}
	return c
}

// openedRecord is what was sealed, opened: the record aliases text.
type openedRecord struct {
	record
	text seal.Secret
}

// digest tells this generation apart from any other, of whatever number.
func digest(text []byte) [sha256.Size]byte { return sha256.Sum256(text) }

// sealContext binds a generation to its TPM and number: in another's place, or
// under another number, it does not open.
func sealContext(id ID, generation uint64) seal.Context {
	return seal.Context{Purpose: "vTPM state", Name: fmt.Sprintf("%s generation %d", id, generation)}
}

// keyContext is what the provider wraps the file's key for.
func keyContext(id ID) seal.Context {
	return seal.Context{Purpose: "vTPM state", Name: id.String()}
}

// sealText encrypts the text of a record.
func sealText(random io.Reader, key seal.Secret, id ID, generation uint64, text []byte) ([]byte, error) {
	return seal.Seal(random, seal.Key{Secret: key}, sealContext(id, generation), text)
}

// openSealed decrypts and reads a record.
func openSealed(key seal.Secret, id ID, generation uint64, sealed []byte) (*openedRecord, error) {
	e, err := seal.Parse(sealed)
	if err != nil {
		return nil, err
	}
	text, err := e.Open(seal.Key{Secret: key}, sealContext(id, generation))
	if err != nil {
		return nil, err
	}
	r := &openedRecord{text: text}
	err = wire.Decode(text.Expose(), &r.record)
	if err == nil && r.generation != generation {
		err = fmt.Errorf("record of generation %d in the place of %d", r.generation, generation)
	}
	if err != nil {
		text.Destroy()
		return nil, err
	}
	return r, nil
}
