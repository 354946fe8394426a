package tpmcrypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/subtle"
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
)

// BlockSize is the size in bytes of a block, and of an initial value, of every
// block cipher here.
const BlockSize = aes.BlockSize

// EncryptSym encrypts data with the block cipher and mode of def (Part 3,
// 15.2, TPM2_EncryptDecrypt2) and returns the ciphertext with the initial value
// for the data that follows: a stream may be encrypted in parts, of which all but
// the last are whole blocks. After a part of a block the rest of the value is as
// the reference leaves it. ECB takes an empty value and returns one.
//
// Refusals: TPM_RC_SYMMETRIC, TPM_RC_MODE, TPM_RC_KEY_SIZE, and TPM_RC_SIZE for an
// initial value that is not a block, or data that CBC and ECB cannot take.
func EncryptSym(def tpm2.SymDefObject, key, iv, data []byte) (out, ivOut []byte, err error) {
	return runSym(def, key, iv, data, true)
}

// DecryptSym is the inverse of [EncryptSym], with the same initial values and refusals.
func DecryptSym(def tpm2.SymDefObject, key, iv, data []byte) (out, ivOut []byte, err error) {
	return runSym(def, key, iv, data, false)
}

func runSym(def tpm2.SymDefObject, key, iv, data []byte, encrypt bool) (out, ivOut []byte, err error) {
	block, err := newBlock(def.Algorithm, def.KeyBits, key)
	if err != nil {
		return nil, nil, err
	}
	want := BlockSize
	if def.Mode == tpm2.AlgECB {
		want = 0 // Part 3, 15.2.1: ECB has no initial value
	}
	if len(iv) != want {
		return nil, nil, refuse(tpm2.RCSize, "initial value has %d bytes, want %d", len(iv), want)
	}
	if whole := def.Mode == tpm2.AlgCBC || def.Mode == tpm2.AlgECB; whole && len(data)%BlockSize != 0 {
		return nil, nil, refuse(tpm2.RCSize, "data of %d bytes is not whole blocks", len(data))
	}
	out, ivOut = append([]byte{}, data...), append([]byte{}, iv...)
	switch def.Mode {
	case tpm2.AlgCFB:
		cfb(block, ivOut, out, encrypt)
	case tpm2.AlgCTR:
		ctr(block, ivOut, out)
	case tpm2.AlgOFB:
		ofb(block, ivOut, out)
	case tpm2.AlgCBC:
		cbc(block, ivOut, out, encrypt)
	case tpm2.AlgECB:
		ecb(block, out, encrypt)
	default:
		return nil, nil, refuse(tpm2.RCMode, "mode %s", def.Mode.BankName())
	}
	return out, ivOut, nil
}

// newBlock makes the key of a block cipher; AES is the one there is.
func newBlock(alg tpm2.Alg, bits uint16, key []byte) (cipher.Block, error) {
	if alg != tpm2.AlgAES {
		return nil, refuse(tpm2.RCSymmetric, "block cipher %s", alg.BankName())
	}
	switch bits {
	case 128, 192, 256:
	default:
		return nil, refuse(tpm2.RCKeySize, "AES with a key of %d bits", bits)
	}
	if len(key)*8 != int(bits) {
		return nil, refuse(tpm2.RCKeySize, "AES key has %d bytes, want %d bits", len(key), bits)
	}
	return aes.NewCipher(key)
}

// cfb is the full-block CFB mode of SP 800-38A, 6.3, in place; iv becomes the
// last block of ciphertext, filled up with zeros as the reference does.
func cfb(block cipher.Block, iv, b []byte, encrypt bool) {
	if len(b) == 0 {
		return
	}
	var pad, last [BlockSize]byte
	final := (len(b) - 1) / BlockSize * BlockSize // where the last block, or part of one, starts
	one := func(i int) {
		before := iv
		if i > 0 {
			before = b[i-BlockSize : i]
		}
		block.Encrypt(pad[:], before)
		text := b[i:min(i+BlockSize, len(b))]
		subtle.XORBytes(text, text, pad[:])
	}
	if encrypt {
		for i := 0; i <= final; i += BlockSize {
			one(i)
		}
		copy(last[:], b[final:])
	} else {
		copy(last[:], b[final:])
		for i := final; i >= 0; i -= BlockSize { // backwards, as a block needs the ciphertext before it
			one(i)
		}
	}
	copy(iv, last[:])
}

