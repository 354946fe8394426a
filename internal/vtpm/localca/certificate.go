package localca

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"
)

// A Kind is what a certificate says of its key.
type Kind uint8

// The kinds of certificates.
const (
	Endorsement Kind = iota // that it is the endorsement key of a TPM
	Platform                // that it is the endorsement key of a platform's TPM
)

// A Request is a certificate to be made. Texts that are empty are left out.
type Request struct {
	Kind    Kind
	Key     crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	Subject pkix.Name
	Serial  *big.Int
	// NotAfter is the last moment; the zero value is for one that has none.
	NotAfter time.Time
	// Signs says that the key signs, and SignsOnly that it does nothing else.
	Signs, SignsOnly bool

	Manufacturer, Model, Version string // of the TPM
	Specification                Specification

	PlatformManufacturer, PlatformModel, PlatformVersion string
}

// A Specification is the one that a TPM follows.
type Specification struct {
	Family          string // "2.0"
	Level, Revision int64
}

// Identifiers of the TCG's profiles and of RFC 5280.
var (
	oidTPMManufacturer      = asn1.ObjectIdentifier{2, 23, 133, 2, 1}
	oidTPMModel             = asn1.ObjectIdentifier{2, 23, 133, 2, 2}
	oidTPMVersion           = asn1.ObjectIdentifier{2, 23, 133, 2, 3}
	oidTPMSpecification     = asn1.ObjectIdentifier{2, 23, 133, 2, 16}
	oidPlatformManufacturer = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 1}
	oidPlatformModel        = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 4}
	oidPlatformVersion      = asn1.ObjectIdentifier{2, 23, 133, 5, 1, 5}
	oidEKUsage              = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidPlatformUsage        = asn1.ObjectIdentifier{2, 23, 133, 8, 2}

	oidSubjectDirectory = asn1.ObjectIdentifier{2, 5, 29, 9}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKey     = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}

	oidSHA256WithRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidECDSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// forever is the end of a certificate that has none (RFC 5280, 4.1.2.5).
func forever() time.Time { return time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC) }

// MaxSerial is the largest serial number: 20 bytes (RFC 5280, 4.1.2.2).
func MaxSerial() *big.Int {
	return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 160), big.NewInt(1))
}

// An Issuer is an authority: its certificate and its key.
type Issuer struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Random      io.Reader
	Now         func() time.Time
}

// Issue makes a certificate and returns its DER. The key of the issuer must be
// that of its certificate, and its certificate one of an authority.
func (i *Issuer) Issue(r *Request) ([]byte, error) {
	if r.Serial == nil || r.Serial.Sign() <= 0 || r.Serial.Cmp(MaxSerial()) > 0 {
		return nil, fmt.Errorf("serial number %v is not from 1 to 2^160-1", r.Serial)
	}
	if err := i.check(); err != nil {
		return nil, err
	}
	extensions, err := r.extensions(i.Certificate)
	if err != nil {
		return nil, err
	}
	subject, err := asn1.Marshal(r.Subject.ToRDNSequence())
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	notAfter := r.NotAfter
	if notAfter.IsZero() {
		notAfter = forever()
	}
	c := tbs{
		Version: 2, Serial: r.Serial, Issuer: asn1.RawValue{FullBytes: i.Certificate.RawSubject},
		Validity: validity{i.Now().UTC().Truncate(time.Second), notAfter.UTC()},
		Subject:  asn1.RawValue{FullBytes: subject}, Extensions: extensions,
	}
	return c.sign(i, r.Key)
}

// check holds that the authority is one.
func (i *Issuer) check() error {
	public, ok := i.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(i.Certificate.PublicKey) {
		return errors.New("the signing key is not that of the issuer's certificate")
	}
	if !i.Certificate.BasicConstraintsValid || !i.Certificate.IsCA || i.Certificate.KeyUsage != 0 && i.Certificate.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("the issuer's certificate is none of an authority")
	}
	return nil
}

// The structures of a certificate (RFC 5280, 4.1). They are written here because
// crypto/x509 refuses serial numbers whose 20 bytes begin with a bit that is set,
// which authorities of swtpm have counted up to.
type (
	tbs struct {
		Version    int `asn1:"explicit,tag:0"`
		Serial     *big.Int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		Validity   validity
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Extensions []pkix.Extension `asn1:"explicit,tag:3"`
	}
	validity    struct{ NotBefore, NotAfter time.Time }
	certificate struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
)

