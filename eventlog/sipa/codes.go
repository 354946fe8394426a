package sipa

import "github.com/assay-project/assay/evidence"

// Reason codes of this package; package evidence explains them.
const (
	codeNotMeasured  evidence.Code = "windows.not-measured"
	codeDisagree     evidence.Code = "windows.registers-disagree"
	codeOpen         evidence.Code = "windows.register-open"
	codeHalf         evidence.Code = "windows.register-missing"
	codeMalformed    evidence.Code = "windows.tag-malformed"
	codeNesting      evidence.Code = "windows.tag-nesting"
	codeTooMany      evidence.Code = "windows.tag-count"
	codeUnexpected   evidence.Code = "windows.tag-unexpected"
	codeValue        evidence.Code = "windows.value-malformed"
	codeResumed      evidence.Code = "windows.resumed"
	codeNotValidated evidence.Code = "windows.module-not-validated"
	codeChain        evidence.Code = "windows.chain-broken"
)
