package engine

import (
	"hash"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
)

// maxMACs is how many keys a TPM keeps prepared: the proofs of its hierarchies,
// two keys of a parent, and those of a few sessions.
const maxMACs = 8

// macs keeps HMACs under the keys that were used last. To prepare a key costs more
// than a short message does. Keys are compared whole, so that what is kept can only
// give what would be computed; it is no part of the state.
type macs struct {
	kept []keptMAC // that used last is the first
}

type keptMAC struct {
	alg tpm2.Alg
	key []byte
	mac hash.Hash
}

// under returns an HMAC under the key that nothing was written to. It serves until
// the next call. The refusal is TPM_RC_HASH.
func (m *macs) under(a tpm2.Alg, key []byte) (hash.Hash, error) {
	for i, k := range m.kept {
		if k.alg == a && equal(k.key, key) {
			copy(m.kept[1:], m.kept[:i])
			m.kept[0] = k
			k.mac.Reset()
			return k.mac, nil
		}
	}
	mac, err := tpmcrypto.NewHMAC(a, key)
	if err != nil {
		return nil, err
	}
	if len(m.kept) < maxMACs {
		m.kept = append(m.kept, keptMAC{})
	}
	copy(m.kept[1:], m.kept)
	m.kept[0] = keptMAC{a, clone(key), mac}
	return mac, nil
}

// forget drops all keys, with what they were for.
func (m *macs) forget() { *m = macs{} }

// sum appends the HMAC of the parts, one after the other, to dst.
func (m *macs) sum(dst []byte, a tpm2.Alg, key []byte, parts ...[]byte) ([]byte, error) {
	mac, err := m.under(a, key)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(dst), nil
}

// derive is [tpm2.KDFa].
func (m *macs) derive(a tpm2.Alg, key []byte, label string, contextU, contextV []byte, bits int) ([]byte, error) {
	mac, err := m.under(a, key)
	if err != nil {
		return nil, err
	}
	return tpm2.KDFaBy(mac, label, contextU, contextV, bits)
}
