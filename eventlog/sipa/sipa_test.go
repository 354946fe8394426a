package sipa

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/evidence"
)

// tag makes the bytes of one tag from its parts.
func tag(id ID, parts ...[]byte) []byte {
	value := slices.Concat(parts...)
	b := binary.LittleEndian.AppendUint32(nil, uint32(id))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

func wide(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func u64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// pair makes the two events of a boot application that measures body into both registers.
func pair(body ...[]byte) []Measured {
	data := tag(TrustBoundary, body...)
	return []Measured{{12, 20, data}, {13, 21, data}}
}

func one(pcr int, body ...[]byte) []Measured {
	return []Measured{{pcr, 20, tag(TrustBoundary, body...)}}
}

var (
	on  = []byte{1}
	off = []byte{0}
)

func modulePair(fields ...[]byte) []Measured {
	digest := tag(AuthenticodeHash, make([]byte, 32))
	return []Measured{
		{12, 20, tag(TrustBoundary, tag(LoadedModuleAggregation, digest))},
		{13, 21, tag(TrustBoundary, tag(LoadedModuleAggregation, append(fields, digest)...))},
	}
}

// drtm moves events of PCR 12 and 13 into 19 and 20.
func drtm(ms []Measured) []Measured {
	for i := range ms {
		ms[i].PCR += 7
	}
	return ms
}

func TestEveryOccurrenceMustAgree(t *testing.T) {
	debug := func(v []byte) []byte { return tag(BootDebugging, v) }
	for name, tc := range map[string]struct {
		in    []Measured
		claim string
		want  evidence.Claim
	}{
		"off in both":                 {pair(debug(off)), "bootDebugging", evidence.Claim{Value: evidence.Bool(false), PCRs: []int{12, 13}}},
		"on in both":                  {pair(debug(on)), "bootDebugging", evidence.Claim{Value: evidence.Bool(true), PCRs: []int{12, 13}}},
		"after a dynamic launch":      {[]Measured{{19, 1, tag(TrustBoundary, debug(off))}, {20, 2, tag(TrustBoundary, debug(off))}}, "bootDebugging", evidence.Claim{Reason: codeOpen, PCRs: []int{19, 20}}},
		"SRTM and DRTM agree":         {slices.Concat(pair(debug(off)), one(19, debug(off)), one(20, debug(off))), "bootDebugging", evidence.Claim{Value: evidence.Bool(false), PCRs: []int{12, 13}}},
		"policy of the DRTM alone":    {one(20, tag(SIPolicy, make([]byte, 20))), "codeIntegrityPolicy", evidence.Claim{Reason: codeOpen, PCRs: []int{20}}},
		"SMM level of PCR 20":         {[]Measured{{20, 1, tag(DRTMSMMLevel, on)}}, "smmLevel", evidence.Claim{Reason: codeOpen, PCRs: []int{20}}},
		"key name in PCR 19 and 20":   {slices.Concat(one(19, tag(ELAMAggregation, tag(ELAMKeyName, wide("Other AV")))), one(20, tag(ELAMAggregation, tag(ELAMKeyName, wide("Other AV"))))), "elam", evidence.Claim{Reason: codeNotMeasured}},
		"driver in PCR 19 and 20":     {drtm(modulePair(tag(AuthorityPublisher, wide(elamPublisher)), tag(ImageValidated, on))), "elam", evidence.Claim{Reason: codeNotMeasured}},
		"driver in PCR 12 and 13":     {modulePair(tag(AuthorityPublisher, wide(elamPublisher)), tag(ImageValidated, on)), "elam", evidence.Claim{Value: evidence.Bool(true), PCRs: []int{13}}},
		"modules in PCR 19 and 20":    {drtm(modulePair(tag(ImageValidated, on))), "kernelModulesValidated", evidence.Claim{Reason: codeNotMeasured}},
		"nothing":                     {nil, "bootDebugging", evidence.Claim{Reason: codeNotMeasured}},
		"other facts only":            {pair(tag(WinPE, off)), "bootDebugging", evidence.Claim{Reason: codeNotMeasured}},
		"on, later off":               {slices.Concat(pair(debug(on)), pair(debug(off))), "bootDebugging", evidence.Claim{Reason: codeDisagree, PCRs: []int{12, 13}}},
		"twice in one event":          {pair(debug(off), debug(on)), "bootDebugging", evidence.Claim{Reason: codeDisagree, PCRs: []int{12, 13}}},
		"registers differ":            {slices.Concat(one(12, debug(on)), one(13, debug(off))), "bootDebugging", evidence.Claim{Reason: codeDisagree, PCRs: []int{12, 13}}},
		"PCR 12 alone":                {one(12, debug(off)), "bootDebugging", evidence.Claim{Reason: codeHalf, PCRs: []int{12}}},
		"PCR 13 alone":                {one(13, debug(off)), "bootDebugging", evidence.Claim{Reason: codeHalf, PCRs: []int{13}}},
		"PCR 13 says other things":    {slices.Concat(one(12, debug(off)), one(13, tag(WinPE, off))), "bootDebugging", evidence.Claim{Reason: codeDisagree, PCRs: []int{12}}},
		"in another register":         {slices.Concat(pair(debug(off)), one(11, debug(off))), "bootDebugging", evidence.Claim{Reason: codeDisagree, PCRs: []int{11, 12, 13}}},
		"SRTM and DRTM differ":        {slices.Concat(pair(debug(off)), one(19, debug(on)), one(20, debug(on))), "bootDebugging", evidence.Claim{Reason: codeDisagree, PCRs: []int{12, 13, 19, 20}}},
		"inside a module":             {pair(debug(off), tag(KSRAggregation, debug(on))), "bootDebugging", evidence.Claim{Reason: codeDisagree, PCRs: []int{12, 13}}},
		"neither 0 nor 1":             {pair(debug([]byte{2})), "bootDebugging", evidence.Claim{Reason: codeValue, PCRs: []int{12, 13}}},
		"no number":                   {pair(debug([]byte{0, 0, 0})), "bootDebugging", evidence.Claim{Reason: codeValue, PCRs: []int{12, 13}}},
		"marked unmeasured":           {pair(tag(BootDebugging|flagUnmeasured, off)), "bootDebugging", evidence.Claim{Reason: codeNotMeasured}},
		"absent is not false":         {pair(debug(off)), "safeMode", evidence.Claim{Reason: codeNotMeasured}},
		"absent after a resume":       {slices.Concat(one(12, tag(TransferControl, []byte{2, 0, 0, 0}))), "safeMode", evidence.Claim{Reason: codeResumed}},
		"counter in PCR 13":           {pair(tag(BootCounter, u64(7))), "bootCounter", evidence.Claim{Reason: codeDisagree, PCRs: []int{12, 13}}},
		"hand-over to nothing known":  {one(12, tag(TransferControl, []byte{9, 0, 0, 0})), "resumedFromHibernation", evidence.Claim{Reason: codeValue, PCRs: []int{12}}},
		"VBS asked, not launched":     {pair(tag(VBSVSMRequired, on), tag(VSMLaunchType, u64(0))), "vbs", evidence.Claim{Value: evidence.Bool(false), PCRs: []int{12, 13}}},
		"VBS launched, not asked":     {pair(tag(VSMLaunchType, u64(1))), "vbs", evidence.Claim{Reason: codeNotMeasured}},
		"VBS launched, asked not":     {pair(tag(VSMLaunchType, u64(1)), tag(VBSVSMRequired, off)), "vbs", evidence.Claim{Value: evidence.Bool(false), PCRs: []int{12, 13}}},
		"VBS mandatory":               {pair(tag(VSMLaunchType, u64(1)), tag(VBSMandatoryEnforcement, on)), "vbs", evidence.Claim{Value: evidence.Bool(true), PCRs: []int{12, 13}}},
		"VBS asked in two ways":       {pair(tag(VSMLaunchType, u64(1)), tag(VBSVSMRequired, off), tag(VBSMandatoryEnforcement, on)), "vbsRequired", evidence.Claim{Value: evidence.Bool(true), PCRs: []int{12, 13}}},
		"VBS contradiction":           {slices.Concat(pair(tag(VBSVSMRequired, off)), pair(tag(VBSVSMRequired, on))), "vbsRequired", evidence.Claim{Reason: codeDisagree, PCRs: []int{12, 13}}},
		"HVCI policy in 4 bytes":      {pair(tag(VBSHVCIPolicy, []byte{1, 0, 0, 0})), "hvci", evidence.Claim{Value: evidence.Bool(true), PCRs: []int{12, 13}}},
		"DEP 0 is not off":            {pair(tag(DataExecutionPrevention, u64(0))), "dep", evidence.Claim{Value: evidence.Text("optIn"), PCRs: []int{12, 13}}},
		"DEP off":                     {pair(tag(DataExecutionPrevention, u64(2))), "dep", evidence.Claim{Value: evidence.Text("alwaysOff"), PCRs: []int{12, 13}}},
		"unlocked by TPM and PIN":     {slices.Concat(pair(tag(BitlockerUnlock, off)), pair(tag(BitlockerUnlock, []byte{0x14})), pair(tag(BitlockerUnlock, on))), "bitlockerUnlock", evidence.Claim{Value: evidence.Text("tpm+pin"), PCRs: []int{12, 13}}},
		"revocation list cut short":   {one(13, tag(BootRevocationList, make([]byte, 13))), "bootRevocationList", evidence.Claim{Reason: codeValue, PCRs: []int{13}}},
		"policy's lengths do not add": {one(13, tag(SIPolicy, make([]byte, 20))), "codeIntegrityPolicy", evidence.Claim{Reason: codeValue, PCRs: []int{13}}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Appraise(tc.in).Claims[tc.claim], cmp.AllowUnexported(evidence.Value{})); diff != "" {
				t.Errorf("claim %s (-want +got):\n%s", tc.claim, diff)
			}
		})
	}
}

