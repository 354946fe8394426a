package engine

import (
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// creationTicket vouches that this TPM made an object of that Name with creation
// data of that hash (Part 2, 10.6.3).
func (t *TPM) creationTicket(h tpm2.Handle, name, creationHash []byte) (tpm2.CreationTicket, error) {
	tag := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TagCreation))
	d, err := tpmcrypto.HMAC(tpm2.AlgSHA512, t.proof(h), tag, name, creationHash)
	return tpm2.CreationTicket{Hierarchy: h, Digest: d}, err
}
