package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/internal/tpmcrypto/mldsa"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// The commands of version 1.85: key encapsulation, and signatures of digests and
// of messages by the one scheme that a key was made for: those of the other commands,
// and ML-DSA and HashML-DSA, which no other command but attestations has. Their codes
// are those that the standard's text names where it is known from another
// implementation; the numbers of handles and parameters are ours to add.

// encapsulate is TPM2_Encapsulate (Part 3, 1.85, 14.10). Attributes do not matter:
// only the public part is used.
func encapsulate(c *call, _ *command.None, out *command.EncapsulateOut) error {
	o := c.t.object(c.handles[0])
	if o.public.Type != tpm2.AlgMLKEM {
		return handleError(tpm2.RCKey, 1)
	}
	var err error
	out.Ciphertext, out.SharedSecret, err = tpmcrypto.EncapsulateMLKEM(c.t.random, o.public.Parameters.MLKEM.ParameterSet, o.public.Unique.MLKEM)
	if err != nil {
		return handleError(tpm2.RCKey, 1)
	}
	return nil
}

// decapsulate is TPM2_Decapsulate (Part 3, 1.85, 14.11). A ciphertext for another
// key gives another secret, no error (FIPS 203, 6.3).
func decapsulate(c *call, in *command.DecapsulateIn, out *command.DecapsulateOut) error {
	o := c.t.object(c.handles[0])
	switch {
	case o.public.Type != tpm2.AlgMLKEM:
		return handleError(tpm2.RCKey, 1)
	case !decryptsAnything(o):
		return handleError(tpm2.RCAttributes, 1)
	}
	k, err := o.mlkemKey()
	if err != nil {
		return err
	}
	if out.SharedSecret, err = k.Decapsulate(in.Ciphertext); err != nil {
		return parameter(responseCode(err), 1)
	}
	return nil
}

// fixedScheme returns the scheme of a key of the numbered handle that signs by one
// scheme. A split scheme is none: it needs a commitment, which these commands do
// not take.
func fixedScheme(o *object, handle int) (tpm2.SigScheme, error) {
	own := o.ownScheme()
	if o.sequence != nil || !o.attr(tpm2.AttrSign) || o.public.Type == tpm2.AlgSymCipher {
		return own, handleError(tpm2.RCKey, handle)
	}
	if own.Scheme == tpm2.AlgNull || own.Scheme == tpm2.AlgECDAA {
		return own, handleError(tpm2.RCScheme, handle)
	}
	return own, nil
}

// takeContext gives the context of a signature, which is a numbered parameter, to
// the sequence: no scheme but ML-DSA and HashML-DSA has one.
func (s *sequence) takeContext(o *object, context []byte, number int) (err error) {
	switch o.public.Type {
	case tpm2.AlgMLDSA:
		if s.mu, err = mldsa.NewMu(o.public.Unique.MLDSA, context); err != nil {
			err = mldsaCode(err)
		}
	case tpm2.AlgHashMLDSA:
		s.context = clone(context)
	default:
		if len(context) != 0 {
			err = parameter(tpm2.RCValue, number)
		}
	}
	return err
}

// messageSequence starts a sequence over a message that a key signs or whose
// signature it verifies.
func (c *call) messageSequence(kind sequenceKind, auth []byte) (*sequence, error) {
	o := c.t.object(c.handles[0])
	scheme, err := fixedScheme(o, 1)
	if err != nil {
		return nil, err
	}
	// The Name binds the key; one without a Name would pass for any other.
	s := &sequence{kind: kind, key: clone(o.name)}
	if len(s.key) == 0 || o.publicOnly && scheme.Scheme == tpm2.AlgHMAC {
		return nil, handleError(tpm2.RCKey, 1)
	}
	if len(trimAuth(auth)) > o.public.NameAlg.DigestSize() {
		return nil, parameter(tpm2.RCSize, 1)
	}
	if kind == signSequence && attestsByHMAC(o, scheme) {
		return nil, handleError(tpm2.RCAttributes, 1)
	}
	switch scheme.Scheme {
	case tpm2.AlgHMAC:
		s.sums, err = newHMAC(scheme.HashAlg, o.sensitive.Bits)
		return s, err
	case tpm2.AlgMLDSA:
		s.kind = kind.ofMu()
		return s, nil
	case tpm2.AlgHashMLDSA:
		s.kind = kind.ofMu()
	}
	h, err := newBankHash(scheme.HashAlg)
	s.sums = []bankHash{h}
	return s, err
}