func TestOneUnreadableEventMakesAllUnknown(t *testing.T) {
	good := pair(tag(TestSigning, off))
	deep := tag(TestSigning, off)
	for range maxDepth {
		deep = tag(ELAMAggregation, deep)
	}
	many := slices.Repeat(tag(WinPE, nil), maxTags)
	for name, tc := range map[string]struct {
		data []byte
		want evidence.Code
	}{
		"too long":            {append(tag(TrustBoundary, tag(WinPE, off)), 0), codeMalformed},
		"empty":               {nil, codeMalformed},
		"nested 5 deep":       {tag(TrustBoundary, deep), codeNesting},
		"too many tags":       {tag(TrustBoundary, many), codeTooMany},
		"scalar outermost":    {tag(TestSigning, off), codeUnexpected},
		"authority outside":   {tag(AuthorityPublicKey, on), codeUnexpected},
		"DRTM fact in SRTM":   {tag(DRTMSMMLevel, on), codeUnexpected},
		"module field twice":  {tag(TrustBoundary, tag(LoadedModuleAggregation, tag(ImageValidated, on), tag(ImageValidated, off), tag(AuthenticodeHash, on))), codeMalformed},
		"module of 65 fields": {tag(TrustBoundary, tag(LoadedModuleAggregation, moduleFields(maxModuleFields+1)...)), codeMalformed},
		"module undigested":   {tag(TrustBoundary, tag(LoadedModuleAggregation, tag(ImageValidated, on))), codeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			r := Appraise(append(slices.Clone(good), Measured{13, 30, tc.data}))
			if len(r.Problems) != 1 || r.Problems[0].Code != tc.want || r.Problems[0].Event != 30 {
				t.Errorf("problems %v, want one %s at event 30", r.Problems, tc.want)
			}
			if c := r.Claims["testSigning"]; c.Value.Known() || c.Reason != tc.want {
				t.Errorf("testSigning = %+v, want unknown for %s", c, tc.want)
			}
		})
	}
}

