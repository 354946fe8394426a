package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// Chapter 18 of Part 3: attestation commands, and TPM2_NV_Certify of chapter 31.

// An attester is the key of an attestation and how it signs.
type attester struct {
	key    *object // nil: no signature
	handle tpm2.Handle
	scheme tpm2.SigScheme
	hash   tpm2.Alg // of the digests in what is attested
}

// attester checks the signing key of handle number h and the scheme, which is
// parameter number p.
func (c *call) attester(h int, in tpm2.SigScheme, p int) (attester, error) {
	a := attester{handle: c.handles[h-1], key: c.t.object(c.handles[h-1])}
	if !signs(a.key) {
		return a, handleError(tpm2.RCKey, h)
	}
	var ok bool
	if a.key != nil && signsMessages(a.key.public.Type) {
		// Their schemes have no hash: the key's own is that of its Name.
		a.scheme, a.hash = a.key.ownMLDSA(), a.key.public.NameAlg
		ok = (in.Scheme == tpm2.AlgNull || in.Scheme == a.scheme.Scheme) && a.hash != tpm2.AlgNull
	} else {
		a.scheme, ok = signScheme(a.key, in)
		a.hash = a.scheme.HashAlg
	}
	if !ok {
		return a, parameter(tpm2.RCScheme, p)
	}
	return a, nil
}

// anonymous reports whether the scheme hides who signs.
func (a *attester) anonymous() bool { return a.scheme.Scheme == tpm2.AlgECDAA }

// attest fills in what all attestations tell, encodes and signs (Part 1, 33).
func (c *call) attest(a *attester, in *tpm2.Attest, qualifying []byte) ([]byte, tpm2.Signature, error) {
	t := c.t
	in.ClockInfo = t.clockInfo()
	in.FirmwareVersion = firmware
	if !a.anonymous() {
		in.ExtraData = qualifying
		in.QualifiedSigner = handleName(tpm2.HandleNull)
		if a.key != nil {
			in.QualifiedSigner = a.key.qualified
		}
	}
	if err := t.obfuscate(a.key, in); err != nil {
		return nil, tpm2.Signature{}, err
	}
	b, err := wire.Encode(in)
	if err != nil || a.key == nil {
		return b, tpm2.Signature{SigAlg: tpm2.AlgNull}, err
	}
	var sig tpm2.Signature
	if signsMessages(a.key.public.Type) {
		sig, err = c.signWhole(a.key, b)
	} else {
		sig, err = c.signByDigest(a, b, qualifying)
	}
	if err == nil {
		t.unorder() // a clock that was signed must not be told again after a power loss
	}
	return b, sig, err
}

// signWhole signs what is attested as a message, with no context.
func (c *call) signWhole(key *object, b []byte) (tpm2.Signature, error) {
	mu, err := key.messageMu(nil, b)
	if err != nil {
		return tpm2.Signature{}, err
	}
	return c.signMu(key, mu, 2+len(b))
}

// signByDigest signs the digest of what is attested.
func (c *call) signByDigest(a *attester, b, qualifying []byte) (tpm2.Signature, error) {
	digest, err := tpmcrypto.Hash(a.scheme.HashAlg, b)
	if err == nil && a.anonymous() && len(qualifying) != 0 {
		// Part 1, 33.2: what an anonymous signer cannot say in the structure it signs with it.
		digest, err = tpmcrypto.Hash(a.scheme.HashAlg, qualifying, digest)
	}
	if err != nil {
		return tpm2.Signature{}, err
	}
	return c.t.sign(a.key, a.scheme, digest)
}

// firmware is the version that attestations tell.
const firmware = firmwareVersion1<<32 | firmwareVersion2

