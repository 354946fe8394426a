package client_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/tpmtest"
)

const ordinary = tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrUserWithAuth

// primary makes a primary object of the owner.
func primary(t *testing.T, tpm *client.TPM, template *tpm2.Public, auth string) (client.Entity, *tpm2.Public) {
	t.Helper()
	in := &command.CreatePrimaryIn{InPublic: *template, InSensitive: tpm2.SensitiveCreate{UserAuth: []byte(auth)}}
	out := new(command.CreatePrimaryOut)
	owner := client.Entity{Handle: tpm2.HandleOwner}
	h, err := tpm.Run(&client.Command{Code: tpm2.CCCreatePrimary, Handles: []client.Entity{owner}, In: in, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	return client.Entity{Handle: h, Name: out.Name, Auth: []byte(auth)}, &out.OutPublic
}

func eccStorage() *tpm2.Public {
	p := &tpm2.Public{Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256, Attributes: ordinary | tpm2.AttrSensitiveDataOrigin | tpm2.AttrRestricted | tpm2.AttrDecrypt | tpm2.AttrNoDA}
	p.Parameters.ECC = tpm2.ECCParms{
		Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}, CurveID: tpm2.CurveNISTP256,
		Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgNull}, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull},
	}
	return p
}

func rsaStorage() *tpm2.Public {
	p := &tpm2.Public{Type: tpm2.AlgRSA, NameAlg: tpm2.AlgSHA256, Attributes: eccStorage().Attributes}
	p.Parameters.RSA = tpm2.RSAParms{
		Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}, Scheme: tpm2.RSAScheme{Scheme: tpm2.AlgNull}, KeyBits: 2048,
	}
	return p
}

