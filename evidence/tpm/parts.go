package tpm

import (
	"errors"
	"fmt"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// A Quote is a TPMS_ATTEST as signed, and its TPMT_SIGNATURE.
type Quote struct{ Attest, Signature []byte }

// Parts are the pieces of TPM evidence as another protocol than a bundle carries
// them. Members are those of docs/formats/evidence-bundle.md; nil means absent.
type Parts struct {
	Quotes                   []Quote
	PCRs                     map[tpm2.Alg]map[int][]byte
	AKPublic                 []byte // TPMT_PUBLIC
	AKCert, EKPublic, EKCert []byte
	CACerts                  [][]byte
	EventLog, IMALog         []byte
}

// FromParts checks the shape of evidence, as [Parse] does for a bundle. The
// result aliases the parts.
func FromParts(in Parts) (*Evidence, error) {
	p := parser{out: &Evidence{akCert: in.AKCert, ekCert: in.EKCert, caCerts: in.CACerts, log: in.EventLog, ima: in.IMALog}}
	if len(in.Quotes) == 0 {
		p.refuse(codeQuoteAbsent, "quotes", "there is no quote")
	}
	if len(in.Quotes) > maxQuotes {
		p.refuse(codeQuoteMalformed, "quotes", "more than %d quotes", maxQuotes)
		return nil, errors.Join(p.errs...)
	}
	for i, q := range in.Quotes {
		p.add(fmt.Sprintf("quotes[%d]", i), q)
	}
	p.addPCRs(in.PCRs)
	if in.AKPublic == nil {
		p.refuse(codeAKAbsent, "akPublic", "there is no attestation key")
	} else {
		p.out.ak, p.out.akName = p.public("akPublic", in.AKPublic, codeAKMalformed)
	}
	if in.EKPublic != nil {
		p.out.ek, _ = p.public("ekPublic", in.EKPublic, codeEKMalformed)
	}
	p.limit("akCert", len(in.AKCert), maxCertificate, codeAKCert)
	p.limit("ekCert", len(in.EKCert), maxCertificate, codeEKCert)
	p.limit("caCerts", len(in.CACerts), maxChain, codeChain)
	for _, der := range in.CACerts {
		p.limit("caCerts", len(der), maxCertificate, codeChain)
	}
	p.limit("eventLog", len(in.EventLog), maxEventLog, codeLogMalformed)
	p.limit("imaLog", len(in.IMALog), maxIMALog, codeIMAMalformed)
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return p.out, nil
}

func (p *parser) limit(what string, n, limit int, code evidence.Code) {
	if n > limit {
		p.refuse(code, what, "%s has %d bytes or entries, at most %d are accepted", what, n, limit)
	}
}

func (p *parser) addPCRs(banks map[tpm2.Alg]map[int][]byte) {
	for alg, values := range banks {
		b := bank{alg: alg}
		for pcr, v := range values {
			if pcr < 0 || pcr >= tpm2.NumPCR || len(v) != alg.DigestSize() || len(v) == 0 {
				p.refuse(codeQuoteMalformed, "pcrs", "PCR %d of bank %s has %d bytes", pcr, alg.BankName(), len(v))
				return
			}
			b.values[pcr] = v
		}
		p.out.banks = append(p.out.banks, b)
	}
}
