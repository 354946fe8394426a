package engine

import "github.com/assay-project/assay/tpm2"

const (
	drtmLocality = 4  // from which a dynamic root of trust is measured (PTP, 6.2)
	drtmPCR      = 17 // into which (PTP, 6.4)
	crtmPCR      = 0  // that of the H-CRTM (Part 1, 34.3)
)

// hcrtm is a measurement by _TPM_Hash_Start, _Data and _End: before TPM2_Startup
// of the H-CRTM, after it of a dynamic root of trust (Part 1, 34).
type hcrtm struct {
	sums    []bankHash
	digests [][]byte // one of each sum once _TPM_Hash_End came
}

// HashStart is _TPM_Hash_Start (Part 1, 34.2). A measurement in progress starts anew.
func (t *TPM) HashStart(locality uint8) {
	defer t.fault(nil)
	if t.vol.failed {
		return
	}
	h := &hcrtm{}
	for _, b := range t.vol.banks {
		if ha, ok := b.Hash.Hash(); ok && b.Select != (tpm2.PCRSelect{}) {
			h.sums = append(h.sums, bankHash{b.Hash, ha.New()})
		}
	}
	t.vol.hcrtm = h
	t.record(JournalRecord{Kind: JournalHashStart, Locality: locality})
}

// HashData is _TPM_Hash_Data: without a start it has no effect.
func (t *TPM) HashData(b []byte) {
	defer t.fault(nil)
	if h := t.vol.hcrtm; h != nil && h.digests == nil {
		for _, s := range h.sums {
			s.sum.Write(b)
		}
	}
}

// abandonHash drops a measurement that has not ended: a command between
// _TPM_Hash_Start and _TPM_Hash_End ends it, and no PCR changes (Part 1, 34.1).
func (t *TPM) abandonHash() {
	if h := t.vol.hcrtm; h != nil && h.digests == nil {
		t.vol.hcrtm = nil
	}
}

// HashEnd is _TPM_Hash_End. After TPM2_Startup it resets the dynamic PCRs and
// extends the first of them; before, the digest waits for TPM2_Startup.
func (t *TPM) HashEnd() {
	defer t.fault(nil)
	h := t.vol.hcrtm
	if h == nil || h.digests != nil {
		return
	}
	for _, s := range h.sums {
		h.digests = append(h.digests, s.sum.Sum(nil))
	}
	if !t.vol.started {
		return
	}
	t.unorder() // what was shut down is not what is now
	t.vol.established = true
	t.reset.restartCount++ // Part 2, 10.11.1: a dynamic launch counts as a restart
	for i := range t.vol.pcrs {
		b := &t.vol.pcrs[i]
		for pcr := range b.values {
			if pcrTable[pcr].dynamic() {
				b.values[pcr] = [tpm2.MaxDigest]byte{}
			}
		}
	}
	t.endHash(drtmPCR)
}

// endHCRTM extends PCR 0 with what the H-CRTM measured before TPM2_Startup.
func (t *TPM) endHCRTM() {
	if t.vol.hcrtm != nil && t.vol.hcrtm.digests != nil {
		t.endHash(crtmPCR)
	}
}

// endHash extends a PCR with the digests of the measurement and forgets it.
func (t *TPM) endHash(pcr int) {
	h := t.vol.hcrtm
	t.vol.hcrtm = nil
	t.record(JournalRecord{Kind: JournalHashEnd, Locality: drtmLocality, PCR: uint8(pcr)})
	for i, s := range h.sums {
		if b := t.bank(s.alg); b != nil && b.value(pcr) != nil {
			b.extend(pcr, h.digests[i])
			t.journal.digest(s.alg, h.digests[i])
			if t.vol.started { // the count begins with TPM2_Startup
				t.pcrChanged(pcr)
			}
		}
	}
}

// Established reports whether a dynamic root of trust was measured since
// [TPM.ResetEstablished] (PTP, 6.2: TPM_ACCESS.tpmEstablishment, inverted): the bit
// says that a dynamic OS was established. An H-CRTM is the static root of trust, which
// no such OS follows; libtpms sets the flag at any _TPM_Hash_Start.
func (t *TPM) Established() bool { return t.vol.established }

// ResetEstablished clears the flag; only localities 3 and 4 may (PTP, 6.5.2.1).
func (t *TPM) ResetEstablished(locality uint8) bool {
	if locality != 3 && locality != 4 {
		return false
	}
	t.vol.established = false
	return true
}
