package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 22 of Part 3: the commands of integrity collection. The values and
// attributes of the PCRs are in pcr_state.go.

// pcrExtend is TPM2_PCR_Extend (Part 3, 22.2). Digests of banks that the TPM has
// not are passed over.
func pcrExtend(c *call, in *command.PCRExtendIn, _ *command.None) error {
	h := c.handles[0]
	if h == tpm2.HandleNull {
		return nil
	}
	pcr := int(h)
	if !allowed(pcrTable[pcr].extend, c.locality) {
		return tpm2.RCLocality
	}
	c.extendAll(JournalExtend, pcr, in.Digests)
	return nil
}

// pcrEvent is TPM2_PCR_Event (Part 3, 22.3): the digests of the data by each hash
// for which there may be a bank are returned, whether or not there is one.
func pcrEvent(c *call, in *command.PCREventIn, out *command.PCREventOut) error {
	h := c.handles[0]
	if h != tpm2.HandleNull && !allowed(pcrTable[int(h)].extend, c.locality) {
		return tpm2.RCLocality
	}
	banks := c.t.profile.Banks
	out.Digests = make(tpm2.DigestValues, 0, len(banks))
	room := make([]byte, 0, len(banks)*tpm2.MaxDigest)
	for _, a := range banks {
		from := len(room)
		room, _ = a.Sum(room, in.EventData) // a profile has no bank without a hash
		out.Digests = append(out.Digests, tpm2.DigestValue{HashAlg: a, Digest: room[from:len(room):len(room)]})
	}
	if h == tpm2.HandleNull {
		return nil
	}
	c.extendAll(JournalEvent, int(h), out.Digests)
	return nil
}

// allowed reports whether a set of localities, as bits, has the locality.
func allowed(set, locality uint8) bool { return locality < 5 && set>>locality&1 == 1 }

// extendAll extends a PCR in each bank of which there is a digest, and records it.
func (c *call) extendAll(kind JournalKind, pcr int, digests tpm2.DigestValues) {
	t := c.t
	t.journal.begin(kind, c.locality, uint8(pcr), 0, t.vol.time)
	for i := range digests {
		if b := t.bank(digests[i].HashAlg); b != nil && b.value(pcr) != nil {
			b.extend(pcr, digests[i].Digest)
			t.pcrChanged(pcr)
			t.journal.digest(digests[i].HashAlg, digests[i].Digest)
		}
	}
}

// maxPCRRead is how many digests a TPML_DIGEST has (Part 2, 10.9.5).
const maxPCRRead = 8

// pcrRead is TPM2_PCR_Read (Part 3, 22.4): at most eight values; the selection
// that is returned says which.
func pcrRead(c *call, in *command.PCRReadIn, out *command.PCRReadOut) error {
	t := c.t
	out.PCRUpdateCounter = t.reset.pcrCounter
	out.PCRSelectionOut = in.PCRSelectionIn
	out.PCRValues = t.pcrValues[:0]
	for i := range out.PCRSelectionOut {
		s := &out.PCRSelectionOut[i]
		b := t.bank(s.Hash)
		wanted := s.Select
		if s.Select = (tpm2.PCRSelect{}); b == nil {
			continue
		}
		for pcr := range wanted.All() {
			if v := b.value(pcr); v != nil && len(out.PCRValues) < maxPCRRead {
				out.PCRValues = append(out.PCRValues, v)
				s.Select.Set(pcr)
			}
		}
	}
	return nil
}

// pcrAllocate is TPM2_PCR_Allocate (Part 3, 22.5). Banks that are not named stay
// as they are now, whatever an earlier command asked for; the new banks are there
// after the next _TPM_Init, and the saved values of an earlier shutdown do not fit.
func pcrAllocate(c *call, in *command.PCRAllocateIn, out *command.PCRAllocateOut) error {
	t := c.t
	banks := append([]tpm2.PCRSelection(nil), t.vol.banks...)
	for _, s := range in.PCRAllocation {
		for i := range banks {
			if banks[i].Hash == s.Hash {
				banks[i].Select = s.Select
			}
		}
	}
	var crtm, drtm bool
	out.MaxPCR = tpm2.NumPCR
	for _, s := range banks {
		size := uint32(s.Hash.DigestSize()) // at most MaxDigest
		for range s.Select.All() {
			out.SizeNeeded += size
		}
		out.SizeAvailable += tpm2.NumPCR * size
		crtm = crtm || s.Select.Has(crtmPCR)
		drtm = drtm || s.Select.Has(drtmPCR)
	}
	// Part 3, 22.5: the PCRs of the roots of trust must be somewhere.
	if !crtm || !drtm {
		return tpm2.RCPCR
	}
	out.AllocationSuccess = true
	t.permanent.banks = banks
	t.vol.reallocated = true
	t.unorder()
	t.touch()
	t.record(JournalRecord{Kind: JournalAllocate, Locality: c.locality})
	return nil
}

// pcrSetAuthPolicy is TPM2_PCR_SetAuthPolicy (Part 3, 22.6).
func pcrSetAuthPolicy(c *call, in *command.PCRSetAuthPolicyIn, _ *command.None) error {
	if len(in.AuthPolicy) != in.HashAlg.DigestSize() {
		return parameter(tpm2.RCSize, 1)
	}
	if !pcrTable[int(in.PCRNum)].group {
		return parameter(tpm2.RCValue, 3)
	}
	c.t.permanent.pcrPolicy[0] = authPolicy{alg: in.HashAlg, digest: clone(in.AuthPolicy)}
	c.t.touch()
	return nil
}

// pcrSetAuthValue is TPM2_PCR_SetAuthValue (Part 3, 22.7).
func pcrSetAuthValue(c *call, in *command.PCRSetAuthValueIn, _ *command.None) error {
	if !pcrTable[int(c.handles[0])].group {
		return tpm2.RCValue
	}
	c.t.clear.pcrAuth[0] = clone(trimAuth(in.Auth))
	return nil
}

// pcrReset is TPM2_PCR_Reset (Part 3, 22.8).
func pcrReset(c *call, _, _ *command.None) error {
	t, pcr := c.t, int(c.handles[0])
	// At locality 4 only _TPM_Hash_Start resets PCRs (PCRIsResetAllowed of the reference).
	if c.locality == drtmLocality || !allowed(pcrTable[pcr].reset, c.locality) {
		return tpm2.RCLocality
	}
	for i := range t.vol.pcrs {
		if b := &t.vol.pcrs[i]; b.value(pcr) != nil {
			b.values[pcr] = [tpm2.MaxDigest]byte{}
		}
	}
	t.pcrChanged(pcr) // once, however many banks there are
	t.record(JournalRecord{Kind: JournalReset, Locality: c.locality, PCR: uint8(pcr)})
	return nil
}
