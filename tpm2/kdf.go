package tpm2

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"hash"
)

// maxKDFBits bounds what one derivation gives; TPM 2.0 asks for at most an RSA
// prime or an ECC key with 64 extra bits (Part 1, 11.4.10, B.2).
const maxKDFBits = 4096

// KDFa derives bits bits by SP 800-108 in counter mode with HMAC (Part 1,
// 11.4.10.2). The label has no terminating zero; KDFa adds it.
func KDFa(a Alg, key []byte, label string, contextU, contextV []byte, bits int) ([]byte, error) {
	h, ok := a.Hash()
	if !ok {
		return nil, fmt.Errorf("hash %s of KDFa is not supported", a.BankName())
	}
	return KDFaBy(hmac.New(h.New, key), label, contextU, contextV, bits)
}

// KDFaBy is [KDFa] by an HMAC under the key, which nothing was written to; it is
// left used up.
func KDFaBy(mac hash.Hash, label string, contextU, contextV []byte, bits int) ([]byte, error) {
	b := make([]byte, 4, 4+len(label)+1+len(contextU)+len(contextV)+4)
	b = append(append(b, label...), 0)
	b = append(append(b, contextU...), contextV...)
	b = binary.BigEndian.AppendUint32(b, uint32(bits)) // bounded by derive before it is used
	return derive(mac, bits, func(counter uint32) {
		binary.BigEndian.PutUint32(b, counter)
		mac.Write(b)
	})
}

// KDFe derives bits bits from an ECDH secret by SP 800-56A (Part 1,
// 11.4.10.3). The use has no terminating zero; KDFe adds it.
func KDFe(a Alg, z []byte, use string, partyU, partyV []byte, bits int) ([]byte, error) {
	h, ok := a.Hash()
	if !ok {
		return nil, fmt.Errorf("hash %s of KDFe is not supported", a.BankName())
	}
	sum := h.New()
	return derive(sum, bits, func(counter uint32) {
		write32(sum, counter)
		sum.Write(z)
		sum.Write([]byte(use))
		sum.Write([]byte{0})
		sum.Write(partyU)
		sum.Write(partyV)
	})
}

// derive concatenates blocks of h until there are bits bits. When bits is not a
// multiple of eight, the surplus high bits of the first byte are cleared
// (Part 1, 11.4.10.2).
func derive(h hash.Hash, bits int, block func(counter uint32)) ([]byte, error) {
	if bits <= 0 || bits > maxKDFBits {
		return nil, fmt.Errorf("key derivation of %d bits is outside 1 to %d", bits, maxKDFBits)
	}
	size := (bits + 7) / 8
	out := make([]byte, 0, size+h.Size())
	for counter := uint32(1); len(out) < size; counter++ {
		if counter > 1 {
			h.Reset() // costs as much as a block
		}
		block(counter)
		out = h.Sum(out)
	}
	out = out[:size]
	if bits%8 != 0 {
		out[0] &= 1<<(bits%8) - 1
	}
	return out, nil
}

func write32(h hash.Hash, v uint32) {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	h.Write(b[:])
}
