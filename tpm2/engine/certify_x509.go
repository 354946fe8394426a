package engine

import (
	"bytes"
	"encoding/binary"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// TPM2_CertifyX509 of chapter 18 of Part 3. Its DER is in x509_der.go.

// serialSize is how many bytes of a digest are the serial number.
const serialSize = 20

// tbs are the parts of a TBSCertificate that the caller gives (RFC 5280, 4.1),
// each a whole element.
type tbs struct {
	algorithm                 []byte // empty: the TPM says it
	issuer, validity, subject []byte
	extensions                []byte
}

// certifyX509 is TPM2_CertifyX509 (Part 3, 18.8).
func certifyX509(c *call, in *command.CertifyX509In, out *command.CertifyX509Out) error {
	if len(in.Reserved) != 0 {
		return parameter(tpm2.RCSize, 1)
	}
	a, err := c.attester(2, in.InScheme, 2)
	if err != nil {
		return err
	}
	// A certificate is signed by the digest of it.
	if a.key != nil && signsMessages(a.key.public.Type) {
		return parameter(tpm2.RCScheme, 2)
	}
	// The reference does not survive a signing key that is none.
	if a.key == nil || a.key.public.NameAlg == tpm2.AlgNull {
		return handleError(tpm2.RCKey, 2)
	}
	object := c.t.object(c.handles[0])
	key, ok := subjectPublicKey(&object.public)
	if !ok {
		return handleError(tpm2.RCAsymmetric, 1)
	}
	part, err := parseTBS(in.PartialCertificate)
	if err != nil {
		return parameter(responseCode(err), 3)
	}
	algorithm := part.algorithm
	if len(algorithm) == 0 {
		if algorithm, ok = signatureAlgorithm(&a); !ok {
			return handleError(tpm2.RCScheme, 2)
		}
	}
	if err := checkExtensions(part.extensions, object.public.Attributes); err != nil {
		return err
	}
	body := [][]byte{algorithm, part.issuer, part.validity, part.subject, key, part.extensions}
	serial, err := tpmcrypto.Hash(a.key.public.NameAlg, append(body, a.key.name, object.name)...)
	if err != nil {
		return err
	}
	head := [][]byte{der(derExplicit, der(derInteger, []byte{2})), derUint(serial[:min(len(serial), serialSize)])} // v3
	certificate := der(derSequence, append(head, body...)...)
	if out.TBSDigest, err = tpmcrypto.Hash(a.scheme.HashAlg, certificate); err != nil {
		return err
	}
	added := head
	if len(part.algorithm) == 0 {
		added = append(added, algorithm)
	}
	out.AddedToCertificate = der(derSequence, append(added, key)...)
	out.Signature, err = c.t.sign(a.key, a.scheme, out.TBSDigest)
	return err
}

// parseTBS splits the partial certificate: a sequence of issuer, validity, subject
// and extensions, with the signature's algorithm before the issuer or without it.
func parseTBS(b []byte) (*tbs, error) {
	if len(b) == 0 {
		return nil, tpm2.RCValue
	}
	tag, b, _, rest, ok := derNext(b)
	if !ok || tag != derSequence || len(rest) != 0 {
		return nil, tpm2.RCSize
	}
	var sequences [][]byte
	out := new(tbs)
	for len(b) > 0 {
		var whole []byte
		if tag, _, whole, b, ok = derNext(b); !ok {
			return nil, tpm2.RCValue
		}
		switch {
		case tag == derSequence && len(sequences) < 4:
			sequences = append(sequences, whole)
		case tag == derExtensions && out.extensions == nil:
			out.extensions = whole
		default:
			return nil, tpm2.RCValue
		}
	}
	if len(sequences) == 4 {
		out.algorithm, sequences = sequences[0], sequences[1:]
	}
	if len(sequences) != 3 || out.extensions == nil {
		return nil, tpm2.RCValue
	}
	out.issuer, out.validity, out.subject = sequences[0], sequences[1], sequences[2]
	return out, nil
}

// The bits of a key usage (RFC 5280, 4.2.1.3) by what a key must be able to.
const (
	usageSign            = 1<<31 | 1<<26 | 1<<25                 // digitalSignature, keyCertSign, cRLSign
	usageDecrypt         = 1<<29 | 1<<28 | 1<<27 | 1<<24 | 1<<23 // keyEncipherment and on, encipherOnly, decipherOnly
	usageNonRepudiation  = 1 << 30
	usageKeyEncipherment = 1 << 29
	usageReserved        = 1<<23 - 1
)

// checkExtensions checks that the certificate says of the key only what its
// attributes allow (Part 3, 18.8): a key usage must be there, the attributes may.
// Its errors have the numbers of their handle or parameter.
func checkExtensions(extensions []byte, a tpm2.ObjectAttributes) error {
	bad := parameter(tpm2.RCValue, 3)
	_, b, _, _, _ := derNext(extensions)
	tag, list, _, rest, ok := derNext(b)
	if !ok || tag != derSequence || len(rest) != 0 {
		return bad
	}
	value, found, ok := extensionFlags(list, oidTPMAttribute)
	switch {
	case !ok:
		return bad
	case found && value != uint32(a):
		return handleError(tpm2.RCAttributes, 1)
	}
	usage, found, ok := extensionFlags(list, oidKeyUsage)
	switch {
	case !ok || !found:
		return bad
	case usage&usageReserved != 0:
		return parameter(tpm2.RCReservedBits, 3)
	case usage&usageSign != 0 && !a.Has(tpm2.AttrSign),
		usage&usageDecrypt != 0 && !a.Has(tpm2.AttrDecrypt),
		usage&usageNonRepudiation != 0 && !a.Has(tpm2.AttrFixedTPM),
		usage&usageKeyEncipherment != 0 && !a.Has(tpm2.AttrRestricted):
		return bad
	}
	return nil
}

// extensionFlags finds an extension and reads it as a bit string. The reference
// takes the first; a verifier may read another, so that here two are refused
// (RFC 5280, 4.2).
func extensionFlags(list []byte, oid string) (flags uint32, found, ok bool) {
	for len(list) > 0 {
		var tag byte
		var b []byte
		if tag, b, _, list, ok = derNext(list); !ok || tag != derSequence {
			return 0, false, false
		}
		if !bytes.HasPrefix(b, []byte(oid)) {
			continue
		}
		if found {
			return 0, true, false
		}
		if flags, ok = extensionValue(b[len(oid):]); !ok {
			return 0, true, false
		}
		found = true
	}
	return flags, found, true
}

// extensionValue reads the bit string in the octet string behind an identifier
// and, perhaps, whether the extension is critical.
func extensionValue(b []byte) (flags uint32, ok bool) {
	for len(b) > 0 {
		var tag byte
		var content []byte
		if tag, content, _, b, ok = derNext(b); !ok {
			return 0, false
		}
		if tag != derOctetString {
			continue
		}
		tag, bits, _, rest, ok := derNext(content)
		if !ok || tag != derBitString || len(rest) != 0 {
			return 0, false
		}
		return derFlags(bits)
	}
	return 0, false
}

// subjectPublicKey encodes a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
func subjectPublicKey(p *tpm2.Public) ([]byte, bool) {
	switch p.Type {
	case tpm2.AlgRSA:
		e := p.Parameters.RSA.Exponent
		if e == 0 {
			e = tpmcrypto.DefaultExponent
		}
		exponent := derUint(binary.BigEndian.AppendUint32(nil, e))
		return der(derSequence,
			der(derSequence, []byte(oidRSA), []byte{derNull, 0}),
			derBits(der(derSequence, derUint(p.Unique.RSA), exponent))), true
	case tpm2.AlgECC:
		curve := oidOfCurve(p.Parameters.ECC.CurveID)
		k, err := tpmcrypto.NewECCPublic(p.Parameters.ECC.CurveID, p.Unique.ECC)
		if err != nil || curve == "" {
			return nil, false
		}
		point := k.Point() // in the size of the field
		return der(derSequence,
			der(derSequence, []byte(oidECPublic), []byte(curve)),
			derBits([]byte{4}, point.X, point.Y)), true
	}
	return nil, false
}

// signatureAlgorithm encodes the AlgorithmIdentifier of a signature, if there is
// one for the scheme.
func signatureAlgorithm(a *attester) ([]byte, bool) {
	ids, ok := oidsOf(a.scheme.HashAlg)
	null := []byte{derNull, 0}
	switch a.scheme.Scheme {
	case tpm2.AlgRSASSA:
		return der(derSequence, []byte(ids.pkcs1), null), ok
	case tpm2.AlgECDSA:
		return der(derSequence, []byte(ids.ecdsa)), ok
	case tpm2.AlgRSAPSS:
		// RFC 4055, 3.1: what is the default is left out.
		if a.scheme.HashAlg == tpm2.AlgSHA1 {
			return der(derSequence, []byte(oidPSS), null), true
		}
		size := a.scheme.HashAlg.DigestSize()
		salt := min(size, len(a.key.public.Unique.RSA)-size-2)
		hash := der(derSequence, []byte(ids.hash), null)
		return der(derSequence, []byte(oidPSS), der(derSequence,
			der(derExplicit, hash),
			der(derExplicit+1, der(derSequence, []byte(oidMGF1), hash)),
			der(derExplicit+2, derUint([]byte{byte(salt)})))), ok && salt >= 0
	}
	return nil, false
}
