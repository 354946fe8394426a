package differential_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/assay-project/assay/test/differential"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// observed is what two TPMs answer to a command without authorizations.
func observed(t *testing.T, cc tpm2.CC, params []byte, ours, theirs tpm2.RC) *differential.Observation {
	t.Helper()
	info, ok := command.Lookup(cc)
	if !ok {
		t.Fatalf("command %#x is not known", uint32(cc))
	}
	b := append([]byte{0x80, 1, 0, 0, 0, 0}, binary.BigEndian.AppendUint32(nil, uint32(cc))...)
	b = append(append(b, make([]byte, 4*len(info.Handles))...), params...)
	return &differential.Observation{
		Code: cc, Name: info.Name, Bent: " flipped", Plain: params, Request: [2][]byte{b, b}, RC: [2]tpm2.RC{ours, theirs}, Diff: "response code",
	}
}

func encoded(t *testing.T, in wire.Layout) []byte {
	t.Helper()
	b, err := wire.Encode(in)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A row takes no difference of another cause for its own: the same codes with
// another number in the place of the fault, or another answer than the clause explains.
func TestRowsMatchOnlyWhatTheyExplain(t *testing.T) {
	param := func(rc tpm2.RC, n int) tpm2.RC { return rc.Of(tpm2.RCParameter, n) }
	cipher := func(a tpm2.Alg) []byte {
		return append([]byte{0, byte(tpm2.AlgSymCipher), 0, byte(a)}, 0, 128, 0, byte(tpm2.AlgCFB))
	}
	ticket := func(tag uint16) []byte {
		in := &command.PolicyTicketIn{Timeout: make([]byte, 8), Ticket: tpm2.AuthTicket{Tag: tpm2.TagAuthSecret, Hierarchy: tpm2.HandleNull}}
		b := encoded(t, in)
		binary.BigEndian.PutUint16(b[len(b)-8:], tag) // before hierarchy and an empty digest
		return b
	}
	// A TPM2B_NV_PUBLIC of 14 bytes whose policy is said to have 32: libtpms looks for
	// them behind its end.
	policy := "000900056f746865720000001a0023000b000400f200100010001a000b0000000300100000000000013500000000"
	named := func(n int) []byte {
		b := append([]byte{0, 0, 0, 0, 0, 0, 0, byte(n)}, make([]byte, n)...) // no timeout, cpHash and policyRef
		return append(b, 0x12, 0x34, 0, 0, 0, 0, 0, 0)
	}
	// The template of a key, with a policy of one byte and with another scheme.
	template := func(hex string) []byte {
		return unhex(fmt.Sprintf("000400000000%04x%s", len(hex)/2, hex))
	}
	early := "000e01000007000c000c409a00200008"
	for name, tc := range map[string]struct {
		cc           tpm2.CC
		params       []byte
		ours, theirs tpm2.RC
		want         string
	}{
		"BN P-256":                {tpm2.CCECCParameters, []byte{0, 0x10}, param(tpm2.RCCurve, 1), 0, "curves"},
		"a curve that is none":    {tpm2.CCECCParameters, []byte{0, 0x99}, param(tpm2.RCCurve, 1), 0, ""},
		"a key on BN P-256":       {tpm2.CCECCParameters, []byte{0, 0x10}, param(tpm2.RCCurve, 2), 0, ""},
		"TDES":                    {tpm2.CCTestParms, cipher(tpm2.AlgTDES), param(tpm2.RCSymmetric, 1), 0, "TDES and Camellia"},
		"SM4":                     {tpm2.CCTestParms, cipher(tpm2.AlgSM4), param(tpm2.RCSymmetric, 1), 0, ""},
		"a test of Camellia":      {tpm2.CCIncrementalSelfTest, []byte{0, 0, 0, 1, 0, 0x26}, param(tpm2.RCValue, 1), 0, "TDES and Camellia"},
		"a test of AES":           {tpm2.CCIncrementalSelfTest, []byte{0, 0, 0, 1, 0, 6}, param(tpm2.RCValue, 1), 0, ""},
		"a tag of nothing":        {tpm2.CCPolicyTicket, ticket(0x1234), param(tpm2.RCTag, 5), param(tpm2.RCValue, 5), "tag of a ticket"},
		"a tag of attestations":   {tpm2.CCPolicyTicket, ticket(0x8014), param(tpm2.RCTag, 5), param(tpm2.RCValue, 5), ""},
		"a tag, but elsewhere":    {tpm2.CCPolicyTicket, ticket(0x1234), param(tpm2.RCTag, 5), param(tpm2.RCValue, 4), ""},
		"bytes that are lacking":  {tpm2.CCNVDefineSpace, unhex("0000" + early), param(tpm2.RCSize, 2), param(tpm2.RCInsufficient, 2), "structure that ends early"},
		"a size beyond all":       {tpm2.CCNVDefineSpace, unhex("0000" + "7" + early[1:]), param(tpm2.RCSize, 2), param(tpm2.RCInsufficient, 2), "structure that ends early"},
		"a policy of 16 bytes":    {tpm2.CCCreatePrimary, unhex(policy), param(tpm2.RCSize, 2), param(tpm2.RCSymmetric, 2), "size of a policy"},
		"and a wrong parent":      {tpm2.CCCreatePrimary, unhex(policy), param(tpm2.RCSize, 2), tpm2.RCType.Of(tpm2.RCHandle, 1), "size of a policy"},
		"or something else":       {tpm2.CCCreatePrimary, unhex(policy), param(tpm2.RCSize, 2), tpm2.RCType.Of(tpm2.RCHandle, 2), ""},
		"no policy":               {tpm2.CCCreatePrimary, unhex(strings.Replace(policy, "f20010", "f20000", 1)), param(tpm2.RCSize, 2), param(tpm2.RCSymmetric, 2), ""},
		"bytes that are there":    {tpm2.CCNVDefineSpace, unhex("0000" + early), param(tpm2.RCSize, 2), param(tpm2.RCAttributes, 2), ""},
		"a Name of 68 bytes":      {tpm2.CCPolicyTicket, named(68), param(tpm2.RCSize, 4), param(tpm2.RCValue, 5), "size of a Name"},
		"a Name of 69 bytes":      {tpm2.CCPolicyTicket, named(69), param(tpm2.RCSize, 4), param(tpm2.RCValue, 5), ""},
		"a Name that is read":     {tpm2.CCPolicyTicket, named(68), param(tpm2.RCSize, 4), param(tpm2.RCValue, 3), ""},
		"a template's policy":     {tpm2.CCCreateLoaded, template("00080004000600600001000a000c00220000"), param(tpm2.RCSize, 2), param(tpm2.RCValue, 2), "size of a policy"},
		"a template without one":  {tpm2.CCCreateLoaded, template("00080004000600600000000a000c00220000"), param(tpm2.RCSize, 2), param(tpm2.RCValue, 2), ""},
		"a template's attribute":  {tpm2.CCCreateLoaded, template("00080004000602600000e0100000"), param(tpm2.RCValue, 2), param(tpm2.RCReservedBits, 2), "attributes of newer revisions"},
		"an old attribute":        {tpm2.CCCreateLoaded, template("00080004000600600000e0100000"), param(tpm2.RCValue, 2), param(tpm2.RCReservedBits, 2), ""},
		"a time that runs":        {tpm2.CCPolicyCounterTimer, unhex("0004000000a700040002"), tpm2.RCPolicy, 0, "time and clock"},
		"a count of resets":       {tpm2.CCPolicyCounterTimer, unhex("0004000000a700100002"), tpm2.RCPolicy, 0, ""},
		"a policy from outside":   {tpm2.CCLoadExternal, unhex("0000001e0008000b000000400010" + strings.Repeat("11", 16) + "0010000040000007"), param(tpm2.RCSize, 2), 0, "size of a policy"},
		"one that is a digest":    {tpm2.CCLoadExternal, unhex("0000002e0008000b000000400020" + strings.Repeat("11", 32) + "0010000040000007"), param(tpm2.RCSize, 2), 0, ""},
		"SHA3-384 for a MAC":      {tpm2.CCHMAC, unhex("0001aa" + "0028"), param(tpm2.RCValue, 2), param(tpm2.RCSymmetric, 2), "SHA-3"},
		"SM3 for a MAC":           {tpm2.CCHMAC, unhex("0001aa" + "0012"), param(tpm2.RCValue, 2), param(tpm2.RCSymmetric, 2), ""},
		"a certificate of no key": {tpm2.CCCertifyX509, nil, tpm2.RCKey.Of(tpm2.RCHandle, 2), param(tpm2.RCSize, 3), "no key for a certificate"},
		"of no key, elsewhere":    {tpm2.CCCertifyX509, nil, tpm2.RCKey.Of(tpm2.RCHandle, 2), param(tpm2.RCSize, 1), ""},
		"of a key that is none":   {tpm2.CCCertifyX509, []byte{1}, tpm2.RCKey.Of(tpm2.RCHandle, 2), param(tpm2.RCSize, 3), ""},
		"behind a secret point":   {tpm2.CCActivateCredential, unhex("0000" + "0007" + "0001aa0001bb00"), param(tpm2.RCSize, 2), param(tpm2.RCECCPoint, 2), "bytes behind a point"},
		"behind a salt":           {tpm2.CCStartAuthSession, unhex("0000" + "0007" + "0001aa0001bb00" + "00" + "0010" + "000b"), param(tpm2.RCSize, 2), 0, "bytes behind a point"},
		"behind no point":         {tpm2.CCActivateCredential, unhex("0000" + "0006" + "0001aa0001bb"), param(tpm2.RCSize, 2), param(tpm2.RCECCPoint, 2), ""},
		"behind a credential":     {tpm2.CCActivateCredential, unhex("0000" + "0007" + "0001aa0001bb00"), param(tpm2.RCSize, 1), param(tpm2.RCECCPoint, 2), ""},
		"a structure that fits":   {tpm2.CCNVDefineSpace, unhex("0000000e01000007000b000c409a00000008"), param(tpm2.RCSize, 2), param(tpm2.RCInsufficient, 2), ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := observed(t, tc.cc, tc.params, tc.ours, tc.theirs)
			if tc.cc == tpm2.CCCertifyX509 && tc.params == nil {
				binary.BigEndian.PutUint32(o.Request[0][14:], uint32(tpm2.HandleNull))
			}
			got := ""
			for _, d := range differential.Differences() {
				if d.Ended == o.Ended && d.Match(o) {
					got = d.Name
					break
				}
			}
			if got != tc.want {
				t.Errorf("%v, %v is explained by %q, want %q", tc.ours, tc.theirs, got, tc.want)
			}
		})
	}
}
