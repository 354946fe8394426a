package client

import (
	"fmt"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// A Session authorizes, audits or encrypts commands. It holds secrets.
type Session struct {
	// AuthValue says that TPM2_PolicyAuthValue is part of the policy: the key of
	// the HMAC has the authValue of the entity. Password says the same of
	// TPM2_PolicyPassword: the authValue goes in the clear, and the response comes
	// without an HMAC, also where the session is salted or bound: nothing vouches for
	// it. The TPM forgets both with the policy, after each command that the session
	// serves; so does the session.
	AuthValue, Password bool

	handle    tpm2.Handle
	policy    bool
	hash      tpm2.Alg
	symmetric tpm2.SymDef
	key       []byte  // sessionKey
	bind      *Entity // to which it is bound, as it was then
	nonceTPM  []byte
}

// Handle returns the session's handle.
func (s *Session) Handle() tpm2.Handle { return s.handle }

// SessionConfig is how a session is made. The zero value is an HMAC session with
// SHA-256, AES-128 in CFB mode, unbound and unsalted.
type SessionConfig struct {
	Type      tpm2.SessionType
	Hash      tpm2.Alg    // 0 means SHA-256
	Symmetric tpm2.SymDef // Algorithm 0 means AES-128 in CFB mode
	// Salt is a key of the TPM, by which a secret is sent; nil for none. The caller
	// vouches for the public area: the session is worth what the key is.
	Salt *SaltKey
	// Bind is an entity whose authValue goes into the session key; nil, as TPM_RH_NULL,
	// for none.
	Bind *Entity
}

// A SaltKey is a loaded decryption key.
type SaltKey struct {
	Handle tpm2.Handle
	Public *tpm2.Public
}

// StartSession runs TPM2_StartAuthSession (Part 3, 11.1).
func (t *TPM) StartSession(cfg SessionConfig) (*Session, error) {
	if cfg.Bind != nil && cfg.Bind.Handle == tpm2.HandleNull {
		cfg.Bind = nil // TPM2_StartAuthSession takes it for none (Part 3, 11.1)
	}
	s := &Session{policy: cfg.Type != tpm2.SessionHMAC, hash: cfg.Hash, symmetric: cfg.Symmetric, bind: cfg.Bind.clone()}
	if s.hash == 0 {
		s.hash = tpm2.AlgSHA256
	}
	if s.symmetric.Algorithm == 0 {
		s.symmetric = tpm2.SymDef{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}
	}
	nonce, err := t.nonce(s.hash.DigestSize())
	if err != nil {
		return nil, err
	}
	in := &command.StartAuthSessionIn{NonceCaller: nonce, SessionType: cfg.Type, Symmetric: s.symmetric, AuthHash: s.hash}
	handles := []Entity{{Handle: tpm2.HandleNull}, {Handle: tpm2.HandleNull}}
	var salt []byte
	if cfg.Salt != nil {
		handles[0].Handle = cfg.Salt.Handle
		if salt, in.EncryptedSalt, err = tpm2.NewSeed(t.random, cfg.Salt.Public, "SECRET"); err != nil {
			return nil, fmt.Errorf("make salt: %w", err)
		}
	}
	if cfg.Bind != nil {
		handles[1] = *cfg.Bind
	}
	var out command.StartAuthSessionOut
	if s.handle, err = t.Run(&Command{Code: tpm2.CCStartAuthSession, Handles: handles, In: in, Out: &out}); err != nil {
		return nil, err
	}
	s.nonceTPM = out.NonceTPM
	return s, s.derive(salt, nonce)
}

// derive makes the session key (Part 1, 19.6.8).
func (s *Session) derive(salt, nonceCaller []byte) error {
	var key []byte
	if s.bind != nil {
		key = append(key, s.bind.authValue()...)
	}
	key = append(key, salt...)
	if s.bind == nil && salt == nil {
		return nil
	}
	var err error
	s.key, err = tpm2.KDFa(s.hash, key, "ATH", s.nonceTPM, nonceCaller, 8*s.hash.DigestSize())
	return err
}

// includes reports whether the authValue of e, which the session authorizes, is
// part of the key of its HMACs: not where the session is bound to e, and in policy
// sessions only when the policy says so (Part 1, 19.6.5, 19.6.13).
func (s *Session) includes(e *Entity) bool {
	if s.policy {
		return s.AuthValue
	}
	return !s.boundTo(e)
}

// hmacKey is the key of the session's HMACs with an authValue, or nothing.
func (s *Session) hmacKey(auth []byte) []byte {
	return append(s.key[:len(s.key):len(s.key)], auth...)
}

// boundTo reports whether e is what the session was bound to, with the authValue
// of then.
func (s *Session) boundTo(e *Entity) bool {
	return s.bind != nil && string(s.bind.name()) == string(e.name()) && tpmcrypto.Equal(s.bind.authValue(), e.authValue())
}

// crypt encrypts or decrypts a parameter in place (Part 1, 21).
func (s *Session) crypt(e *Entity, newer, older, b []byte, encrypt bool) error {
	key := s.key[:len(s.key):len(s.key)]
	if e != nil {
		key = append(key, e.authValue()...)
	}
	switch s.symmetric.Algorithm {
	case tpm2.AlgNull:
		return fmt.Errorf("session has no algorithm to encrypt with: %w", ErrCommand)
	case tpm2.AlgXOR:
		// The hash of the session, whatever TPMT_SYM_DEF names: so does the reference.
		return tpmcrypto.XOR(s.hash, key, newer, older, b)
	}
	bits := int(s.symmetric.KeyBits)
	k, err := tpm2.KDFa(s.hash, key, "CFB", newer, older, bits+8*tpmcrypto.BlockSize)
	if err != nil {
		return err
	}
	if encrypt {
		return tpmcrypto.EncryptCFB(k[:bits/8], k[bits/8:], b)
	}
	return tpmcrypto.DecryptCFB(k[:bits/8], k[bits/8:], b)
}

// advance takes over what a response says of the session. Once it has served a
// command, the TPM starts its policy anew; once it has audited one, it is bound to
// nothing.
func (s *Session) advance(r *tpm2.AuthResponse, u *use) {
	s.nonceTPM = r.Nonce
	s.AuthValue, s.Password = false, false
	if u.attr.Has(tpm2.SessionAudit) {
		s.bind = nil
	}
}