// obfuscate hides counts that would tell one TPM from another, unless the key is
// of a hierarchy whose owner may know (Part 1, 36.7).
func (t *TPM) obfuscate(key *object, in *tpm2.Attest) error {
	if key != nil && (key.hierarchy == tpm2.HandlePlatform || key.hierarchy == tpm2.HandleEndorsement) {
		return nil
	}
	// The key's own name, also where an anonymous signer does not tell it: two keys
	// with one offset would be known for keys of one TPM (Part 3, 18.1).
	signer := handleName(tpm2.HandleNull)
	if key != nil {
		signer = key.qualified
	}
	b, err := tpm2.KDFa(ticketHash, t.permanent.owner.proof, "OBFUSCATE", signer, nil, 128)
	if err != nil {
		return err
	}
	in.FirmwareVersion += binary.BigEndian.Uint64(b)
	in.ClockInfo.ResetCount += binary.BigEndian.Uint32(b[8:])
	in.ClockInfo.RestartCount += binary.BigEndian.Uint32(b[12:])
	return nil
}

// certify is TPM2_Certify (Part 3, 18.2).
func certify(c *call, in *command.CertifyIn, out *command.CertifyOut) error {
	a, err := c.attester(2, in.InScheme, 2)
	if err != nil {
		return err
	}
	o := c.t.object(c.handles[0])
	at := tpm2.Attest{Type: tpm2.AttestCertify}
	at.Attested.Certify.Name = o.name
	if !a.anonymous() {
		at.Attested.Certify.QualifiedName = o.qualified
	}
	out.CertifyInfo, out.Signature, err = c.attest(&a, &at, in.QualifyingData)
	return err
}

// certifyCreation is TPM2_CertifyCreation (Part 3, 18.3).
func certifyCreation(c *call, in *command.CertifyCreationIn, out *command.CertifyCreationOut) error {
	a, err := c.attester(1, in.InScheme, 3)
	if err != nil {
		return err
	}
	o := c.t.object(c.handles[1])
	want, err := c.t.creationTicket(in.CreationTicket.Hierarchy, o.name, in.CreationHash)
	if err != nil {
		return err
	}
	if !equal(want.Digest, in.CreationTicket.Digest) {
		return parameter(tpm2.RCTicket, 4)
	}
	at := tpm2.Attest{Type: tpm2.AttestCreation}
	at.Attested.Creation = tpm2.CreationInfo{ObjectName: o.name, CreationHash: in.CreationHash}
	out.CertifyInfo, out.Signature, err = c.attest(&a, &at, in.QualifyingData)
	return err
}

// quote is TPM2_Quote (Part 3, 18.4).
func quote(c *call, in *command.QuoteIn, out *command.QuoteOut) error {
	a, err := c.attester(1, in.InScheme, 2)
	if err != nil {
		return err
	}
	if a.key == nil {
		return parameter(tpm2.RCScheme, 2) // no hash, no digest of PCRs
	}
	digest, err := c.t.pcrDigest(nil, a.hash, in.PCRSelect)
	if err != nil {
		return err
	}
	at := tpm2.Attest{Type: tpm2.AttestQuote}
	at.Attested.Quote = tpm2.QuoteInfo{PCRSelect: in.PCRSelect, PCRDigest: digest}
	out.Quoted, out.Signature, err = c.attest(&a, &at, in.QualifyingData)
	return err
}

// getSessionAuditDigest is TPM2_GetSessionAuditDigest (Part 3, 18.5).
func getSessionAuditDigest(c *call, in *command.GetSessionAuditDigestIn, out *command.GetSessionAuditDigestOut) error {
	a, err := c.attester(2, in.InScheme, 2)
	if err != nil {
		return err
	}
	s := c.t.session(c.handles[2])
	if !s.audit {
		return handleError(tpm2.RCType, 3)
	}
	at := tpm2.Attest{Type: tpm2.AttestSessionAudit}
	at.Attested.SessionAudit = tpm2.SessionAuditInfo{
		ExclusiveSession: c.t.vol.exclusive == s.handle, SessionDigest: s.auditDigest,
	}
	out.AuditInfo, out.Signature, err = c.attest(&a, &at, in.QualifyingData)
	return err
}

