package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
)

// ticketHash is the hash of the HMAC of tickets (CONTEXT_INTEGRITY_HASH_ALG).
const ticketHash = tpm2.AlgSHA512

// ticketDigest is the HMAC of a ticket under the proof of its hierarchy, which
// only this TPM knows (Part 1, 11.4.6; Part 2, 10.6).
func (t *TPM) ticketDigest(h tpm2.Handle, tag tpm2.Tag, parts ...[]byte) ([]byte, error) {
	mac, err := t.macs.under(ticketHash, t.proof(h))
	if err != nil {
		return nil, err
	}
	mac.Write(binary.BigEndian.AppendUint16(nil, uint16(tag)))
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil), nil
}

// creationTicket vouches that this TPM made an object of that Name with creation
// data of that hash (Part 2, 10.6.3).
func (t *TPM) creationTicket(h tpm2.Handle, name, creationHash []byte) (tpm2.CreationTicket, error) {
	d, err := t.ticketDigest(h, tpm2.TagCreation, sized(name), creationHash)
	return tpm2.CreationTicket{Hierarchy: h, Digest: d}, err
}

// verifiedTicket vouches that this TPM verified a signature of the digest by the
// key of that Name (Part 2, 10.6.4).
func (t *TPM) verifiedTicket(h tpm2.Handle, digest, keyName []byte) (tpm2.VerifiedTicket, error) {
	d, err := t.ticketDigest(h, tpm2.TagVerified, sized(digest), keyName)
	return tpm2.VerifiedTicket{Tag: tpm2.TagVerified, Hierarchy: h, Digest: d}, err
}

// versionedTicket is the ticket of the verifications of version 1.85 (Part 1, 1.85,
// 15.7; Part 2, 1.85, 10.6.5): the tag says whether a message or a digest was verified;
// with a digest goes its hash.
func (t *TPM) versionedTicket(h tpm2.Handle, tag tpm2.Tag, verified, keyName []byte, hash tpm2.Alg) (tpm2.VerifiedTicket, error) {
	out := tpm2.VerifiedTicket{Tag: tag, Hierarchy: h}
	var meta []byte
	if tag == tpm2.TagDigestVerified {
		out.DigestAlg = hash
		meta = binary.BigEndian.AppendUint16(nil, uint16(hash))
	}
	var err error
	out.Digest, err = t.ticketDigest(h, tag, sized(verified), keyName, meta)
	return out, err
}

// hashCheckTicket vouches that the digest is by that hash over data that does not
// begin as what a TPM attests (Part 2, 10.6.6).
func (t *TPM) hashCheckTicket(h tpm2.Handle, a tpm2.Alg, digest []byte) (tpm2.HashCheckTicket, error) {
	d, err := t.ticketDigest(h, tpm2.TagHashCheck, binary.BigEndian.AppendUint16(nil, uint16(a)), digest)
	return tpm2.HashCheckTicket{Hierarchy: h, Digest: d}, err
}

// sized puts a length before bytes, so that neighbours in a digest cannot trade
// bytes. What is in a ticket is the business of the TPM that made it alone.
func sized(b []byte) []byte {
	return appendSized(make([]byte, 0, 2+len(b)), b)
}
