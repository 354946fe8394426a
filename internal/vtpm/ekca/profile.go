package ekca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// forever is the end of a certificate that has none (RFC 5280, 4.1.2.5): a key of
// a TPM is as good on its last day as on its first.
func forever() time.Time { return time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC) }

// A policy is what an authority says of how it works: an identifier of its own
// and, perhaps, where its practice statement is.
type policy struct {
	id  []byte // content of the object identifier
	cps string
}

// notice is the text that the TCG's profiles ask for.
const notice = "TCG Trusted Platform Endorsement"

// der encodes CertificatePolicies (RFC 5280, 4.2.1.4; EK Credential Profile, 3.2.8;
// Platform Certificate Profile, 3.2.7).
func (p *policy) der() []byte {
	qualifiers := derSeq(derOID(oidUserNotice), derSeq(derUTF8(notice)))
	if p.cps != "" {
		qualifiers = append(derSeq(derOID(oidCPS), derIA5(p.cps)), qualifiers...)
	}
	return derSeq(derSeq(der(tagOID, p.id), derSeq(qualifiers)))
}

// endorsementTemplate is the certificate of an endorsement key (EK Credential
// Profile, 3.2).
func endorsementTemplate(b *Batch, k *BatchKey, key crypto.PublicKey) *x509.Certificate {
	d := &b.Device
	name := derName(
		nameAttribute{oidTPMManufacturer, d.Manufacturer},
		nameAttribute{oidTPMModel, d.Model},
		nameAttribute{oidTPMVersion, d.Version})
	t := keyTemplate(b, usageOf(k.Kind, key))
	t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidEKUsage}
	t.ExtraExtensions = []pkix.Extension{
		{Id: oidSubjectAltName, Critical: true, Value: derDirectoryName(name)}, // 3.2.9
		{Id: oidSubjectDirectory, Value: derSeq(d.specification(), assertions())},
	}
	return t
}

// keyTemplate is what all certificates of keys have.
func keyTemplate(b *Batch, usage x509.KeyUsage) *x509.Certificate {
	return &x509.Certificate{
		Subject:  pkix.Name{CommonName: b.CommonName},
		NotAfter: forever(), KeyUsage: usage, BasicConstraintsValid: true,
	}
}

// specification is the attribute TPMSpecification (EK Credential Profile, 3.1.3).
func (d *Device) specification() []byte {
	return derAttribute(oidTPMSpecification, derSeq(derUTF8(d.Family), derInt(int64(d.Level)), derInt(int64(d.Revision))))
}

// assertions is the attribute TPMSecurityAssertions (EK Credential Profile, 3.1.1):
// field upgradable, as software is; keys made inside, from a seed that
// TPM2_ChangeEPS replaces; keys and certificates made where the platform is.
func assertions() []byte {
	const internalRevocable, platformManufacturer = 2, 1
	enum := func(tag byte, v byte) []byte { return der(tagContext+tag, []byte{v}) }
	return derAttribute(oidTPMAssertions, derSeq(
		derTrue(tagBoolean), enum(0, internalRevocable), enum(1, platformManufacturer), enum(2, platformManufacturer)))
}

// deviceTemplate is the certificate of an IAK or IDevID (Device Identity, 8).
// ek is the certificate of the TPM's first endorsement key.
func deviceTemplate(b *Batch, k *BatchKey, ek *x509.Certificate) (*x509.Certificate, error) {
	module, err := b.moduleName(ek)
	if err != nil {
		return nil, err
	}
	serial := b.TPM
	if b.Platform != nil && b.Platform.Serial != "" {
		serial = b.Platform.Serial
	}
	t := keyTemplate(b, x509.KeyUsageDigitalSignature)
	t.Subject.SerialNumber = serial // IEEE 802.1AR, 8.6
	t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidVerifiedResidency, oidVerifiedFixed}
	if k.Kind == IAK {
		t.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidAIKUsage, oidVerifiedResidency, oidVerifiedRestricted}
	}
	t.ExtraExtensions = []pkix.Extension{{Id: oidSubjectAltName, Critical: t.Subject.SerialNumber == "" && b.CommonName == "", Value: module}}
	return t, nil
}

// moduleName is the SubjectAltName with a HardwareModuleName (RFC 4108, 5): the
// maker of the TPM, and the authority and serial number of the endorsement key
// certificate, with colons between them (Device Identity, 8.1).
func (b *Batch) moduleName(ek *x509.Certificate) ([]byte, error) {
	code, err := hex.DecodeString(strings.TrimPrefix(b.Device.Manufacturer, "id:"))
	if err != nil || ek == nil {
		return nil, fmt.Errorf("device identity: no endorsement key is certified, or the TPM has no maker: %v", err)
	}
	serial := fmt.Sprintf("%s:%x:%x", strings.TrimRight(string(code), " \x00"), ek.AuthorityKeyId, ek.SerialNumber.Bytes())
	value := derSeq(derOID(oidTPM20), der(tagOctetString, []byte(serial)))
	// otherName [0] IMPLICIT SEQUENCE { type-id, value [0] EXPLICIT }.
	return derSeq(der(tagConstructed, derOID(oidHardwareModuleName), der(tagConstructed, value))), nil
}

