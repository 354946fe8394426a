package engine

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// hashForAudit computes the hashes of the command that audit will need, before
// parameters are decrypted or a Name changes.
func (c *call) hashForAudit() error {
	if c.audit != nil {
		if _, err := c.cpHash(c.audit.session.hash); err != nil {
			return err
		}
	}
	if c.t.permanent.auditCommands.has(c.info.Code) {
		_, err := c.cpHash(c.t.permanent.auditAlg)
		return err
	}
	return nil
}

// auditCommand extends the digests of session audit and of command audit with a
// command that succeeded (Part 1, 31 and 32).
func (c *call) auditCommand(params []byte) error {
	t := c.t
	if t.permanent.auditCommands.has(c.info.Code) && !c.unaudited {
		if err := c.extendCommandAudit(params); err != nil {
			return err
		}
	}
	if c.audit == nil {
		// Any other command that allows sessions ends exclusivity.
		if !c.info.NoSessions {
			t.vol.exclusive = 0
		}
		return nil
	}
	s := c.audit.session
	switch {
	case !s.audit || c.audit.has(tpm2.SessionAuditReset):
		s.audit, s.auditDigest = true, make([]byte, s.hash.DigestSize())
		s.boundName, s.boundAuth = nil, nil // as in the reference, an audit session is bound to nothing
		t.vol.exclusive = s.handle
	case t.vol.exclusive != s.handle:
		t.vol.exclusive = 0
	}
	d, err := c.extendAudit(s.hash, s.auditDigest, params)
	s.auditDigest = d
	return err
}

// extendCommandAudit does so for the digest of command audit. The first command
// since it was read counts in the audit counter.
func (c *call) extendCommandAudit(params []byte) error {
	t := c.t
	a := t.permanent.auditAlg
	if len(t.reset.auditDigest) == 0 {
		t.permanent.auditCounter++
		t.touch()
		t.reset.auditDigest = make([]byte, a.DigestSize())
	}
	d, err := c.extendAudit(a, t.reset.auditDigest, params)
	t.reset.auditDigest = d
	return err
}

// extendAudit returns H(old || cpHash || rpHash).
func (c *call) extendAudit(a tpm2.Alg, old, params []byte) ([]byte, error) {
	cp, err := c.cpHash(a)
	if err != nil {
		return nil, err
	}
	rp, err := c.rpHash(a, params)
	if err != nil {
		return nil, err
	}
	return tpmcrypto.Hash(a, old, cp, rp)
}
