package tpm2

import (
	"encoding/binary"
	"fmt"

	"github.com/assay-project/assay/wire"
)

// classicPublic is enough for an encoded TPMT_PUBLIC that is not post-quantum:
// an RSA-4096 key with a policy takes 602 bytes.
const classicPublic = 1024

// Name returns the Name of the object: its hash algorithm and the digest of its
// public area (Part 1, 16). Without a Name algorithm it is empty.
func (p *Public) Name() ([]byte, error) {
	if p.NameAlg == AlgNull {
		return nil, nil
	}
	b, err := wire.Append(make([]byte, 0, classicPublic), p)
	if err != nil {
		return nil, fmt.Errorf("encode TPMT_PUBLIC: %w", err)
	}
	return nameOf(p.NameAlg, b)
}

// QualifiedName returns the Qualified Name of an object under a parent: the
// digest of the parent's Qualified Name and the object's Name (Part 1, 16).
// The parent of a primary object is its hierarchy, whose name is its handle.
func QualifiedName(nameAlg Alg, parent, name []byte) ([]byte, error) {
	return nameOf(nameAlg, parent, name)
}

func nameOf(a Alg, parts ...[]byte) ([]byte, error) {
	h, ok := a.Hash()
	if !ok {
		return nil, fmt.Errorf("hash %s of a Name is not supported", a.BankName())
	}
	sum := h.New()
	for _, p := range parts {
		sum.Write(p)
	}
	return sum.Sum(binary.BigEndian.AppendUint16(make([]byte, 0, MaxName), uint16(a))), nil
}
