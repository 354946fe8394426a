// Package audit chains the decisions of the service: each entry carries the
// hash of the one before, so that no entry can be altered, dropped or put in
// between without showing.
//
// The chain does not prove that its end is the real end: a cut tail shows only
// against a [Head] noted elsewhere. Storage is the caller's; start with [Link]
// and [Verifier].
package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Hash is the SHA-256 digest of an entry.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes h in hex.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(h) {
		return fmt.Errorf("hash of %d digits, want %d", len(b), 2*len(h))
	}
	_, err := hex.Decode(h[:], b)
	return err
}

// An Entry is one decision. Seq, Prev and Hash are set by [Link].
type Entry struct {
	Seq     uint64          `json:"seq"` // from 1, without gaps
	Time    time.Time       `json:"time"`
	Actor   string          `json:"actor"`   // who asked: a principal's name, or "service"
	Action  string          `json:"action"`  // "attest", "policy.put", …
	Subject string          `json:"subject"` // what it is about: an id or a name
	Outcome string          `json:"outcome"` // "trusted", "refused", "done", "denied"
	Detail  json.RawMessage `json:"detail,omitempty"`
	Prev    Hash            `json:"prev"`
	Hash    Hash            `json:"hash"`
}

// A Head is where a chain ends. The zero Head is that of the empty chain.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash Hash   `json:"hash"`
}

// Link returns e as the entry that follows head, in the one spelling that every
// store and JSON give back: its time to the microsecond in UTC, its texts UTF-8
// without NUL, its Detail compact.
func Link(head Head, e Entry) Entry {
	e.Seq, e.Prev = head.Seq+1, head.Hash
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	for _, s := range []*string{&e.Actor, &e.Action, &e.Subject, &e.Outcome} {
		*s = text(*s)
	}
	e.Detail = compact(e.Detail)
	e.Hash = e.sum()
	return e
}

// text replaces what JSON (RFC 8259, 8.1) or a database cannot carry: an entry
// with a hostile name in it must be kept, not refused.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
}

// compact gives Detail the spelling that encoding/json keeps. What is no JSON
// becomes a JSON string, so that it is kept too.
func compact(detail json.RawMessage) json.RawMessage {
	if len(detail) == 0 {
		return nil
	}
	if !json.Valid(detail) || !utf8.Valid(detail) {
		detail, _ = json.Marshal(string(detail)) // strings always marshal
		return detail
	}
	out, err := json.Marshal(detail)
	if err != nil {
		panic("unreachable: valid JSON does not marshal: " + err.Error())
	}
	return out
}

// UnmarshalJSON reads an entry however it was indented. It does not check the
// chain: that is [Verifier.Next].
func (e *Entry) UnmarshalJSON(b []byte) error {
	type plain Entry
	if err := json.Unmarshal(b, (*plain)(e)); err != nil {
		return err
	}
	e.Detail = compact(e.Detail)
	return nil
}

// Head returns the head of the chain that ends with e.
func (e Entry) Head() Head { return Head{e.Seq, e.Hash} }

// sum hashes every member, each text with its length before it.
func (e Entry) sum() Hash {
	h := sha256.New()
	h.Write([]byte("assay audit entry v1\x00"))
	num := func(n uint64) { h.Write(binary.BigEndian.AppendUint64(nil, n)) }
	num(e.Seq)
	num(uint64(e.Time.UnixMicro()))
	for _, s := range []string{e.Actor, e.Action, e.Subject, e.Outcome, string(e.Detail)} {
		num(uint64(len(s)))
		h.Write([]byte(s))
	}
	h.Write(e.Prev[:])
	return Hash(h.Sum(nil))
}

// A BreakError is the first entry at which a chain does not hold.
type BreakError struct {
	Seq uint64 // of the entry at fault, or the one that is missing
	Why string
}

func (e *BreakError) Error() string { return fmt.Sprintf("audit entry %d: %s", e.Seq, e.Why) }

// A Verifier walks a chain from its first entry. The zero Verifier is ready.
type Verifier struct{ head Head }

// Next checks that e follows what came before. The error is a [*BreakError].
func (v *Verifier) Next(e Entry) error {
	switch want := v.head.Seq + 1; {
	case e.Seq > want:
		return &BreakError{want, fmt.Sprintf("missing: the next entry is %d", e.Seq)}
	case e.Seq < want:
		return &BreakError{e.Seq, "appears twice or out of order"}
	case e.Prev != v.head.Hash:
		return &BreakError{e.Seq, "does not carry the hash of the entry before"}
	case e.Hash != e.sum():
		return &BreakError{e.Seq, "was altered: its content does not give its hash"}
	}
	v.head = e.Head()
	return nil
}

// Head returns the head of what was checked so far.
func (v *Verifier) Head() Head { return v.head }

// Reached checks that the chain still holds a head that was noted earlier; call
// it when the walk has ended, with the hashes that it passed. A chain that is shorter lost its tail.
func (v *Verifier) Reached(noted Head, at func(seq uint64) (Hash, bool)) error {
	if noted.Seq > v.head.Seq {
		return &BreakError{v.head.Seq + 1, fmt.Sprintf("missing: the chain once reached entry %d", noted.Seq)}
	}
	if h, ok := at(noted.Seq); !ok || h != noted.Hash {
		return &BreakError{noted.Seq, "is not the entry that was noted"}
	}
	return nil
}
