package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// An authUse is one entry of a command's authorization area (TPMS_AUTH_COMMAND)
// and what it is for.
type authUse struct {
	in      tpm2.AuthCommand
	number  int          // from 1
	role    command.Role // that it authorizes; RoleNone when nothing
	entity  tpm2.Handle  // for which it does
	session *session     // nil for a password
}

// has reports whether the session attribute is set.
func (u *authUse) has(a tpm2.SessionAttributes) bool { return u.in.Attributes&a != 0 }

// authorizes reports whether the entry does, for u.entity; else its session only
// encrypts, decrypts or audits.
func (u *authUse) authorizes() bool { return u.role != command.RoleNone }

// of numbers a response code as that of the session, unless it is of another kind.
//
//go:noinline
func (u *authUse) of(rc tpm2.RC) error { return rc.Of(tpm2.RCSession, u.number) }

// checkNoSessions refuses a command without authorization area if one of its
// handles needs one.
func (c *call) checkNoSessions() error {
	for i := range c.info.Handles {
		if c.info.Handles[i].Role != command.RoleNone {
			return tpm2.RCAuthMissing
		}
	}
	return c.hashForAudit()
}

// authorize parses the authorization area and checks every entry, in the order
// of Part 3, 5.5 and 5.6; at last it decrypts the first parameter. No state but
// that of guessing protection changes when it fails.
func (c *call) authorize() error {
	area, err := c.authArea()
	if err != nil {
		return err
	}
	if c.info.NoSessions {
		return tpm2.RCAuthContext
	}
	for len(area) > 0 {
		if area, err = c.parseAuth(area); err != nil {
			return err
		}
	}
	for i := range c.info.Handles {
		if c.info.Handles[i].Role == command.RoleNone {
			continue
		}
		if i >= c.nauths {
			return tpm2.RCAuthMissing
		}
		c.auths[i].entity, c.auths[i].role = c.handles[i], c.info.Handles[i].Role
	}
	for i := range c.nauths {
		if err := c.checkAuth(&c.auths[i]); err != nil {
			return err
		}
	}
	if err := c.hashForAudit(); err != nil {
		return err
	}
	return c.decryptFirst()
}

// authArea splits the authorization area off the parameters.
func (c *call) authArea() ([]byte, error) {
	if len(c.params) < 4 {
		return nil, tpm2.RCInsufficient
	}
	size := binary.BigEndian.Uint32(c.params)
	rest := c.params[4:]
	// The reference answers TPM_RC_SIZE here, where Part 3, 5.5 would have AUTHSIZE.
	if size < minAuthSize || uint64(size) > uint64(len(rest)) {
		return nil, tpm2.RCSize
	}
	c.params = rest[size:]
	return rest[:size], nil
}

// parseAuth takes one entry off the area and checks its shape.
func (c *call) parseAuth(area []byte) (rest []byte, err error) {
	if c.nauths == maxSessions {
		return nil, tpm2.RCSize.Of(tpm2.RCSession, maxSessions+1)
	}
	u := &c.auths[c.nauths]
	u.number = c.nauths + 1
	if len(area) >= 4 { // the handle is judged before what follows is read
		h := tpm2.Handle(binary.BigEndian.Uint32(area))
		if rc := command.HandleAuthSessionOrPassword.Check(h, c.t.profile.HandleLimits()); rc != tpm2.RCSuccess {
			return nil, u.of(rc)
		}
	}
	rest, err = c.t.codec.DecodePrefixIn(nil, area, &u.in)
	if err != nil {
		return nil, u.of(tpm2.RCOf(err).Base())
	}
	if u.in.SessionHandle == tpm2.HandlePassword {
		err = u.checkPassword()
	} else {
		err = c.checkSession(u)
	}
	c.nauths++
	return rest, err
}

// checkPassword refuses what a password authorization cannot have (Part 1, 19.4).
func (u *authUse) checkPassword() error {
	if u.in.Attributes&^tpm2.SessionContinue != 0 {
		return u.of(tpm2.RCAttributes)
	}
	if len(u.in.Nonce) != 0 {
		return u.of(tpm2.RCNonce)
	}
	return nil
}

// checkSession finds the loaded session of an entry and what it is used for.
func (c *call) checkSession(u *authUse) error {
	h := u.in.SessionHandle
	s := c.t.session(h)
	if s == nil {
		return tpm2.RCReferenceS0 + tpm2.RC(c.nauths)
	}
	if s.policy != (h.Kind() == tpm2.KindPolicySession) {
		return u.of(tpm2.RCHandleValue)
	}
	for i := range c.nauths {
		if c.auths[i].in.SessionHandle == h {
			return u.of(tpm2.RCHandleValue)
		}
	}
	u.session = s
	if u.has(tpm2.SessionDecrypt) {
		if err := c.takeCipher(u, &c.decrypt, c.info.DecryptFirst); err != nil {
			return err
		}
	}
	if u.has(tpm2.SessionEncrypt) {
		if err := c.takeCipher(u, &c.encrypt, c.info.EncryptFirst); err != nil {
			return err
		}
	}
	if u.has(tpm2.SessionAudit) {
		return c.takeAudit(u)
	}
	return nil
}

