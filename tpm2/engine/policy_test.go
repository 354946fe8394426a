package engine_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"testing"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// An assertion is one policy command in a session: the handles before the
// session's, whose authValues are empty, and the parameters.
type assertion struct {
	cc     tpm2.CC
	before []tpm2.Handle
	in     wire.Layout
}

// asserts runs an assertion and returns its code.
func (m *machine) asserts(s *session, a assertion) tpm2.RC {
	m.Helper()
	info, _ := command.Lookup(a.cc)
	var auths []auth
	for range info.Auths() {
		auths = append(auths, auth{})
	}
	return m.run(a.cc, append(bytesOf(a.before), s.handle), auths, a.in, nil)
}

func bytesOf(h []tpm2.Handle) []tpm2.Handle { return append([]tpm2.Handle(nil), h...) }

// satisfied starts a policy session in which the assertions hold.
func (m *machine) satisfied(list ...assertion) *session {
	m.Helper()
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	for _, a := range list {
		if rc := m.asserts(s, a); rc != tpm2.RCSuccess {
			m.Fatalf("%s = %v (%#x), want success", commandName(a.cc), rc, uint32(rc))
		}
	}
	return s
}

// policyDigest returns the digest that a session has now.
func (m *machine) policyDigest(s *session) []byte {
	m.Helper()
	var out command.PolicyGetDigestOut
	m.do(tpm2.CCPolicyGetDigest, handles(s.handle), nil, nil, &out)
	return out.PolicyDigest
}

// sum is SHA-256 over parts.
func sum(parts ...[]byte) []byte {
	d := sha256.Sum256(bytes.Join(parts, nil))
	return d[:]
}

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// asserted is the digest of an assertion after another, by the book (Part 1, 19.7.5).
func asserted(old []byte, cc tpm2.CC, parts ...[]byte) []byte {
	return sum(append([][]byte{old, be32(uint32(cc))}, parts...)...)
}

// zeros is the digest of a new SHA-256 session.
func zeros() []byte { return make([]byte, 32) }

const policyIndex tpm2.Handle = 0x01800001

// define defines an NV index that its owner and its empty authValue open.
func (m *machine) define(a tpm2.NVAttributes, size int, policy []byte) {
	m.Helper()
	p := tpm2.NVPublic{NVIndex: policyIndex, NameAlg: tpm2.AlgSHA256, Attributes: a | tpm2.NVOwnerRead | tpm2.NVOwnerWrite, DataSize: uint16(size), AuthPolicy: policy}
	m.do(tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{PublicInfo: p}, nil)
}

// filled defines an NV index and writes it.
func (m *machine) filled(data []byte) {
	m.Helper()
	m.define(tpm2.NVAuthRead, len(data), nil)
	m.do(tpm2.CCNVWrite, handles(tpm2.HandleOwner, policyIndex), password(""), &command.NVWriteIn{Data: data}, nil)
}