// attestsByHMAC reports whether o is a restricted HMAC key. It makes the HMAC of the
// digest of an attestation, which is a message, too, and no ticket says of a message
// where it comes from (Part 3, 1.85, 20.6; as in 15.5 and 17.2).
func attestsByHMAC(o *object, scheme tpm2.SigScheme) bool {
	return scheme.Scheme == tpm2.AlgHMAC && o.attr(tpm2.AttrRestricted)
}

// signSequenceStart is TPM2_SignSequenceStart (Part 3, 1.85, 17.5).
func signSequenceStart(c *call, in *command.SignSequenceStartIn, _ *command.None) error {
	s, err := c.messageSequence(signSequence, in.Auth)
	if err != nil {
		return err
	}
	if err := s.takeContext(c.t.object(c.handles[0]), in.Context, 2); err != nil {
		return err
	}
	return c.placeSequence(s, in.Auth)
}

// verifySequenceStart is TPM2_VerifySequenceStart (Part 3, 1.85, 17.6). Only EdDSA
// has a hint.
func verifySequenceStart(c *call, in *command.VerifySequenceStartIn, _ *command.None) error {
	s, err := c.messageSequence(verifySequence, in.Auth)
	if err != nil {
		return err
	}
	if len(in.Hint) != 0 {
		return parameter(tpm2.RCValue, 2)
	}
	if err := s.takeContext(c.t.object(c.handles[0]), in.Context, 3); err != nil {
		return err
	}
	return c.placeSequence(s, in.Auth)
}

// endMessage checks the sequence and the key that it was started for.
func (c *call) endMessage(kind sequenceKind) (*sequence, *object, tpm2.SigScheme, error) {
	s, o := c.t.object(c.handles[0]).sequence, c.t.object(c.handles[1])
	if s == nil || s.kind != kind && s.kind != kind.ofMu() {
		return nil, nil, tpm2.SigScheme{}, handleError(tpm2.RCMode, 1)
	}
	scheme, err := fixedScheme(o, 2)
	if err != nil {
		return nil, nil, scheme, err
	}
	if !equal(o.name, s.key) {
		return nil, nil, scheme, handleError(tpm2.RCSignContext, 2)
	}
	return s, o, scheme, nil
}

// signSequenceComplete is TPM2_SignSequenceComplete (Part 3, 1.85, 20.6). An HMAC key
// makes the HMAC of the message, not of its digest.
func signSequenceComplete(c *call, in *command.SignSequenceCompleteIn, out *command.SignSequenceCompleteOut) error {
	s, o, scheme, err := c.endMessage(signSequence)
	if err != nil {
		return err
	}
	if o.attr(tpm2.AttrX509Sign) || attestsByHMAC(o, scheme) {
		return handleError(tpm2.RCAttributes, 2)
	}
	// A restricted key signs nothing that looks like an attestation.
	if o.attr(tpm2.AttrRestricted) && generated(s.head, in.Buffer) {
		return parameter(tpm2.RCValue, 1)
	}
	digest := s.finish(in.Buffer)
	switch scheme.Scheme {
	case tpm2.AlgHMAC:
		out.Signature = tpm2.Signature{SigAlg: tpm2.AlgHMAC, Hash: scheme.HashAlg, HMAC: digest}
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		out.Signature, err = c.signDigestMu(o, s.context, digest)
	default:
		out.Signature, err = c.t.sign(o, scheme, digest)
	}
	if err == nil {
		c.flush = c.handles[0]
	}
	return err
}

