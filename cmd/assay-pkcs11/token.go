package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// The kinds of a fault.
const (
	kindUnavailable = "unavailable"
	kindRefused     = "refused"
	kindUnknownKey  = "unknown-key"
	kindOpen        = "does-not-open"
	kindGarbage     = "garbage"
)

// keyBytes is the length of the keys that are made, and of what they encrypt.
const keyBytes = 32

// tagBits is the length of GCM's tag.
const tagBits = 128

// A token is a session with one.
type token struct {
	ctx     *pkcs11.Ctx
	session pkcs11.SessionHandle
}

// open loads the library, finds the token, and logs in.
func (t *token) open(r *request) error {
	if t.ctx != nil {
		return &fault{kindGarbage, errors.New("a token is open already")}
	}
	ctx := pkcs11.New(r.Module)
	if ctx == nil {
		return &fault{kindUnavailable, fmt.Errorf("library %q cannot be loaded", r.Module)}
	}
	if err := ctx.Initialize(); err != nil {
		ctx.Destroy()
		return failed("C_Initialize", err)
	}
	t.ctx = ctx
	slot, err := t.slot(r.Token, r.Serial)
	if err != nil {
		return err
	}
	if t.session, err = ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return failed("C_OpenSession", err)
	}
	if len(r.PIN) == 0 {
		return nil
	}
	if err := ctx.Login(t.session, pkcs11.CKU_USER, string(r.PIN)); err != nil {
		return failed("C_Login", err)
	}
	return nil
}

// slot finds the one token of a label, and of a serial number if one is given.
func (t *token) slot(label, serial string) (uint, error) {
	slots, err := t.ctx.GetSlotList(true)
	if err != nil {
		return 0, failed("C_GetSlotList", err)
	}
	var found []uint
	for _, s := range slots {
		info, err := t.ctx.GetTokenInfo(s)
		if err == nil && (label == "" || info.Label == label) && (serial == "" || info.SerialNumber == serial) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		return 0, &fault{kindUnavailable, fmt.Errorf("%d tokens have label %q and serial number %q, want one", len(found), label, serial)}
	}
	return found[0], nil
}

func (t *token) close() {
	if t.ctx != nil {
		_ = t.ctx.Finalize() // closes sessions and logs out
		t.ctx.Destroy()
		t.ctx = nil
	}
}

var errNotOpen = &fault{kindGarbage, errors.New("no token is open")}

// keys finds the AES keys of a label, and of an id unless it is nil.
func (t *token) keys(label string, id []byte) ([]pkcs11.ObjectHandle, error) {
	if t.ctx == nil {
		return nil, errNotOpen
	}
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	if id != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	if err := t.ctx.FindObjectsInit(t.session, template); err != nil {
		return nil, failed("C_FindObjectsInit", err)
	}
	found, _, err := t.ctx.FindObjects(t.session, 16)
	if end := t.ctx.FindObjectsFinal(t.session); err == nil {
		err = end
	}
	if err != nil {
		return nil, failed("C_FindObjects", err)
	}
	return found, nil
}

// only returns the id of the one key of a label.
func (t *token) only(label string) ([]byte, error) {
	found, err := t.keys(label, nil)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, &fault{kindUnknownKey, fmt.Errorf("the token has %d AES keys with the label %q: name one by its id", len(found), label)}
	}
	a, err := t.ctx.GetAttributeValue(t.session, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, nil)})
	if err != nil || len(a) != 1 || len(a[0].Value) == 0 {
		return nil, &fault{kindUnknownKey, fmt.Errorf("the key %q has no id (%v)", label, err)}
	}
	return a[0].Value, nil
}

// key returns a key that serves: one of its label and id, which never leaves the token.
func (t *token) key(label string, id []byte) (pkcs11.ObjectHandle, error) {
	if len(id) == 0 {
		return 0, &fault{kindGarbage, errors.New("no id of a key")}
	}
	found, err := t.keys(label, id)
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, &fault{kindUnknownKey, fmt.Errorf("the token has %d AES keys with the label %q and the id %x, want one", len(found), label, id)}
	}
	a, err := t.ctx.GetAttributeValue(t.session, found[0], []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil),
	})
	if err != nil || len(a) != 2 {
		return 0, failed("C_GetAttributeValue", err)
	}
	if !bytes.Equal(a[0].Value, []byte{1}) || !bytes.Equal(a[1].Value, []byte{0}) {
		return 0, &fault{kindRefused, fmt.Errorf("key %q may leave the token: want one that is sensitive and not extractable", label)}
	}
	return found[0], nil
}

// create makes an AES-256 key that never leaves the token.
func (t *token) create(label string) ([]byte, error) {
	if t.ctx == nil {
		return nil, errNotOpen
	}
	id, err := t.ctx.GenerateRandom(t.session, 8)
	if err != nil {
		return nil, failed("C_GenerateRandom", err)
	}
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keyBytes), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, true), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
	}
	if _, err := t.ctx.GenerateKey(t.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, template); err != nil {
		return nil, failed("C_GenerateKey", err)
	}
	return id, nil
}

// failed names the function that failed and the kind of the fault.
func failed(function string, err error) error {
	if err == nil {
		err = errors.New("no answer")
	}
	kind := kindUnavailable
	var rv pkcs11.Error
	if errors.As(err, &rv) {
		kind = kindOf(rv)
	}
	return &fault{kind, fmt.Errorf("%s: %w", function, err)}
}

// kindOf tells which return values asking again does not help against.
func kindOf(rv pkcs11.Error) string {
	switch rv {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED,
		pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_USER_PIN_NOT_INITIALIZED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
		pkcs11.CKR_TOKEN_WRITE_PROTECTED, pkcs11.CKR_SESSION_READ_ONLY, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID,
		pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_ACTION_PROHIBITED:
		return kindRefused
	case pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_WRAPPED_KEY_INVALID, pkcs11.CKR_WRAPPED_KEY_LEN_RANGE:
		return kindOpen
	}
	return kindUnavailable
}
