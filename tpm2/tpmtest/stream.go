package tpmtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"io"
)

// newStream returns the bytes that a seed stands for: AES-256 in counter mode
// under its digest.
func newStream(seed []byte) io.Reader {
	key := sha256.Sum256(seed)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // a key of 32 bytes is always good
	}
	return &cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, aes.BlockSize)), R: zeros{}}
}

// zeros is an endless reader of zeros.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
