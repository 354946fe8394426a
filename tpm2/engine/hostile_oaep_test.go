package engine_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// xorMGF1 masks b by MGF1 with SHA-256 (RFC 8017, B.2.1).
func xorMGF1(b, seed []byte) {
	for i := range b {
		sum := sha256.Sum256(binary.BigEndian.AppendUint32(bytes.Clone(seed), uint32(i/sha256.Size)))
		b[i] ^= sum[i%sha256.Size]
	}
}

// oaepWith encrypts 32 bytes by OAEP (RFC 8017, 7.1.1) after spoil changed the first
// byte of the block or what the seed masks: the label's digest, the padding, 1, the message.
func oaepWith(key *rsa.PublicKey, label string, spoil func(first *byte, db []byte)) []byte {
	em := make([]byte, key.Size())
	seed, db := em[1:33], em[33:]
	sum := sha256.Sum256([]byte(label + "\x00"))
	copy(db, sum[:])
	db[len(db)-33] = 1
	spoil(&em[0], db)
	xorMGF1(db, seed)
	xorMGF1(seed, db)
	c := new(big.Int).Exp(new(big.Int).SetBytes(em), big.NewInt(int64(key.E)), key.N)
	return c.FillBytes(make([]byte, key.Size()))
}

// CVE-2026-6727: the reference told by its time, others by their codes, what is wrong with
// an OAEP block. Wherever one arrives (a message, a salt, the seed of a credential, of a
// duplicate, of one that gets another parent), one code tells that it is wrong, whatever is.
func TestCVE2026x6727EveryOAEPFaultHasOneCode(t *testing.T) {
	m := newMachine(t)
	storage := m.primary(tpm2.HandleOwner, rsaTemplate(storing|tpm2.AttrNoDA), "")
	public, err := m.public(storage).Key()
	if err != nil {
		t.Fatal(err)
	}
	private, err := rsaPrivate()
	if err != nil {
		t.Fatal(err)
	}
	key := m.external(outsideRSA(t, usable|tpm2.AttrDecrypt))
	object := outsideECC(t, usable|tpm2.AttrSign)
	of := public.(*rsa.PublicKey)
	arrivals := map[string]struct {
		want tpm2.RC
		run  func(spoil func(first *byte, db []byte)) tpm2.RC
	}{
		"RSA_Decrypt": {tpm2.RCValue, func(spoil func(*byte, []byte)) tpm2.RC {
			oaep := tpm2.RSADecrypt{Scheme: tpm2.AlgOAEP, HashAlg: tpm2.AlgSHA256}
			in := &command.RSADecryptIn{CipherText: oaepWith(&private.PublicKey, "L", spoil), InScheme: oaep, Label: []byte("L\x00")}
			return m.run(tpm2.CCRSADecrypt, handles(key), password(""), in, nil)
		}},
		"StartAuthSession": {parameterRC(tpm2.RCValue, 2), func(spoil func(*byte, []byte)) tpm2.RC {
			in := &command.StartAuthSessionIn{
				NonceCaller: make([]byte, 16), EncryptedSalt: oaepWith(of, "SECRET", spoil), AuthHash: tpm2.AlgSHA256, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull},
			}
			return m.run(tpm2.CCStartAuthSession, handles(storage, tpm2.HandleNull), nil, in, nil)
		}},
		"ActivateCredential": {parameterRC(tpm2.RCValue, 2), func(spoil func(*byte, []byte)) tpm2.RC {
			in := &command.ActivateCredentialIn{CredentialBlob: make([]byte, 68), Secret: oaepWith(of, "IDENTITY", spoil)}
			return m.run(tpm2.CCActivateCredential, handles(key, storage), password("", ""), in, nil)
		}},
		"Import": {parameterRC(tpm2.RCValue, 4), func(spoil func(*byte, []byte)) tpm2.RC {
			in := &command.ImportIn{ObjectPublic: object.public, Duplicate: make([]byte, 60), InSymSeed: oaepWith(of, "DUPLICATE", spoil), SymmetricAlg: noSymmetric}
			return m.run(tpm2.CCImport, handles(storage), password(""), in, nil)
		}},
		"Rewrap": {parameterRC(tpm2.RCValue, 3), func(spoil func(*byte, []byte)) tpm2.RC {
			in := &command.RewrapIn{InDuplicate: make([]byte, 80), Name: make([]byte, 34), InSymSeed: oaepWith(of, "DUPLICATE", spoil)}
			return m.run(tpm2.CCRewrap, handles(storage, tpm2.HandleNull), password(""), in, nil)
		}},
	}
	faults := map[string]func(first *byte, db []byte){
		"first byte":            func(first *byte, _ []byte) { *first = 1 },
		"label, first byte":     func(_ *byte, db []byte) { db[0] ^= 1 },
		"label, last byte":      func(_ *byte, db []byte) { db[31] ^= 0x80 },
		"padding, first byte":   func(_ *byte, db []byte) { db[32] = 2 },
		"padding, last byte":    func(_ *byte, db []byte) { db[len(db)-34] = 3 },
		"another end":           func(_ *byte, db []byte) { db[len(db)-33] = 2 },
		"no end and no message": func(_ *byte, db []byte) { clear(db[32:]) },
	}
	for where, a := range arrivals {
		if rc := a.run(func(*byte, []byte) {}); rc == a.want {
			t.Errorf("%s: a good block = %v, which is what a bad one gives", where, rc)
		}
		for name, spoil := range faults {
			if rc := a.run(spoil); rc != a.want {
				t.Errorf("%s, %s: %v (%#x), want %v (%#x)", where, name, rc, uint32(rc), a.want, uint32(a.want))
			}
		}
	}
}
