package main

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// The mechanisms: AES-GCM with associated data, and AES key wrap with padding (RFC
// 5649) for tokens that do not have it.
const (
	mechanismGCM     = "gcm"
	mechanismKeyWrap = "key-wrap"
)

// ckmAESKeyWrapPad is CKM_AES_KEY_WRAP_PAD (PKCS #11 Current Mechanisms 3.0, 2.15).
const ckmAESKeyWrapPad = 0x210a

func (t *token) encrypt(r *request) ([]byte, error) {
	key, err := t.key(r.Object, r.KeyID)
	if err != nil {
		return nil, err
	}
	if len(r.Data) != keyBytes {
		return nil, &fault{kindGarbage, fmt.Errorf("%d bytes to encrypt, want %d", len(r.Data), keyBytes)}
	}
	switch r.Mechanism {
	case mechanismGCM:
		return t.gcm(key, r.IV, r.AAD, r.Data, true)
	case mechanismKeyWrap:
		return t.wrap(key, r.Data)
	}
	return nil, errMechanism
}

var errMechanism = &fault{kindGarbage, errors.New("mechanism is not known")}

func (t *token) decrypt(r *request) ([]byte, error) {
	key, err := t.key(r.Object, r.KeyID)
	if err != nil {
		return nil, err
	}
	var out []byte
	switch r.Mechanism {
	case mechanismGCM:
		out, err = t.gcm(key, r.IV, r.AAD, r.Data, false)
	case mechanismKeyWrap:
		out, err = t.unwrap(key, r.Data)
	default:
		return nil, errMechanism
	}
	var f *fault
	if errors.As(err, &f) && f.kind == kindUnavailable && t.serves(r, key) {
		// Tokens have many names for a tag that does not fit, CKR_GENERAL_ERROR among
		// them. One that decrypts what it encrypts is not the one that is ill.
		f.kind = kindOpen
	}
	return out, err
}

// serves reports whether the token decrypts what it encrypts now.
func (t *token) serves(r *request, key pkcs11.ObjectHandle) bool {
	var text []byte
	var err error
	if r.Mechanism == mechanismKeyWrap {
		if text, err = t.wrap(key, make([]byte, keyBytes)); err == nil {
			_, err = t.unwrap(key, text)
		}
		return err == nil
	}
	iv, err := t.ctx.GenerateRandom(t.session, 12)
	if err == nil {
		text, err = t.gcm(key, iv, r.AAD, make([]byte, keyBytes), true)
	}
	if err == nil {
		_, err = t.gcm(key, iv, r.AAD, text, false)
	}
	return err == nil
}

// gcm is CKM_AES_GCM in one part; the tag is at the end of the ciphertext.
func (t *token) gcm(key pkcs11.ObjectHandle, iv, aad, in []byte, encrypt bool) ([]byte, error) {
	p := pkcs11.NewGCMParams(iv, aad, tagBits)
	defer p.Free()
	m := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, p)}
	if encrypt {
		if err := t.ctx.EncryptInit(t.session, m, key); err != nil {
			return nil, failed("C_EncryptInit", err)
		}
		out, err := t.ctx.Encrypt(t.session, in)
		if err != nil {
			return nil, failed("C_Encrypt", err)
		}
		if used := p.IV(); string(used) != string(iv) {
			return nil, &fault{kindGarbage, errors.New("the token uses a nonce of its own: use mechanism=key-wrap")}
		}
		return out, nil
	}
	if err := t.ctx.DecryptInit(t.session, m, key); err != nil {
		return nil, failed("C_DecryptInit", err)
	}
	out, err := t.ctx.Decrypt(t.session, in)
	if err != nil {
		return nil, failed("C_Decrypt", err)
	}
	return out, nil
}

// wrap makes a key of the session from data and has the token wrap it.
func (t *token) wrap(key pkcs11.ObjectHandle, data []byte) ([]byte, error) {
	o, err := t.ctx.CreateObject(t.session, append(sessionKey(), pkcs11.NewAttribute(pkcs11.CKA_VALUE, data)))
	if err != nil {
		return nil, failed("C_CreateObject", err)
	}
	defer t.ctx.DestroyObject(t.session, o)
	out, err := t.ctx.WrapKey(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(ckmAESKeyWrapPad, nil)}, key, o)
	if err != nil {
		return nil, failed("C_WrapKey", err)
	}
	return out, nil
}

// sessionKey is the template of a key that lives for one operation.
func sessionKey() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	}
}

func (t *token) unwrap(key pkcs11.ObjectHandle, data []byte) ([]byte, error) {
	o, err := t.ctx.UnwrapKey(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(ckmAESKeyWrapPad, nil)}, key, data, sessionKey())
	if err != nil {
		return nil, failed("C_UnwrapKey", err)
	}
	defer t.ctx.DestroyObject(t.session, o)
	a, err := t.ctx.GetAttributeValue(t.session, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err != nil || len(a) != 1 {
		return nil, failed("C_GetAttributeValue", err)
	}
	return a[0].Value, nil
}