func moduleFields(n int) [][]byte {
	fields := [][]byte{tag(AuthenticodeHash, on)}
	for i := len(fields); i < n; i++ {
		fields = append(fields, tag(ID(0x00070100+i)))
	}
	return fields
}

func TestAuthorityKeysStandOutsideContainersInPCR14(t *testing.T) {
	r := Appraise(append(pair(tag(TestSigning, off)), Measured{14, 30, tag(AuthorityPublicKey, on)}))
	if len(r.Problems) != 0 || !r.Claims["testSigning"].Value.IsFalse() {
		t.Errorf("problems %v, testSigning %v; want none, false", r.Problems, r.Claims["testSigning"])
	}
}

func TestModulesAreBelievedWhenBothRegistersListThem(t *testing.T) {
	path := tag(FilePath, wide(`\WINDOWS\system32\drivers\wd\WdBoot.sys`))
	otherPath := tag(FilePath, wide(`\evil\wdboot.sys`))
	key := tag(ELAMAggregation, tag(ELAMAggregation, tag(ELAMKeyName, wide("Windows Defender"))))
	thirdParty := tag(ELAMAggregation, tag(ELAMKeyName, wide("Contoso")))
	for name, tc := range map[string]struct {
		in              []Measured
		validated, elam string
		why             evidence.Code
	}{
		"Defender":                    {modulePair(path, tag(ImageValidated, on)), "true", "WdBoot.sys", ""},
		"Defender, not validated":     {modulePair(path, tag(ImageValidated, off)), "false", "unknown", codeNotValidated},
		"Defender, not said":          {modulePair(path), "unknown", "unknown", codeNotValidated},
		"Defender's name elsewhere":   {modulePair(otherPath, tag(ImageValidated, on)), "true", "unknown", codeNotMeasured},
		"Defender in PCR 13 alone":    {modulePair(path, tag(ImageValidated, on))[1:], "unknown", "unknown", codeNotValidated},
		"Defender's key alone":        {one(12, key), "unknown", "unknown", codeNotMeasured},
		"another product's key":       {one(12, thirdParty), "unknown", "Contoso", ""},
		"a module of PCR 12 is extra": {slices.Concat(modulePair(tag(ImageValidated, on)), modulePair()[:1]), "unknown", "unknown", codeNotMeasured},
	} {
		t.Run(name, func(t *testing.T) {
			r := Appraise(tc.in)
			if got := r.Claims["kernelModulesValidated"].Value.String(); got != tc.validated {
				t.Errorf("kernelModulesValidated = %s, want %s", got, tc.validated)
			}
			got := r.Claims["elamDriver"]
			if got.Value.String() != tc.elam || got.Reason != tc.why {
				t.Errorf("elamDriver = %+v, want %s %s", got, tc.elam, tc.why)
			}
			if r.Claims["elam"].Value.Known() != (tc.why == "") || r.Claims["elam"].Value.IsFalse() {
				t.Errorf("elam = %+v with elamDriver %s", r.Claims["elam"], tc.elam)
			}
		})
	}
}