// Assertions that hold in a new TPM, with what they add to a policy.
func assertions(t *testing.T) map[string]struct {
	make func(m *machine) (assertion, []byte)
} {
	d := sum([]byte("some digest"))
	type made = struct {
		make func(m *machine) (assertion, []byte)
	}
	simple := func(cc tpm2.CC, in wire.Layout, parts ...[]byte) made {
		return made{func(*machine) (assertion, []byte) { return assertion{cc: cc, in: in}, asserted(zeros(), cc, parts...) }}
	}
	pcrs := tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 9)}}
	selection := mustEncode(t, &pcrs)
	return map[string]made{
		"CommandCode":      simple(tpm2.CCPolicyCommandCode, &command.PolicyCommandCodeIn{Code: tpm2.CCUnseal}, be32(uint32(tpm2.CCUnseal))),
		"PhysicalPresence": simple(tpm2.CCPolicyPhysicalPresence, nil),
		"CpHash":           simple(tpm2.CCPolicyCpHash, &command.PolicyCpHashIn{CpHashA: d}, d),
		"NameHash":         simple(tpm2.CCPolicyNameHash, &command.PolicyNameHashIn{NameHash: d}, d),
		"Template":         simple(tpm2.CCPolicyTemplate, &command.PolicyTemplateIn{TemplateHash: d}, d),
		"Parameters":       simple(tpm2.CCPolicyParameters, &command.PolicyParametersIn{PHash: d}, d),
		"AuthValue":        simple(tpm2.CCPolicyAuthValue, nil),
		"Password": {func(*machine) (assertion, []byte) {
			return assertion{cc: tpm2.CCPolicyPassword}, asserted(zeros(), tpm2.CCPolicyAuthValue)
		}},
		"NvWritten":     simple(tpm2.CCPolicyNvWritten, &command.PolicyNvWrittenIn{WrittenSet: true}, []byte{1}),
		"NvWritten, no": simple(tpm2.CCPolicyNvWritten, &command.PolicyNvWrittenIn{}, []byte{0}),
		"Locality":      simple(tpm2.CCPolicyLocality, &command.PolicyLocalityIn{Locality: 3}, []byte{3}),
		"Locality 40":   simple(tpm2.CCPolicyLocality, &command.PolicyLocalityIn{Locality: 40}, []byte{40}),
		"DuplicationSelect": simple(tpm2.CCPolicyDuplicationSelect,
			&command.PolicyDuplicationSelectIn{ObjectName: d, NewParentName: d[:20]}, d[:20], []byte{0}),
		"DuplicationSelect with object": simple(tpm2.CCPolicyDuplicationSelect,
			&command.PolicyDuplicationSelectIn{ObjectName: d, NewParentName: d[:20], IncludeObject: true}, d, d[:20], []byte{1}),
		"OR":  simple(tpm2.CCPolicyOR, &command.PolicyORIn{PHashList: []tpm2.Digest2B{d, zeros(), d[:20]}}, d, zeros(), d[:20]),
		"PCR": simple(tpm2.CCPolicyPCR, &command.PolicyPCRIn{PCRs: pcrs}, selection, sum(zeros(), zeros())),
		"PCR with digest": simple(tpm2.CCPolicyPCR,
			&command.PolicyPCRIn{PCRs: pcrs, PCRDigest: sum(zeros(), zeros())}, selection, sum(zeros(), zeros())),
		"CounterTimer": simple(tpm2.CCPolicyCounterTimer,
			&command.PolicyCounterTimerIn{OperandB: be32(1), Offset: 16, Operation: tpm2.OpEQ},
			sum(be32(1), be16(16), be16(uint16(tpm2.OpEQ)))),
		"Capability": simple(tpm2.CCPolicyCapability,
			&command.PolicyCapabilityIn{OperandB: []byte("2.0\x00"), Offset: 4, Operation: tpm2.OpEQ, Capability: tpm2.CapTPMProperties, Property: 0x100},
			sum([]byte("2.0\x00"), be16(4), be16(0), be32(6), be32(0x100))),
		"NV": {func(m *machine) (assertion, []byte) {
			m.filled([]byte("abcd"))
			in := &command.PolicyNVIn{OperandB: []byte("c"), Offset: 2, Operation: tpm2.OpUnsignedLE}
			args := sum([]byte("c"), be16(2), be16(uint16(tpm2.OpUnsignedLE)))
			return assertion{tpm2.CCPolicyNV, handles(policyIndex, policyIndex), in}, asserted(zeros(), tpm2.CCPolicyNV, args, m.name(policyIndex))
		}},
		"AuthorizeNV": {func(m *machine) (assertion, []byte) {
			m.filled(append(be16(uint16(tpm2.AlgSHA256)), zeros()...))
			return assertion{tpm2.CCPolicyAuthorizeNV, handles(tpm2.HandleOwner, policyIndex), nil},
				asserted(zeros(), tpm2.CCPolicyAuthorizeNV, m.name(policyIndex))
		}},
		"Secret": {func(m *machine) (assertion, []byte) {
			in := &command.PolicySecretIn{PolicyRef: []byte("ref")}
			return assertion{tpm2.CCPolicySecret, handles(tpm2.HandleOwner), in},
				sum(asserted(zeros(), tpm2.CCPolicySecret, be32(uint32(tpm2.HandleOwner))), []byte("ref"))
		}},
	}
}

