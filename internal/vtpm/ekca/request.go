package ekca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
)

// A TPM is one in the hands of the owner of its state: what is not to change goes
// to a TPM restored from a copy of that. [engine.TPM] is one.
//
// [engine.TPM]: https://pkg.go.dev/github.com/assay-project/assay/tpm2/engine#TPM
type TPM interface {
	client.Executor
	// EndorsementKey is the public area that a template has in the endorsement
	// hierarchy.
	EndorsementKey(template *tpm2.Public) (*tpm2.Public, error)
	// SignRequest signs a request for a certificate of the endorsement key that a
	// template makes, and nothing else.
	SignRequest(template *tpm2.Public, info []byte) ([]byte, error)
}

// ErrNoRequest is a kind of key for which no request can be made.
var ErrNoRequest = errors.New("only endorsement keys have certification requests: device keys are certified by the built-in authority")

// NewRequest makes a certification request (PKCS #10, RFC 2986) for an endorsement
// key, in DER, to be certified by somebody else. It asks for the extensions of
// the EK Credential Profile. The common name may be empty, which some authorities
// refuse.
//
// A TPM would not sign it: its endorsement keys do not sign. The owner of this
// one's state does, with the key itself, so that any authority can check
// possession as it is used to; engine.TPM.SignRequest says why that is sound.
func NewRequest(t TPM, k Kind, commonName string, random io.Reader) ([]byte, error) {
	if !k.Endorsement() {
		return nil, ErrNoRequest
	}
	template, err := Template(k)
	if err != nil {
		return nil, err
	}
	m := &module{tpm: client.New(client.InProcess(t, 0), random)}
	if err := m.begin(); err != nil {
		return nil, err
	}
	device, err := m.device()
	if err != nil {
		return nil, err
	}
	public, err := t.EndorsementKey(template)
	if err != nil {
		return nil, err
	}
	key, err := public.Key()
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(random, requestTemplate(k, key, device, commonName), &requester{t, template, key})
	if err != nil {
		return nil, fmt.Errorf("make certification request: %w", err)
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := r.CheckSignature(); err != nil { // a faulty signature would tell of the key
		return nil, fmt.Errorf("certification request: %w", err)
	}
	return der, nil
}

// requestTemplate asks for what the built-in authority would certify.
func requestTemplate(k Kind, key crypto.PublicKey, d *Device, commonName string) *x509.CertificateRequest {
	c := endorsementTemplate(&Batch{Device: *d}, &BatchKey{Kind: k}, key)
	usage, err := asn1.Marshal(keyUsageBits(c.KeyUsage))
	if err != nil {
		panic("unreachable: key usage does not encode: " + err.Error())
	}
	return &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: commonName},
		ExtraExtensions: append(c.ExtraExtensions,
			pkix.Extension{Id: oidKeyUsage, Critical: true, Value: usage},
			pkix.Extension{Id: oidExtKeyUsage, Value: derSeq(derOID(oidEKUsage))}),
	}
}

// keyUsageBits encodes one key usage (RFC 5280, 4.2.1.3), whose bits count from
// the other end than Go's.
func keyUsageBits(u x509.KeyUsage) asn1.BitString {
	n := 0
	for u>>n != 1 {
		n++
	}
	return asn1.BitString{Bytes: []byte{0x80 >> n}, BitLength: n + 1}
}

// A requester signs certification requests, and only these, by an endorsement key.
type requester struct {
	tpm      TPM
	template *tpm2.Public
	key      crypto.PublicKey
}

// Public returns the endorsement key.
func (r *requester) Public() crypto.PublicKey { return r.key }

// Sign refuses: what a digest is of cannot be seen.
func (r *requester) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("an endorsement key signs no digests")
}

// SignMessage signs a CertificationRequestInfo.
func (r *requester) SignMessage(_ io.Reader, info []byte, _ crypto.SignerOpts) ([]byte, error) {
	return r.tpm.SignRequest(r.template, info)
}
