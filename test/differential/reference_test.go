package differential_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/assay-project/assay/test/differential"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// A row of the reference simulator takes no difference of another cause for its own.
func TestRowsOfTheReferenceMatchOnlyWhatTheyExplain(t *testing.T) {
	size := func(s tpm2.RCSubject) tpm2.RC { return tpm2.RCSize.Of(s, 1) }
	value := tpm2.RCValue.Of(tpm2.RCHandle, 1)
	zeros, modulus := strings.Repeat("00", 256), strings.Repeat("c1", 256)
	ciphertext := func(c string) string {
		return fmt.Sprintf("80010000000000000159800000000%03x", len(c)/2) + c + "00100000"
	}
	point := tpm2.RCECCPoint.Of(tpm2.RCParameter, 1)
	c1 := func(x int) string {
		return fmt.Sprintf("800100000000%08x80000000%04x%04x", uint32(tpm2.CCECCDecrypt), x+36, x) + strings.Repeat("11", x) + "0020" + strings.Repeat("11", 32) + "0000000000210004"
	}
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
		"an SVN's hierarchy":        {tpm2.CCCreatePrimary, value, tpm2.RCSVNLimited.Of(tpm2.RCHandle, 1), "80020000000e000001314004000c", "response code", "hierarchies of firmware and security versions"},
		"the owner's":               {tpm2.CCCreatePrimary, value, 0, "80020000000e0000013140000001", "response code", ""},
		"an SVN's, elsewhere":       {tpm2.CCCreatePrimary, value, 0, "80020000000e00000131400000014004000c", "response code", ""},
		"to hash for firmware":      {tpm2.CCHash, tpm2.RCValue.Of(tpm2.RCParameter, 3), 0, "8001000000120000017d0000000b40000140", "response code", "hierarchies of firmware and security versions"},
		"to hash for nothing":       {tpm2.CCHash, tpm2.RCValue.Of(tpm2.RCParameter, 3), 0, "8001000000120000017d0000000b40000150", "response code", ""},
		"to hash data like that":    {tpm2.CCHash, tpm2.RCValue.Of(tpm2.RCParameter, 3), 0, "8001000000160000017d000440000140000b40000150", "response code", ""},
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
		"as large as the modulus":   {tpm2.CCRSADecrypt, tpm2.RCValue, tpm2.RCSize, ciphertext(modulus), "response code", "ciphertext that is not below the modulus"},
		"below the modulus":         {tpm2.CCRSADecrypt, tpm2.RCValue, tpm2.RCSize, ciphertext("00" + modulus[2:]), "response code", ""},
		"longer than the modulus":   {tpm2.CCRSADecrypt, tpm2.RCValue, tpm2.RCSize, ciphertext("ff" + modulus), "response code", ""},
		"another code for it":       {tpm2.CCRSADecrypt, tpm2.RCValue, tpm2.RCFailure, ciphertext(modulus), "response code", ""},
		"by no hierarchy":           {tpm2.CCHierarchyControl, value, tpm2.RCAuthType, "8001000000130000012140000007", "response code", "no hierarchy controls none"},
		"by no hierarchy, run":      {tpm2.CCHierarchyControl, value, 0, "8001000000130000012140000007", "response code", ""},
		"by the lockout":            {tpm2.CCHierarchyControl, value, tpm2.RCAuthType, "800100000013000001214000000a", "response code", ""},
		"another fault of it":       {tpm2.CCHierarchyControl, tpm2.RCValue.Of(tpm2.RCParameter, 1), tpm2.RCAuthType, "8001000000130000012140000007", "response code", ""},
		"what a spoilt byte made":   {tpm2.CCCreatePrimary, value, tpm2.RCBadAuth.Of(tpm2.RCSession, 1), "8001000000130000012140000007", "response code", "no hierarchy controls none"},
		"a spoilt handle":           {tpm2.CCCreatePrimary, value, tpm2.RCAuthType, "8001000000130000013140000007", "response code", ""},
		"who speaks SPDM":           {tpm2.CCGetCapability, tpm2.RCValue.Of(tpm2.RCParameter, 1), 0, "8001000000160000017a0000000c0000000000000002", "response code", "sessions of SPDM"},
		"public keys of its own":    {tpm2.CCGetCapability, tpm2.RCValue.Of(tpm2.RCParameter, 1), 0, "8001000000160000017a0000000b0000000000000002", "response code", ""},
		"a point beside the curve":  {tpm2.CCECCDecrypt, point, tpm2.RCValue, c1(32), "response code", "points of TPM2_ECC_Decrypt"},
		"another scheme for it":     {tpm2.CCECCDecrypt, point, tpm2.RCScheme, c1(32), "response code", "points of TPM2_ECC_Decrypt"},
		"a long coordinate":         {tpm2.CCECCDecrypt, point, tpm2.RCFailure, c1(33), "response code", "points of TPM2_ECC_Decrypt"},
		"a failure without one":     {tpm2.CCECCDecrypt, point, tpm2.RCFailure, c1(32), "response code", ""},
		"a point of the curve":      {tpm2.CCECCDecrypt, tpm2.RCValue, tpm2.RCScheme, c1(32), "response code", ""},
		"one decrypted":             {tpm2.CCRSADecrypt, 0, 0, "", "content: Message\n" + zeros + "\n01", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := observed(t, tc.cc, nil, tc.ours, tc.theirs)
			o.Diff, o.Modulus = tc.diff, unhex(modulus)
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

// Lists of permanent handles differ in what only the simulator has, and in nothing else.
func TestOnlyOptionalHandlesMakeListsDiffer(t *testing.T) {
	const owner, null, timer, firmware = tpm2.HandleOwner, tpm2.HandleNull, tpm2.HandleACT0, tpm2.HandleFWOwner
	type list []tpm2.Handle
	for name, tc := range map[string]struct {
		ours, theirs list
		more         [2]bool // is there?
		want         bool
	}{
		"a timer":                          {list{owner, null}, list{owner, null, timer}, [2]bool{}, true},
		"an end of a list":                 {list{owner, null}, list{owner, null}, [2]bool{false, true}, true},
		"nothing but a timer, and more":    {nil, list{timer}, [2]bool{false, true}, true},
		"a timer in the place of another":  {list{owner, null}, list{timer, firmware}, [2]bool{false, true}, true},
		"a handle too few":                 {list{owner, null}, list{owner, timer}, [2]bool{}, false},
		"a handle too many":                {list{owner}, list{owner, null, timer}, [2]bool{}, false},
		"another handle":                   {list{owner}, list{null, timer}, [2]bool{}, false},
		"an end that ours alone has":       {list{owner}, list{owner}, [2]bool{true, false}, false},
		"an end, and a handle in one list": {list{owner, null}, list{owner}, [2]bool{false, true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			in := &command.GetCapabilityIn{Capability: tpm2.CapHandles, Property: uint32(owner), PropertyCount: 2}
			o := observed(t, tpm2.CCGetCapability, encoded(t, in), 0, 0)
			o.Diff = "content: Handles"
			for i, l := range []list{tc.ours, tc.theirs} {
				o.Params[i] = encoded(t, &command.GetCapabilityOut{MoreData: tc.more[i], CapabilityData: tpm2.CapabilityData{Capability: tpm2.CapHandles, Handles: l}})
			}
			rows := differential.ReferenceDifferences()
			if got := slices.ContainsFunc(rows, func(d differential.Difference) bool { return d.Match(o) }); got != tc.want {
				t.Errorf("%v and %v are explained: %v, want %v", tc.ours, tc.theirs, got, tc.want)
			}
		})
	}
}
