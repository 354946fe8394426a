package tpm

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// Limits of a bundle of type tpm (docs/formats/evidence-bundle.md).
const (
	maxQuotes      = 5 // one for each bank that a TPM has
	maxSignature   = 1024
	maxCertificate = 8 << 10
	maxChain       = 6
	maxEventLog    = 1 << 20 // the largest log on record has 73 KB
	maxIMALog      = 2 << 20
)

// Parse reads the members of a bundle of type tpm. All faults of shape are
// reported together, each an [*evidence.Refusal] in the tree of the error.
func Parse(b *evidence.Bundle) (*Evidence, error) {
	if b.Type != evidence.TypeTPM {
		return nil, fmt.Errorf("bundle is of type %q, want %q", b.Type, evidence.TypeTPM)
	}
	p := parser{bundle: b, out: new(Evidence)}
	p.quotes()
	p.pcrs()
	p.keys()
	p.certificates()
	p.out.log = p.binary("eventLog", maxEventLog, codeLogMalformed)
	p.out.ima = p.binary("imaLog", maxIMALog, codeIMAMalformed)
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return p.out, nil
}

type parser struct {
	bundle *evidence.Bundle
	out    *Evidence
	errs   []error
}

func (p *parser) refuse(code evidence.Code, component, format string, args ...any) {
	p.errs = append(p.errs, evidence.Refuse(code, format, args...).About(component))
}

// binary decodes a member that may be absent.
func (p *parser) binary(name string, limit int, code evidence.Code) []byte {
	v, ok := p.bundle.Member(name)
	if !ok {
		return nil
	}
	b, err := v.Base64(limit)
	switch {
	case err != nil:
		p.refuse(code, name, "member %s is %v", name, err)
		return nil
	case len(b) == 0:
		p.refuse(code, name, "member %s is empty", name)
		return nil
	}
	return b
}

func (p *parser) quotes() {
	v, ok := p.bundle.Member("quotes")
	if !ok {
		p.refuse(codeQuoteAbsent, "quotes", "the bundle has no quote")
		return
	}
	n := 0
	err := v.Array(func(i int, v evidence.JSON) error {
		if n++; n > maxQuotes {
			return fmt.Errorf("more than %d quotes", maxQuotes)
		}
		return p.quote(fmt.Sprintf("quotes[%d]", i), v)
	})
	if err != nil {
		p.refuse(codeQuoteMalformed, "quotes", "quotes: %v", err)
	} else if n == 0 {
		p.refuse(codeQuoteAbsent, "quotes", "the bundle has no quote")
	}
}

func (p *parser) quote(name string, v evidence.JSON) error {
	var q Quote
	err := v.Object(func(member string, v evidence.JSON) (err error) {
		switch member {
		case "attest":
			q.Attest, err = v.Base64(tpm2.MaxAttest)
		case "signature":
			q.Signature, err = v.Base64(maxSignature)
		default:
			return fmt.Errorf("unknown member %.40q", member)
		}
		if err != nil {
			return fmt.Errorf("%s is %w", member, err)
		}
		return nil
	})
	if err == nil {
		p.add(name, q)
	}
	return err
}

// add decodes the structures of a quote.
func (p *parser) add(name string, in Quote) {
	q := quote{raw: in.Attest}
	var err error
	if q.attest, err = tpm2.ParseAttest(in.Attest); err != nil {
		code := codeQuoteMalformed
		if errors.Is(err, tpm2.ErrMagic) {
			code = codeMagic
		}
		p.refuse(code, name, "%v", err)
	}
	if q.sig, err = tpm2.ParseSignature(in.Signature); err != nil {
		p.refuse(codeQuoteMalformed, name, "%v", err)
	}
	p.out.quotes = append(p.out.quotes, q)
}

func (p *parser) pcrs() {
	v, ok := p.bundle.Member("pcrs")
	if !ok {
		p.refuse(codePCRAbsent, "pcrs", "the bundle has no PCR values")
		return
	}
	err := v.Object(func(name string, v evidence.JSON) error {
		alg, ok := tpm2.AlgOfBank(name)
		if !ok {
			return fmt.Errorf("unknown bank %.20q", name)
		}
		p.out.banks = append(p.out.banks, bank{alg: alg})
		if err := p.out.banks[len(p.out.banks)-1].parse(v); err != nil {
			return fmt.Errorf("bank %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		p.refuse(codeQuoteMalformed, "pcrs", "pcrs: %v", err)
	}
}

func (b *bank) parse(v evidence.JSON) error {
	size := b.alg.DigestSize()
	// One buffer for all values of the bank: never grown, so that the slices
	// into it stay.
	buf := make([]byte, 0, tpm2.NumPCR*size)
	return v.Object(func(name string, v evidence.JSON) error {
		pcr, err := strconv.Atoi(name)
		if err != nil || pcr < 0 || pcr >= tpm2.NumPCR || strconv.Itoa(pcr) != name {
			return fmt.Errorf("no PCR is called %.20q", name)
		}
		start := len(buf)
		if buf, err = v.Hex(buf, size); err != nil {
			return fmt.Errorf("PCR %d is %w", pcr, err)
		}
		if len(buf)-start != size {
			return fmt.Errorf("PCR %d has %d bytes, want %d", pcr, len(buf)-start, size)
		}
		b.values[pcr] = buf[start:len(buf):len(buf)]
		return nil
	})
}

func (p *parser) keys() {
	if _, ok := p.bundle.Member("akPublic"); !ok {
		p.refuse(codeAKAbsent, "akPublic", "the bundle has no attestation key")
	}
	if raw := p.binary("akPublic", tpm2.MaxPublic, codeAKMalformed); raw != nil {
		p.out.ak, p.out.akName = p.public("akPublic", raw, codeAKMalformed)
	}
	if raw := p.binary("ekPublic", tpm2.MaxPublic, codeEKMalformed); raw != nil {
		p.out.ek, _ = p.public("ekPublic", raw, codeEKMalformed)
	}
}

// public decodes a TPMT_PUBLIC and computes its Name.
func (p *parser) public(member string, raw []byte, code evidence.Code) (*tpm2.Public, []byte) {
	pub, err := tpm2.ParsePublic(raw)
	if err != nil {
		p.refuse(code, member, "%v", err)
		return nil, nil
	}
	name, err := pub.Name()
	if err != nil {
		p.refuse(code, member, "%v", err)
		return nil, nil
	}
	return pub, name
}

func (p *parser) certificates() {
	p.out.akCert = p.binary("akCert", maxCertificate, codeAKCert)
	p.out.ekCert = p.binary("ekCert", maxCertificate, codeEKCert)
	v, ok := p.bundle.Member("caCerts")
	if !ok {
		return
	}
	err := v.Array(func(i int, v evidence.JSON) error {
		if i >= maxChain {
			return fmt.Errorf("more than %d certificates", maxChain)
		}
		der, err := v.Base64(maxCertificate)
		if err != nil {
			return fmt.Errorf("certificate %d is %w", i, err)
		}
		p.out.caCerts = append(p.out.caCerts, der)
		return nil
	})
	if err != nil {
		p.refuse(codeChain, "caCerts", "caCerts: %v", err)
	}
}
