package attest

import (
	"strconv"
	"time"

	"github.com/assay-project/assay/evidence"
)

// appendFindings appends the reasons, claims and omissions of an appraisal as the
// store keeps them; claims is the JSON of its claims.
func (a *Appraisal) appendFindings(out, claims []byte) []byte {
	out = evidence.AppendReasons(append(out, `{"reasons":`...), a.Reasons)
	out = append(append(out, `,"claims":`...), claims...)
	out = evidence.AppendTexts(append(out, `,"notChecked":`...), a.NotChecked)
	return append(out, '}')
}

// Findings is the JSON of an appraisal's reasons, claims and omissions, as a store
// keeps them.
func (a *Appraisal) Findings() []byte { return a.appendFindings(nil, a.Claims.AppendJSON(nil)) }

// JSON is r as encoding/json writes it, but with [] and {} for what is empty.
func (r *Result) JSON() []byte {
	claims := r.claims
	if claims == nil {
		claims = r.Claims.AppendJSON(nil)
	}
	if len(r.Claims) == 0 {
		claims = []byte("{}")
	}
	out := make([]byte, 0, len(claims)+len(r.Token)+2048)
	out = appendMember(out, `{"id":`, r.ID)
	out = append(r.Time.AppendFormat(append(out, `,"time":"`...), time.RFC3339Nano), '"')
	out = appendMember(out, `,"type":`, r.Type)
	out = appendOptional(out, `,"attester":`, r.Attester)
	out = appendOptional(out, `,"machine":`, r.Machine)
	out = appendMember(out, `,"verdict":`, r.Verdict.String())
	out = evidence.AppendReasons(append(out, `,"reasons":`...), listed(r.Reasons))
	out = append(append(out, `,"claims":`...), claims...)
	out = evidence.AppendTexts(append(out, `,"notChecked":`...), listed(r.NotChecked))
	out = appendMember(out, `,"policy":`, r.Policy)
	out = strconv.AppendInt(append(out, `,"policyVersion":`...), int64(r.PolicyRev), 10)
	out = appendMember(out, `,"evidence":`, r.Evidence)
	out = appendOptional(out, `,"tokenId":`, r.TokenID)
	return append(appendOptional(out, `,"token":`, r.Token), '}')
}

// claimsJSON is that of the outcome's claims.
func (o *Outcome) claimsJSON() []byte {
	if o.Writing != nil {
		return o.Writing.JSON()
	}
	return o.Claims.AppendJSON(nil)
}

func appendMember(out []byte, name, value string) []byte {
	return evidence.AppendText(append(out, name...), value)
}

func appendOptional(out []byte, name, value string) []byte {
	if value == "" {
		return out
	}
	return appendMember(out, name, value)
}

// listed is list, or an empty one for nil.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