// getCommandAuditDigest is TPM2_GetCommandAuditDigest (Part 3, 18.6). A signature
// takes the digest: the next audited command starts a new one.
func getCommandAuditDigest(c *call, in *command.GetCommandAuditDigestIn, out *command.GetCommandAuditDigestOut) error {
	a, err := c.attester(2, in.InScheme, 2)
	if err != nil {
		return err
	}
	t := c.t
	commands, err := t.auditCommandDigest()
	if err != nil {
		return err
	}
	at := tpm2.Attest{Type: tpm2.AttestCommandAudit}
	at.Attested.CommandAudit = tpm2.CommandAuditInfo{
		AuditCounter: t.permanent.auditCounter, DigestAlg: t.permanent.auditAlg,
		AuditDigest: t.reset.auditDigest, CommandDigest: commands,
	}
	out.AuditInfo, out.Signature, err = c.attest(&a, &at, in.QualifyingData)
	if err == nil && a.key != nil {
		t.reset.auditDigest = nil
	}
	return err
}

// auditCommandDigest is the digest of the codes of the commands that are audited.
func (t *TPM) auditCommandDigest() ([]byte, error) {
	var codes []byte
	for _, cc := range t.profile.members(&t.permanent.auditCommands) {
		codes = binary.BigEndian.AppendUint32(codes, uint32(cc))
	}
	return tpmcrypto.Hash(t.permanent.auditAlg, codes)
}

// getTime is TPM2_GetTime (Part 3, 18.7). The privacy administrator authorized
// it, so that what it attests is not obfuscated.
func getTime(c *call, in *command.GetTimeIn, out *command.GetTimeOut) error {
	a, err := c.attester(2, in.InScheme, 2)
	if err != nil {
		return err
	}
	at := tpm2.Attest{Type: tpm2.AttestTime}
	at.Attested.Time = tpm2.TimeAttestInfo{
		Time:            tpm2.TimeInfo{Time: c.t.vol.time, ClockInfo: c.t.clockInfo()},
		FirmwareVersion: firmware,
	}
	out.TimeInfo, out.Signature, err = c.attest(&a, &at, in.QualifyingData)
	return err
}

// nvCertify is TPM2_NV_Certify (Part 3, 31.16). Size and offset of zero ask for a
// digest of the whole index.
func nvCertify(c *call, in *command.NVCertifyIn, out *command.NVCertifyOut) error {
	a, err := c.attester(1, in.InScheme, 2)
	if err != nil {
		return err
	}
	x, err := c.readable(c.handles[1], c.handles[2])
	if err != nil {
		return err
	}
	// Unlike in TPM2_NV_Read, the end comes before the size.
	switch {
	case int(in.Size)+int(in.Offset) > len(x.data):
		return tpm2.RCNVRange
	case int(in.Size) > c.t.limits.NVBuffer:
		return parameter(tpm2.RCValue, 3)
	}
	var at tpm2.Attest
	if in.Size == 0 && in.Offset == 0 {
		var digest []byte // without a key there is no hash, and as in the reference no digest
		if a.key != nil {
			if digest, err = tpmcrypto.Hash(a.hash, x.data); err != nil {
				return err
			}
		}
		at.Type = tpm2.AttestNVDigest
		at.Attested.NVDigest = tpm2.NVDigestCertifyInfo{IndexName: x.named, NVDigest: digest}
	} else {
		at.Type = tpm2.AttestNV
		at.Attested.NV = tpm2.NVCertifyInfo{
			IndexName: x.named, Offset: in.Offset, NVContents: x.data[in.Offset : int(in.Offset)+int(in.Size)],
		}
	}
	out.CertifyInfo, out.Signature, err = c.attest(&a, &at, in.QualifyingData)
	return err
}