// signDigestMu signs by a key of ML-DSA or HashML-DSA what a sequence or the caller
// has of a message: its representative for the first, its digest for the second.
func (c *call) signDigestMu(o *object, context, digest []byte) (tpm2.Signature, error) {
	mu, err := o.muOf(context, digest)
	if err != nil {
		return tpm2.Signature{}, err
	}
	return c.signMu(o, mu, 0)
}

// generated reports whether a message that begins with these parts begins as
// what a TPM attests.
func generated(head, rest []byte) bool {
	b := append(clone(head), rest[:min(len(rest), 4)]...)
	return len(b) >= 4 && binary.BigEndian.Uint32(b) == tpm2.Generated
}

// verifySequenceComplete is TPM2_VerifySequenceComplete (Part 3, 1.85, 20.3).
func verifySequenceComplete(c *call, in *command.VerifySequenceCompleteIn, out *command.VerifySequenceCompleteOut) error {
	s, o, scheme, err := c.endMessage(verifySequence)
	if err != nil {
		return err
	}
	if in.Signature.SigAlg != scheme.Scheme || in.Signature.Hash != scheme.HashAlg {
		return parameter(tpm2.RCScheme, 1)
	}
	digest := s.finish(nil)
	switch scheme.Scheme {
	case tpm2.AlgHMAC:
		if !equal(digest, in.Signature.HMAC) {
			err = tpm2.RCSignature
		}
	case tpm2.AlgMLDSA, tpm2.AlgHashMLDSA:
		err = o.verifyDigestMu(s.context, digest, &in.Signature)
	default:
		err = c.t.verify(o, digest, &in.Signature)
	}
	if err != nil {
		return parameter(responseCode(err), 1)
	}
	c.flush = c.handles[0]
	if !hasTickets(o) {
		out.Validation = tpm2.VerifiedTicket{Tag: tpm2.TagMessageVerified, Hierarchy: tpm2.HandleNull}
		return nil
	}
	out.Validation, err = c.t.versionedTicket(o.hierarchy, tpm2.TagMessageVerified, s.ticketMessage(digest), o.name, 0)
	return err
}

// verifyDigestMu checks a signature by a key of ML-DSA or HashML-DSA of what there is
// of a message, as signDigestMu signs it.
func (o *object) verifyDigestMu(context, digest []byte, sig *tpm2.Signature) error {
	mu, err := o.muOf(context, digest)
	if err != nil {
		return err
	}
	return o.verifyMu(mu, sig.MLDSA)
}

// hasTickets reports whether tickets are given for what a key signed: it must have a
// hierarchy and a Name.
func hasTickets(o *object) bool { return o.hierarchy != tpm2.HandleNull && len(o.name) != 0 }

// ticketMessage is what a ticket says was verified: the message (Part 1, 1.85, 15.7), or
// for one that is longer than any that a ticket is compared with, its beginning and its
// digest or representative: together longer, too, so that they pass for no other.
func (s *sequence) ticketMessage(digest []byte) []byte {
	if len(s.message) <= maxTicketMessage {
		return s.message
	}
	return append(clone(s.message), digest...)
}

// digestScheme returns the scheme by which a key signs digests. An HMAC of a digest
// would be one of a message, too: such keys have the sequences. Of a message for ML-DSA
// the digest is its representative, which the key must allow (Part 2, 1.85, 12.2.3.7).
func digestScheme(o *object) (tpm2.SigScheme, error) {
	scheme, err := fixedScheme(o, 1)
	switch {
	case err != nil:
	case scheme.Scheme == tpm2.AlgHMAC:
		err = handleError(tpm2.RCScheme, 1)
	case scheme.Scheme == tpm2.AlgMLDSA && !o.public.Parameters.MLDSA.AllowExternalMu:
		err = handleError(tpm2.RCAttributes, 1)
	}
	return scheme, err
}

