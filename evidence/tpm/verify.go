package tpm

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/eventlog/ima"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// Expect is what a verifier expects of evidence. Its zero value trusts no key,
// so that it refuses everything.
type Expect struct {
	// Nonce is what every quote must answer. Without one, freshness is not checked.
	Nonce []byte
	// Keys are the attestation keys that are trusted.
	Keys []*Key
	// AKRoots are CAs whose attestation key certificates are believed; nil for none.
	AKRoots *x509.CertPool
	// EKRoots are CAs under which an endorsement key certificate in the evidence
	// must be; nil leaves it unchecked.
	EKRoots *x509.CertPool
	// At is when certificates must be valid.
	At time.Time
	// Last are the counters of the newest genuine quote by the same key; nil when none was seen.
	Last *Counters
	// ClockWindow is how much older than Last a quote of the same boot may be.
	ClockWindow time.Duration
	// PCRs must be in the signed selection besides 0 to 7.
	PCRs []int
	// Bank, when not 0, is the bank in which all is to be proven.
	Bank tpm2.Alg
	// Cache, for a verifier of many machines, spares what their claims have in
	// common; nil for none. No check depends on it.
	Cache *eventlog.Cache
}

// Verified is evidence that passed every check of [Verify]. Only Verify makes
// one. It is immutable and safe for concurrent use.
type Verified struct {
	evidence   *Evidence
	key        *Key
	bank       quoted
	all        []quoted
	counters   Counters
	boot       *eventlog.Confirmed
	ima        *ima.Confirmed
	notChecked []string
}

// Verify proves evidence: the key is trusted and bound to a TPM, it signed all
// quotes, they answer the nonce, cover what is required and digest the PCR
// values that came with them, the counters did not go back, and the logs lead to
// the quoted values. Every failed check that can be made is an
// [*evidence.Refusal] in the tree of the error. The logs are read only once
// the quotes are known to be genuine.
func Verify(e *Evidence, x Expect) (*Verified, error) {
	c := check{evidence: e, expect: x, out: &Verified{evidence: e}}
	verifier := c.attestationKey()
	c.quotes(verifier)
	c.freshness()
	c.selection()
	c.attestationKeyTrust()
	c.endorsementKey()
	genuine := c.genuine()
	c.history()
	if genuine {
		c.eventLog()
		c.imaList()
	} else {
		c.note("the logs: they are not read until the quotes are genuine")
	}
	if len(c.errs) == 0 && (c.out.key == nil || c.out.boot == nil) {
		c.fail(untrusted("no key or no log was verified")) // unreachable, but a wrong "trusted" is the worst fault
	}
	if len(c.errs) > 0 {
		return nil, c.failure(genuine)
	}
	return c.out, nil
}

// A failure is the error of Verify, with what a result tells besides its reasons.
type failure struct {
	error
	notChecked     []string
	signatureValid bool
	// quoted are the genuine values when there is no log to compare; else nil.
	quoted *baseline.Values
}

func (c *check) failure(genuine bool) *failure {
	f := &failure{error: errors.Join(c.errs...), notChecked: c.out.notChecked, signatureValid: c.signatureValid}
	if genuine && c.evidence.log == nil {
		f.quoted = baseline.FromValues(c.out.bank.alg, c.evidence.values(c.out.bank))
	}
	return f
}

func (f *failure) Unwrap() error { return f.error }

// A check is one run of Verify.
type check struct {
	evidence       *Evidence
	expect         Expect
	out            *Verified
	errs           []error
	nonceOnly      int // failures so far that say nothing about who signed
	signatureValid bool
}

func (c *check) note(format string, args ...any) {
	c.out.notChecked = append(c.out.notChecked, fmt.Sprintf(format, args...))
}

