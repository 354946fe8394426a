package maa

import (
	"encoding/base64"
	"math"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/sipa"
)

// form is how the value of a tag is written.
type form uint8

const (
	formNone     form = iota // not written: its form is not documented
	formBool                 // true or false
	formInt                  // a number
	formValue                // {"Value": number}
	formHVCI                 // {"String": name, "Value": number}
	formText                 // a text
	formBytes                // base64url
	formRaw                  // {"RawData": base64url}
	formRawList              // a list of these, one for each tag
	formContents             // an object of the members
	formObjects              // a list of these, one for each tag
)

// formOf returns the form of a tag. DRTM_STATE_AUTH is not written: what policies
// ask of it is whether its signature is valid, and that is not verified here.
func formOf(id sipa.ID) form {
	switch id {
	case sipa.CodeIntegrity, sipa.BootDebugging, sipa.OSKernelDebug, sipa.TestSigning, sipa.FlightSigning, sipa.SafeMode, sipa.WinPE,
		sipa.VBSVSMRequired, sipa.VBSMandatoryEnforcement, sipa.VBSIOMMURequired, sipa.ImageValidated:
		return formBool
	case sipa.ApplicationSVN, sipa.ModuleSVN, sipa.ImageSize, sipa.HashAlgorithmID:
		return formInt
	case sipa.BitlockerUnlock, sipa.DataExecutionPrevention, sipa.TransferControl, sipa.DRTMSMMLevel, sipa.DriverLoadPolicy:
		return formValue
	case sipa.VBSHVCIPolicy:
		return formHVCI
	case sipa.FilePath, sipa.AuthorityIssuer, sipa.AuthorityPublisher:
		return formText
	case sipa.AuthenticodeHash, sipa.AuthoritySerial, sipa.AuthoritySHA1Thumbprint:
		return formBytes
	case sipa.BootRevocationList, sipa.OSRevocationList:
		return formRaw
	case sipa.SIPolicy:
		return formRawList
	case sipa.TrustBoundary:
		return formContents
	case sipa.LoadedModuleAggregation:
		return formObjects
	default:
		return formNone
	}
}

// name is the member's name. The documentation and the header differ in one.
func name(id sipa.ID) string {
	if id == sipa.DRTMSMMLevel {
		return "EVENT_DRTM_SMM"
	}
	return "EVENT_" + id.String()
}

// readTags reads the tagged events of Windows, by their index. One that cannot be
// read, or that says two things at a time, could hide what another states: then
// there is none.
func readTags(proofs []eventlog.Proof) map[int]map[string]any {
	out := map[int]map[string]any{}
	left := maxTags
	for i := range proofs {
		p := &proofs[i]
		if !p.Stated || p.Type != eventlog.EventTag {
			continue
		}
		tags, err := sipa.Parse(p.Data)
		if err != nil {
			return nil
		}
		members, ok := contents(tags, &left)
		if !ok {
			return nil
		}
		out[p.Event] = members
	}
	return out
}

// maxTags bounds the tags of all events together. The largest boot among the
// samples has under 2,500.
const maxTags = 1 << 14

// contents writes tags as the members of an object; ok is false when one is
// malformed, or stands twice with two meanings.
func contents(tags []sipa.Tag, left *int) (out map[string]any, ok bool) {
	out = map[string]any{}
	for _, t := range tags {
		if *left--; *left < 0 {
			return nil, false
		}
		f := formOf(t.ID)
		if f == formNone {
			continue
		}
		v, ok := value(t, f, left)
		if !ok {
			return nil, false
		}
		key := name(t.ID)
		before, twice := out[key]
		switch {
		case f == formObjects || f == formRawList:
			list, _ := before.([]any)
			out[key] = append(list, v)
		case !twice:
			out[key] = v
		default:
			// JSON has no second member of one name, and leaving one out would hide it.
			return nil, false
		}
	}
	return out, true
}

func value(t sipa.Tag, f form, left *int) (v any, ok bool) {
	switch f {
	case formBool:
		return t.Bool()
	case formText:
		return t.Text()
	case formBytes:
		return base64.RawURLEncoding.EncodeToString(t.Value), true
	case formRaw, formRawList:
		return map[string]any{"RawData": base64.RawURLEncoding.EncodeToString(t.Value)}, true
	case formContents, formObjects:
		return contents(t.Members, left)
	}
	n, ok := t.Int()
	if !ok || n > math.MaxInt64 { // more than a claim or a query can hold
		return nil, false
	}
	switch {
	case f == formInt:
		return n, true
	case f == formHVCI && n == 1:
		return map[string]any{"String": "HypervisorEnforcedCodeIntegrityEnable", "Value": n}, true
	default:
		return map[string]any{"Value": n}, true
	}
}