func TestParseRefusesEveryProperPrefix(t *testing.T) {
	whole := tag(TrustBoundary, tag(BootCounter, u64(1)), tag(LoadedModuleAggregation, tag(FilePath, wide("x"))))
	if _, err := Parse(whole); err != nil {
		t.Fatalf("Parse(whole) = %v", err)
	}
	for n := range whole {
		if _, err := Parse(whole[:n]); !errors.Is(err, ErrShort) {
			t.Errorf("Parse(%d of %d bytes) = %v, want %v", n, len(whole), err, ErrShort)
		}
	}
	if _, err := Parse(append(whole, 0)); !errors.Is(err, ErrShort) {
		t.Errorf("Parse(one byte more) = %v, want %v", err, ErrShort)
	}
	huge := binary.LittleEndian.AppendUint32(tag(TrustBoundary)[:4], 0xFFFFFFFF)
	if _, err := Parse(huge); !errors.Is(err, ErrShort) {
		t.Errorf("Parse(length of 4 GiB) = %v, want %v", err, ErrShort)
	}
}

func TestClaimNamesAreSortedAndAllAppraised(t *testing.T) {
	names := ClaimNames()
	if !slices.IsSortedFunc(names, func(a, b ClaimName) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("ClaimNames is not sorted")
	}
	claims := Appraise(nil).Claims
	if len(claims) != len(names) {
		t.Errorf("Appraise(nil) makes %d claims, ClaimNames lists %d", len(claims), len(names))
	}
	for _, n := range names {
		if c := claims[n.Name]; c.Value.Known() || c.Reason != codeNotMeasured {
			t.Errorf("Appraise(nil): claim %s = %+v, want unknown for %s", n.Name, c, codeNotMeasured)
		}
	}
}

func TestCodesAreExplained(t *testing.T) {
	for _, code := range []evidence.Code{
		codeNotMeasured, codeDisagree, codeOpen, codeHalf, codeMalformed, codeNesting, codeTooMany, codeUnexpected,
		codeValue, codeResumed, codeNotValidated, codeChain,
	} {
		if !slices.ContainsFunc(evidence.Codes(), func(i evidence.CodeInfo) bool { return i.Code == code }) {
			t.Errorf("code %s is not in the table of package evidence", code)
		}
	}
}

// encode writes tags back, to compare with what they were read from.
func encode(tags []Tag) []byte {
	var out []byte
	for _, t := range tags {
		value := t.Value
		if t.ID.Aggregation() {
			value = encode(t.Members)
		}
		out = append(out, tag(t.ID, value)...)
	}
	return out
}

func FuzzParse(f *testing.F) {
	f.Add(tag(TrustBoundary, tag(BootCounter, u64(1)), tag(SIPolicy, make([]byte, 48))))
	f.Add(modulePair(tag(FilePath, wide("x")), tag(ImageValidated, on))[1].Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		tags, err := Parse(data)
		if err == nil && !slices.Equal(encode(tags), data) {
			t.Errorf("Parse(%x) encodes to %x", data, encode(tags))
		}
		r := Appraise([]Measured{{12, 0, data}, {13, 1, data}})
		if len(r.Claims) != len(ClaimNames()) {
			t.Errorf("Appraise makes %d claims, want %d", len(r.Claims), len(ClaimNames()))
		}
		for name, c := range r.Claims {
			if c.Value.Known() == (c.Reason != "") {
				t.Errorf("claim %s is %+v: want a value or a reason", name, c)
			}
		}
	})
}

// BenchmarkHostileEvents appraises about 1 MiB of events made to be slow: as many
// drivers that look like early-launch ones as the limits let through.
func BenchmarkHostileEvents(b *testing.B) {
	module := tag(LoadedModuleAggregation, tag(AuthorityPublisher, wide(elamPublisher)), tag(ImageValidated, on), tag(AuthenticodeHash, make([]byte, 32)))
	event := tag(TrustBoundary, slices.Repeat(module, 64<<10/len(module)))
	ms := slices.Repeat([]Measured{{12, 1, event}, {13, 2, event}}, 8)
	for b.Loop() {
		Appraise(ms)
	}
	b.SetBytes(int64(len(ms) * len(event)))
}
