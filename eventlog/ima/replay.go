package ima

import (
	"bytes"
	"crypto"
	"hash"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// A Mode is how a kernel extends a bank.
type Mode uint8

// The modes. Kernels before 5.8, and later ones for a bank whose hash they have
// not loaded, extend SHA-1 digests padded with zeros (ima_pcr_extend): then the
// list has no more strength than SHA-1.
const (
	ModeNone     Mode = iota
	ModeTemplate      // the bank's own hash of the entry
	ModePadded        // the entry's SHA-1 digest, padded
)

func (m Mode) String() string { return [...]string{"none", "template", "padded"}[m] }

// A register replays one bank in both modes at once.
type register struct {
	h, sha1          hash.Hash
	template, padded []byte
	ones, digest     []byte
	buf              []byte
	zeros            [tpm2.MaxDigest]byte // padding
	onlyLogged       bool                 // SHA-1: the logged digest is what was extended
	listSHA1         bool                 // the list logs SHA-1 digests
}

func (l *List) register(a tpm2.Alg) (*register, bool) {
	h, ok := a.Hash()
	if !ok {
		return nil, false
	}
	size := a.DigestSize()
	return &register{
		h: h.New(), sha1: crypto.SHA1.New(),
		template: make([]byte, size), padded: make([]byte, size),
		ones: bytes.Repeat([]byte{0xFF}, size), digest: make([]byte, 0, tpm2.MaxDigest),
		onlyLogged: a == tpm2.AlgSHA1, listSHA1: l.alg == tpm2.AlgSHA1,
	}, true
}

func (r *register) extend(e Entry) {
	if e.Violation() {
		r.into(&r.template, r.ones)
		r.into(&r.padded, r.ones)
		return
	}
	data := e.hashed(r.buf)
	if e.Template == legacyTemplate {
		r.buf = data
	}
	logged := e.Digest
	if !r.listSHA1 {
		r.sha1.Reset()
		r.sha1.Write(data)
		r.digest = r.sha1.Sum(r.digest[:0])
		logged = r.digest
	}
	r.into(&r.padded, logged)
	if r.onlyLogged {
		copy(r.template, r.padded)
		return
	}
	r.h.Reset()
	r.h.Write(data)
	r.digest = r.h.Sum(r.digest[:0])
	r.into(&r.template, r.digest)
}

// into extends a register's value by a digest, padded with zeros to its size.
func (r *register) into(value *[]byte, digest []byte) {
	r.h.Reset()
	r.h.Write(*value)
	r.h.Write(digest)
	r.h.Write(r.zeros[:len(*value)-len(digest)])
	*value = r.h.Sum((*value)[:0])
}

func (r *register) mode(quoted []byte) Mode {
	switch {
	case bytes.Equal(r.template, quoted):
		return ModeTemplate
	case bytes.Equal(r.padded, quoted):
		return ModePadded
	default:
		return ModeNone
	}
}

// Replay returns what PCR 10 of a bank holds after the whole list, in each mode;
// nil for a hash that is not known here. It proves nothing.
func (l *List) Replay(a tpm2.Alg) (template, padded []byte) {
	r, ok := l.register(a)
	if !ok {
		return nil, nil
	}
	for _, e := range l.Entries() {
		if e.PCR == PCR {
			r.extend(e)
		}
	}
	return r.template, r.padded
}

// A Confirmed is the part of a list that a quoted PCR 10 proves. Only
// [List.Confirm] makes one; the zero Confirmed proves nothing and has no entry.
type Confirmed struct {
	list *List
	n    int // entries of the list, from its start
	end  int // bytes of the list
	mode Mode
	bank tpm2.Alg
}

// Confirm finds the prefix of the list that replays to PCR 10 of bank a, as
// quoted: the list grows between the quote and the moment it is read. It refuses
// a list without such a prefix, and one whose texts are not what was measured.
func (l *List) Confirm(a tpm2.Alg, quoted []byte) (*Confirmed, error) {
	r, ok := l.register(a)
	if !ok || len(quoted) != a.DigestSize() {
		return nil, evidence.Refuse(codeMismatch, "PCR 10 of bank %s cannot be replayed", a.BankName()).About("IMA list")
	}
	c := &Confirmed{list: l, bank: a}
	for i, e := range l.Entries() {
		c.end += e.size(l.alg)
		if e.PCR != PCR {
			continue
		}
		r.extend(e)
		if c.mode = r.mode(quoted); c.mode != ModeNone {
			c.n = i + 1
			break
		}
	}
	if c.mode == ModeNone {
		return nil, evidence.Refuse(codeMismatch, "no beginning of the list of %d entries replays to PCR 10 of bank %s", l.n, a.BankName()).About("IMA list")
	}
	if a == tpm2.AlgSHA1 || c.mode == ModePadded {
		return c.checked()
	}
	return c, nil
}

// checked refuses texts that do not belong to the digests: where the logged
// digest itself was extended, the fields prove nothing until they hash to it.
func (c *Confirmed) checked() (*Confirmed, error) {
	if c.list.alg != tpm2.AlgSHA1 {
		return c, nil // the replay hashed the fields
	}
	h, buf, sum := crypto.SHA1.New(), []byte(nil), make([]byte, 0, crypto.SHA1.Size())
	for i, e := range c.entries() {
		if e.Violation() {
			continue
		}
		h.Reset()
		h.Write(e.hashed(buf))
		if !bytes.Equal(h.Sum(sum), e.Digest) {
			return nil, evidence.Refuse(codeData, "fields of entry %d do not hash to its digest", i).About("IMA list")
		}
	}
	return c, nil
}

// size returns the length of the entry in the list.
func (e Entry) size(alg tpm2.Alg) int {
	n := 4 + alg.DigestSize() + 4 + len(e.Template) + len(e.Data)
	if e.Template != legacyTemplate {
		n += 4
	}
	return n
}
