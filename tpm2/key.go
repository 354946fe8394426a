package tpm2

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"

	"github.com/assay-project/assay/wire"
)

// ErrKey is a public area that is no usable public key: a type, curve or
// number that Go's cryptography does not take.
var ErrKey = errors.New("not a usable public key")

// Key returns the public key of p: an *rsa.PublicKey, or an *ecdsa.PublicKey on
// P-256, P-384 or P-521. Errors wrap [ErrKey]. It judges no strength.
func (p *Public) Key() (crypto.PublicKey, error) {
	switch p.Type {
	case AlgRSA:
		return p.rsaKey()
	case AlgECC:
		return p.ecdsaKey()
	}
	return nil, fmt.Errorf("object of type %#04x has no public key: %w", uint16(p.Type), ErrKey)
}

func (p *Public) rsaKey() (*rsa.PublicKey, error) {
	e := p.Parameters.RSA.Exponent
	if e == 0 {
		e = 65537 // Part 2, 12.2.3.5
	}
	if e < 3 || e > math.MaxInt32 || e%2 == 0 {
		return nil, fmt.Errorf("RSA exponent is %d: %w", e, ErrKey)
	}
	n := new(big.Int).SetBytes(p.Unique.RSA)
	if n.BitLen() != int(p.Parameters.RSA.KeyBits) || n.Bit(0) == 0 {
		return nil, fmt.Errorf("RSA modulus has %d bits for a key of %d: %w", n.BitLen(), p.Parameters.RSA.KeyBits, ErrKey)
	}
	return &rsa.PublicKey{N: n, E: int(e)}, nil
}

func (p *Public) ecdsaKey() (*ecdsa.PublicKey, error) {
	id := p.Parameters.ECC.CurveID
	point, err := p.Unique.ECC.uncompressed(id)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(id.elliptic(), point)
	if err != nil {
		return nil, fmt.Errorf("point is not on %v: %w", id, ErrKey)
	}
	return key, nil
}

// uncompressed returns the point as SEC 1, 2.3.3 writes it, on a curve that Go
// has. A TPM may leave out leading zeros of a coordinate (Part 2, 11.2.5.1).
func (p *ECCPoint) uncompressed(curve ECCCurve) ([]byte, error) {
	size := curve.fieldSize()
	if size == 0 {
		return nil, fmt.Errorf("curve %v is not supported: %w", curve, ErrKey)
	}
	if len(p.X) > size || len(p.Y) > size {
		return nil, fmt.Errorf("coordinate is longer than %d bytes: %w", size, ErrKey)
	}
	out := make([]byte, 1+2*size)
	out[0] = 4
	copy(out[1+size-len(p.X):], p.X)
	copy(out[1+2*size-len(p.Y):], p.Y)
	return out, nil
}

// NewPublic returns the public area of an outside key, as TPM2_LoadExternal
// would take it: no Name algorithm, no attributes but sign, no scheme. It is for
// comparing keys; its Name is empty.
func NewPublic(key crypto.PublicKey) (*Public, error) {
	p := &Public{NameAlg: AlgNull, Attributes: AttrSign}
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.E < 3 || k.N.BitLen() > 8*MaxRSAKeyBytes {
			return nil, fmt.Errorf("RSA key of %d bits, exponent %d: %w", k.N.BitLen(), k.E, ErrKey)
		}
		p.Type = AlgRSA
		p.Parameters.RSA = RSAParms{
			Symmetric: SymDefObject{Algorithm: AlgNull}, Scheme: RSAScheme{Scheme: AlgNull},
			KeyBits: uint16(k.N.BitLen()), Exponent: uint32(k.E), // both bounded above or by int's use in crypto/rsa
		}
		p.Unique.RSA = k.N.Bytes()
		return p, nil
	case *ecdsa.PublicKey:
		return newECCPublic(p, k)
	}
	return nil, fmt.Errorf("key is a %T: %w", key, ErrKey)
}

func newECCPublic(p *Public, k *ecdsa.PublicKey) (*Public, error) {
	for _, id := range []ECCCurve{CurveNISTP256, CurveNISTP384, CurveNISTP521} {
		if id.elliptic() != k.Curve {
			continue
		}
		b, err := k.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encode point: %w", ErrKey)
		}
		size := id.fieldSize()
		p.Type = AlgECC
		p.Parameters.ECC = ECCParms{
			Symmetric: SymDefObject{Algorithm: AlgNull}, Scheme: ECCScheme{Scheme: AlgNull},
			CurveID: id, KDF: KDFScheme{Scheme: AlgNull},
		}
		p.Unique.ECC = ECCPoint{X: b[1 : 1+size], Y: b[1+size:]}
		return p, nil
	}
	return nil, fmt.Errorf("curve %s: %w", k.Curve.Params().Name, ErrKey)
}

// classicPublic is enough for an encoded TPMT_PUBLIC that is not post-quantum:
// an RSA-4096 key with a policy takes 602 bytes.
const classicPublic = 1024

// Name returns the Name of the object: its hash algorithm and the digest of its
// public area (Part 1, 16). Without a Name algorithm it is empty.
func (p *Public) Name() ([]byte, error) {
	return p.NameBy(wire.NewBuffer(classicPublic))
}

// NameBy is [Public.Name] by way of a buffer, which spares its memory.
func (p *Public) NameBy(b *wire.Buffer) ([]byte, error) {
	if p.NameAlg == AlgNull {
		return nil, nil
	}
	public, err := b.Encode(p)
	if err != nil {
		return nil, fmt.Errorf("encode TPMT_PUBLIC: %w", err)
	}
	return nameOf(p.NameAlg, public)
}

// QualifiedName returns the Qualified Name of an object under a parent: the
// digest of the parent's Qualified Name and the object's Name (Part 1, 16).
// The parent of a primary object is its hierarchy, whose name is its handle.
func QualifiedName(nameAlg Alg, parent, name []byte) ([]byte, error) {
	return nameOf(nameAlg, parent, name)
}

func nameOf(a Alg, parts ...[]byte) ([]byte, error) {
	name, ok := a.Sum(binary.BigEndian.AppendUint16(make([]byte, 0, MaxName), uint16(a)), parts...)
	if !ok {
		return nil, fmt.Errorf("hash %s of a Name is not supported", a.BankName())
	}
	return name, nil
}
