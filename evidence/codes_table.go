package evidence

import (
	"slices"
	"strings"
	"sync"
)

// CodeInfo explains a [Code] to the person who has to act on it.
type CodeInfo struct {
	Code    Code
	Meaning string   // one sentence: what was found
	Causes  []string // likely first
	Action  string   // what to do next
}

// Codes returns the table of all reason codes, sorted by code. Codes are never
// renamed or reused.
func Codes() []CodeInfo { return allCodes() }

// Describe returns the table's line for a code; ok is false when there is none.
func Describe(code Code) (info CodeInfo, ok bool) {
	codes := allCodes()
	i, ok := slices.BinarySearchFunc(codes, code, func(c CodeInfo, code Code) int { return strings.Compare(string(c.Code), string(code)) })
	if !ok {
		return CodeInfo{}, false
	}
	return codes[i], true
}

// allCodes puts the tables together when first asked: most programs never do.
var allCodes = sync.OnceValue(func() []CodeInfo {
	return slices.SortedFunc(slices.Values(slices.Concat(
		agentCodes,
		eventlogCodes,
		httpapiCodes,
		instancesCodes,
		serviceCodes,
		tpmCodes,
		integrityCodes,
		machineCodes,
		serialCodes,
		fleetCodes,
		findingCodes,
		windowsCodes,
		imaCodes,
		launchCodes,
		tokenCodes,
		uefiCodes,
		vmbackupCodes,
		convertCodes,
		vtpmCodes,
	)), func(a, b CodeInfo) int { return strings.Compare(string(a.Code), string(b.Code)) })
})
