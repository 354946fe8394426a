package eventlog

import (
	"bytes"
	"errors"
	"slices"
	"sync"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// Confirmed is a log that leads to the registers that a quote signed. Only
// [Log.Confirm] and [Cache.Confirm] make one.
type Confirmed struct {
	boot
	shared  func() evidence.Claims
	writing func() *evidence.Writing
}

// Confirm analyses the log against PCR values that a verified quote signed:
// quoted maps each PCR of the signed selection to its value in bank a. Every
// failed check is an [*evidence.Refusal] in the tree of the error.
//
// PCR 10, 15, 16 and 23 are never compared, because the operating system extends
// them after the log has ended; nor are 17 to 22 when the log has no event for
// them. Claims that rest on a register outside quoted are unknown, and so are
// all claims of a SHA-1 bank.
func (l *Log) Confirm(a tpm2.Alg, quoted map[int][]byte) (*Confirmed, error) {
	return (*Cache)(nil).Confirm(l, a, quoted)
}

// Confirm is [Log.Confirm] for a verifier of many logs: the result's claims take
// from the cache what other logs have measured alike, and a log of [Cache.Parse]
// that was confirmed before against the very same registers has the same result.
func (c *Cache) Confirm(l *Log, a tpm2.Alg, quoted map[int][]byte) (*Confirmed, error) {
	var buf [maxPCR * (2 + tpm2.MaxDigest)]byte
	text, whole := appendQuoted(buf[:0], quoted)
	if c == nil || !whole {
		return c.confirm(l, a, quoted)
	}
	if known := l.known(a, text); known != nil {
		return known, nil
	}
	confirmed, err := c.confirm(l, a, quoted)
	if err == nil {
		c.remember(l, a, text, confirmed)
	}
	return confirmed, err
}

func (c *Cache) confirm(l *Log, a tpm2.Alg, quoted map[int][]byte) (*Confirmed, error) {
	if l.format == FormatCC {
		return nil, evidence.Refuse(codeNoTPMLog, "log is that of a confidential machine's own registers, not of a TPM")
	}
	if len(quoted) == 0 {
		return nil, evidence.Refuse(codeNothingQuoted, "quote selects no PCR of bank %s", a.BankName())
	}
	an, err := l.analyse(a)
	if err != nil {
		return nil, evidence.Refuse(codeBank, "%v", err)
	}
	an.cache = c
	an.weak = a == tpm2.AlgSHA1
	errs := an.compare(quoted)
	an.conclude()
	for _, f := range an.findings {
		if f.Refuses() {
			errs = append(errs, evidence.Refuse(f.Code, "%s", f.Message))
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	shared := sync.OnceValue(an.makeClaims)
	return &Confirmed{boot{an}, shared, sync.OnceValue(func() *evidence.Writing { return evidence.NewWriting(shared()) })}, nil
}

// compare sets which registers are believed.
func (a *analysis) compare(quoted map[int][]byte) (errs []error) {
	pcrs := make([]int, 0, len(quoted))
	for pcr := range quoted {
		pcrs = append(pcrs, pcr)
	}
	slices.Sort(pcrs)
	for _, pcr := range pcrs {
		if pcr < 0 || pcr >= maxPCR || a.foreign(pcr) {
			continue
		}
		if r := a.compareOne(pcr, quoted[pcr]); r != nil {
			errs = append(errs, r)
			continue
		}
		a.trusted |= 1 << pcr
	}
	return errs
}

// foreign reports whether others than the log's writers extend a register.
func (a *analysis) foreign(pcr int) bool {
	switch pcr {
	case 10, 15, 16, 23:
		return true
	case 17, 18, 19, 20, 21, 22:
		return !a.regs.Extended(pcr)
	default:
		return false
	}
}

func (a *analysis) compareOne(pcr int, want []byte) *evidence.Refusal {
	switch got := a.regs.Value(pcr); {
	case bytes.Equal(got, want):
		return nil
	case !a.regs.Extended(pcr):
		return evidence.Refuse(codeEventsMissing, "PCR %d is %x in the quote, but the log has no event that extends it", pcr, want)
	case pcr == 5 && a.completeExit(want):
		return nil
	case pcr == 11 && a.log.format != FormatWBCL:
		return evidence.Refuse(codeReplayMismatch, "PCR 11 is %x in the quote, the log leads to %x; systemd extends PCR 11 after the log has ended, so quote it before, or leave it out", want, got)
	default:
		return evidence.Refuse(codeReplayMismatch, "PCR %d is %x in the quote, the log leads to %x", pcr, want, got)
	}
}

// exitEndings are the events of PCR 5 that the kernel measures too late for the
// copy of the log that older kernels keep.
var exitEndings = [...][]string{
	{actionExit, actionExitDone},
	{actionExit, actionExitFail},
	{actionExit, actionExitFail, actionExitDone},
}

// completeExit tries whether PCR 5 is right but for the end of the boot services.
func (a *analysis) completeExit(want []byte) bool {
	for _, ending := range exitEndings {
		r := a.regs
		for _, text := range ending {
			var d [tpm2.MaxDigest]byte
			sum(r.alg, d[:], []byte(text))
			r.extend(5, d[:r.size])
		}
		if bytes.Equal(r.Value(5), want) {
			a.regs = r
			a.find(codeExitMissing, -1, "log ends before ExitBootServices; PCR 5 is right once its events are added")
			return true
		}
	}
	return false
}