func (c *check) fail(err error) {
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

// attestationKey checks what the key must be and finds its verifier: the trusted
// key's own when it is known by its Name.
func (c *check) attestationKey() *tpm2.Verifier {
	for _, k := range c.expect.Keys {
		if k.is(c.evidence.akName, c.evidence.ak) {
			c.out.key = k
			break
		}
	}
	if k := c.out.key; k != nil && k.verifier != nil {
		return k.verifier // CheckAK passed when the key was made
	}
	if err := CheckAK(c.evidence.ak); err != nil {
		c.fail(err)
	}
	v, err := tpm2.NewVerifier(c.evidence.ak)
	if err != nil {
		return nil // CheckAK has said so
	}
	return v
}

func (c *check) quotes(v *tpm2.Verifier) {
	c.signatureValid = v != nil
	for i := range c.evidence.quotes {
		name := fmt.Sprintf("quotes[%d]", i)
		for _, err := range c.evidence.quotes[i].check(name, c.evidence, v, c.expect.Nonce) {
			switch code := evidence.Reasons(err)[0].Code; code {
			case codeNonce:
				c.nonceOnly++
			case codeSignature, codeScheme:
				c.signatureValid = false
			}
			c.fail(err)
		}
	}
}

// freshness says what is not known of the time of the quotes.
func (c *check) freshness() {
	if len(c.expect.Nonce) == 0 {
		c.note("freshness: no --nonce")
	}
	first := &c.evidence.quotes[0].attest.ClockInfo
	for i := range c.evidence.quotes {
		q := &c.evidence.quotes[i].attest.ClockInfo
		if c.signatureValid && (q.ResetCount != first.ResetCount || q.RestartCount != first.RestartCount) {
			c.fail(evidence.Refuse(codeBootsMixed, "the quotes are not of the same boot: resetCount %d and %d, restartCount %d and %d",
				first.ResetCount, q.ResetCount, first.RestartCount, q.RestartCount).About(fmt.Sprintf("quotes[%d]", i)))
			return
		}
	}
}

// required are the PCRs that firmware and boot loader measure into, without
// which no claim about the boot is complete.
var required = []int{0, 1, 2, 3, 4, 5, 6, 7}

func (c *check) selection() {
	want := tpm2.SelectPCRs(append(slices.Clone(required), c.expect.PCRs...)...)
	c.out.all = c.evidence.selections()
	if slices.ContainsFunc(c.evidence.quotes, func(q quote) bool { return q.attest.Type != tpm2.AttestQuote }) {
		return // what is no quote selects nothing, and has been refused
	}
	bank, err := chooseBank(c.out.all, want, c.expect.Bank)
	if err != nil {
		c.fail(err)
		return
	}
	c.out.bank = bank
}

// attestationKeyTrust finds out why the key is trusted, unless the operator named it.
func (c *check) attestationKeyTrust() {
	e := c.evidence
	switch {
	case c.out.key != nil:
		if c.out.key.name == nil {
			c.note("attributes of the attestation key: it was registered without them, so that the operator answers for them")
		}
		return
	case e.akCert != nil && c.expect.AKRoots != nil:
		// The chain costs more than the signature: only after it.
		if !c.signatureValid || c.nonceOnly > 0 {
			c.fail(untrusted("its certificate is not looked at until the quote is genuine and fresh"))
			return
		}
		err := verifyCertificate(e.akCert, e.ak, EKTrust{Roots: c.expect.AKRoots, Intermediates: e.caCerts, At: c.expect.At}, &akProfile)
		if err != nil {
			c.fail(err)
			return
		}
		c.out.key = &Key{proof: ProofAKCertificate, name: e.akName}
		c.note("revocation of the attestation key's certificate")
	case e.akCert != nil:
		c.fail(untrusted("no CA was named for its certificate"))
	case e.ekCert != nil:
		// Part 1, 24: only TPM2_ActivateCredential ties an AK to an EK.
		c.fail(untrusted("an endorsement key certificate alone does not prove an attestation key: register the key, or enrol it by credential activation"))
	default:
		c.fail(untrusted("it is not among the trusted keys and has no certificate"))
	}
}

func untrusted(why string) error {
	return evidence.Refuse(codeAKUntrusted, "nothing proves that the attestation key is that of a TPM: %s", why).About("akPublic")
}

// endorsementKey checks what the evidence tells of the endorsement key. It never
// adds trust in the attestation key.
func (c *check) endorsementKey() {
	e := c.evidence
	switch {
	case e.ekCert == nil && e.ek == nil:
		return
	case e.ekCert == nil:
		c.fail(CheckEK(e.ek))
		c.note("the endorsement key: it has no certificate")
	case e.ek == nil:
		c.note("the endorsement key's certificate: the key itself is not in the evidence")
	case c.expect.EKRoots == nil:
		c.fail(errors.Join(CheckEK(e.ek), matchCertificate(e.ekCert, e.ek)))
		c.note("the endorsement key's certificate: no CA was named for it")
	default:
		c.fail(VerifyEKCertificate(e.ekCert, e.ek, EKTrust{Roots: c.expect.EKRoots, Intermediates: e.caCerts, At: c.expect.At}))
		c.note("revocation of the endorsement key's certificate")
	}
}

func matchCertificate(der []byte, ek *tpm2.Public) error {
	cert, err := parseCertificate(der)
	if err != nil {
		return ekProfile.refuse(codeEKCert, "the endorsement key certificate cannot be read: %v", err)
	}
	return ekProfile.matchKey(cert, ek)
}

// genuine reports whether a trusted key signed the PCR values: all that failed
// so far, if anything, is the nonce.
func (c *check) genuine() bool { return len(c.errs) == c.nonceOnly }

// history compares the counters with the last ones seen.
func (c *check) history() {
	if !c.signatureValid {
		return // what nobody signed says nothing about the TPM
	}
	c.out.counters = countersOf(&c.evidence.quotes[0].attest.ClockInfo)
	for i := range c.evidence.quotes[1:] {
		c.out.counters = c.out.counters.Latest(countersOf(&c.evidence.quotes[i+1].attest.ClockInfo))
	}
	if c.expect.Last == nil {
		c.note("rollback of the TPM's counters: no earlier quote is known")
		return
	}
	if err := c.out.counters.follows(*c.expect.Last, c.expect.ClockWindow); err != nil {
		c.fail(err.About("quotes"))
	}
}

func (c *check) eventLog() {
	if c.evidence.log == nil {
		c.fail(evidence.Refuse(codeLogAbsent, "the quote is genuine, but there is no event log that says what was booted").About("eventLog"))
		return
	}
	log, err := c.expect.Cache.Parse(c.evidence.log)
	if err != nil {
		c.fail(evidence.Refuse(codeLogMalformed, "the event log cannot be read: %v", err).About("eventLog"))
		return
	}
	for _, q := range c.out.all {
		if q.alg != c.out.bank.alg && !log.HasBank(q.alg) {
			c.note("bank %s: it is quoted, but the event log has no digests of it", q.alg.BankName())
			continue
		}
		boot, err := c.expect.Cache.Confirm(log, q.alg, c.evidence.values(q))
		if err != nil {
			c.failAbout(err, fmt.Sprintf("event log, bank %s", q.alg.BankName()))
		} else if q.alg == c.out.bank.alg {
			c.out.boot = boot
		}
	}
}

// failAbout names the component in every reason that names none.
func (c *check) failAbout(err error, component string) {
	for _, r := range evidence.Reasons(err) {
		if r.Component == "" {
			r.Component = component
		}
		c.fail(&evidence.Refusal{Reason: r})
	}
	if len(evidence.Reasons(err)) == 0 {
		c.fail(evidence.Refuse(codeLogMalformed, "%v", err).About(component))
	}
}

// values are the quoted values of a bank: of the signed selection, nothing else.
func (e *Evidence) values(q quoted) map[int][]byte {
	out := make(map[int][]byte, tpm2.NumPCR)
	for pcr := range q.pcrs.All() {
		out[pcr] = e.value(q.alg, pcr)
	}
	return out
}

func (c *check) imaList() {
	pcr10 := c.evidence.value(c.out.bank.alg, ima.PCR)
	switch {
	case !c.out.bank.pcrs.Has(ima.PCR):
		if c.evidence.ima != nil {
			c.note("the IMA list: PCR 10 is not quoted")
		}
		return
	case c.evidence.ima == nil:
		if slices.ContainsFunc(pcr10, func(b byte) bool { return b != 0 }) {
			c.note("PCR 10: there is no IMA list that says what was measured after boot")
		}
		return
	}
	l, err := ima.Parse(c.evidence.ima)
	if err != nil {
		c.fail(evidence.Refuse(codeIMAMalformed, "the IMA list cannot be read: %v", err).About("imaLog"))
		return
	}
	confirmed, err := l.Confirm(c.out.bank.alg, pcr10)
	if err != nil {
		c.failAbout(err, "imaLog")
		return
	}
	c.out.ima = confirmed
	c.note("what the IMA list says of files: the list is proven, and not judged")
	c.bootAggregate(confirmed)
	if confirmed.Mode() == ima.ModePadded {
		c.note("the IMA list beyond the strength of SHA-1: this kernel extends other banks with padded SHA-1 digests")
	}
}

// bootAggregate compares what the IMA list says of the boot with the quoted boot
// registers. What cannot be compared is no sign of anything: it is only noted.
func (c *check) bootAggregate(l *ima.Confirmed) {
	err := l.CheckBootAggregate(func(bank tpm2.Alg) map[int][]byte {
		for _, q := range c.out.all {
			if q.alg == bank {
				return c.evidence.values(q)
			}
		}
		return nil
	})
	for _, r := range evidence.Reasons(err) {
		if r.Code == codeBootAggregate {
			c.failAbout(err, "imaLog")
			return
		}
		c.note("the IMA list's boot_aggregate: %s", r.Message)
	}
}

// Facts are what the evidence proves about the boot, each with the registers that
// prove it; the caller may change the copy.
func (v *Verified) Facts() evidence.Claims {
	if v == nil || v.boot == nil {
		return evidence.Claims{}
	}
	return maps.Clone(v.claims())
}

// claims are those of the boot, which nobody may change.
func (v *Verified) claims() evidence.Claims { return v.boot.SharedClaims() }

// Boot is the event log that leads to the quoted registers.
func (v *Verified) Boot() *eventlog.Confirmed { return v.boot }

// IMA is the confirmed part of the IMA list; nil when there is none.
func (v *Verified) IMA() *ima.Confirmed { return v.ima }

// Counters are the TPM's clock and boot counters, to keep for the next quote.
func (v *Verified) Counters() Counters { return v.counters }

// AKName is the Name of the attestation key.
func (v *Verified) AKName() []byte { return v.evidence.akName }

// Proof says why the attestation key is trusted: one of the Proof constants.
func (v *Verified) Proof() string { return v.key.proof }

// Bank is the PCR bank in which all claims were proven.
func (v *Verified) Bank() tpm2.Alg { return v.bank.alg }

// PCRs returns the quoted values of a bank, by number: those of the signed
// selection and nothing else. It is nil for a bank that was not quoted.
func (v *Verified) PCRs(alg tpm2.Alg) map[int][]byte {
	for _, q := range v.all {
		if q.alg == alg {
			return v.evidence.values(q)
		}
	}
	return nil
}

// NotChecked lists what verification says nothing about.
func (v *Verified) NotChecked() []string { return slices.Clone(v.notChecked) }
