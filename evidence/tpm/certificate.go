package tpm

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// ekAttributes are those of an endorsement key in all standard templates (EK
// Credential Profile, B.3): it decrypts only what TPM protocols made for it.
const ekAttributes = tpm2.AttrRestricted | tpm2.AttrDecrypt | tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin

// CheckEK reports whether p may be an endorsement key: a restricted decryption
// key that was made in, and cannot leave, its TPM. Failures are [*evidence.Refusal]s.
func CheckEK(p *tpm2.Public) error {
	var errs []error
	if missing := ekAttributes &^ p.Attributes; missing != 0 {
		errs = append(errs, evidence.Refuse(codeEKAttributes, "the endorsement key is not %v", missing).About("ekPublic"))
	}
	if p.Attributes.Has(tpm2.AttrSign) {
		errs = append(errs, evidence.Refuse(codeEKAttributes, "the endorsement key may also sign").About("ekPublic"))
	}
	if err := checkStrength(p, codeEKWeak, "endorsement"); err != nil {
		errs = append(errs, err.About("ekPublic"))
	}
	return errors.Join(errs...)
}

// EKTrust says under which CAs an endorsement key certificate is believed.
type EKTrust struct {
	Roots         *x509.CertPool // named by the operator; nil trusts nobody
	Intermediates [][]byte       // DER, as sent; at most six are used
	At            time.Time      // when the certificates must be valid
}

// VerifyEKCertificate reports whether cert is the certificate of ek, a proper
// endorsement key, and leads to a CA that the operator named. It proves that
// some genuine TPM has ek. Only a credential made for ek and answered by the TPM
// ([tpm2.MakeCredential]) proves that an attestation key is in that TPM.
// Failures are [*evidence.Refusal]s.
func VerifyEKCertificate(cert []byte, ek *tpm2.Public, t EKTrust) error {
	return errors.Join(CheckEK(ek), verifyCertificate(cert, ek, t, &ekProfile))
}

// A certificateProfile is what an EK or AK certificate must be, and the codes of
// its failures.
type certificateProfile struct {
	what, component                          string
	usage                                    asn1.ObjectIdentifier
	malformed, foreign, expired, notFor, key evidence.Code
}

var (
	// EK Credential Profile, 3.2.16: tcg-kp-EKCertificate.
	ekProfile = certificateProfile{
		"endorsement key", "ekCert",
		asn1.ObjectIdentifier{2, 23, 133, 8, 1},
		codeEKCert, codeEKCertForeign, codeEKCertTime, codeEKCertUsage, codeEKKey,
	}
	// TCG Credential Profiles for TPM 1.2, 3.5.6, kept by TPM 2.0 practice: tcg-kp-AIKCertificate.
	akProfile = certificateProfile{
		"attestation key", "akCert",
		asn1.ObjectIdentifier{2, 23, 133, 8, 3},
		codeAKCert, codeAKCertForeign, codeAKCertTime, codeAKCertUsage, codeAKKey,
	}
)

func (p *certificateProfile) refuse(code evidence.Code, format string, args ...any) error {
	return evidence.Refuse(code, format, args...).About(p.component)
}

// verifyCertificate checks key, chain, validity and usage, and reports the first
// fault of the chain together with a key that does not match.
func verifyCertificate(der []byte, pub *tpm2.Public, t EKTrust, p *certificateProfile) error {
	if len(der) == 0 {
		return p.refuse(p.malformed, "there is no %s certificate", p.what)
	}
	cert, err := parseCertificate(der)
	if err != nil {
		return p.refuse(p.malformed, "the %s certificate cannot be read: %v", p.what, err)
	}
	return errors.Join(p.matchKey(cert, pub), p.verifyChain(cert, t))
}

func (p *certificateProfile) matchKey(cert *x509.Certificate, pub *tpm2.Public) error {
	key, err := pub.Key()
	if err != nil || !sameKey(key, cert.PublicKey) {
		return p.refuse(p.key, "the certificate is for another key than the %s", p.what)
	}
	return nil
}

func (p *certificateProfile) verifyChain(cert *x509.Certificate, t EKTrust) error {
	if t.Roots == nil {
		return p.refuse(p.foreign, "no CA for %s certificates was named", p.what)
	}
	if t.At.IsZero() {
		return p.refuse(p.expired, "the time at which the %s certificate must be valid is not known", p.what)
	}
	pool := x509.NewCertPool()
	for _, der := range t.Intermediates[:min(len(t.Intermediates), maxChain)] {
		// What cannot be read cannot be part of a chain.
		if ca, err := parseCertificate(der); err == nil {
			pool.AddCert(ca)
		}
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: t.Roots, Intermediates: pool, CurrentTime: t.At,
		// The usage is checked below: Go does not know these.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return p.refuse(p.expired, "the %s certificate or one above it is not valid at %s", p.what, t.At.UTC().Format(time.RFC3339))
	case err != nil:
		return p.refuse(p.foreign, "the %s certificate leads to no CA that was named: %v", p.what, err)
	case cert.IsCA || !slices.ContainsFunc(cert.UnknownExtKeyUsage, p.usage.Equal):
		return p.refuse(p.notFor, "the certificate is not one of an %s: extended key usage %v is missing", p.what, p.usage)
	}
	return nil
}

// oidSubjectAltName is critical in EK certificates and holds only a
// directoryName with the TPM's maker and model (EK Credential Profile, 3.2.9).
var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// parseCertificate reads one certificate. Go lists a critical subject
// alternative name without any name that it knows as unhandled and then refuses
// to verify; here it names nothing that is relied on, so it is taken off the list.
func parseCertificate(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(trimPadding(der))
	if err != nil {
		return nil, err
	}
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions, oidSubjectAltName.Equal)
	return cert, nil
}

// trimPadding cuts what makers fill an NV index with after the certificate:
// zeros or ones only. Anything else stays, and is refused as trailing data.
func trimPadding(der []byte) []byte {
	var cert asn1.RawValue
	rest, err := asn1.Unmarshal(der, &cert)
	if err != nil || len(rest) == 0 || rest[0] != 0 && rest[0] != 0xff {
		return der
	}
	if slices.ContainsFunc(rest, func(b byte) bool { return b != rest[0] }) {
		return der
	}
	return der[:len(der)-len(rest)]
}
