package engine_test

import (
	"bytes"
	"crypto/mlkem"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// newPostQuantum returns a machine with a TPM that has the commands of version 1.85.
func newPostQuantum(t testing.TB) *machine {
	t.Helper()
	m := manufacture(t, "post-quantum")
	m.startup(tpm2.StartupClear)
	return m
}

// mlkemTemplate is an ML-KEM key.
func mlkemTemplate(set tpm2.MLKEMSet, a tpm2.ObjectAttributes) tpm2.Public {
	p := tpm2.Public{Type: tpm2.AlgMLKEM, NameAlg: tpm2.AlgSHA256, Attributes: a}
	p.Parameters.MLKEM = tpm2.MLKEMParms{Symmetric: noSymmetric, ParameterSet: set}
	if a.Has(storageUse) {
		p.Parameters.MLKEM.Symmetric = aesCFB(128)
	}
	return p
}

func TestEncapsulatedSecretsComeBack(t *testing.T) {
	for set, name := range map[tpm2.MLKEMSet]string{tpm2.MLKEM768: "ML-KEM-768", tpm2.MLKEM1024: "ML-KEM-1024"} {
		t.Run(name, func(t *testing.T) {
			m := newPostQuantum(t)
			key := m.primary(tpm2.HandleOwner, mlkemTemplate(set, decrypting), "auth")
			var made command.EncapsulateOut
			m.do(tpm2.CCEncapsulate, handles(key), nil, nil, &made)
			var got command.DecapsulateOut
			m.do(tpm2.CCDecapsulate, handles(key), password("auth"), &command.DecapsulateIn{Ciphertext: made.Ciphertext}, &got)
			if !bytes.Equal(got.SharedSecret, made.SharedSecret) || len(got.SharedSecret) != 32 {
				t.Errorf("Decapsulate = %x, want %x", got.SharedSecret, made.SharedSecret)
			}
			public := m.public(key).Unique.MLKEM
			var secret, ciphertext []byte
			if set == tpm2.MLKEM768 {
				ek, err := mlkem.NewEncapsulationKey768(public)
				if err != nil {
					t.Fatal(err)
				}
				secret, ciphertext = ek.Encapsulate()
			} else {
				ek, err := mlkem.NewEncapsulationKey1024(public)
				if err != nil {
					t.Fatal(err)
				}
				secret, ciphertext = ek.Encapsulate()
			}
			m.do(tpm2.CCDecapsulate, handles(key), password("auth"), &command.DecapsulateIn{Ciphertext: ciphertext}, &got)
			if !bytes.Equal(got.SharedSecret, secret) {
				t.Errorf("Decapsulate = %x, want %x", got.SharedSecret, secret)
			}
			ciphertext[0] ^= 1
			m.do(tpm2.CCDecapsulate, handles(key), password("auth"), &command.DecapsulateIn{Ciphertext: ciphertext}, &got)
			if bytes.Equal(got.SharedSecret, secret) {
				t.Error("a changed ciphertext gives the same secret")
			}
			m.fails(parameterRC(tpm2.RCSize, 1), tpm2.CCDecapsulate, handles(key), password("auth"), &command.DecapsulateIn{Ciphertext: ciphertext[1:]})
		})
	}
}
