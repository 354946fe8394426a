package engine

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// checkPolicy checks that a policy session satisfies the policy of its entity
// for this command (Part 1, 19.7.8; Part 3, 5.6).
func (c *call) checkPolicy(u *authUse) error {
	t, s := c.t, u.session
	// Part 3, 23.4: TPM2_PolicySecret proves knowledge of an authValue, so its own
	// authorization must use one.
	if c.info.Code == tpm2.CCPolicySecret && !s.passwordNeeded && !s.authValueNeeded {
		return tpm2.RCMode
	}
	if s.pcrMark != 0 && s.pcrMark != t.pcrMark() {
		return tpm2.RCPCRChanged
	}
	p := t.policyOf(u.entity)
	if !equal(s.digest, p.digest) || s.hash != p.alg {
		return tpm2.RCPolicyFail
	}
	if s.timeout != 0 && (s.timeout < t.vol.time || s.epoch != t.permanent.timeEpoch) {
		return tpm2.RCExpired
	}
	if s.commandCode != 0 && s.commandCode != c.info.Code {
		return tpm2.RCPolicyCC
	}
	// Part 1, 19.2: ADMIN and DUP need a policy that names the command.
	if s.commandCode == 0 && (u.role == command.RoleAdmin || u.role == command.RoleDup) {
		return tpm2.RCPolicyFail
	}
	return c.checkAssertions(u)
}

// checkAssertions checks the assertions that only the command itself can meet.
func (c *call) checkAssertions(u *authUse) error {
	t, s := c.t, u.session
	if s.locality != 0 && !s.locality.Has(c.locality) {
		return tpm2.RCLocality
	}
	if s.presenceNeeded && !t.vol.presence {
		return tpm2.RCPP
	}
	if s.bound != boundNothing {
		got, err := c.boundHash(s.bound, s.hash)
		if err != nil {
			return err
		}
		if !equal(got, s.boundDigest) {
			return tpm2.RCPolicyFail
		}
	}
	if !s.checkWritten {
		return nil
	}
	x := t.permanent.nv.index(u.entity)
	if x == nil || x.written() != s.written {
		return tpm2.RCPolicyFail
	}
	return nil
}

// boundHash computes the hash of the command to which a policy is limited.
// A template hash is that of the public template of the creation commands
// (Part 3, 23.21), and no hash, which equals none, of any other.
func (c *call) boundHash(kind boundHash, a tpm2.Alg) ([]byte, error) {
	switch kind {
	case boundCPHash:
		return c.cpHash(a)
	case boundNameHash:
		var names [maxHandles][]byte
		for i := range c.nhandles {
			names[i] = c.t.name(c.handles[i])
		}
		return tpmcrypto.Hash(a, names[:]...)
	case boundParameters:
		code := c.codeBytes()
		return tpmcrypto.Hash(a, code[:], c.params)
	case boundTemplate:
		template, ok := c.template()
		if !ok {
			return nil, nil
		}
		return tpmcrypto.Hash(a, template)
	}
	return tpmcrypto.Hash(a)
}

// template returns the TPMT_PUBLIC that a creation command takes, as bytes: the
// second parameter, after the sensitive area.
func (c *call) template() ([]byte, bool) {
	switch c.info.Code {
	case tpm2.CCCreate, tpm2.CCCreatePrimary, tpm2.CCCreateLoaded:
		_, rest, ok := sized16(c.params)
		if !ok {
			return nil, false
		}
		t, _, ok := sized16(rest)
		return t, ok
	}
	return nil, false
}
