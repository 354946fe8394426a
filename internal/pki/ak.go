package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"unicode/utf8"
)

// An AK is an attestation key that has proven to be in a TPM.
type AK struct {
	Public crypto.PublicKey
	// Machine is what the operator calls the machine; the common name.
	Machine string
	// TPM are the attributes of the TPM as its EK certificate states them; the zero
	// value when there is none.
	TPM TPM
}

// TPM identifies a model of TPM (TCG EK Credential Profile, 3.1.2).
type TPM struct {
	Manufacturer string // "id:494E5443"
	Model        string
	Version      string // "id:00020001"
}

// maxAttribute bounds each text in a certificate (RFC 5280, A.1).
const maxAttribute = 64

// AK certifies an attestation key. The caller has established, by credential
// activation, that the key is in the TPM and is a restricted signing key.
func (ca *CA) AK(random io.Reader, ak AK, v Validity) ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, fmt.Errorf("attestation key certificate: %w", err)
	}
	if ak.Machine == "" {
		return nil, fmt.Errorf("attestation key certificate: machine has no name")
	}
	for _, s := range []string{ak.Machine, ak.TPM.Manufacturer, ak.TPM.Model, ak.TPM.Version} {
		if len(s) > maxAttribute || !utf8.ValidString(s) {
			return nil, fmt.Errorf("attestation key certificate: %.80q is longer than %d bytes or not UTF-8", s, maxAttribute)
		}
	}
	tmpl := &x509.Certificate{
		SerialNumber: v.Serial, NotBefore: v.NotBefore, NotAfter: v.NotAfter,
		Subject: pkix.Name{CommonName: ak.Machine},
	}
	if ak.TPM != (TPM{}) {
		san, err := ak.TPM.alternativeName()
		if err != nil {
			return nil, fmt.Errorf("attestation key certificate: %w", err)
		}
		tmpl.ExtraExtensions = []pkix.Extension{san}
	}
	return ca.issue(random, tmpl, ak.Public, PurposeAK)
}

// alternativeName puts the TPM's attributes into a directory name, as EK
// certificates do. It is not critical: the subject is not empty (RFC 5280, 4.2.1.6).
func (t TPM) alternativeName() (pkix.Extension, error) {
	var name pkix.RDNSequence
	for i, value := range []string{t.Manufacturer, t.Model, t.Version} {
		if value == "" {
			continue
		}
		// tcg-at-tpmManufacturer, -tpmModel and -tpmVersion are 2.23.133.2.1 to .3.
		oid := asn1.ObjectIdentifier{2, 23, 133, 2, i + 1}
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}})
	}
	directory, err := asn1.Marshal(name)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encode TPM attributes: %w", err)
	}
	// GeneralName: directoryName [4], which is explicit, as Name is a CHOICE.
	general := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: directory}
	value, err := asn1.Marshal([]asn1.RawValue{general})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encode TPM attributes: %w", err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}, nil
}
