package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// hashOf is a digest by an algorithm, kept while a command runs.
type hashOf struct {
	alg    tpm2.Alg
	digest []byte
}

// codeBytes is the command's code as it goes into digests.
func (c *call) codeBytes() (b [4]byte) {
	binary.BigEndian.PutUint32(b[:], uint32(c.info.Code))
	return b
}

// cpHash is the hash of the command: its code, the Names of its handles, its
// parameters as they came (Part 1, 18.7). It is computed before the command runs.
func (c *call) cpHash(a tpm2.Alg) ([]byte, error) {
	for i := range c.cpHashes {
		if c.cpHashes[i].alg == a {
			return c.cpHashes[i].digest, nil
		}
	}
	code := c.codeBytes()
	parts := [1 + maxHandles + 1][]byte{code[:]}
	for i := range c.nhandles {
		parts[1+i] = c.t.name(c.handles[i])
	}
	parts[1+maxHandles] = c.params
	d, err := tpmcrypto.Hash(a, parts[:]...)
	if err != nil {
		return nil, tpm2.RCHash
	}
	for i := range c.cpHashes {
		if c.cpHashes[i].alg == 0 {
			c.cpHashes[i] = hashOf{a, d}
			break
		}
	}
	return d, nil
}

// hmacKey is the key of the HMACs of a session: sessionKey, and the authValue of
// its entity where that is included (Part 1, 19.6.5). Empty means no HMAC.
func (c *call) hmacKey(u *authUse) []byte {
	s := u.session
	if !s.includeAuth || !u.authorizes() {
		return s.key
	}
	return append(s.key[:len(s.key):len(s.key)], c.t.authValue(u.entity)...)
}

// commandHMAC computes what the HMAC of an entry must be (Part 1, 19.6.5). With
// an empty key an empty HMAC is accepted, since anybody can compute any other.
func (c *call) commandHMAC(u *authUse) ([]byte, error) {
	key := c.hmacKey(u)
	if len(key) == 0 && len(u.in.HMAC) == 0 {
		return nil, nil
	}
	s := u.session
	cp, err := c.cpHash(s.hash)
	if err != nil {
		return nil, err
	}
	parts := [6][]byte{cp, u.in.Nonce, s.nonce}
	// Part 1, 19.6.5: the first session, if it authorizes, vouches for the nonces
	// of the sessions that encrypt.
	if u.number == 1 && u.authorizes() {
		if d := c.decrypt; d != nil && d != u {
			parts[3] = d.session.nonce
		}
		if e := c.encrypt; e != nil && e != u && e != c.decrypt {
			parts[4] = e.session.nonce
		}
	}
	parts[5] = []byte{byte(u.in.Attributes)}
	return c.t.macs.sum(nil, s.hash, key, parts[:]...)
}

// cipherKey is the key material of parameter encryption: sessionKey, and the
// authValue of the entity that the session authorizes (Part 1, 21.2).
func (c *call) cipherKey(u *authUse) []byte {
	if !u.authorizes() {
		return u.session.key
	}
	return append(u.session.key[:len(u.session.key):len(u.session.key)], c.t.authValue(u.entity)...)
}

// decryptFirst decrypts the first parameter, if a session says so. The request
// itself is left as it came.
func (c *call) decryptFirst() error {
	u := c.decrypt
	if u == nil {
		return nil
	}
	plain := append([]byte(nil), c.params...)
	first, _, ok := sized16(plain)
	if !ok {
		// CVE-2023-1017: a size that is not there, or reaches too far.
		if len(plain) < 2 {
			return u.of(tpm2.RCInsufficient)
		}
		return u.of(tpm2.RCSize)
	}
	if err := u.session.crypt(c.cipherKey(u), u.in.Nonce, u.session.nonce, first, false); err != nil {
		return err
	}
	c.params = plain
	return nil
}