// ctr is the counter mode of SP 800-38A, 6.5, over the whole block, in place; iv
// becomes the counter that comes next, also when only part of a block was used.
func ctr(block cipher.Block, iv, b []byte) {
	if len(b) == 0 {
		return
	}
	cipher.NewCTR(block, iv).XORKeyStream(b, b)
	carry := uint64((len(b) + BlockSize - 1) / BlockSize)
	low := binary.BigEndian.Uint64(iv[8:])
	binary.BigEndian.PutUint64(iv[8:], low+carry)
	if low+carry < low {
		binary.BigEndian.PutUint64(iv, binary.BigEndian.Uint64(iv)+1)
	}
}

// ofb is the output feedback mode of SP 800-38A, 6.4, in place; iv becomes the last
// block of the key stream, which is not told by its size how much of it was used.
func ofb(block cipher.Block, iv, b []byte) {
	for len(b) > 0 {
		n := min(len(b), BlockSize)
		block.Encrypt(iv, iv)
		subtle.XORBytes(b[:n], b[:n], iv[:n])
		b = b[n:]
	}
}

// cbc is the chaining mode of SP 800-38A, 6.2, in place over whole blocks; iv
// becomes the last block of ciphertext.
func cbc(block cipher.Block, iv, b []byte, encrypt bool) {
	if len(b) == 0 {
		return
	}
	if encrypt {
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(b, b)
		copy(iv, b[len(b)-BlockSize:])
		return
	}
	var last [BlockSize]byte
	copy(last[:], b[len(b)-BlockSize:])
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(b, b)
	copy(iv, last[:])
}

// ecb is the codebook mode of SP 800-38A, 6.1, in place over whole blocks.
func ecb(block cipher.Block, b []byte, encrypt bool) {
	for ; len(b) > 0; b = b[BlockSize:] {
		if encrypt {
			block.Encrypt(b[:BlockSize], b[:BlockSize])
		} else {
			block.Decrypt(b[:BlockSize], b[:BlockSize])
		}
	}
}

// EncryptCFB encrypts b in place by AES in CFB mode, as the TPM protects objects,
// contexts and parameters (Part 1, 21.3, 22.4). The key has 16, 24 or 32 bytes and
// iv one block, or nil for zeros; iv is not changed. Refusals are TPM_RC_KEY_SIZE
// and TPM_RC_SIZE.
func EncryptCFB(key, iv, b []byte) error { return runCFB(key, iv, b, true) }

// DecryptCFB is the inverse of [EncryptCFB].
func DecryptCFB(key, iv, b []byte) error { return runCFB(key, iv, b, false) }

func runCFB(key, iv, b []byte, encrypt bool) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return refuse(tpm2.RCKeySize, "AES key has %d bytes", len(key))
	}
	if iv != nil && len(iv) != BlockSize {
		return refuse(tpm2.RCSize, "initial value has %d bytes, want %d", len(iv), BlockSize)
	}
	first := make([]byte, BlockSize)
	copy(first, iv)
	cfb(block, first, b, encrypt)
	return nil
}

// XOR obfuscates or clears b in place with a mask from KDFa (Part 1, 11.4.6.3).
// The refusal is TPM_RC_HASH.
func XOR(a tpm2.Alg, key, contextU, contextV, b []byte) error {
	h, err := hashOf(a)
	if err != nil {
		return err
	}
	var size, counter [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(len(b)*8)) // the mask's bits; a parameter is shorter than 64 KiB
	mac := hmac.New(h.New, key)
	mask := make([]byte, 0, h.Size())
	for i := uint32(1); len(b) > 0; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		mac.Reset()
		for _, p := range [][]byte{counter[:], []byte("XOR\x00"), contextU, contextV, size[:]} {
			mac.Write(p)
		}
		mask = mac.Sum(mask[:0])
		n := subtle.XORBytes(b, b, mask)
		b = b[n:]
	}
	return nil
}
