package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 23 of Part 3: enhanced authorization. Here are the assertions that look
// at nothing outside the TPM's own state; those over authorizations, NV, time and
// tickets are in the other policy files. What a command must meet later is checked
// in auth_policy.go.

// policySession returns the session of the first handle.
//
//go:noinline
func (c *call) policySession() *session { return c.t.session(c.handles[0]) }

// extendPolicy makes the digest H(old || command code || parts) (Part 1, 19.7.5).
//
//go:noinline
func (c *call) extendPolicy(s *session, parts ...[]byte) {
	s.digest = c.policyHash(s.hash, s.digest, parts...)
}

func (c *call) policyHash(a tpm2.Alg, old []byte, parts ...[]byte) []byte {
	code := c.codeBytes()
	var room [256]byte // for most; none of the parts escapes to the heap
	message := append(append(room[:0], old...), code[:]...)
	for _, p := range parts {
		message = append(message, p...)
	}
	digest, _ := a.Sum(make([]byte, 0, a.DigestSize()), message) // sessions have only hashes of the profile
	return digest
}

// policyOR is TPM2_PolicyOR (Part 3, 23.6).
func policyOR(c *call, in *command.PolicyORIn, _ *command.None) error {
	s := c.policySession()
	found := s.trial
	var room [8 * tpm2.MaxDigest]byte // of the longest list
	all := room[:0]
	for _, d := range in.PHashList {
		found = found || equal(s.digest, d)
		all = append(all, d...)
	}
	if !found {
		return parameter(tpm2.RCValue, 1)
	}
	var none [tpm2.MaxDigest]byte
	s.digest = c.policyHash(s.hash, none[:s.hash.DigestSize()], all)
	return nil
}

// policyPCR is TPM2_PolicyPCR (Part 3, 23.7).
func policyPCR(c *call, in *command.PolicyPCRIn, _ *command.None) error {
	s, t := c.policySession(), c.t
	current, err := t.pcrDigest(t.digest[:0], s.hash, in.PCRs)
	if err != nil {
		return err
	}
	digest := in.PCRDigest
	if !s.trial {
		if s.pcrMark != 0 && s.pcrMark != t.pcrMark() {
			return tpm2.RCPCRChanged
		}
		if len(digest) != 0 && !equal(digest, current) {
			return parameter(tpm2.RCValue, 1)
		}
	}
	// A trial takes any digest; without one, either session has the present PCRs.
	if !s.trial || len(digest) == 0 {
		digest = current
	}
	selection, err := t.scratch.Encode(&in.PCRs)
	if err != nil {
		return err
	}
	c.extendPolicy(s, selection, digest)
	if !s.trial {
		s.pcrMark = t.pcrMark()
	}
	return nil
}

// policyLocality is TPM2_PolicyLocality (Part 3, 23.8). Localities named before
// and now must have some in common; an extended one stands alone.
func policyLocality(c *call, in *command.PolicyLocalityIn, _ *command.None) error {
	s := c.policySession()
	now := in.Locality
	if s.locality != 0 && now != 0 {
		switch {
		case s.locality.Extended() != now.Extended():
			now = 0
		case now.Extended():
			if s.locality != now {
				now = 0
			}
		default:
			now &= s.locality
		}
	}
	if now == 0 {
		return parameter(tpm2.RCRange, 1)
	}
	c.extendPolicy(s, []byte{byte(in.Locality)})
	s.locality = now
	return nil
}

// policyCommandCode is TPM2_PolicyCommandCode (Part 3, 23.11).
func policyCommandCode(c *call, in *command.PolicyCommandCodeIn, _ *command.None) error {
	s := c.policySession()
	if s.commandCode != 0 && s.commandCode != in.Code {
		return parameter(tpm2.RCValue, 1)
	}
	if !c.t.profile.Has(in.Code) {
		return parameter(tpm2.RCPolicyCC, 1)
	}
	c.extendPolicy(s, binary.BigEndian.AppendUint32(nil, uint32(in.Code)))
	s.commandCode = in.Code
	return nil
}

// policyPhysicalPresence is TPM2_PolicyPhysicalPresence (Part 3, 23.12).
func policyPhysicalPresence(c *call, _, _ *command.None) error {
	s := c.policySession()
	c.extendPolicy(s)
	s.presenceNeeded = true
	return nil
}

// bindPolicy limits the session to commands with a hash. It has one such limit at
// most.
func (c *call) bindPolicy(kind boundHash, digest []byte) {
	s := c.policySession()
	c.extendPolicy(s, digest)
	s.bound, s.boundDigest = kind, clone(digest)
}

