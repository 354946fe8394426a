package mldsa

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// errSelfTest is a wrong answer of a self-test.
var errSelfTest = errors.New("ML-DSA gives another answer")

// SelfTest computes a known answer of ML-DSA.
func SelfTest() error {
	return selfTest(func(public, message []byte) ([]byte, error) {
		m, err := NewMu(public, []byte("context"))
		if err != nil {
			return nil, err
		}
		return m.Sum(message), nil
	}, "a6f4084aa6d30323497b5b0cf3565f42b8feae995006daa6c6ea569021ad5f34")
}

// HashSelfTest computes one of HashML-DSA.
func HashSelfTest() error {
	return selfTest(func(public, message []byte) ([]byte, error) {
		digest := sha256.Sum256(message)
		return HashMu(public, []byte("context"), crypto.SHA256, digest[:])
	}, "0160035e0308315e3a5b85de1ea120a11084097f1b490bcab63948064a7b36ee")
}

// selfTest makes a key and a signature, whose SHA-256 is known, and verifies that
// and one of another message.
func selfTest(mu func(public, message []byte) ([]byte, error), answer string) error {
	message := selfTestMessage()
	k, err := NewKey(MLDSA44, message[:SeedSize])
	if err != nil {
		return err
	}
	public := k.Public()
	good, err := mu(public, message)
	if err != nil {
		return err
	}
	other, err := mu(public, message[1:])
	if err != nil {
		return err
	}
	sig, err := k.SignMu(good)
	if err != nil {
		return err
	}
	got := sha256.Sum256(append(bytes.Clone(public), sig...))
	if hex.EncodeToString(got[:]) != answer || MLDSA44.Verify(public, good, sig) != nil || MLDSA44.Verify(public, other, sig) == nil {
		return errSelfTest
	}
	return nil
}

func selfTestMessage() []byte {
	message := make([]byte, 40)
	for i := range message {
		message[i] = byte(i*7 + i>>5)
	}
	return message
}