// A Platform is the VM that a TPM is part of, as its platform certificate says.
type Platform struct {
	Manufacturer string `json:"manufacturer"` // required, as Model and Version are
	Model        string `json:"model"`
	Version      string `json:"version"`
	Serial       string `json:"serial,omitempty"` // UUID of the VM
}

// maxText is STRMAX of the Platform Certificate Profile, 3.1.1, in bytes.
const maxText = 256

func (p *Platform) check() error {
	for name, s := range map[string]string{"manufacturer": p.Manufacturer, "model": p.Model, "version": p.Version} {
		if s == "" {
			return fmt.Errorf("platform certificate: the platform's %s is missing", name)
		}
	}
	for _, s := range []string{p.Manufacturer, p.Model, p.Version, p.Serial} {
		if len(s) > maxText {
			return fmt.Errorf("platform certificate: %d bytes in one name, want at most %d", len(s), maxText)
		}
	}
	return nil
}

// An attributeCertificate is a platform certificate to be signed (RFC 5755, 4.1;
// Platform Certificate Profile 1.1, 3.2).
type attributeCertificate struct {
	platform  *Platform
	ek        *x509.Certificate // its holder
	issuer    *x509.Certificate
	serial    *big.Int
	notBefore time.Time
	policy    *policy
	urls      *urls
	by        string // what the issuer is called in urls
	algorithm []byte // AlgorithmIdentifier of the signature
}

// info encodes AttributeCertificateInfo.
func (a *attributeCertificate) info() []byte {
	// GeneralNames with the issuer of the endorsement key certificate.
	holder := der(tagConstructed, derDirectoryName(a.ek.RawIssuer), derBig(a.ek.SerialNumber))
	issuer := der(tagConstructed, derDirectoryName(a.issuer.RawSubject)) // v2Form
	return derSeq(
		derInt(1), // v2
		derSeq(holder), issuer, a.algorithm, derBig(a.serial),
		derSeq(derTime(a.notBefore), derTime(forever())),
		a.attributes(), a.extensions())
}

// attributes are those of a base platform certificate (Platform Certificate
// Profile, 3.2.10): versions of its specification, what it is, the class of the
// platform, and a root of trust for measurement that is virtual.
func (a *attributeCertificate) attributes() []byte {
	version := func(major, minor, revision int64) []byte {
		return derSeq(derInt(major), derInt(minor), derInt(revision))
	}
	const virtual = 5 // MeasurementRootType
	return derSeq(
		derAttribute(oidCredentialType, derSeq(derOID(oidPlatformUsage))),
		derAttribute(oidCredentialSpec, version(1, 1, 19)),
		// TCG PC Client Platform Firmware Profile 1.06, class 1 (client).
		derAttribute(oidPlatformSpecification, derSeq(version(1, 6, 52), der(tagOctetString, []byte{0, 0, 0, 1}))),
		derAttribute(oidTBBAssertions, derSeq(der(tagContext+2, []byte{virtual}))))
}

// extensions are those of Platform Certificate Profile, 3.2.7 to 3.2.13. None is
// critical.
func (a *attributeCertificate) extensions() []byte {
	p := a.platform
	name := derName(
		nameAttribute{oidPlatformManufacturer, p.Manufacturer},
		nameAttribute{oidPlatformModel, p.Model},
		nameAttribute{oidPlatformVersion, p.Version},
		nameAttribute{oidPlatformSerial, p.Serial})
	list := [][]byte{
		derExtension(oidPolicies, a.policy.der()),
		derExtension(oidSubjectAltName, derDirectoryName(name)),
		derExtension(oidAuthorityKey, derSeq(der(tagContext, a.issuer.SubjectKeyId))),
	}
	if a.urls.base != "" {
		uri := func(s string) []byte { return der(tagContext+6, []byte(s)) } // GeneralName
		list = append(list,
			derExtension(oidAuthorityInfo, derSeq(derSeq(derOID(oidCAIssuers), uri(a.urls.cert(a.by))))),
			derExtension(oidCRLPoints, derSeq(derSeq(der(tagConstructed, der(tagConstructed, uri(a.urls.list(a.by))))))))
	}
	return derSeq(list...)
}

func derExtension(oid asn1.ObjectIdentifier, value []byte) []byte {
	return derSeq(derOID(oid), der(tagOctetString, value))
}

// derECDSA is the AlgorithmIdentifier of a signature by a key of this package.
func derECDSA(h crypto.Hash) []byte {
	if h == crypto.SHA384 {
		return derSeq(derOID(oidECDSASHA384))
	}
	return derSeq(derOID(oidECDSASHA256))
}
