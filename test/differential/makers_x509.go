package differential

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
)

// partial is what the caller of TPM2_CertifyX509 gives, in the order of RFC 5280.
type partial struct {
	Issuer     pkix.RDNSequence
	Validity   struct{ From, To time.Time }
	Subject    pkix.RDNSequence
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

// aCertifier is a key that signs certificates.
func aCertifier() need {
	return need{
		func(t *thing) bool { return usable(t) && t.attr(tpm2.AttrSign|tpm2.AttrX509Sign) },
		func(g *generator) *thing {
			p := g.keyTemplate(tpm2.AttrSign | tpm2.AttrX509Sign)
			p.NameAlg = tpm2.AlgSHA256
			scheme := structtest.Pick(g.Source, tpm2.ECCScheme{Scheme: tpm2.AlgNull}, tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256})
			return g.own(ecc(p, eccParms(tpm2.CurveNISTP256, scheme)))
		},
	}
}

func makeCertifyX509(g *generator, s *step) after {
	object, key := g.get(aChild), g.get(aCertifier)
	s.handles = []*thing{object, key}
	usage := asn1.BitString{Bytes: []byte{structtest.Pick[byte](g.Source, 0x80, 0x80, 0xc0, 0x08, 0x04)}}
	usage.BitLength = 8
	for usage.Bytes[0]>>(8-usage.BitLength)&1 == 0 {
		usage.BitLength--
	}
	value, err := asn1.Marshal(usage)
	if err != nil {
		return nil
	}
	p := partial{Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: g.chance(80), Value: value}}}
	p.Issuer = pkix.Name{CommonName: "issuer"}.ToRDNSequence()
	p.Subject = pkix.Name{CommonName: "subject"}.ToRDNSequence()
	p.Validity.From, p.Validity.To = time.Unix(1.7e9, 0).UTC(), time.Unix(1.8e9, 0).UTC()
	der, err := asn1.Marshal(p)
	if err != nil {
		return nil
	}
	in := &command.CertifyX509In{PartialCertificate: der, InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull}}
	if key.public().Parameters.ECC.Scheme.Scheme == tpm2.AlgNull {
		in.InScheme = tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	}
	s.both(in)
	return nothing
}
