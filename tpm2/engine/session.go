package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 11 of Part 3: TPM2_StartAuthSession and TPM2_PolicyRestart.

// minNonce is the shortest nonceCaller (Part 3, 11.1).
const minNonce = 16

// startAuthSession is TPM2_StartAuthSession (Part 3, 11.1).
func startAuthSession(c *call, in *command.StartAuthSessionIn, out *command.StartAuthSessionOut) error {
	if n := len(in.NonceCaller); n < minNonce || n > in.AuthHash.DigestSize() {
		return parameter(tpm2.RCSize, 1)
	}
	salt, err := c.sessionSalt(in.EncryptedSalt)
	if err != nil {
		return err
	}
	if err := c.checkBind(c.handles[1]); err != nil {
		return err
	}
	switch sym := &in.Symmetric; {
	case sym.Algorithm == tpm2.AlgNull, sym.Algorithm == tpm2.AlgXOR:
	case sym.Mode != tpm2.AlgCFB:
		return parameter(tpm2.RCMode, 4)
	}
	s := c.newSession(in)
	if err := c.deriveSessionKey(s, in.NonceCaller, salt); err != nil {
		return err
	}
	if err := c.t.addSession(s); err != nil {
		return err
	}
	c.response = s.handle
	out.NonceTPM = s.nonce
	return nil
}

// sessionSalt decrypts the salt with the key of the first handle (Part 1, 19.6.9).
func (c *call) sessionSalt(encrypted []byte) ([]byte, error) {
	if c.handles[0] == tpm2.HandleNull {
		if len(encrypted) != 0 {
			return nil, parameter(tpm2.RCValue, 2)
		}
		return nil, nil
	}
	key := c.t.object(c.handles[0])
	switch {
	case key.sequence != nil || !isAsymmetric(key.public.Type):
		return nil, handleError(tpm2.RCKey, 1)
	case len(encrypted) == 0:
		return nil, parameter(tpm2.RCValue, 2)
	case key.publicOnly:
		return nil, handleError(tpm2.RCHandleValue, 1)
	case !key.attr(tpm2.AttrDecrypt):
		return nil, handleError(tpm2.RCAttributes, 1)
	}
	salt, err := c.t.decryptSecret(key, "SECRET", encrypted)
	if err != nil {
		return nil, parameter(tpm2.RCValue, 2)
	}
	return salt, nil
}

// checkBind refuses what has no authValue to bind to: a public key alone, and a
// PIN index, whose authValue is counted.
func (c *call) checkBind(h tpm2.Handle) error {
	switch h.Kind() {
	case tpm2.KindTransient, tpm2.KindPersistent:
		if c.t.object(h).publicOnly {
			return handleError(tpm2.RCHandleValue, 2)
		}
	case tpm2.KindNVIndex:
		if c.t.permanent.nv.index(h).pin() {
			return handleError(tpm2.RCHandleValue, 2)
		}
	}
	return nil
}

func (c *call) newSession(in *command.StartAuthSessionIn) *session {
	t := c.t
	s := &session{
		policy: in.SessionType != tpm2.SessionHMAC, trial: in.SessionType == tpm2.SessionTrial,
		hash: in.AuthHash, symmetric: in.Symmetric,
		nonce:     t.newBytes(len(in.NonceCaller)),
		startTime: t.vol.time, epoch: t.permanent.timeEpoch,
	}
	s.clearPolicy()
	if h := c.handles[1]; h != tpm2.HandleNull {
		// Of a policy session, too: its key tells whether the authValue was right.
		s.daBound, s.lockoutBound = t.protected(h), h == tpm2.HandleLockout
		if !s.policy {
			// A sequence object has no Name; a session can be bound to it all the same.
			s.boundName, s.boundAuth = append([]byte{}, t.name(h)...), clone(t.authValue(h))
		}
	}
	return s
}

// deriveSessionKey makes sessionKey from the salt and the authValue of the bind
// entity; with neither it is empty (Part 1, 19.6.8).
func (c *call) deriveSessionKey(s *session, nonceCaller, salt []byte) error {
	bind := c.handles[1]
	if bind == tpm2.HandleNull && c.handles[0] == tpm2.HandleNull {
		return nil
	}
	var key []byte
	if bind != tpm2.HandleNull {
		key = clone(c.t.authValue(bind))
	}
	key = append(key, salt...)
	k, err := tpm2.KDFa(s.hash, key, "ATH", s.nonce, nonceCaller, 8*s.hash.DigestSize())
	s.key = k
	return err
}

// policyRestart is TPM2_PolicyRestart (Part 3, 11.2).
func policyRestart(c *call, _ *command.None, _ *command.None) error {
	c.t.session(c.handles[0]).clearPolicy()
	return nil
}

// clone copies bytes that outlive the command: parameters alias the request.
func clone(b []byte) []byte { return append([]byte(nil), b...) }
