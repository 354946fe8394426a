package engine

import (
	"encoding/binary"
	"slices"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 17 of Part 3: hash, HMAC and event sequences.

// placeSequence makes a sequence object and sets the response's handle. It has no
// Name and no public area but what says that guessing its authValue does not
// count (AllocateSequenceSlot of the reference).
func (c *call) placeSequence(s *sequence, auth []byte) error {
	s.auth = clone(trimAuth(auth))
	o := &object{hierarchy: tpm2.HandleNull, temporary: true, sequence: s}
	o.public = tpm2.Public{Type: tpm2.AlgNull, NameAlg: tpm2.AlgNull, Attributes: tpm2.AttrNoDA}
	h, err := c.t.place(o)
	c.response = h
	return err
}

// ticketSafe reports whether data that begins so cannot be taken for something
// that a TPM attests (TicketIsSafe of the reference). Of less than four bytes the
// rest may follow.
func ticketSafe(b []byte) bool { return len(b) >= 4 && binary.BigEndian.Uint32(b) != tpm2.Generated }

// macStart is TPM2_HMAC_Start and TPM2_MAC_Start, which are one command (Part 3,
// 17.2 and 17.3).
func macStart(c *call, in *command.HMACStartIn, _ *command.None) error {
	o := c.t.object(c.handles[0])
	scheme, err := macScheme(o, in.InScheme)
	if err != nil {
		return err
	}
	s := &sequence{kind: hmacSequence}
	if scheme == tpm2.AlgCMAC {
		s.kind = cmacSequence
		p := &o.public.Parameters.SymCipher
		s.cmac = runningCMAC{bits: p.KeyBits, key: clone(o.sensitive.Bits)}
		s.cmac.mac, err = tpmcrypto.NewCMAC(p.Algorithm, p.KeyBits, s.cmac.key)
	} else {
		s.sums, err = newHMAC(scheme, o.sensitive.Bits)
	}
	if err != nil {
		return err
	}
	return c.placeSequence(s, in.Auth)
}

// hashSequenceStart is TPM2_HashSequenceStart (Part 3, 17.4); without a hash it
// starts an event sequence.
func hashSequenceStart(c *call, in *command.HashSequenceStartIn, _ *command.None) error {
	s := &sequence{kind: hashSequence}
	var err error
	if in.HashAlg == tpm2.AlgNull {
		s.kind = eventSequence
		s.sums, err = c.t.bankHashes()
	} else {
		s.sums = make([]bankHash, 1)
		s.sums[0], err = newBankHash(in.HashAlg)
	}
	if err != nil {
		return err
	}
	return c.placeSequence(s, in.Auth)
}

// bankHashes starts a hash for each bank that there may be, by those of an earlier event
// sequence where these are the same.
func (t *TPM) bankHashes() ([]bankHash, error) {
	out := t.spare
	t.spare = nil
	if slices.EqualFunc(out, t.profile.Banks, func(b bankHash, a tpm2.Alg) bool { return b.alg == a }) {
		for _, b := range out {
			b.sum.Reset()
		}
		return out, nil
	}
	out = make([]bankHash, 0, len(t.profile.Banks))
	for _, a := range t.profile.Banks {
		h, err := newBankHash(a)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

// sequenceUpdate is TPM2_SequenceUpdate (Part 3, 17.5).
func sequenceUpdate(c *call, in *command.SequenceUpdateIn, _ *command.None) error {
	s := c.t.object(c.handles[0]).sequence
	if s == nil {
		return handleError(tpm2.RCMode, 1)
	}
	s.write(in.Buffer)
	return nil
}

// sequenceComplete is TPM2_SequenceComplete (Part 3, 17.6). The ticket lets a
// restricted key sign the digest.
func sequenceComplete(c *call, in *command.SequenceCompleteIn, out *command.SequenceCompleteOut) error {
	s := c.t.object(c.handles[0]).sequence
	if s == nil || s.kind != hashSequence && s.kind != hmacSequence && s.kind != cmacSequence {
		return handleError(tpm2.RCMode, 1)
	}
	out.Result = s.finish(in.Buffer)
	safe := s.safe || !s.begun && ticketSafe(in.Buffer)
	out.Validation.Hierarchy = tpm2.HandleNull
	c.flush = c.handles[0]
	if s.kind != hashSequence || in.Hierarchy == tpm2.HandleNull || !safe {
		return nil
	}
	var err error
	out.Validation, err = c.t.hashCheckTicket(in.Hierarchy, s.sums[0].alg, out.Result)
	return err
}

// eventSequenceComplete is TPM2_EventSequenceComplete (Part 3, 17.7).
func eventSequenceComplete(c *call, in *command.EventSequenceCompleteIn, out *command.EventSequenceCompleteOut) error {
	h, s := c.handles[0], c.t.object(c.handles[1]).sequence
	if s == nil || s.kind != eventSequence {
		return handleError(tpm2.RCMode, 2)
	}
	if h != tpm2.HandleNull && !allowed(pcrTable[int(h)].extend, c.locality) {
		return tpm2.RCLocality
	}
	s.write(in.Buffer)
	out.Results = make(tpm2.DigestValues, 0, len(s.sums))
	room := make([]byte, 0, len(s.sums)*tpm2.MaxDigest)
	for _, b := range s.sums {
		from := len(room)
		room = b.sum.Sum(room)
		out.Results = append(out.Results, tpm2.DigestValue{HashAlg: b.alg, Digest: room[from:len(room):len(room)]})
	}
	c.flush = c.handles[1]
	if h == tpm2.HandleNull {
		return nil
	}
	c.extendAll(JournalEvent, int(h), out.Results)
	return nil
}