// sealed makes and loads sealed data, sent encrypted under a session.
func sealed(t *testing.T, tpm *client.TPM, parent client.Entity, use client.Use, auth, data string, policy []byte) client.Entity {
	t.Helper()
	in := &command.CreateIn{InSensitive: tpm2.SensitiveCreate{UserAuth: []byte(auth), Data: []byte(data)}}
	in.InPublic = tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: ordinary, AuthPolicy: policy}
	if policy != nil {
		in.InPublic.Attributes &^= tpm2.AttrUserWithAuth
	}
	in.InPublic.Parameters.KeyedHash.Scheme = tpm2.AlgNull
	made := new(command.CreateOut)
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCCreate, Handles: []client.Entity{parent}, Uses: []client.Use{use}, In: in, Out: made}); err != nil {
		t.Fatal(err)
	}
	loaded := new(command.LoadOut)
	h, err := tpm.Run(&client.Command{
		Code: tpm2.CCLoad, Handles: []client.Entity{parent}, Uses: []client.Use{{Session: use.Session, Attributes: tpm2.SessionContinue}},
		In: &command.LoadIn{InPrivate: made.OutPrivate, InPublic: made.OutPublic}, Out: loaded,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client.Entity{Handle: h, Name: loaded.Name, Auth: []byte(auth)}
}

func unseal(tpm *client.TPM, item client.Entity, uses ...client.Use) ([]byte, error) {
	out := new(command.UnsealOut)
	_, err := tpm.Run(&client.Command{Code: tpm2.CCUnseal, Handles: []client.Entity{item}, Uses: uses, Out: out})
	return out.OutData, err
}

func start(t *testing.T, tpm *client.TPM, cfg client.SessionConfig) *client.Session {
	t.Helper()
	s, err := tpm.StartSession(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSecretsCrossTheWireEncrypted(t *testing.T) {
	const secret = "a secret of thirty-two bytes long"
	for name, tc := range map[string]struct {
		template *tpm2.Public
		cfg      func(key client.Entity, public *tpm2.Public) client.SessionConfig
	}{
		"salted by ECC": {eccStorage(), func(key client.Entity, public *tpm2.Public) client.SessionConfig {
			return client.SessionConfig{Salt: &client.SaltKey{Handle: key.Handle, Public: public}}
		}},
		"salted by RSA, XOR": {rsaStorage(), func(key client.Entity, public *tpm2.Public) client.SessionConfig {
			return client.SessionConfig{Salt: &client.SaltKey{Handle: key.Handle, Public: public}, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgXOR, Hash: tpm2.AlgSHA256}}
		}},
		"bound": {eccStorage(), func(key client.Entity, _ *tpm2.Public) client.SessionConfig {
			return client.SessionConfig{Bind: &key}
		}},
		"salted and bound, SHA-512": {eccStorage(), func(key client.Entity, public *tpm2.Public) client.SessionConfig {
			return client.SessionConfig{Salt: &client.SaltKey{Handle: key.Handle, Public: public}, Bind: &key, Hash: tpm2.AlgSHA512}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			wire := &tap{Transport: tpmtest.Open(t)}
			tpm := client.New(wire, rand.Reader)
			key, public := primary(t, tpm, tc.template, "parent")
			s := start(t, tpm, tc.cfg(key, public))
			both := client.Use{Session: s, Attributes: tpm2.SessionContinue | tpm2.SessionDecrypt | tpm2.SessionEncrypt}
			item := sealed(t, tpm, key, both, "word", secret, nil)
			got, err := unseal(tpm, item, client.Use{Session: s, Attributes: tpm2.SessionContinue | tpm2.SessionEncrypt})
			if err != nil || string(got) != secret {
				t.Errorf("Unseal = %q, %v", got, err)
			}
			if bytes.Contains(wire.response, []byte(secret)) {
				t.Error("the secret crossed the wire in the clear")
			}
			item.Auth = []byte("wrong")
			if _, err := unseal(tpm, item, client.Use{Session: s, Attributes: tpm2.SessionContinue}); !errors.Is(err, tpm2.RCAuthFail.Of(tpm2.RCSession, 1)) {
				t.Errorf("with a wrong authValue: %v", err)
			}
			item.Name = bytes.Clone(item.Name)
			item.Name[5] ^= 1
			item.Auth = []byte("word")
			if _, err := unseal(tpm, item, client.Use{Session: s, Attributes: tpm2.SessionContinue}); !errors.Is(err, tpm2.RCAuthFail.Of(tpm2.RCSession, 1)) {
				t.Errorf("of another Name: %v", err)
			}
		})
	}
}

func TestSeveralSessionsServeOneCommand(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	key, public := primary(t, tpm, eccStorage(), "")
	salt := &client.SaltKey{Handle: key.Handle, Public: public}
	authorize, decrypt, encrypt := start(t, tpm, client.SessionConfig{}), start(t, tpm, client.SessionConfig{Salt: salt}), start(t, tpm, client.SessionConfig{Salt: salt})
	in := &command.CreateIn{InSensitive: tpm2.SensitiveCreate{Data: []byte("data")}}
	in.InPublic = tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: ordinary}
	in.InPublic.Parameters.KeyedHash.Scheme = tpm2.AlgNull
	for range 2 {
		_, err := tpm.Run(&client.Command{Code: tpm2.CCCreate, Handles: []client.Entity{key}, In: in, Out: new(command.CreateOut), Uses: []client.Use{
			{Session: authorize, Attributes: tpm2.SessionContinue},
			{Session: decrypt, Attributes: tpm2.SessionContinue | tpm2.SessionDecrypt},
			{Session: encrypt, Attributes: tpm2.SessionContinue | tpm2.SessionEncrypt},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPoliciesAskForTheAuthValueAsTheySay(t *testing.T) {
	for name, tc := range map[string]struct {
		code   tpm2.CC // asserted by the session
		policy tpm2.CC // whose code is in the digest
		mark   func(*client.Session)
	}{
		"in the HMAC":  {tpm2.CCPolicyAuthValue, tpm2.CCPolicyAuthValue, func(s *client.Session) { s.AuthValue = true }},
		"in the clear": {tpm2.CCPolicyPassword, tpm2.CCPolicyAuthValue, func(s *client.Session) { s.Password = true }},
	} {
		t.Run(name, func(t *testing.T) {
			tpm := client.New(tpmtest.Open(t), rand.Reader)
			key, _ := primary(t, tpm, eccStorage(), "")
			// Part 3, 23.17: both leave the same digest.
			policy := sha256.Sum256(append(make([]byte, 32), 0, 0, byte(tc.policy>>8), byte(tc.policy)))
			item := sealed(t, tpm, key, client.Use{}, "word", "data", policy[:])
			s := start(t, tpm, client.SessionConfig{Type: tpm2.SessionPolicy})
			for round := range 2 {
				if _, err := tpm.Run(&client.Command{Code: tc.code, Handles: []client.Entity{{Handle: s.Handle()}}}); err != nil {
					t.Fatal(err)
				}
				tc.mark(s)
				got, err := unseal(tpm, item, client.Use{Session: s, Attributes: tpm2.SessionContinue})
				if err != nil || string(got) != "data" {
					t.Errorf("round %d: Unseal = %q, %v", round, got, err)
				}
			}
			if _, err := unseal(tpm, item, client.Use{Session: s}); !errors.Is(err, tpm2.RCPolicyFail.Of(tpm2.RCSession, 1)) {
				t.Errorf("a policy that began anew: %v", err)
			}
		})
	}
}
