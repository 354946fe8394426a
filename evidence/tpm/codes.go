package tpm

import "github.com/assay-project/assay/evidence"

// Reason codes of this package; package evidence explains them.
const (
	codeQuoteAbsent    evidence.Code = "quote.absent"
	codeQuoteMalformed evidence.Code = "quote.malformed"
	codeMagic          evidence.Code = "quote.magic"
	codeType           evidence.Code = "quote.type"
	codeNonce          evidence.Code = "quote.nonce-mismatch"
	codeSignature      evidence.Code = "quote.signature"
	codeScheme         evidence.Code = "quote.signature-scheme"
	codeSelection      evidence.Code = "quote.pcr-selection"
	codeWeakBank       evidence.Code = "quote.weak-bank"
	codePCRAbsent      evidence.Code = "quote.pcr-absent"
	codePCRDigest      evidence.Code = "quote.pcr-digest"
	codeBootsMixed     evidence.Code = "quote.boots-mixed"
	codeRolledBack     evidence.Code = "quote.counters-rolled-back"

	codeAKAbsent      evidence.Code = "ak.absent"
	codeAKMalformed   evidence.Code = "ak.malformed"
	codeAKAttributes  evidence.Code = "ak.attributes"
	codeAKWeak        evidence.Code = "ak.weak"
	codeAKUntrusted   evidence.Code = "ak.untrusted"
	codeAKCert        evidence.Code = "ak.certificate-malformed"
	codeAKCertForeign evidence.Code = "ak.certificate-foreign"
	codeAKCertTime    evidence.Code = "ak.certificate-expired"
	codeAKCertUsage   evidence.Code = "ak.certificate-usage"
	codeAKKey         evidence.Code = "ak.key-mismatch"

	codeEKMalformed   evidence.Code = "ek.malformed"
	codeEKAttributes  evidence.Code = "ek.attributes"
	codeEKWeak        evidence.Code = "ek.weak"
	codeEKCert        evidence.Code = "ek.certificate-malformed"
	codeEKCertForeign evidence.Code = "ek.certificate-foreign"
	codeEKCertTime    evidence.Code = "ek.certificate-expired"
	codeEKCertUsage   evidence.Code = "ek.certificate-usage"
	codeEKKey         evidence.Code = "ek.key-mismatch"

	codeChain evidence.Code = "certificate.malformed"

	codeLogAbsent    evidence.Code = "eventlog.absent"
	codeLogMalformed evidence.Code = "eventlog.malformed"
	codeIMAMalformed evidence.Code = "ima.malformed"

	codeBootAggregate evidence.Code = "ima.boot-aggregate-mismatch"

	codeSecureBootOff      evidence.Code = "secureboot.off"
	codeSecureBootUnknown  evidence.Code = "secureboot.unknown"
	codeBaseline           evidence.Code = "baseline.mismatch"
	codeBaselineBank       evidence.Code = "baseline.bank"
	codeBaselineUnquoted   evidence.Code = "baseline.not-quoted"
	codeBaselineIncomplete evidence.Code = "baseline.incomplete"
	codePolicyDenied       evidence.Code = "policy.denied"
	codePolicyFailed       evidence.Code = "policy.failed"
)