// checkBound checks the hash that is the first parameter: its size, and that the
// session is not limited yet or, where that may be said again, to the same.
func (c *call) checkBound(kind boundHash, digest []byte, again bool) error {
	s := c.policySession()
	if len(digest) != s.hash.DigestSize() {
		return parameter(tpm2.RCSize, 1)
	}
	same := s.bound == kind && equal(s.boundDigest, digest)
	if s.bound != boundNothing && !(again && same) {
		return tpm2.RCCPHash
	}
	return nil
}

// policyCpHash is TPM2_PolicyCpHash (Part 3, 23.13).
func policyCpHash(c *call, in *command.PolicyCpHashIn, _ *command.None) error {
	err := c.checkBound(boundCPHash, in.CpHashA, true)
	if err == nil {
		c.bindPolicy(boundCPHash, in.CpHashA)
	}
	return err
}

// policyNameHash is TPM2_PolicyNameHash (Part 3, 23.14). It cannot be said twice.
func policyNameHash(c *call, in *command.PolicyNameHashIn, _ *command.None) error {
	err := c.checkBound(boundNameHash, in.NameHash, false)
	if err == nil {
		c.bindPolicy(boundNameHash, in.NameHash)
	}
	return err
}

// policyTemplate is TPM2_PolicyTemplate (Part 3, 23.21). Here the reference looks
// at the limit before the size.
func policyTemplate(c *call, in *command.PolicyTemplateIn, _ *command.None) error {
	s := c.policySession()
	if s.bound != boundNothing && (s.bound != boundTemplate || !equal(s.boundDigest, in.TemplateHash)) {
		return tpm2.RCCPHash
	}
	err := c.checkBound(boundTemplate, in.TemplateHash, true)
	if err == nil {
		c.bindPolicy(boundTemplate, in.TemplateHash)
	}
	return err
}

// policyParameters is TPM2_PolicyParameters (Part 3, 23.24). It cannot be said twice.
func policyParameters(c *call, in *command.PolicyParametersIn, _ *command.None) error {
	err := c.checkBound(boundParameters, in.PHash, false)
	if err == nil {
		c.bindPolicy(boundParameters, in.PHash)
	}
	return err
}

// policyDuplicationSelect is TPM2_PolicyDuplicationSelect (Part 3, 23.15).
func policyDuplicationSelect(c *call, in *command.PolicyDuplicationSelectIn, _ *command.None) error {
	s := c.policySession()
	if s.bound != boundNothing {
		return tpm2.RCCPHash
	}
	if s.commandCode != 0 {
		return tpm2.RCCommandCode
	}
	bound, _ := s.hash.Sum(nil, in.ObjectName, in.NewParentName) // sessions have only hashes of the profile
	include := []byte{0}
	object := []byte(nil)
	if in.IncludeObject {
		include[0], object = 1, in.ObjectName
	}
	c.extendPolicy(s, object, in.NewParentName, include)
	s.bound, s.boundDigest = boundNameHash, bound
	s.commandCode = tpm2.CCDuplicate
	return nil
}

// policyAuthValue is TPM2_PolicyAuthValue (Part 3, 23.17).
func policyAuthValue(c *call, _, _ *command.None) error {
	s := c.policySession()
	c.extendPolicy(s)
	s.authValueNeeded, s.passwordNeeded = true, false
	return nil
}

// policyPassword is TPM2_PolicyPassword (Part 3, 23.18). Its digest is that of
// TPM2_PolicyAuthValue: a policy does not say how the authValue is shown.
func policyPassword(c *call, _, _ *command.None) error {
	s := c.policySession()
	code := binary.BigEndian.AppendUint32(nil, uint32(tpm2.CCPolicyAuthValue))
	s.digest, _ = s.hash.Sum(nil, s.digest, code) // sessions have only hashes of the profile
	s.authValueNeeded, s.passwordNeeded = false, true
	return nil
}

// policyGetDigest is TPM2_PolicyGetDigest (Part 3, 23.19).
func policyGetDigest(c *call, _ *command.None, out *command.PolicyGetDigestOut) error {
	out.PolicyDigest = c.policySession().digest
	return nil
}

// policyNvWritten is TPM2_PolicyNvWritten (Part 3, 23.20).
func policyNvWritten(c *call, in *command.PolicyNvWrittenIn, _ *command.None) error {
	s := c.policySession()
	if s.checkWritten && s.written != in.WrittenSet {
		return parameter(tpm2.RCValue, 1)
	}
	set := []byte{0}
	if in.WrittenSet {
		set[0] = 1
	}
	c.extendPolicy(s, set)
	s.checkWritten, s.written = true, in.WrittenSet
	return nil
}
