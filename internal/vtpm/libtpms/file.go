package libtpms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"

	"github.com/assay-project/assay/wire"
)

// MaxFile bounds a state file, in bytes; swtpm's are some kilobytes long.
const MaxFile = 1 << 20

// PermanentFile is the name of the file in swtpm's state folder.
const PermanentFile = "tpm2-00.permall"

// A Key opens encrypted states: 16 or 32 bytes. Its zero value is no key.
type Key []byte

// PassphraseKey makes the key of a passphrase as swtpm's --key pwdfile=… does; bits
// is 128 (mode aes-cbc, aes-128-cbc) or 256 (aes-256-cbc). All bytes of the file
// count, a newline at its end included.
func PassphraseKey(passphrase []byte, bits int) (Key, error) {
	return pbkdf2.Key(sha512.New, string(passphrase), []byte("swtpm"), 1000, bits/8)
}

// HashedKey makes the key of a passphrase as kdf=sha512 has swtpm do.
func HashedKey(passphrase []byte, bits int) Key {
	sum := sha512.Sum512(passphrase)
	return sum[:bits/8]
}

// KeyBits returns the size of the key that opens a state file: 128 or 256, and 0 for
// a state in the clear.
func KeyBits(file []byte) (int, error) {
	var h fileHeader
	if _, err := wire.DecodePrefix(file, &h); err != nil {
		return 0, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	switch {
	case h.flags&flagEncrypted == 0:
		return 0, nil
	case h.flags&flagEncrypted256Bit == 0:
		return 128, nil
	}
	return 256, nil
}

// Open reads a state file of swtpm. The key may be nil for a state in the clear.
// The State aliases file where that is in the clear.
func Open(file []byte, key Key) (*State, error) {
	blob, err := unwrap(file, key)
	if err != nil {
		return nil, err
	}
	return parse(blob)
}

// fileHeader is blobheader of swtpm_nvstore.c.
type fileHeader struct {
	version, oldest uint8
	size            uint16
	flags           uint16
	total           uint32
}

const (
	fileHeaderSize = 10
	fileVersion    = 2

	flagEncrypted       = 0x01
	flagEncrypted256Bit = 0x08
)

// Wire lays out the header.
func (h *fileHeader) Wire(c *wire.Codec) {
	wire.U8(c, &h.version)
	wire.U8(c, &h.oldest)
	wire.U16(c, &h.size)
	wire.U16(c, &h.flags)
	wire.U32(c, &h.total)
}

// Tags of what follows the header from version 2 on (tlv.h).
const (
	tagData      = 1
	tagEncrypted = 2
	tagHMAC      = 3
	tagIV        = 6
)

// unwrap gives the state within the file, decrypted.
func unwrap(file []byte, key Key) ([]byte, error) {
	if len(file) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes are more than %d", ErrFormat, len(file), MaxFile)
	}
	var h fileHeader
	rest, err := wire.DecodePrefix(file, &h)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	case h.oldest > fileVersion:
		return nil, fmt.Errorf("%w: header version %d, readable from %d on", ErrVersion, h.version, h.oldest)
	case h.version == 0 || h.size != fileHeaderSize:
		return nil, fmt.Errorf("%w: header version %d of %d bytes", ErrFormat, h.version, h.size)
	case uint64(h.total) != uint64(len(file)):
		return nil, fmt.Errorf("%w: the header gives %d bytes, there are %d: the file is cut or torn", ErrFormat, h.total, len(file))
	case h.version == 1 && h.flags&flagEncrypted != 0:
		return nil, fmt.Errorf("%w: encrypted with header version 1; start swtpm 0.2 or newer with it once", ErrFormat)
	case h.version == 1:
		return rest, nil
	}
	parts, err := tagged(rest)
	if err != nil {
		return nil, err
	}
	if h.flags&flagEncrypted == 0 {
		data, ok := parts[tagData]
		if !ok {
			return nil, fmt.Errorf("%w: no data (tag %d)", ErrFormat, tagData)
		}
		return data, nil
	}
	return decrypt(parts, key, h.flags&flagEncrypted256Bit != 0)
}

// A tagValue is a type, a length and a value.
type tagValue struct {
	tag   uint16
	value []byte
}

// Wire lays out the three.
func (t *tagValue) Wire(c *wire.Codec) {
	wire.U16(c, &t.tag)
	c.Sized32(&t.value, MaxFile)
}

// tagged reads values with tags to the end of b. swtpm takes the first of a tag.
func tagged(b []byte) (map[uint16][]byte, error) {
	out := map[uint16][]byte{}
	for len(b) > 0 {
		var t tagValue
		rest, err := wire.DecodePrefix(b, &t)
		if err != nil {
			return nil, fmt.Errorf("%w: value with tag: %w", ErrFormat, err)
		}
		if _, twice := out[t.tag]; twice {
			return nil, fmt.Errorf("%w: tag %d is there twice", ErrFormat, t.tag)
		}
		out[t.tag], b = t.value, rest
	}
	return out, nil
}

// decrypt checks the HMAC over the ciphertext and the IV, and decrypts AES-CBC
// with padding like that of PKCS #7.
func decrypt(parts map[uint16][]byte, key Key, long bool) ([]byte, error) {
	want := 16
	if long {
		want = 32
	}
	if len(key) != want {
		return nil, fmt.Errorf("%w: it is encrypted with AES-%d, the key has %d bits", ErrKey, 8*want, 8*len(key))
	}
	text, iv := parts[tagEncrypted], parts[tagIV]
	if len(text) == 0 || len(text)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%w: ciphertext of %d bytes", ErrFormat, len(text))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(text)
	mac.Write(iv)
	if !hmac.Equal(mac.Sum(nil), parts[tagHMAC]) {
		return nil, fmt.Errorf("%w: its HMAC is wrong; the file may be altered, too", ErrKey)
	}
	if len(iv) == 0 {
		iv = make([]byte, aes.BlockSize) // of swtpm before 0.3
	}
	// swtpm writes an IV, and pads, by the size of the key.
	if len(iv) < aes.BlockSize {
		return nil, fmt.Errorf("%w: IV of %d bytes", ErrFormat, len(iv))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(text))
	cipher.NewCBCDecrypter(block, iv[:aes.BlockSize]).CryptBlocks(plain, text)
	return unpad(plain, len(key))
}

func unpad(b []byte, limit int) ([]byte, error) {
	n := int(b[len(b)-1])
	if n == 0 || n > limit || n > len(b) {
		return nil, fmt.Errorf("%w: padding of %d bytes", ErrFormat, n)
	}
	for _, v := range b[len(b)-n:] {
		if int(v) != n {
			return nil, fmt.Errorf("%w: padding is not all of one value", ErrFormat)
		}
	}
	return b[:len(b)-n], nil
}