func TestAssertionsMakeTheDigestThatPart3Says(t *testing.T) {
	for name, tc := range assertions(t) {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			a, want := tc.make(m)
			for kind, s := range map[string]*session{
				"policy": m.session(sessionConfig{kind: tpm2.SessionPolicy}), "trial": m.session(sessionConfig{kind: tpm2.SessionTrial}),
			} {
				if rc := m.asserts(s, a); rc != tpm2.RCSuccess {
					t.Fatalf("%s in a %s session = %v", commandName(a.cc), kind, rc)
				}
				if got := m.policyDigest(s); !bytes.Equal(got, want) {
					t.Errorf("digest of %s is %x, want %x", kind, got, want)
				}
				m.do(tpm2.CCPolicyRestart, handles(s.handle), nil, nil, nil)
				if got := m.policyDigest(s); !bytes.Equal(got, zeros()) {
					t.Errorf("digest after TPM2_PolicyRestart is %x", got)
				}
			}
		})
	}
}

// go-tpm computes policies on its own.
func TestPoliciesAgreeWithGoTPM(t *testing.T) {
	m := newMachine(t)
	p, err := gotpm.NewPolicyCalculator(gotpm.TPMAlgSHA256)
	if err != nil {
		t.Fatal(err)
	}
	s := m.session(sessionConfig{kind: tpm2.SessionTrial})
	for _, c := range []gotpm.PolicyCommand{
		gotpm.PolicyCommandCode{Code: gotpm.TPMCCNVWrite},
		gotpm.PolicyAuthValue{},
		gotpm.PolicyNVWritten{WrittenSet: true},
		gotpm.PolicyOr{PHashList: gotpm.TPMLDigest{Digests: []gotpm.TPM2BDigest{{Buffer: sum()}, {Buffer: zeros()}}}},
	} {
		if err := c.Update(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []assertion{
		{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCNVWrite}},
		{cc: tpm2.CCPolicyAuthValue},
		{cc: tpm2.CCPolicyNvWritten, in: &command.PolicyNvWrittenIn{WrittenSet: true}},
		{cc: tpm2.CCPolicyOR, in: &command.PolicyORIn{PHashList: []tpm2.Digest2B{sum(), zeros()}}},
	} {
		if rc := m.asserts(s, a); rc != tpm2.RCSuccess {
			t.Fatalf("%s = %v", commandName(a.cc), rc)
		}
	}
	if got, want := m.policyDigest(s), p.Hash().Digest; !bytes.Equal(got, want) {
		t.Errorf("digest is %x, go-tpm computes %x", got, want)
	}
}

// Each assertion is refused where it does not hold, in a session in which the
// ones before hold.
func TestAssertionsThatDoNotHoldAreRefused(t *testing.T) {
	d, other := sum([]byte("digest")), sum([]byte("other"))
	cpHash := assertion{cc: tpm2.CCPolicyCpHash, in: &command.PolicyCpHashIn{CpHashA: d}}
	nameHash := assertion{cc: tpm2.CCPolicyNameHash, in: &command.PolicyNameHashIn{NameHash: d}}
	template := assertion{cc: tpm2.CCPolicyTemplate, in: &command.PolicyTemplateIn{TemplateHash: d}}
	parameters := assertion{cc: tpm2.CCPolicyParameters, in: &command.PolicyParametersIn{PHash: d}}
	commandCode := assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCDuplicate}}
	selects := assertion{cc: tpm2.CCPolicyDuplicationSelect, in: &command.PolicyDuplicationSelectIn{ObjectName: d}}
	written := assertion{cc: tpm2.CCPolicyNvWritten, in: &command.PolicyNvWrittenIn{WrittenSet: true}}
	locality := func(l tpm2.Locality) assertion {
		return assertion{cc: tpm2.CCPolicyLocality, in: &command.PolicyLocalityIn{Locality: l}}
	}
	timer := func(operand []byte, offset uint16, op tpm2.Operation) assertion {
		return assertion{cc: tpm2.CCPolicyCounterTimer, in: &command.PolicyCounterTimerIn{OperandB: operand, Offset: offset, Operation: op}}
	}
	secret := assertion{tpm2.CCPolicySecret, handles(tpm2.HandleOwner), &command.PolicySecretIn{CpHashA: d}}
	for name, tc := range map[string]struct {
		before []assertion
		a      assertion
		want   tpm2.RC
	}{
		"OR without the digest": {nil, assertion{cc: tpm2.CCPolicyOR, in: &command.PolicyORIn{PHashList: []tpm2.Digest2B{d, nil}}}, parameterRC(tpm2.RCValue, 1)},
		"OR of one":             {nil, assertion{cc: tpm2.CCPolicyOR, in: &raw{0, 0, 0, 1, 0, 0}}, parameterRC(tpm2.RCSize, 1)},
		"other PCR values": {nil, assertion{cc: tpm2.CCPolicyPCR, in: &command.PolicyPCRIn{
			PCRDigest: d, PCRs: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(3)}},
		}}, parameterRC(tpm2.RCValue, 1)},
		"no locality":                   {nil, locality(0), parameterRC(tpm2.RCRange, 1)},
		"no locality in common":         {[]assertion{locality(3)}, locality(4), parameterRC(tpm2.RCRange, 1)},
		"extended after ordinary":       {[]assertion{locality(3)}, locality(33), parameterRC(tpm2.RCRange, 1)},
		"ordinary after extended":       {[]assertion{locality(33)}, locality(3), parameterRC(tpm2.RCRange, 1)},
		"another extended locality":     {[]assertion{locality(33)}, locality(35), parameterRC(tpm2.RCRange, 1)},
		"another command":               {[]assertion{commandCode}, assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCUnseal}}, parameterRC(tpm2.RCValue, 1)},
		"unknown command":               {nil, assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: 0x1ff}}, parameterRC(tpm2.RCPolicyCC, 1)},
		"another cpHash":                {[]assertion{cpHash}, assertion{cc: tpm2.CCPolicyCpHash, in: &command.PolicyCpHashIn{CpHashA: other}}, tpm2.RCCPHash},
		"cpHash after nameHash":         {[]assertion{nameHash}, cpHash, tpm2.RCCPHash},
		"short cpHash":                  {[]assertion{nameHash}, assertion{cc: tpm2.CCPolicyCpHash, in: &command.PolicyCpHashIn{CpHashA: d[1:]}}, parameterRC(tpm2.RCSize, 1)},
		"nameHash again":                {[]assertion{nameHash}, nameHash, tpm2.RCCPHash},
		"short nameHash":                {[]assertion{nameHash}, assertion{cc: tpm2.CCPolicyNameHash, in: &command.PolicyNameHashIn{NameHash: d[1:]}}, parameterRC(tpm2.RCSize, 1)},
		"template after cpHash":         {[]assertion{cpHash}, template, tpm2.RCCPHash},
		"short template after cpHash":   {[]assertion{cpHash}, assertion{cc: tpm2.CCPolicyTemplate, in: &command.PolicyTemplateIn{TemplateHash: d[1:]}}, tpm2.RCCPHash},
		"another template":              {[]assertion{template}, assertion{cc: tpm2.CCPolicyTemplate, in: &command.PolicyTemplateIn{TemplateHash: other}}, tpm2.RCCPHash},
		"short template":                {nil, assertion{cc: tpm2.CCPolicyTemplate, in: &command.PolicyTemplateIn{TemplateHash: d[1:]}}, parameterRC(tpm2.RCSize, 1)},
		"parameters again":              {[]assertion{parameters}, parameters, tpm2.RCCPHash},
		"short parameters":              {nil, assertion{cc: tpm2.CCPolicyParameters, in: &command.PolicyParametersIn{PHash: d[1:]}}, parameterRC(tpm2.RCSize, 1)},
		"DuplicationSelect and cpHash":  {[]assertion{cpHash}, selects, tpm2.RCCPHash},
		"DuplicationSelect and command": {[]assertion{commandCode}, selects, tpm2.RCCommandCode},
		"written and not":               {[]assertion{written}, assertion{cc: tpm2.CCPolicyNvWritten, in: &command.PolicyNvWrittenIn{}}, parameterRC(tpm2.RCValue, 1)},
		"clock is not":                  {nil, timer(be32(2), 16, tpm2.OpEQ), tpm2.RCPolicy},
		"behind the clock":              {nil, timer(nil, 26, tpm2.OpEQ), parameterRC(tpm2.RCValue, 2)},
		"over the end of the clock":     {nil, timer(be32(0), 22, tpm2.OpEQ), tpm2.RCRange},
		"unknown operation":             {nil, assertion{cc: tpm2.CCPolicyCounterTimer, in: &raw{0, 1, 0, 0, 0, 0, byte(tpm2.OpBitClear) + 1}}, parameterRC(tpm2.RCValue, 3)},
		"authorized for another cpHash": {[]assertion{{cc: tpm2.CCPolicyCpHash, in: &command.PolicyCpHashIn{CpHashA: other}}}, secret, tpm2.RCCPHash},
		// The values are equal, but what they are hashes of is not.
		"authorized for a cpHash, limited to a nameHash": {[]assertion{nameHash}, secret, tpm2.RCCPHash},
		"authorized for a short cpHash": {nil, assertion{
			tpm2.CCPolicySecret, handles(tpm2.HandleOwner),
			&command.PolicySecretIn{CpHashA: d[1:]},
		}, parameterRC(tpm2.RCSize, 2)},
		"a nonce of another session": {nil, assertion{
			tpm2.CCPolicySecret, handles(tpm2.HandleOwner),
			&command.PolicySecretIn{NonceTPM: d},
		}, parameterRC(tpm2.RCNonce, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			s := m.satisfied(tc.before...)
			digest := m.policyDigest(s)
			if rc := m.asserts(s, tc.a); rc != tc.want {
				t.Errorf("%s = %v (%#x), want %v", commandName(tc.a.cc), rc, uint32(rc), tc.want)
			}
			if got := m.policyDigest(s); !bytes.Equal(got, digest) {
				t.Errorf("a refused %s changed the digest to %x", commandName(tc.a.cc), got)
			}
		})
	}
}

