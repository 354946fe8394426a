package attest

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// idAlphabet keeps the order of the bytes it encodes (Crockford's base 32).
var idAlphabet = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// newID returns 26 characters: 48 bits of milliseconds, then 80 random bits, so
// that ids sort by time and cannot be guessed.
func newID(now time.Time, rand io.Reader) (string, error) {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.UnixMilli())<<16)
	if _, err := io.ReadFull(rand, b[6:]); err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return idAlphabet.EncodeToString(b[:]), nil
}
