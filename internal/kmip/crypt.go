package kmip

import (
	"context"
	"fmt"
)

// A Mode is how a server encrypts.
type Mode uint8

// The modes. GCM binds associated data; CBC, with the padding of PKCS #5, does not,
// and does not show an altered ciphertext.
const (
	ModeGCM Mode = 1
	ModeCBC Mode = 2
)

// Sizes of AES in these modes, in bytes.
const (
	nonceGCM = 12
	ivCBC    = 16
	tagGCM   = 16
	maxData  = 4096
)

// IVSize is the length of the nonce or initialization vector that a mode takes.
func (m Mode) IVSize() int {
	if m == ModeGCM {
		return nonceGCM
	}
	return ivCBC
}

// BestMode is GCM where the agreed version has it: associated data and the tag are of
// version 1.4.
func (c *Conn) BestMode() Mode {
	if c.version.less(Version{1, 4}) {
		return ModeCBC
	}
	return ModeGCM
}

// An Encrypted is what a server made.
type Encrypted struct {
	Mode Mode
	IV   []byte // of Mode.IVSize bytes
	Data []byte
	Tag  []byte // of GCM: 16 bytes
}

func (m Mode) parameters() (Item, error) {
	switch m {
	case ModeGCM:
		return Structure(
			TagCryptographicParameters, Enumeration(TagBlockCipherMode, modeGCM),
			Enumeration(TagCryptographicAlgorithm, algorithmAES), Integer(TagTagLength, tagGCM),
		), nil
	case ModeCBC:
		return Structure(
			TagCryptographicParameters, Enumeration(TagBlockCipherMode, modeCBC),
			Enumeration(TagPaddingMethod, paddingPKCS5), Enumeration(TagCryptographicAlgorithm, algorithmAES),
		), nil
	}
	return Item{}, fmt.Errorf("mode %d is not known", m)
}

// Encrypt has the server encrypt data under the key id (4.29). iv has the mode's size
// and is never used twice with a key; aad is for GCM alone.
func (c *Conn) Encrypt(ctx context.Context, id string, m Mode, iv, data, aad []byte) (Encrypted, error) {
	parameters, err := m.parameters()
	if err != nil {
		return Encrypted{}, err
	}
	payload := []Item{Text(TagUniqueIdentifier, id), parameters, Bytes(TagData, data), Bytes(TagIVCounterNonce, iv)}
	if m == ModeGCM {
		payload = append(payload, Bytes(TagAuthenticatedData, aad))
	}
	p, err := c.do(ctx, OperationEncrypt, payload...)
	if err != nil {
		return Encrypted{}, err
	}
	out, err := answered(p, OperationEncrypt, id)
	if err != nil {
		return Encrypted{}, err
	}
	e := Encrypted{Mode: m, IV: iv, Data: out}
	if m == ModeGCM {
		tag, ok := p.Get(TagAuthenticatedTag, TypeByteString)
		if !ok || len(tag.Bytes) != tagGCM {
			return Encrypted{}, fmt.Errorf("%s: %w: a tag of %d bytes, want %d", OperationEncrypt, ErrResponse, len(tag.Bytes), tagGCM)
		}
		e.Tag = tag.Bytes
	}
	return e, nil
}

// Decrypt is the inverse (4.30). The caller clears what it returns.
func (c *Conn) Decrypt(ctx context.Context, id string, e Encrypted, aad []byte) ([]byte, error) {
	parameters, err := e.Mode.parameters()
	if err != nil {
		return nil, err
	}
	payload := []Item{Text(TagUniqueIdentifier, id), parameters, Bytes(TagData, e.Data), Bytes(TagIVCounterNonce, e.IV)}
	if e.Mode == ModeGCM {
		payload = append(payload, Bytes(TagAuthenticatedData, aad), Bytes(TagAuthenticatedTag, e.Tag))
	}
	p, err := c.do(ctx, OperationDecrypt, payload...)
	if err != nil {
		return nil, err
	}
	return answered(p, OperationDecrypt, id)
}

// answered returns the data of an answer about the key id.
func answered(p Item, op Operation, id string) ([]byte, error) {
	got, err := identifier(op, p)
	if err != nil {
		return nil, err
	}
	data, ok := p.Get(TagData, TypeByteString)
	if got != id || !ok || len(data.Bytes) > maxData {
		return nil, fmt.Errorf("%s: %w: no data of key %q", op, ErrResponse, id)
	}
	return data.Bytes, nil
}
