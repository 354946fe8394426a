package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// A wrapping is the outer protection of something that leaves the TPM: encryption
// and an HMAC over it and the Name of an object (Part 1, 22.4, 23.3.2.3, 24).
type wrapping struct {
	hash    tpm2.Alg // of the HMAC and of KDFa: the protector's Name algorithm
	keyBits int      // of AES in CFB mode
	seed    []byte   // of the protector, or that of a duplicate or credential
	macs    *macs    // that keeps its keys prepared
	macKey  *[]byte  // where the key of the HMAC is kept once it was derived, or nil
}

// wrapping returns the protection by a seed that was encrypted to o, which may
// be empty.
func (o *object) wrapping(seed []byte) wrapping { return o.wrappingBy(new(macs), seed) }

//go:noinline
func (o *object) wrappingBy(m *macs, seed []byte) wrapping {
	return wrapping{hash: o.public.NameAlg, keyBits: int(symmetricOf(&o.public).KeyBits), seed: seed, macs: m}
}

// childWrapping returns the protection of the children of o, a storage parent, by
// its own seed.
func (t *TPM) childWrapping(o *object) wrapping {
	w := o.wrappingBy(&t.macs, o.sensitive.SeedValue)
	w.macKey = &o.macKey
	return w
}

// key derives the key of encryption, which the Name diversifies.
func (w *wrapping) key(name []byte) ([]byte, error) {
	return w.macs.derive(w.hash, w.seed, "STORAGE", name, nil, w.keyBits)
}

// integrity is the HMAC over what is encrypted, with its initial value, and the Name.
func (w *wrapping) integrity(name, encrypted []byte) ([]byte, error) {
	if w.macKey == nil {
		w.macKey = new([]byte)
	}
	if *w.macKey == nil {
		key, err := w.macs.derive(w.hash, w.seed, "INTEGRITY", nil, nil, 8*w.hash.DigestSize())
		if err != nil {
			return nil, err
		}
		*w.macKey = key
	}
	return w.macs.sum(nil, w.hash, *w.macKey, encrypted, name)
}

// seal protects data, which it uses up. iv, unless nil, is an initial value that
// the blob will have in front; without one it is zero, as the seed serves once.
func (w *wrapping) seal(name, iv, data []byte) ([]byte, error) {
	key, err := w.key(name)
	if err != nil {
		return nil, err
	}
	if err := tpmcrypto.EncryptCFB(key, iv, data); err != nil {
		return nil, err
	}
	front := 2 + w.hash.DigestSize() // of the HMAC, which comes over the rest
	blob := make([]byte, front, front+2+len(iv)+len(data))
	if iv != nil {
		blob = appendSized(blob, iv)
	}
	blob = append(blob, data...)
	mac, err := w.integrity(name, blob[front:])
	if err != nil {
		return nil, err
	}
	appendSized(blob[:0], mac)
	return blob, nil
}

// open is the inverse of seal. The codes are the reference's: TPM_RC_INTEGRITY,
// TPM_RC_INSUFFICIENT and TPM_RC_SIZE for a size that is wrong, TPM_RC_VALUE for
// one that no initial value has. The result shares nothing with blob.
func (w *wrapping) open(name []byte, hasIV bool, blob []byte) ([]byte, error) {
	mac, body, err := cutSized(blob, tpm2.MaxDigest)
	if err != nil {
		return nil, err
	}
	want, err := w.integrity(name, body)
	if err != nil {
		return nil, err
	}
	if !equal(mac, want) {
		return nil, tpm2.RCIntegrity
	}
	var iv []byte
	if hasIV {
		if iv, body, err = cutSized(body, tpm2.MaxIV); err != nil {
			return nil, err
		}
		if len(iv) != tpmcrypto.BlockSize {
			return nil, tpm2.RCValue
		}
	}
	key, err := w.key(name)
	if err != nil {
		return nil, err
	}
	data := clone(body)
	return data, tpmcrypto.DecryptCFB(key, iv, data)
}

