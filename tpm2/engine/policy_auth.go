package engine

import (
	"encoding/binary"
	"slices"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 23 of Part 3, second part: assertions that somebody authorized
// something, and the tickets that stand for them.

// authorization is what TPM2_PolicySigned, TPM2_PolicySecret and TPM2_PolicyTicket
// have in common.
type authorization struct {
	command tpm2.CC
	name    []byte // of the entity that authorizes
	ref     []byte // policyRef
	cpHash  []byte // empty: any command
	timeout uint64 // vol.time in milliseconds; 0 is never
}

// expiresOnReset marks, in the timeout that a ticket comes with, an authorization
// that TPM Reset and TPM Restart end. The format of that timeout is ours.
const expiresOnReset = 1 << 63

// authTimeout turns the expiration of an assertion into a time: relative to the
// start of the session if the session's nonce was named, else absolute (Part 3, 23.2.2).
func (t *TPM) authTimeout(s *session, expiration int32, nonce []byte) uint64 {
	if expiration == 0 {
		return 0
	}
	seconds := int64(expiration)
	if seconds < 0 {
		seconds = -seconds
	}
	if len(nonce) == 0 {
		return uint64(seconds)*1000 + t.vol.time%1000
	}
	return s.startTime + uint64(seconds)*1000
}

// The parameters to blame for a nonce, a cpHash and a time that do not hold.
type blamed struct{ nonce, cpHash, expiration int }

// checkAuthorization checks what an assertion says against the session.
func (t *TPM) checkAuthorization(s *session, a *authorization, nonce []byte, b blamed) error {
	if len(nonce) != 0 && !equal(nonce, s.nonce) {
		return parameter(tpm2.RCNonce, b.nonce)
	}
	if a.timeout != 0 && (a.timeout < t.vol.time || s.epoch != t.permanent.timeEpoch) {
		return parameter(tpm2.RCExpired, b.expiration)
	}
	if len(a.cpHash) == 0 {
		return nil
	}
	if len(a.cpHash) != s.hash.DigestSize() {
		return parameter(tpm2.RCSize, b.cpHash)
	}
	// A hash of another kind is another hash; the reference compares values only.
	if s.bound != boundNothing && (s.bound != boundCPHash || !equal(a.cpHash, s.boundDigest)) {
		return tpm2.RCCPHash
	}
	return nil
}

// assert extends the policy with an authorization (PolicyContextUpdate of the reference).
func (s *session) assert(a *authorization) error {
	code := binary.BigEndian.AppendUint32(nil, uint32(a.command))
	d, err := tpmcrypto.Hash(s.hash, s.digest, code, a.name)
	if err != nil {
		return err
	}
	if d, err = tpmcrypto.Hash(s.hash, d, a.ref); err != nil {
		return err
	}
	s.digest = d
	if len(a.cpHash) != 0 {
		s.bound, s.boundDigest = boundCPHash, clone(a.cpHash)
	}
	if a.timeout != 0 && (s.timeout == 0 || s.timeout > a.timeout) {
		s.timeout = a.timeout
	}
	return nil
}

// authTicket stands for an authorization until its time is over (Part 2, 10.6.5).
func (t *TPM) authTicket(tag tpm2.Tag, h tpm2.Handle, a *authorization, onReset bool) (tpm2.AuthTicket, error) {
	var life []byte
	if a.timeout != 0 {
		life = binary.BigEndian.AppendUint32(life, t.permanent.timeEpoch)
		if onReset {
			life = binary.BigEndian.AppendUint64(life, t.permanent.totalResetCount)
		}
	}
	d, err := t.ticketDigest(h, tag, sized(a.cpHash), sized(a.ref), sized(a.name),
		binary.BigEndian.AppendUint64(nil, a.timeout), life)
	return tpm2.AuthTicket{Tag: tag, Hierarchy: h, Digest: d}, err
}

// giveTicket makes the ticket and timeout that an assertion returns: empty ones
// unless its expiration is negative and the session real.
func (t *TPM) giveTicket(tag tpm2.Tag, h tpm2.Handle, a *authorization, give, onReset bool) ([]byte, tpm2.AuthTicket, error) {
	if !give {
		return nil, tpm2.AuthTicket{Tag: tag, Hierarchy: tpm2.HandleNull}, nil
	}
	ticket, err := t.authTicket(tag, h, a, onReset)
	timeout := a.timeout
	if onReset {
		timeout |= expiresOnReset
	}
	return binary.BigEndian.AppendUint64(nil, timeout), ticket, err
}

// hierarchyOfEntity returns the hierarchy to which an entity belongs.
func (t *TPM) hierarchyOfEntity(h tpm2.Handle) tpm2.Handle {
	switch h.Kind() {
	case tpm2.KindTransient, tpm2.KindPersistent:
		return t.object(h).hierarchy
	case tpm2.KindNVIndex:
		if t.permanent.nv.index(h).public.Attributes.Has(tpm2.NVPlatformCreate) {
			return tpm2.HandlePlatform
		}
		return tpm2.HandleOwner
	case tpm2.KindPermanent:
		switch h {
		case tpm2.HandlePlatform, tpm2.HandleEndorsement, tpm2.HandleNull:
			return h
		}
		return tpm2.HandleOwner // lockout too
	case tpm2.KindPCR:
		return tpm2.HandleOwner
	}
	return tpm2.HandleNull
}

// policySigned is TPM2_PolicySigned (Part 3, 23.3).
func policySigned(c *call, in *command.PolicySignedIn, out *command.PolicySignedOut) error {
	t, s := c.t, c.t.session(c.handles[1])
	a := authorization{command: tpm2.CCPolicySigned, name: t.name(c.handles[0]), ref: in.PolicyRef, cpHash: in.CpHashA}
	if !s.trial {
		a.timeout = t.authTimeout(s, in.Expiration, in.NonceTPM)
		if err := t.checkAuthorization(s, &a, in.NonceTPM, blamed{nonce: 1, cpHash: 2, expiration: 4}); err != nil {
			return err
		}
		digest, err := tpmcrypto.Hash(in.Auth.Hash, in.NonceTPM,
			binary.BigEndian.AppendUint32(nil, uint32(in.Expiration)), in.CpHashA, in.PolicyRef)
		if err == nil {
			err = t.verify(t.object(c.handles[0]), digest, &in.Auth)
		}
		if err != nil {
			return parameter(responseCode(err), 5)
		}
	}
	if err := s.assert(&a); err != nil {
		return err
	}
	give := in.Expiration < 0 && !s.trial
	var err error
	out.Timeout, out.PolicyTicket, err = t.giveTicket(tpm2.TagAuthSigned, t.hierarchyOfEntity(c.handles[0]), &a, give, len(in.NonceTPM) == 0)
	return err
}

// policySecret is TPM2_PolicySecret (Part 3, 23.4). The authorization of the
// first handle was checked; a PIN pass index gives no ticket, since its uses count.
func policySecret(c *call, in *command.PolicySecretIn, out *command.PolicySecretOut) error {
	t, s := c.t, c.t.session(c.handles[1])
	x := t.permanent.nv.index(c.handles[0])
	if t.clear.readOnly && x != nil && x.pin() {
		return tpm2.RCReadOnly // its use would be counted
	}
	a := authorization{command: tpm2.CCPolicySecret, name: t.name(c.handles[0]), ref: in.PolicyRef, cpHash: in.CpHashA}
	if !s.trial {
		a.timeout = t.authTimeout(s, in.Expiration, in.NonceTPM)
		if err := t.checkAuthorization(s, &a, in.NonceTPM, blamed{nonce: 1, cpHash: 2, expiration: 4}); err != nil {
			return err
		}
	}
	if err := s.assert(&a); err != nil {
		return err
	}
	counted := x != nil && x.public.Attributes.Type() == tpm2.NVPinPass
	give := in.Expiration < 0 && !s.trial && !counted
	var err error
	out.Timeout, out.PolicyTicket, err = t.giveTicket(tpm2.TagAuthSecret, t.hierarchyOfEntity(c.handles[0]), &a, give, len(in.NonceTPM) == 0)
	return err
}

// policyTicket is TPM2_PolicyTicket (Part 3, 23.5). A trial session has no use for
// one: there the assertion itself needs no authorization.
func policyTicket(c *call, in *command.PolicyTicketIn, _ *command.None) error {
	t, s := c.t, c.policySession()
	if s.trial {
		return handleError(tpm2.RCAttributes, 1)
	}
	if len(in.Timeout) != 8 {
		return parameter(tpm2.RCSize, 1)
	}
	timeout := binary.BigEndian.Uint64(in.Timeout)
	a := authorization{
		command: tpm2.CCPolicySigned, name: in.AuthName, ref: in.PolicyRef, cpHash: in.CpHashA,
		timeout: timeout &^ expiresOnReset,
	}
	if in.Ticket.Tag == tpm2.TagAuthSecret {
		a.command = tpm2.CCPolicySecret
	}
	if err := t.checkAuthorization(s, &a, nil, blamed{cpHash: 2, expiration: 1}); err != nil {
		return err
	}
	want, err := t.authTicket(in.Ticket.Tag, in.Ticket.Hierarchy, &a, timeout&expiresOnReset != 0)
	if err != nil {
		return err
	}
	if !equal(want.Digest, in.Ticket.Digest) {
		return parameter(tpm2.RCTicket, 5)
	}
	return s.assert(&a)
}

// policyAuthorize is TPM2_PolicyAuthorize (Part 3, 23.16): a key approved the
// policy so far, and its approval takes the policy's place.
func policyAuthorize(c *call, in *command.PolicyAuthorizeIn, _ *command.None) error {
	t, s := c.t, c.policySession()
	if in.CheckTicket.Tag != tpm2.TagVerified && !t.profile.Version185 {
		return parameter(tpm2.RCTag, 4) // no command makes such a ticket
	}
	var a tpm2.Alg // none in a Name that is too short, which the reference calls a wrong hash too
	if len(in.KeySign) >= 2 {
		a = tpm2.Alg(binary.BigEndian.Uint16(in.KeySign))
	}
	if _, ok := a.Hash(); !ok || !t.profile.OffersAlg(a) {
		return parameter(tpm2.RCHash, 3)
	}
	if len(in.KeySign)-2 != a.DigestSize() {
		return parameter(tpm2.RCSize, 3)
	}
	if !s.trial {
		if !equal(s.digest, in.ApprovedPolicy) {
			return parameter(tpm2.RCValue, 1)
		}
		want, err := t.approvalTicket(in, a)
		if err != nil {
			return err
		}
		if !equal(want.Digest, in.CheckTicket.Digest) {
			return parameter(tpm2.RCValue, 4)
		}
	}
	s.digest = make([]byte, s.hash.DigestSize())
	return s.assert(&authorization{command: tpm2.CCPolicyAuthorize, name: in.KeySign, ref: in.PolicyRef})
}

// approvalTicket is the ticket of the approval of a policy by a key whose Name is by
// nameAlg, made as the tag of the one that came says (Part 3, 1.85, 23.16): over a digest
// by nameAlg, over one by the hash that the ticket names, or over what was approved.
func (t *TPM) approvalTicket(in *command.PolicyAuthorizeIn, nameAlg tpm2.Alg) (tpm2.VerifiedTicket, error) {
	ticket := &in.CheckTicket
	if ticket.Tag == tpm2.TagMessageVerified {
		return t.versionedTicket(ticket.Hierarchy, ticket.Tag, slices.Concat(in.ApprovedPolicy, in.PolicyRef), in.KeySign, 0)
	}
	if ticket.Tag == tpm2.TagDigestVerified {
		nameAlg = ticket.DigestAlg
	}
	digest, err := tpmcrypto.Hash(nameAlg, in.ApprovedPolicy, in.PolicyRef)
	if err != nil {
		return tpm2.VerifiedTicket{}, parameter(tpm2.RCValue, 4) // a NULL ticket may name no hash
	}
	if ticket.Tag == tpm2.TagDigestVerified {
		return t.versionedTicket(ticket.Hierarchy, ticket.Tag, digest, in.KeySign, nameAlg)
	}
	return t.verifiedTicket(ticket.Hierarchy, digest, in.KeySign)
}
