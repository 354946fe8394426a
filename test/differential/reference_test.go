package differential_test

import (
	"strings"
	"testing"

	"github.com/assay-project/assay/test/differential"
	"github.com/assay-project/assay/tpm2"
)

// A row of the reference simulator takes no difference of another cause for its own.
func TestRowsOfTheReferenceMatchOnlyWhatTheyExplain(t *testing.T) {
	size := func(s tpm2.RCSubject) tpm2.RC { return tpm2.RCSize.Of(s, 1) }
	value := tpm2.RCValue.Of(tpm2.RCHandle, 1)
	zeros := strings.Repeat("00", 256)
	for name, tc := range map[string]struct {
		cc           tpm2.CC
		ours, theirs tpm2.RC
		request      string // instead of an empty one
		diff, want   string
	}{
		"one reset less":            {tpm2.CCReadClock, 0, 0, "", "content: ResetCount\n2\n1", "resets of a new TPM"},
		"one reset more":            {tpm2.CCReadClock, 0, 0, "", "content: ResetCount\n1\n2", ""},
		"a restart":                 {tpm2.CCReadClock, 0, 0, "", "content: RestartCount\n2\n1", ""},
		"a zero before b":           {tpm2.CCECCParameters, 0, 0, "", "content: B\n0051\n51", "leading zeros of a curve"},
		"another b":                 {tpm2.CCECCParameters, 0, 0, "", "content: B\n0051\n52", ""},
		"a zero before a":           {tpm2.CCECCParameters, 0, 0, "", "content: A\n0051\n51", ""},
		"a Name of zeros":           {tpm2.CCCertify, 0, 0, "", "content: Name\n\n0000", "Name of a sequence"},
		"a Name":                    {tpm2.CCCertify, 0, 0, "", "content: Name\n\n000b", ""},
		"a key's Name of zeros":     {tpm2.CCCertify, 0, 0, "", "content: Name\n000b\n0000", ""},
		"an empty parameter":        {tpm2.CCObjectChangeAuth, 0, size(tpm2.RCSession), "800200000150aa0000", "response code", "an empty parameter, encrypted"},
		"one that is not":           {tpm2.CCObjectChangeAuth, 0, size(tpm2.RCSession), "800200000150aa0001", "response code", ""},
		"of a parameter":            {tpm2.CCObjectChangeAuth, 0, size(tpm2.RCParameter), "800200000150aa0000", "response code", ""},
		"an SVN's hierarchy":        {tpm2.CCCreatePrimary, value, tpm2.RCSVNLimited.Of(tpm2.RCHandle, 1), "4004000c", "response code", "hierarchies of firmware and security versions"},
		"the owner's":               {tpm2.CCCreatePrimary, value, 0, "40000001", "response code", ""},
		"a list with timers":        {tpm2.CCGetCapability, 0, 0, "", "content: Handles\n[a]\n[a b]", "hierarchies of firmware and security versions"},
		"a list of algorithms":      {tpm2.CCGetCapability, 0, 0, "", "content: Algorithms\n[a]\n[a b]", ""},
		"fixedFirmware":             {tpm2.CCCreate, tpm2.RCReservedBits.Of(tpm2.RCParameter, 2), tpm2.RCAttributes.Of(tpm2.RCParameter, 2), "", "response code", "bits of objects and size of commands"},
		"a long command":            {tpm2.CCHash, 0, tpm2.RCCommandSize, strings.Repeat("00", 3969), "response code", "bits of objects and size of commands"},
		"a command that is shorter": {tpm2.CCHash, 0, tpm2.RCCommandSize, strings.Repeat("00", 3968), "response code", ""},
		"the size of a command":     {tpm2.CCGetCapability, 0, 0, "", "content: Value\n4096\n3968", "bits of objects and size of commands"},
		"another size":              {tpm2.CCGetCapability, 0, 0, "", "content: Value\n4096\n4095", ""},
		"a credential":              {tpm2.CCActivateCredential, 0, tpm2.RCIntegrity.Of(tpm2.RCParameter, 1), "", "response code", "Name of a sequence"},
		"a credential, refused":     {tpm2.CCActivateCredential, tpm2.RCIntegrity.Of(tpm2.RCParameter, 1), 0, "", "response code", ""},
		"a command of its own":      {tpm2.CCUnseal, tpm2.RCCommandCode, value, "", "response code", "commands that only one has"},
		"a command of ours":         {tpm2.CCUnseal, value, tpm2.RCCommandCode, "", "response code", ""},
		"external NV":               {tpm2.CCNVDefineSpace2, tpm2.RCHandleValue.Of(tpm2.RCParameter, 2), tpm2.RCValue.Of(tpm2.RCParameter, 2), "", "response code", "external NV"},
		"an index":                  {tpm2.CCNVDefineSpace, tpm2.RCHandleValue.Of(tpm2.RCParameter, 2), tpm2.RCValue.Of(tpm2.RCParameter, 2), "", "response code", ""},
		"a newer tag":               {tpm2.CCPolicyAuthorize, 0, tpm2.RCTag.Of(tpm2.RCParameter, 4), "8026", "response code", "tags of tickets"},
		"an older tag":              {tpm2.CCPolicyAuthorize, 0, tpm2.RCTag.Of(tpm2.RCParameter, 4), "8022", "response code", ""},
		"a policy and a cipher":     {tpm2.CCCreate, tpm2.RCSize.Of(tpm2.RCParameter, 2), tpm2.RCSymmetric.Of(tpm2.RCParameter, 2), "", "response code", "policy and cipher"},
		"a policy and a hash":       {tpm2.CCCreate, tpm2.RCSize.Of(tpm2.RCParameter, 2), tpm2.RCHash.Of(tpm2.RCParameter, 2), "", "response code", ""},
		"zeros decrypted":           {tpm2.CCRSADecrypt, 0, 0, "", "content: Message\n" + zeros + "\n00", "RSA of nothing but zeros"},
		"one decrypted":             {tpm2.CCRSADecrypt, 0, 0, "", "content: Message\n" + zeros + "\n01", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := observed(t, tc.cc, nil, tc.ours, tc.theirs)
			o.Diff = tc.diff
			if tc.request != "" {
				o.Request[0], o.Request[1] = unhex(tc.request), unhex(tc.request)
			}
			got := ""
			for _, d := range differential.ReferenceDifferences() {
				if d.Match(o) {
					got = d.Name
					break
				}
			}
			if got != tc.want {
				t.Errorf("%q is explained by %q, want %q", tc.diff, got, tc.want)
			}
		})
	}
}