// appendSized appends a TPM2B of b, which is shorter than 64 KiB.
func appendSized(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(b))), b...)
}

// cutSized splits a TPM2B of at most limit bytes off b.
func cutSized(b []byte, limit int) (content, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, tpm2.RCInsufficient
	}
	if int(binary.BigEndian.Uint16(b)) > limit {
		return nil, nil, tpm2.RCSize
	}
	content, rest, ok := sized16(b)
	if !ok {
		return nil, nil, tpm2.RCInsufficient
	}
	return content, rest, nil
}

// encodeSensitive lays out a TPM2B_SENSITIVE, in the scratch memory of t. The
// authValue is padded to the size of a digest, so that a blob does not tell its
// size (Part 1, 27.6.2).
func (t *TPM) encodeSensitive(s tpm2.Sensitive, nameAlg tpm2.Alg) ([]byte, error) {
	area := struct {
		tpm2.Sensitive2B
		sensitive tpm2.Sensitive
		auth      [tpm2.MaxDigest]byte
	}{sensitive: s}
	if n := nameAlg.DigestSize(); len(s.AuthValue) < n {
		copy(area.auth[:], s.AuthValue)
		area.sensitive.AuthValue = area.auth[:n]
	}
	area.Sensitive = &area.sensitive
	return t.scratch.Encode(&area.Sensitive2B)
}

// toPrivate makes the TPM2B_PRIVATE of o, with the sensitive area s, as a child of
// parent (Part 1, 22; Part 2, 12.3.7).
func (t *TPM) toPrivate(o *object, s tpm2.Sensitive, parent *object) ([]byte, error) {
	if s.Type == tpm2.AlgRSA && parent.attr(tpm2.AttrFixedTPM) {
		// Part 2, 11.2.4.7: what stays in this TPM may have all numbers of the key. A
		// parent that is elsewhere, too, has children that any TPM must understand.
		k, err := o.rsaKey()
		if err != nil {
			return nil, err
		}
		s.Bits = k.Numbers()
	}
	data, err := t.encodeSensitive(s, o.public.NameAlg)
	if err != nil {
		return nil, err
	}
	w := t.childWrapping(parent)
	return w.seal(o.name, t.newBytes(tpmcrypto.BlockSize), data)
}

// fromPrivate recovers the sensitive area of o, a child of parent. What is in an
// intact blob and is no sensitive area is TPM_RC_SENSITIVE.
func (t *TPM) fromPrivate(private []byte, o, parent *object) error {
	w := t.childWrapping(parent)
	data, err := w.open(o.name, true, private)
	if err != nil {
		return err
	}
	if len(data) < 2 {
		return tpm2.RCInsufficient
	}
	s := new(tpm2.Sensitive2B)
	if err := wire.DecodeIn(t.profile, data, s); err != nil || s.Sensitive == nil {
		return tpm2.RCSensitive
	}
	o.sensitive = *s.Sensitive
	o.sensitive.AuthValue = trimAuth(o.sensitive.AuthValue)
	if !parent.attr(tpm2.AttrFixedTPM) {
		return nil
	}
	return o.takeNumbers()
}

// takeNumbers makes the key of an RSA object whose sensitive area has all numbers
// of it, and keeps the prime alone there. A public area that does not fit is left
// to the checks of what is loaded.
func (o *object) takeNumbers() error {
	p := &o.public
	half := len(p.Unique.RSA) / 2
	if p.Type != tpm2.AlgRSA || o.sensitive.Type != tpm2.AlgRSA || half == 0 || len(o.sensitive.Bits) != 5*half {
		return nil
	}
	k, err := tpmcrypto.LoadRSANumbers(p.Unique.RSA, p.Parameters.RSA.Exponent, o.sensitive.Bits)
	if err != nil {
		return err
	}
	o.rsa, o.sensitive.Bits = k, o.sensitive.Bits[:half]
	return nil
}