// checkDigest checks a context, which is in the representative already when that is
// the digest, and the size of the digest.
func checkDigest(s tpm2.SigScheme, context, digest []byte) error {
	size := s.HashAlg.DigestSize()
	if s.Scheme == tpm2.AlgMLDSA {
		size = mldsa.MuSize
	}
	switch {
	case len(context) != 0 && s.Scheme != tpm2.AlgHashMLDSA:
		return parameter(tpm2.RCValue, 1)
	case len(digest) != size:
		return parameter(tpm2.RCSize, 2)
	}
	return nil
}

// checkTicket checks that the TPM made a digest, where a ticket says so or the key
// signs no other. ML-DSA has no hash, and no ticket is by none: the TPM vouches for no
// representative.
func (c *call) checkTicket(o *object, s tpm2.SigScheme, in *command.SignDigestIn) error {
	if len(in.Validation.Digest) == 0 && !o.attr(tpm2.AttrRestricted) {
		return nil
	}
	want, err := c.t.hashCheckTicket(in.Validation.Hierarchy, s.HashAlg, in.Digest)
	if err == nil && !equal(want.Digest, in.Validation.Digest) {
		err = parameter(tpm2.RCTicket, 3)
	}
	return err
}

// signDigest is TPM2_SignDigest (Part 3, 1.85, 20.7).
func signDigest(c *call, in *command.SignDigestIn, out *command.SignDigestOut) error {
	o := c.t.object(c.handles[0])
	scheme, err := digestScheme(o)
	if err != nil {
		return err
	}
	if o.attr(tpm2.AttrX509Sign) {
		return handleError(tpm2.RCAttributes, 1)
	}
	if err := checkDigest(scheme, in.Context, in.Digest); err != nil {
		return err
	}
	if err := c.checkTicket(o, scheme, in); err != nil {
		return err
	}
	if signsMessages(o.public.Type) {
		out.Signature, err = c.signDigestMu(o, in.Context, in.Digest)
	} else {
		out.Signature, err = c.t.sign(o, scheme, in.Digest)
	}
	return err
}

// verifyDigestSignature is TPM2_VerifyDigestSignature (Part 3, 1.85, 20.4).
func verifyDigestSignature(c *call, in *command.VerifyDigestSignatureIn, out *command.VerifyDigestSignatureOut) error {
	o := c.t.object(c.handles[0])
	scheme, err := digestScheme(o)
	if err != nil {
		return err
	}
	if err := checkDigest(scheme, in.Context, in.Digest); err != nil {
		return err
	}
	if in.Signature.SigAlg != scheme.Scheme || in.Signature.Hash != scheme.HashAlg {
		return parameter(tpm2.RCScheme, 3)
	}
	if signsMessages(o.public.Type) {
		err = o.verifyDigestMu(in.Context, in.Digest, &in.Signature)
	} else {
		err = c.t.verify(o, in.Digest, &in.Signature)
	}
	if err != nil {
		return parameter(responseCode(err), 3)
	}
	hash := scheme.HashAlg
	if scheme.Scheme == tpm2.AlgMLDSA {
		hash = tpm2.AlgNull // a representative is the digest by no TPM_ALG_ID
	}
	// Errata 1 of version 1.85, 2.5: the ticket of a representative is a NULL ticket, as
	// no command could compare another.
	if hash == tpm2.AlgNull || !hasTickets(o) {
		out.Validation = tpm2.VerifiedTicket{Tag: tpm2.TagDigestVerified, Hierarchy: tpm2.HandleNull, DigestAlg: hash}
		return nil
	}
	out.Validation, err = c.t.versionedTicket(o.hierarchy, tpm2.TagDigestVerified, in.Digest, o.name, hash)
	return err
}