// What may be said twice.
func TestAssertionsMayBeRepeated(t *testing.T) {
	d := sum()
	for _, a := range []assertion{
		{cc: tpm2.CCPolicyCpHash, in: &command.PolicyCpHashIn{CpHashA: d}},
		{cc: tpm2.CCPolicyTemplate, in: &command.PolicyTemplateIn{TemplateHash: d}},
		{cc: tpm2.CCPolicyNvWritten, in: &command.PolicyNvWrittenIn{}},
		{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: tpm2.CCUnseal}},
		{cc: tpm2.CCPolicyLocality, in: &command.PolicyLocalityIn{Locality: 40}},
	} {
		m := newMachine(t)
		m.satisfied(a, a)
	}
}

// The comparisons of Part 2, 6.8, by TPM2_PolicyNV over one octet 0xf0, then of
// the one 0x70.
func TestComparisons(t *testing.T) {
	operands := []byte{0x0f, 0x70, 0xef, 0xf0, 0xf1, 0x00}
	for data, want := range map[byte]map[tpm2.Operation]string{
		0xf0: {
			tpm2.OpEQ: "...=..", tpm2.OpNEQ: "===.==",
			tpm2.OpSignedGT: "..=...", tpm2.OpUnsignedGT: "===..=", tpm2.OpSignedLT: "==..==", tpm2.OpUnsignedLT: "....=.",
			tpm2.OpSignedGE: "..==..", tpm2.OpUnsignedGE: "====.=", tpm2.OpSignedLE: "==.===", tpm2.OpUnsignedLE: "...==.",
			tpm2.OpBitSet: ".=.=.=", tpm2.OpBitClear: "=....=",
		},
		0x70: {tpm2.OpSignedGT: "=.====", tpm2.OpSignedLT: "......", tpm2.OpUnsignedGT: "=....="},
	} {
		m := newMachine(t)
		m.filled([]byte{data})
		for op, pattern := range want {
			for i, b := range operands {
				in := &command.PolicyNVIn{OperandB: []byte{b}, Operation: op}
				s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
				rc, want := m.asserts(s, assertion{tpm2.CCPolicyNV, handles(policyIndex, policyIndex), in}), tpm2.RCPolicy
				if pattern[i] == '=' {
					want = tpm2.RCSuccess
				}
				if rc != want {
					t.Errorf("PolicyNV of %#x, operation %d, operand %#x = %v, want %v", data, op, b, rc, want)
				}
				m.flush(s.handle)
			}
		}
	}
}