// takeCipher makes u the session that encrypts the first parameter, if the
// command has one that can be, no other session does, and it has an algorithm.
func (c *call) takeCipher(u *authUse, use **authUse, allowed bool) error {
	if !allowed || *use != nil {
		return u.of(tpm2.RCAttributes)
	}
	if u.session.symmetric.Algorithm == tpm2.AlgNull {
		return u.of(tpm2.RCSymmetric)
	}
	*use = u
	return nil
}

// takeAudit makes u the session that audits the command.
func (c *call) takeAudit(u *authUse) error {
	if c.audit != nil || u.session.policy {
		return u.of(tpm2.RCAttributes)
	}
	// The first use, or a reset, makes the session exclusive whatever it was.
	if u.has(tpm2.SessionAuditExclusive) && !u.has(tpm2.SessionAuditReset) && u.session.audit && c.t.vol.exclusive != u.in.SessionHandle {
		return tpm2.RCExclusive
	}
	c.audit = u
	return nil
}

// checkAuth checks one entry once all are parsed.
func (c *call) checkAuth(u *authUse) error {
	if s := u.session; s == nil {
		if !u.authorizes() {
			return u.of(tpm2.RCHandleValue)
		}
	} else {
		if s.trial {
			return u.of(tpm2.RCAttributes)
		}
		if s.daBound {
			if err := c.t.lockedOut(s.lockoutBound); err != nil {
				return err
			}
		}
	}
	if !u.authorizes() {
		return c.checkUnassociated(u)
	}
	if err := c.checkEntity(u); err != nil {
		return u.of(responseCode(err))
	}
	return nil
}

// checkUnassociated checks a session that authorizes nothing: it must encrypt,
// decrypt or audit.
func (c *call) checkUnassociated(u *authUse) error {
	if !u.has(tpm2.SessionAudit | tpm2.SessionDecrypt | tpm2.SessionEncrypt) {
		return u.of(tpm2.RCAttributes)
	}
	u.session.includeAuth = false
	if err := c.checkHMAC(u); err != nil {
		return u.of(responseCode(err))
	}
	return nil
}

// checkEntity checks that u authorizes its role for its entity (Part 1, 19.4 to 19.7).
func (c *call) checkEntity(u *authUse) error {
	t, s := c.t, u.session
	if u.entity == tpm2.HandlePlatform && t.permanent.presence.has(c.info.Code) && !t.vol.presence {
		return tpm2.RCPP
	}
	usesAuth := true
	if s != nil {
		s.includeAuth = s.authValueNeeded || s.passwordNeeded
		if !s.policy {
			s.includeAuth = !t.boundTo(s, u.entity)
		}
		usesAuth = s.includeAuth
	}
	if usesAuth && t.protected(u.entity) {
		if err := t.lockedOut(u.entity == tpm2.HandleLockout); err != nil {
			return err
		}
	}
	if err := c.checkKind(u); err != nil {
		return err
	}
	// The count of a PIN index limits all uses of its authValue. In the reference
	// one by a policy with TPM2_PolicyAuthValue is counted, but never refused.
	if x := t.permanent.nv.index(u.entity); usesAuth && x != nil && !x.pinUsable() {
		return tpm2.RCAuthUnavailable
	}
	err := c.checkSecret(u)
	if usesAuth && u.entity.Kind() == tpm2.KindNVIndex {
		t.countPIN(u.entity, err == nil)
	}
	return err
}

// checkKind checks that the entity takes this kind of authorization.
func (c *call) checkKind(u *authUse) error {
	required := c.policyRequired(u.entity, u.role)
	if u.session == nil || !u.session.policy {
		switch {
		case required:
			return tpm2.RCAuthType
		case !c.authValueAvailable(u.entity, u.role):
			return tpm2.RCAuthUnavailable
		}
		return nil
	}
	if !c.policyAvailable(u.entity, required) {
		return tpm2.RCAuthUnavailable
	}
	return c.checkPolicy(u)
}

// checkSecret checks the password or the HMAC.
func (c *call) checkSecret(u *authUse) error {
	if u.session != nil && !u.session.passwordNeeded {
		return c.checkHMAC(u)
	}
	if !equal(trimAuth(u.in.HMAC), c.t.authValue(u.entity)) {
		return c.authFailed(u)
	}
	return nil
}

// checkHMAC compares the HMAC of an entry with the one it must have.
func (c *call) checkHMAC(u *authUse) error {
	want, err := c.commandHMAC(u)
	if err != nil {
		return err
	}
	if !equal(want, u.in.HMAC) {
		return c.authFailed(u)
	}
	return nil
}