// sign signs the certificate of a key with SHA-256.
func (c *tbs) sign(i *Issuer, key crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	c.PublicKey = asn1.RawValue{FullBytes: spki}
	c.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oidECDSAWithSHA256}
	if _, ok := i.Key.Public().(*rsa.PublicKey); ok {
		c.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oidSHA256WithRSA, Parameters: asn1.NullRawValue}
	}
	text, err := asn1.Marshal(*c)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(text)
	signature, err := i.Key.Sign(i.Random, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	der, err := asn1.Marshal(certificate{asn1.RawValue{FullBytes: text}, c.Algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		return nil, err
	}
	made, err := x509.ParseCertificate(der)
	if err == nil {
		err = made.CheckSignatureFrom(i.Certificate)
	}
	if err != nil {
		return nil, fmt.Errorf("check the certificate that was made: %w", err)
	}
	return der, nil
}

// extensions are those of the TCG's profiles, as swtpm's tools make them (EK
// Credential Profile 2.0, 3.2).
func (r *Request) extensions(issuer *x509.Certificate) ([]pkix.Extension, error) {
	name, purpose := r.deviceName(), oidEKUsage
	if r.Kind == Platform {
		name, purpose = r.platformName(), oidPlatformUsage
	}
	type extension struct {
		id       asn1.ObjectIdentifier
		critical bool
		value    any
	}
	list := []extension{
		{oidExtKeyUsage, false, []asn1.ObjectIdentifier{purpose}},
		{oidBasicConstraints, true, struct{}{}}, // cA is FALSE by default
		{oidKeyUsage, true, r.usage()},
	}
	if len(name) > 0 {
		rdns, err := asn1.Marshal(pkix.Name{ExtraNames: name}.ToRDNSequence())
		if err != nil {
			return nil, err
		}
		directoryName := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: rdns} // RFC 5280, 4.2.1.6
		list = append(list, extension{oidSubjectAltName, true, []asn1.RawValue{directoryName}})
	}
	if s := r.Specification; r.Kind == Endorsement && s.Family != "" {
		list = append(list, extension{oidSubjectDirectory, false, []attribute{{oidTPMSpecification, []specification{{s.Family, s.Level, s.Revision}}}}})
	}
	if len(issuer.SubjectKeyId) > 0 {
		list = append(list, extension{oidAuthorityKey, false, keyIdentifier{issuer.SubjectKeyId}})
	}
	out := make([]pkix.Extension, 0, len(list))
	for _, e := range list {
		der, err := asn1.Marshal(e.value)
		if err != nil {
			return nil, fmt.Errorf("extension %v: %w", e.id, err)
		}
		out = append(out, pkix.Extension{Id: e.id, Critical: e.critical, Value: der})
	}
	return out, nil
}

type (
	// An attribute of SubjectDirectoryAttributes (RFC 5280, 4.2.1.8).
	attribute struct {
		ID     asn1.ObjectIdentifier
		Values []specification `asn1:"set"`
	}
	// TPMSpecification (EK Credential Profile 2.0, 3.1.3).
	specification struct {
		Family          string `asn1:"utf8"`
		Level, Revision int64
	}
	keyIdentifier struct {
		ID []byte `asn1:"tag:0"`
	}
)

func (r *Request) deviceName() []pkix.AttributeTypeAndValue {
	return names(
		pkix.AttributeTypeAndValue{Type: oidTPMManufacturer, Value: r.Manufacturer},
		pkix.AttributeTypeAndValue{Type: oidTPMModel, Value: r.Model},
		pkix.AttributeTypeAndValue{Type: oidTPMVersion, Value: r.Version})
}

func (r *Request) platformName() []pkix.AttributeTypeAndValue {
	return names(
		pkix.AttributeTypeAndValue{Type: oidPlatformManufacturer, Value: r.PlatformManufacturer},
		pkix.AttributeTypeAndValue{Type: oidPlatformModel, Value: r.PlatformModel},
		pkix.AttributeTypeAndValue{Type: oidPlatformVersion, Value: r.PlatformVersion})
}

// names are those attributes that have a value, as UTF8String.
func names(all ...pkix.AttributeTypeAndValue) []pkix.AttributeTypeAndValue {
	var out []pkix.AttributeTypeAndValue
	for _, a := range all {
		if text, ok := a.Value.(string); ok && text != "" {
			a.Value = asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(text)}
			out = append(out, a)
		}
	}
	return out
}

// usage is KeyUsage: of RSA keys for encryption, of ECC keys for agreement, and for
// signatures where the key makes them.
func (r *Request) usage() asn1.BitString {
	const digitalSignature, keyEncipherment, keyAgreement = 0x80, 0x20, 0x08
	bits := byte(keyAgreement)
	if _, ok := r.Key.(*rsa.PublicKey); ok {
		bits = keyEncipherment
	}
	switch {
	case r.SignsOnly:
		bits = digitalSignature
	case r.Signs:
		bits |= digitalSignature
	}
	n := 8 // without the zero bits at the end (ITU-T X.690, 11.2.2)
	for bits>>(8-n)&1 == 0 {
		n--
	}
	return asn1.BitString{Bytes: []byte{bits}, BitLength: n}
}
