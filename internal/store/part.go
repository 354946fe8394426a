package store

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"sync"
)

// The first byte of a stored part says how the rest is kept.
const (
	partPlain    = 0
	partDeflated = 1 // RFC 1951
)

// A packer deflates parts. At the fastest level that costs a caller about as much
// time as it saves the committing goroutine in writing, and a boot log takes half
// the space. The zero packer is ready.
type packer struct{ writers sync.Pool } // of *flate.Writer, which are large

// pack returns body as stored: deflated when that is shorter.
func (p *packer) pack(body []byte) []byte {
	var out bytes.Buffer
	out.Grow(len(body)/2 + 64)
	out.WriteByte(partDeflated)
	w, ok := p.writers.Get().(*flate.Writer)
	if !ok {
		w, _ = flate.NewWriter(nil, flate.BestSpeed) // fails for an unknown level only
	}
	defer p.writers.Put(w)
	w.Reset(&out)
	_, err := w.Write(body)
	if err == nil {
		err = w.Close()
	}
	if err != nil || out.Len() > len(body) {
		return append([]byte{partPlain}, body...)
	}
	return out.Bytes()
}

// unpack returns the body of a stored part, of at most maxSize bytes and one more.
func unpack(stored []byte, maxSize int64) ([]byte, error) {
	if len(stored) == 0 || stored[0] > partDeflated {
		return nil, fmt.Errorf("%w: part of an unknown form", ErrCorrupt)
	}
	if stored[0] == partPlain {
		return stored[1:], nil
	}
	body, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(stored[1:])), maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return body, nil
}
