package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// commitBits is how many commitments may wait for their signature at once.
const commitBits = 128

// commitSet has a bit for each TPM2_Commit whose scalar is still to be used, by
// the counter modulo commitBits.
type commitSet [commitBits / 64]uint64

func (s *commitSet) has(count uint64) bool {
	n := count % commitBits
	return s[n/64]>>(n%64)&1 == 1
}

func (s *commitSet) set(count uint64, in bool) {
	n := count % commitBits
	s[n/64] &^= 1 << (n % 64)
	if in {
		s[n/64] |= 1 << (n % 64)
	}
}

// commitScalar derives the scalar of a commitment from the counter, so that it
// need not be kept (Part 1, C.2.2). The object may be nil for an ephemeral key.
func (t *TPM) commitScalar(count uint64, curve tpm2.ECCCurve, name []byte) ([]byte, error) {
	r, err := tpmcrypto.Seeded(ticketHash, t.reset.commitNonce, "COMMIT", name, binary.BigEndian.AppendUint64(nil, count))
	if err != nil {
		return nil, err
	}
	k, err := tpmcrypto.GenerateECC(r, curve)
	if err != nil {
		return nil, err
	}
	return k.Scalar(), nil
}

// addCommitment makes the commitment of the present counter wait, and returns the
// 16 bits of the counter by which its holder names it.
func (t *TPM) addCommitment() uint16 {
	count := t.reset.commitCounter
	t.reset.commits.set(count, true)
	t.reset.commitCounter++
	return uint16(count) // Part 3, 19.2: the low-order bits
}

// committed finds the full counter of the 16 bits that TPM2_Commit returned;
// TPM_RC_VALUE when that commitment does not wait.
func (t *TPM) committed(count uint16) (uint64, error) {
	behind := uint64(uint16(t.reset.commitCounter) - count)
	full := t.reset.commitCounter - behind
	// One that is still to come, and one whose bit another has now, do not wait.
	if behind == 0 || behind > commitBits || behind > t.reset.commitCounter || !t.reset.commits.has(full) {
		return 0, tpm2.RCValue
	}
	return full, nil
}

// commitment returns the scalar of a waiting commitment of a key.
func (t *TPM) commitment(count uint16, o *object) ([]byte, error) {
	full, err := t.committed(count)
	if err != nil {
		return nil, err
	}
	return t.commitScalar(full, o.public.Parameters.ECC.CurveID, o.name)
}

// endCommitment makes sure that a commitment serves once only.
func (t *TPM) endCommitment(count uint16) {
	if full, err := t.committed(count); err == nil {
		t.reset.commits.set(full, false)
	}
}

// renewCommitments ends all commitments, and sets later ones apart from those of
// any TPM with the same state: two signatures of two digests by one commitment, one
// in each of two machines of one snapshot, would tell the private key. What a shutdown
// kept stays as it is, since stored volatile state fits no other; the startup that
// takes it up renews it.
func (t *TPM) renewCommitments() {
	if len(t.reset.commitNonce) != 0 {
		t.reset.commitNonce, t.reset.commits = t.newBytes(seedSize), commitSet{}
	}
	t.inherited = true
}

// keptState is what a shutdown kept, with the commitments that were renewed since: a
// command that changes those changes their counter.
func (t *TPM) keptState() *savedState {
	if !t.inherited || t.permanent.saved == nil {
		return t.permanent.saved
	}
	kept := *t.permanent.saved
	kept.reset.commitNonce, kept.reset.commits = t.reset.commitNonce, commitSet{}
	return &kept
}
