package tpm

import (
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// check makes all checks of one quote that need nothing else. The signature
// comes last, as it costs the most.
func (q *quote) check(name string, e *Evidence, v *tpm2.Verifier, nonce []byte) (errs []error) {
	refuse := func(code evidence.Code, format string, args ...any) {
		errs = append(errs, evidence.Refuse(code, format, args...).About(name))
	}
	if q.attest.Type != tpm2.AttestQuote {
		refuse(codeType, "the signed structure is a %v, want a quote", q.attest.Type)
	}
	if len(nonce) > 0 && subtle.ConstantTimeCompare(q.attest.ExtraData, nonce) != 1 {
		refuse(codeNonce, "the quote answers %x, want %x", q.attest.ExtraData, nonce)
	}
	if q.attest.Type == tpm2.AttestQuote {
		if err := q.checkDigest(e); err != nil {
			errs = append(errs, err.About(name))
		}
	}
	if v == nil {
		return errs
	}
	switch err := v.Verify(q.raw, q.sig); {
	case errors.Is(err, tpm2.ErrScheme):
		refuse(codeScheme, "%v", err)
	case err != nil:
		refuse(codeSignature, "the signature is not one of the attestation key over this quote")
	}
	return errs
}

// checkDigest recomputes the digest of the selected PCRs from the values sent:
// all of them in the order of the selection, by the hash of the signing scheme
// (Part 3, 18.4).
func (q *quote) checkDigest(e *Evidence) *evidence.Refusal {
	h, ok := q.sig.Hash.Hash()
	if !ok {
		return evidence.Refuse(codePCRDigest, "the PCR digest by %s cannot be computed", q.sig.Hash.BankName())
	}
	sum := h.New()
	for _, s := range q.attest.Attested.Quote.PCRSelect {
		for pcr := range s.Select.All() {
			value := e.value(s.Hash, pcr)
			if value == nil {
				return evidence.Refuse(codePCRAbsent, "the value of quoted PCR %d of bank %s is missing", pcr, s.Hash.BankName())
			}
			sum.Write(value)
		}
	}
	var buf [tpm2.MaxDigest]byte
	if subtle.ConstantTimeCompare(sum.Sum(buf[:0]), q.attest.Attested.Quote.PCRDigest) != 1 {
		return evidence.Refuse(codePCRDigest, "the PCR values are not the ones that were quoted")
	}
	return nil
}

// A quoted is what the signed selections of all quotes cover of one bank.
type quoted struct {
	alg  tpm2.Alg
	pcrs tpm2.PCRSelect
}

// selections joins the signed selections of all quotes by bank. Everything else
// that the attester tells of PCRs is never looked at.
func (e *Evidence) selections() []quoted {
	out := make([]quoted, 0, tpm2.MaxPCRSelections)
	for i := range e.quotes {
		if e.quotes[i].attest.Type != tpm2.AttestQuote {
			continue
		}
		for _, s := range e.quotes[i].attest.Attested.Quote.PCRSelect {
			out = join(out, s)
		}
	}
	return out
}

func join(all []quoted, s tpm2.PCRSelection) []quoted {
	for i := range all {
		if all[i].alg == s.Hash {
			for b := range s.Select {
				all[i].pcrs[b] |= s.Select[b]
			}
			return all
		}
	}
	return append(all, quoted{s.Hash, s.Select})
}

// strong reports whether PCR values of a bank may be trusted on their own: SHA-1
// collides, and of others no claim is made.
func strong(a tpm2.Alg) bool {
	return a == tpm2.AlgSHA256 || a == tpm2.AlgSHA384 || a == tpm2.AlgSHA512
}

// preference orders the strong banks: SHA-256 is the one that every TPM, log and
// baseline has.
var preference = [...]tpm2.Alg{tpm2.AlgSHA256, tpm2.AlgSHA384, tpm2.AlgSHA512}

// chooseBank returns the strong bank in which all of want is signed; only, when
// not 0, is the one that it must be.
func chooseBank(all []quoted, want tpm2.PCRSelect, only tpm2.Alg) (quoted, *evidence.Refusal) {
	var weak, partial bool
	var missing string
	for _, alg := range preference {
		if only != 0 && alg != only {
			continue
		}
		for _, q := range all {
			if q.alg != alg {
				continue
			}
			lack := without(want, q.pcrs)
			if lack == (tpm2.PCRSelect{}) {
				return q, nil
			}
			if !partial {
				partial, missing = true, fmt.Sprintf("bank %s lacks PCR %s", alg.BankName(), list(lack))
			}
		}
	}
	for _, q := range all {
		weak = weak || !strong(q.alg)
	}
	switch {
	case partial:
		return quoted{}, evidence.Refuse(codeSelection, "the signed selection leaves out what must be proven: %s", missing).About("quotes")
	case only != 0:
		return quoted{}, evidence.Refuse(codeSelection, "no PCR of bank %s is quoted", only.BankName()).About("quotes")
	case weak:
		return quoted{}, evidence.Refuse(codeWeakBank, "only banks are quoted that cannot be trusted alone, want sha256, sha384 or sha512").About("quotes")
	}
	return quoted{}, evidence.Refuse(codeSelection, "no PCR is quoted").About("quotes")
}

func without(a, b tpm2.PCRSelect) tpm2.PCRSelect {
	for i := range a {
		a[i] &^= b[i]
	}
	return a
}

// list writes PCR numbers: "0, 4, 7".
func list(s tpm2.PCRSelect) string {
	out := ""
	for pcr := range s.All() {
		if out != "" {
			out += ", "
		}
		out += fmt.Sprint(pcr)
	}
	return out
}