func TestPolicyNVReadsWhatMayBeRead(t *testing.T) {
	nv := func(auth tpm2.Handle, offset uint16, operand string) assertion {
		return assertion{tpm2.CCPolicyNV, handles(auth, policyIndex), &command.PolicyNVIn{OperandB: []byte(operand), Offset: offset}}
	}
	lock := func(m *machine) {
		m.define(tpm2.NVAuthRead|tpm2.NVReadSTClear, 4, nil)
		m.do(tpm2.CCNVReadLock, handles(tpm2.HandleOwner, policyIndex), password(""), nil, nil)
	}
	for name, tc := range map[string]struct {
		prepare func(m *machine)
		a       assertion
		want    tpm2.RC
	}{
		"the whole":      {func(m *machine) { m.filled([]byte("abcd")) }, nv(tpm2.HandleOwner, 0, "abcd"), tpm2.RCSuccess},
		"nothing":        {func(m *machine) { m.filled([]byte("abcd")) }, nv(tpm2.HandleOwner, 4, ""), tpm2.RCSuccess},
		"behind the end": {func(m *machine) { m.filled([]byte("abcd")) }, nv(tpm2.HandleOwner, 5, ""), parameterRC(tpm2.RCValue, 2)},
		"over the end":   {func(m *machine) { m.filled([]byte("abcd")) }, nv(tpm2.HandleOwner, 1, "bcd-"), parameterRC(tpm2.RCSize, 1)},
		"other content":  {func(m *machine) { m.filled([]byte("abcd")) }, nv(tpm2.HandleOwner, 1, "bc-"), tpm2.RCPolicy},
		"not written":    {func(m *machine) { m.define(tpm2.NVAuthRead, 4, nil) }, nv(tpm2.HandleOwner, 0, ""), tpm2.RCNVUninitialized},
		"locked":         {lock, nv(tpm2.HandleOwner, 0, ""), tpm2.RCNVLocked},
		"not for the platform": {
			func(m *machine) { m.filled([]byte("abcd")) }, nv(tpm2.HandlePlatform, 0, ""), tpm2.RCNVAuthorization,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			tc.prepare(m)
			if rc := m.asserts(m.satisfied(), tc.a); rc != tc.want {
				t.Errorf("PolicyNV = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
			approved := tc.a
			approved.cc, approved.in = tpm2.CCPolicyAuthorizeNV, nil
			if rc := m.asserts(m.satisfied(), approved); tc.want.Base() == tc.want && tc.want != tpm2.RCPolicy && tc.want != tpm2.RCSuccess && rc != tc.want {
				t.Errorf("PolicyAuthorizeNV = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
}

func TestPolicyAuthorizeNVWantsTheApprovedPolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		data []byte
		want tpm2.RC
	}{
		"this policy":      {append(be16(uint16(tpm2.AlgSHA256)), append(zeros(), "and more"...)...), tpm2.RCSuccess},
		"another policy":   {append(be16(uint16(tpm2.AlgSHA256)), sum()...), tpm2.RCValue},
		"another hash":     {append(be16(uint16(tpm2.AlgSHA3x256)), zeros()...), tpm2.RCHash},
		"no hash":          {be16(uint16(tpm2.AlgNull)), tpm2.RCHash},
		"not an algorithm": {be16(0xffff), tpm2.RCHash},
		"cut off":          {append(be16(uint16(tpm2.AlgSHA256)), zeros()[1:]...), tpm2.RCInsufficient},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.filled(tc.data)
			rc := m.asserts(m.satisfied(), assertion{tpm2.CCPolicyAuthorizeNV, handles(policyIndex, policyIndex), nil})
			if rc != tc.want {
				t.Errorf("PolicyAuthorizeNV = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
}

func TestPolicyCapability(t *testing.T) {
	ask := func(kind tpm2.Capability, property uint32, op tpm2.Operation, offset uint16, operand ...byte) *command.PolicyCapabilityIn {
		return &command.PolicyCapabilityIn{OperandB: operand, Offset: offset, Operation: op, Capability: kind, Property: property}
	}
	for name, tc := range map[string]struct {
		in   *command.PolicyCapabilityIn
		want tpm2.RC
	}{
		"algorithm":             {ask(tpm2.CapAlgs, 0x0b, tpm2.OpEQ, 0, 0, 0x0b, 0, 0, 0, 4), tpm2.RCSuccess},
		"algorithm, cut off":    {ask(tpm2.CapAlgs, 0x1000b, tpm2.OpEQ, 0, 0, 0x0b), tpm2.RCSuccess}, // as the reference casts
		"no algorithm":          {ask(tpm2.CapAlgs, 0x12, tpm2.OpEQ, 0, 0, 0x12), tpm2.RCPolicy},
		"is not an algorithm":   {ask(tpm2.CapAlgs, 0x12, tpm2.OpNEQ, 0), tpm2.RCSuccess},
		"PCR":                   {ask(tpm2.CapHandles, 9, tpm2.OpEQ, 3, 9), tpm2.RCSuccess},
		"no PCR":                {ask(tpm2.CapHandles, 24, tpm2.OpEQ, 3, 24), tpm2.RCPolicy},
		"owner":                 {ask(tpm2.CapHandles, uint32(tpm2.HandleOwner), tpm2.OpEQ, 0, 0x40), tpm2.RCSuccess},
		"this session":          {ask(tpm2.CapHandles, 0x02000000, tpm2.OpEQ, 0, 2, 0, 0, 0), tpm2.RCSuccess},
		"no such session":       {ask(tpm2.CapHandles, 0x02000001, tpm2.OpEQ, 0, 2), tpm2.RCPolicy},
		"no saved session":      {ask(tpm2.CapHandles, 0x03000000, tpm2.OpEQ, 0, 3), tpm2.RCPolicy},
		"no object":             {ask(tpm2.CapHandles, 0x80000000, tpm2.OpNEQ, 0), tpm2.RCSuccess},
		"kind of handle":        {ask(tpm2.CapHandles, 0x90000000, tpm2.OpEQ, 0), parameterRC(tpm2.RCHandleValue, 5)},
		"command":               {ask(tpm2.CapCommands, uint32(tpm2.CCUnseal), tpm2.OpEQ, 2, 1, 0x5e), tpm2.RCSuccess},
		"no presence needed":    {ask(tpm2.CapPPCommands, uint32(tpm2.CCClear), tpm2.OpEQ, 0), tpm2.RCPolicy},
		"presence needed":       {ask(tpm2.CapPPCommands, uint32(tpm2.CCPPCommands), tpm2.OpEQ, 2, 1, 0x2d), tpm2.RCSuccess},
		"audited":               {ask(tpm2.CapAuditCommands, uint32(tpm2.CCSetCommandCodeAuditStatus), tpm2.OpEQ, 2, 1, 0x40), tpm2.RCSuccess},
		"banks":                 {ask(tpm2.CapPCRs, 0, tpm2.OpNEQ, 0), parameterRC(tpm2.RCValue, 4)},
		"property":              {ask(tpm2.CapTPMProperties, 0x200, tpm2.OpBitSet, 4, 0, 0, 0, 0), tpm2.RCSuccess},
		"no property":           {ask(tpm2.CapTPMProperties, 0x1ff, tpm2.OpEQ, 4), tpm2.RCPolicy},
		"PCR property":          {ask(tpm2.CapPCRProperties, 0, tpm2.OpEQ, 5, 0xff, 0xff), tpm2.RCSuccess},
		"curve":                 {ask(tpm2.CapECCCurves, 3, tpm2.OpEQ, 0, 0, 3), tpm2.RCSuccess},
		"policy":                {ask(tpm2.CapAuthPolicies, uint32(tpm2.HandleOwner), tpm2.OpEQ, 4, 0, 0x10), tpm2.RCSuccess},
		"policy of no hierachy": {ask(tpm2.CapAuthPolicies, 7, tpm2.OpEQ, 4), parameterRC(tpm2.RCValue, 5)},
		"no timer":              {ask(tpm2.CapACT, uint32(tpm2.HandleACT0), tpm2.OpNEQ, 0), tpm2.RCSuccess},
		"unknown":               {ask(tpm2.CapVendorProperty, 0, tpm2.OpNEQ, 0), parameterRC(tpm2.RCValue, 4)},
		"behind the end":        {ask(tpm2.CapECCCurves, 3, tpm2.OpEQ, 3), parameterRC(tpm2.RCValue, 2)},
		"over the end":          {ask(tpm2.CapECCCurves, 3, tpm2.OpEQ, 1, 3, 3), parameterRC(tpm2.RCSize, 1)},
		"is otherwise":          {ask(tpm2.CapECCCurves, 3, tpm2.OpEQ, 1, 4), tpm2.RCPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			rc := m.asserts(m.satisfied(), assertion{cc: tpm2.CCPolicyCapability, in: tc.in})
			if rc != tc.want {
				t.Errorf("PolicyCapability = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
}