// crypt encrypts or decrypts the bytes of a parameter in place (Part 1, 21.3, 21.4).
func (s *session) crypt(key, newer, older, b []byte, encrypt bool) error {
	if s.symmetric.Algorithm == tpm2.AlgXOR {
		// The hash of the session, whatever TPMT_SYM_DEF names: so does the reference.
		return tpmcrypto.XOR(s.hash, key, newer, older, b)
	}
	bits := int(s.symmetric.KeyBits)
	k, err := tpm2.KDFa(s.hash, key, "CFB", newer, older, bits+8*tpmcrypto.BlockSize)
	if err != nil {
		return err
	}
	k, iv := k[:bits/8], k[bits/8:]
	if encrypt {
		return tpmcrypto.EncryptCFB(k, iv, b)
	}
	return tpmcrypto.DecryptCFB(k, iv, b)
}

// sized16 splits a TPM2B off the start of b.
func sized16(b []byte) (content, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > len(b)-2 {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// finish closes the sessions of a command that succeeded and appends the
// authorization area of the response (Part 1, 18.9, 19.6.7). The response
// parameters start at byte start of b.
func (c *call) finish(b []byte, start int) ([]byte, error) {
	for i := range c.nauths {
		if s := c.auths[i].session; s != nil {
			c.t.fillRandom(s.nonce)
		}
	}
	if u := c.encrypt; u != nil {
		first, _, ok := sized16(b[start:])
		if !ok {
			return nil, tpm2.RCFailure
		}
		if err := u.session.crypt(c.cipherKey(u), u.session.nonce, u.in.Nonce, first, true); err != nil {
			return nil, err
		}
	}
	params := b[start:len(b):len(b)]
	if err := c.auditCommand(params); err != nil {
		return nil, err
	}
	for i := range c.nauths {
		var err error
		if b, err = c.appendAuth(b, &c.auths[i], params); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// appendAuth appends the TPMS_AUTH_RESPONSE of one entry, and flushes its
// session unless it is to continue.
func (c *call) appendAuth(b []byte, u *authUse, params []byte) ([]byte, error) {
	s := u.session
	if s == nil {
		return append(b, 0, 0, byte(tpm2.SessionContinue), 0, 0), nil
	}
	attributes := u.in.Attributes
	if u.has(tpm2.SessionAudit) {
		attributes &^= tpm2.SessionAuditExclusive | tpm2.SessionAuditReset
		if c.t.vol.exclusive == u.in.SessionHandle {
			attributes |= tpm2.SessionAuditExclusive
		}
	}
	mac, err := c.responseHMAC(u, params, attributes)
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.nonce)))
	b = append(b, s.nonce...)
	b = append(b, byte(attributes))
	b = binary.BigEndian.AppendUint16(b, uint16(len(mac)))
	b = append(b, mac...)
	if !u.has(tpm2.SessionContinue) {
		c.t.flushSession(s.handle.Index())
	} else if s.policy {
		c.t.renewPolicy(s)
	}
	return b, nil
}

// responseHMAC is the HMAC of a response, over rpHash (Part 1, 18.8, 19.6.5).
// The authValue is the entity's after the command.
func (c *call) responseHMAC(u *authUse, params []byte, attributes tpm2.SessionAttributes) ([]byte, error) {
	// Part 1, 19.6.5: what a plain password authorized has no HMAC.
	if u.session.policy && u.session.passwordNeeded {
		return nil, nil
	}
	key := c.hmacKey(u)
	if len(key) == 0 && len(u.in.HMAC) == 0 {
		return nil, nil
	}
	rp, err := c.rpHash(u.session.hash, params)
	if err != nil {
		return nil, err
	}
	return c.t.macs.sum(nil, u.session.hash, key, rp, u.session.nonce, u.in.Nonce, []byte{byte(attributes)})
}

// rpHash is the hash of the response: success, the command code, the parameters.
func (c *call) rpHash(a tpm2.Alg, params []byte) ([]byte, error) {
	code := c.codeBytes()
	return tpmcrypto.Hash(a, []byte{0, 0, 0, 0}, code[:], params)
}
