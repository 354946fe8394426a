package wire

// A Buffer is the memory of an encoding, to be used again and again. Its zero
// value is ready. It is not safe for concurrent use.
type Buffer struct {
	codec Codec
	bytes []byte
}

// NewBuffer returns a buffer with room for size bytes; it grows when that is too little.
func NewBuffer(size int) *Buffer { return &Buffer{bytes: make([]byte, 0, size)} }

// Encode returns v in big-endian order; it is valid until the next call.
func (b *Buffer) Encode(v Layout) ([]byte, error) {
	out, err := b.codec.Append(b.bytes[:0], v)
	if err == nil {
		b.bytes = out
	}
	return out, err
}
