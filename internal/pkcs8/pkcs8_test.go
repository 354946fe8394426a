package pkcs8

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

const phrase = "correct horse"

func TestEncryptedKeyOpensOnlyWhole(t *testing.T) {
	text := []byte("not a key, but a text")
	der, err := Encrypt(rand.Reader, text, []byte(phrase), 2)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decrypt(der, []byte(phrase)); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("Decrypt = %q, %v", got, err)
	}
	for n := range der {
		if _, err := Decrypt(der[:n], []byte(phrase)); !errors.Is(err, ErrPassphrase) {
			t.Fatalf("%d of %d bytes: %v", n, len(der), err)
		}
	}
	if _, err := Decrypt(append(bytes.Clone(der), 0), []byte(phrase)); !errors.Is(err, ErrPassphrase) {
		t.Errorf("a byte more: %v", err)
	}
}

// The keys are those of openssl pkcs8 -topk8 -iter 3 -passout "pass:correct horse".
func TestDecryptReadsWhatOthersWrite(t *testing.T) {
	for name, text := range map[string]string{
		"AES-128, SHA-1 by default": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHdMEgGCSqGSIb3DQEFDTA7MBoGCSqGSIb3DQEFDDANBAhUOdSJoZujcgIBAzAd
BglghkgBZQMEAQIEEOORhhYuyicf4cTB1003d+4EgZD+juG2h6BDHU2PtTG+yLfM
BfK+A5e9NzciZWtmJrj4bCO57sdUCGOkrr3tCelsd0XlCB+c2+Rnr1SqCJAwEhie
OGSRNh/1bTuhpxn/BlzHk04CGK0O6jql6lm2PlJ4ZtuXTozmVY/FHEO6MkzT4DRV
gGBrUUVr5wsdolPZwstWAb9hND4CjRixWITivzeaxjc=
-----END ENCRYPTED PRIVATE KEY-----`,
		"AES-192, SHA-256": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHrMFYGCSqGSIb3DQEFDTBJMCgGCSqGSIb3DQEFDDAbBAh+PmIHSL5PQAIBAzAM
BggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBFgQQmhY8Kc5woVyEHgQpqu0WFASBkOSw
8KUGhmWLeSkQOvNN3+ZHyV0dsny0g9n0LkUoTCbcME3X6Yfl9CIaDev30H5H+MUQ
p3cgbpYnlpAiOr6nuAuRiC0VVQu0xVzqOyurc9V1UKbacXuND4BVn0n7fLHw1doX
zqju39iSOENTqO5od5PqOqpan2tghCIlh8pldVv7fI1zexYixQLKb6t4YBE96g==
-----END ENCRYPTED PRIVATE KEY-----`,
		"AES-256, SHA-384": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHrMFYGCSqGSIb3DQEFDTBJMCgGCSqGSIb3DQEFDDAbBAgZWfAmiI2kyQIBAzAM
BggqhkiG9w0CCgUAMB0GCWCGSAFlAwQBKgQQSYLZ/aT0fLsEgi9Gn0I4uQSBkN1G
lG8KIACoJUm77uvLhcJMWFCwbXENwU5c0DIgrQw1fz+oG44snJyDVegSt6mWw86z
1WmZPTOJg9hwa5CAaO3WyO7Pxc/IOfCo4pFoUS4cqQoxDZRijVIcI/dSbG3GaoDL
nVG0yTudFjkiaeqR/RDJD8xRt4yxPSEeZC98I3ArTRImfmth4EQDhmKxSAu8dw==
-----END ENCRYPTED PRIVATE KEY-----`,
		"AES-256, SHA-512": `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHrMFYGCSqGSIb3DQEFDTBJMCgGCSqGSIb3DQEFDDAbBAhbnOiNJA9BzwIBAzAM
BggqhkiG9w0CCwUAMB0GCWCGSAFlAwQBKgQQHC0iIVzboTMHzdvxbPhk8wSBkPa6
sJVYunqhr4Lr0h8Nik4Oa5v3kFlQQMwafvR6KIsJAiQBGB9AR64wkQHe34/alslm
ZdKa/J6wz2hzS/o23oym1gDDyavmdwIa5t5ZgkSRRRDJY66I4jSpz2jhtef31AWg
kQwYk8hySzz8BV4PwjXNBTOakCcTGICc8FWbdFTJka5cfwFJmyh+zQuxaNfq8A==
-----END ENCRYPTED PRIVATE KEY-----`,
	} {
		t.Run(name, func(t *testing.T) {
			block, _ := pem.Decode([]byte(text))
			der, err := Decrypt(block.Bytes, []byte(phrase))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x509.ParsePKCS8PrivateKey(der); err != nil {
				t.Error(err)
			}
			if der, err := Decrypt(block.Bytes, []byte("x")); err == nil {
				if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
					t.Error("a wrong passphrase opens it")
				}
			}
		})
	}
}

func TestEveryByteOfThePaddingCounts(t *testing.T) {
	// A last block of another text, whose padding says 4 and has three of them.
	for name, tail := range map[string][]byte{"3 of 4": {9, 4, 4, 4}, "none": {9, 9, 9, 0}, "more than a block": {17, 17, 17, 17}} {
		var info encryptedKeyInfo
		der, err := Encrypt(rand.Reader, make([]byte, 12), []byte(phrase), 2)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := asn1.Unmarshal(der, &info); err != nil {
			t.Fatal(err)
		}
		block, err := info.Algorithm.Parameters.cipher([]byte(phrase))
		if err != nil {
			t.Fatal(err)
		}
		text := append(make([]byte, 12), tail...)
		cipher.NewCBCEncrypter(block, info.Algorithm.Parameters.Encryption.IV).CryptBlocks(info.Data, text)
		if der, err = asn1.Marshal(info); err != nil {
			t.Fatal(err)
		}
		if got, err := Decrypt(der, []byte(phrase)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("padding %s: %x, %v", name, got, err)
		}
	}
}

func TestDecryptRefusesParametersThatAreNotBounded(t *testing.T) {
	der, err := Encrypt(rand.Reader, []byte("text"), []byte(phrase), 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*pbkdf2Parameters){
		"too many iterations":   func(p *pbkdf2Parameters) { p.Iterations = maxIterations + 1 },
		"no iterations":         func(p *pbkdf2Parameters) { p.Iterations = 0 },
		"another cipher's key":  func(p *pbkdf2Parameters) { p.KeyLength = 16 },
		"an unknown hash (MD5)": func(p *pbkdf2Parameters) { p.Hash.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 6} },
	} {
		var info encryptedKeyInfo
		if _, err := asn1.Unmarshal(der, &info); err != nil {
			t.Fatal(err)
		}
		change(&info.Algorithm.Parameters.Derivation.Parameters)
		changed, err := asn1.Marshal(info)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Decrypt(changed, []byte(phrase)); !errors.Is(err, ErrPassphrase) || !strings.Contains(err.Error(), "of a form that is read here") {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

func TestDecryptReadsNoOldCiphers(t *testing.T) {
	const tripleDES = `-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHiME0GCSqGSIb3DQEFDTBAMCgGCSqGSIb3DQEFDDAbBAgkd/9GZEvVXwIBAzAM
BggqhkiG9w0CCQUAMBQGCCqGSIb3DQMHBAgytvN39bWTsASBkKSbaZh4yWoAJDPL
qwTcvnQSIw+pWNIrpJUV5kz0/KBfd2jAparKEvhb1NIzDSu26SU2jwx77ogZiVho
lMuSXMVnZb5vkxtRcyzjnkf87fzMq47nSB0CKR/RC1dvlYZrCU4lq8whv6vViPFS
5SvedHIZ1YCsy2+4JylznK0oRS0RyH5oapaw7GcgeiptUKbC+g==
-----END ENCRYPTED PRIVATE KEY-----`
	block, _ := pem.Decode([]byte(tripleDES))
	if _, err := Decrypt(block.Bytes, []byte(phrase)); !errors.Is(err, ErrPassphrase) {
		t.Errorf("Decrypt of DES-EDE3 = %v", err)
	}
}

func FuzzDecrypt(f *testing.F) {
	der, err := Encrypt(rand.Reader, []byte("text"), []byte(phrase), 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, in []byte) {
		var info encryptedKeyInfo
		if _, err := asn1.Unmarshal(in, &info); err == nil && info.Algorithm.Parameters.Derivation.Parameters.Iterations > 1000 {
			return // it would take what it says
		}
		got, err := Decrypt(in, []byte("x"))
		if err != nil && (!errors.Is(err, ErrPassphrase) || got != nil) {
			t.Errorf("%x, %v", got, err)
		}
	})
}
