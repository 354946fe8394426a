package engine_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

const (
	anIndex = tpm2.Handle(0x01000010)
	anOther = tpm2.Handle(0x01000011)

	byOwner = tpm2.NVOwnerRead | tpm2.NVOwnerWrite
	byAuth  = tpm2.NVAuthRead | tpm2.NVAuthWrite | tpm2.NVNoDA
)

// index returns the public area of an index of 8 bytes.
func index(a tpm2.NVAttributes) tpm2.NVPublic {
	return tpm2.NVPublic{NVIndex: anIndex, NameAlg: tpm2.AlgSHA256, Attributes: a, DataSize: 8}
}

// defineIndex defines an index with the authValue "pin", by the hierarchy that its attributes say.
func (m *machine) defineNV(p tpm2.NVPublic) {
	m.Helper()
	by := tpm2.HandleOwner
	if p.Attributes.Has(tpm2.NVPlatformCreate) {
		by = tpm2.HandlePlatform
	}
	m.do(tpm2.CCNVDefineSpace, handles(by), password(""), &command.NVDefineSpaceIn{Auth: []byte("pin"), PublicInfo: p}, nil)
}

// nvCommand runs a command on anIndex by an authorization whose value is right.
func (m *machine) nvCommand(cc tpm2.CC, by tpm2.Handle, in wire.Layout) tpm2.RC {
	m.Helper()
	auth := ""
	if by == anIndex || by == anOther {
		auth = "pin"
	}
	return m.run(cc, handles(by, anIndex), password(auth), in, nil)
}

func (m *machine) nvDo(cc tpm2.CC, by tpm2.Handle, in wire.Layout) {
	m.Helper()
	if rc := m.nvCommand(cc, by, in); rc != tpm2.RCSuccess {
		m.Fatalf("%s = %v (%#x), want success", commandName(cc), rc, uint32(rc))
	}
}

// content is what the owner reads, nil when it cannot.
func (m *machine) content(size uint16) []byte {
	m.Helper()
	var out command.NVReadOut
	if m.run(tpm2.CCNVRead, handles(tpm2.HandleOwner, anIndex), password(""), &command.NVReadIn{Size: size}, &out) != tpm2.RCSuccess {
		return nil
	}
	return out.Data
}

func (m *machine) nvAttributes() tpm2.NVAttributes {
	m.Helper()
	var out command.NVReadPublicOut
	m.do(tpm2.CCNVReadPublic, handles(anIndex), nil, nil, &out)
	return out.NVPublic.Attributes
}

func TestIndicesThatCannotBeAreRefused(t *testing.T) {
	p2 := func(rc tpm2.RC) tpm2.RC { return parameterRC(rc, 2) }
	pinFail := byOwner | tpm2.NVPinFail.Attributes() | tpm2.NVNoDA
	with := func(p tpm2.NVPublic, change func(*tpm2.NVPublic)) tpm2.NVPublic { change(&p); return p }
	size := func(a tpm2.NVAttributes, n uint16) tpm2.NVPublic {
		return with(index(a), func(p *tpm2.NVPublic) { p.DataSize = n })
	}
	for name, tc := range map[string]struct {
		by     tpm2.Handle
		auth   int
		public tpm2.NVPublic
		want   tpm2.RC
	}{
		"policy of another size":        {tpm2.HandleOwner, 0, with(index(byOwner), func(p *tpm2.NVPublic) { p.AuthPolicy = make([]byte, 20) }), p2(tpm2.RCSize)},
		"authValue that is too long":    {tpm2.HandleOwner, 33, index(byOwner), parameterRC(tpm2.RCSize, 1)},
		"counter of 7 bytes":            {tpm2.HandleOwner, 0, size(byOwner|tpm2.NVCounter.Attributes(), 7), p2(tpm2.RCSize)},
		"bits of 9 bytes":               {tpm2.HandleOwner, 0, size(byOwner|tpm2.NVBits.Attributes(), 9), p2(tpm2.RCSize)},
		"extend of another hash":        {tpm2.HandleOwner, 0, size(byOwner|tpm2.NVExtend.Attributes(), 20), p2(tpm2.RCSize)},
		"PIN fail of 4 bytes":           {tpm2.HandleOwner, 0, size(pinFail, 4), p2(tpm2.RCSize)},
		"PIN pass of 4 bytes":           {tpm2.HandleOwner, 0, size(byOwner|tpm2.NVPinPass.Attributes(), 4), p2(tpm2.RCSize)},
		"unknown type":                  {tpm2.HandleOwner, 0, index(byOwner | tpm2.NVType(3).Attributes()), p2(tpm2.RCAttributes)},
		"written":                       {tpm2.HandleOwner, 0, index(byOwner | tpm2.NVWritten), p2(tpm2.RCAttributes)},
		"read locked":                   {tpm2.HandleOwner, 0, index(byOwner | tpm2.NVReadLocked), p2(tpm2.RCAttributes)},
		"write locked":                  {tpm2.HandleOwner, 0, index(byOwner | tpm2.NVWriteLocked), p2(tpm2.RCAttributes)},
		"nobody may read":               {tpm2.HandleOwner, 0, index(tpm2.NVOwnerWrite), p2(tpm2.RCAttributes)},
		"nobody may write":              {tpm2.HandleOwner, 0, index(tpm2.NVOwnerRead), p2(tpm2.RCAttributes)},
		"cleared and locked for ever":   {tpm2.HandleOwner, 0, index(byOwner | tpm2.NVClearSTClear | tpm2.NVWriteDefine), p2(tpm2.RCAttributes)},
		"counter that is cleared":       {tpm2.HandleOwner, 0, index(byOwner | tpm2.NVCounter.Attributes() | tpm2.NVClearSTClear), p2(tpm2.RCAttributes)},
		"PIN fail that locks out":       {tpm2.HandleOwner, 0, index(pinFail &^ tpm2.NVNoDA), p2(tpm2.RCAttributes)},
		"PIN that its authValue writes": {tpm2.HandleOwner, 0, index(pinFail | tpm2.NVAuthWrite), p2(tpm2.RCAttributes)},
		"PIN that all locks lock":       {tpm2.HandleOwner, 0, index(pinFail | tpm2.NVGlobalLock), p2(tpm2.RCAttributes)},
		"PIN that is locked for ever":   {tpm2.HandleOwner, 0, index(pinFail | tpm2.NVWriteDefine), p2(tpm2.RCAttributes)},
		"platform's, by the owner":      {tpm2.HandleOwner, 0, index(byOwner | tpm2.NVPlatformCreate), handleRC(tpm2.RCAttributes, 1)},
		"owner's, by the platform":      {tpm2.HandlePlatform, 0, index(byOwner), handleRC(tpm2.RCAttributes, 1)},
		"owner's, deleted by policy":    {tpm2.HandleOwner, 0, index(byOwner | tpm2.NVPolicyDelete), p2(tpm2.RCAttributes)},
		"write-all of 1025 bytes":       {tpm2.HandleOwner, 0, size(byOwner|tpm2.NVWriteAll, 1025), p2(tpm2.RCSize)},
		"defined":                       {tpm2.HandleOwner, 0, with(index(byOwner), func(p *tpm2.NVPublic) { p.NVIndex = anOther }), tpm2.RCNVDefined},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.defineNV(with(index(byOwner), func(p *tpm2.NVPublic) { p.NVIndex = anOther }))
			in := &command.NVDefineSpaceIn{Auth: bytes.Repeat([]byte{1}, tc.auth), PublicInfo: tc.public}
			m.fails(tc.want, tpm2.CCNVDefineSpace, handles(tc.by), password(""), in)
			in2 := &command.NVDefineSpace2In{Auth: in.Auth, PublicInfo: tpm2.NVPublic2{HandleType: tpm2.KindNVIndex, Public: tc.public}}
			m.fails(tc.want, tpm2.CCNVDefineSpace2, handles(tc.by), password(""), in2)
		})
	}
}

func TestOfAllKindsOfNVThereIsTheOrdinaryOne(t *testing.T) {
	m := newMachine(t)
	in := &command.NVDefineSpace2In{PublicInfo: tpm2.NVPublic2{HandleType: tpm2.KindNVIndex, Public: index(byOwner)}}
	m.do(tpm2.CCNVDefineSpace2, handles(tpm2.HandleOwner), password(""), in, nil)
	var out command.NVReadPublic2Out
	m.do(tpm2.CCNVReadPublic2, handles(anIndex), nil, nil, &out)
	if out.NVPublic.HandleType != tpm2.KindNVIndex || out.NVPublic.Public.Attributes != byOwner || !bytes.Equal(out.NVName, m.name(anIndex)) {
		t.Errorf("NV_ReadPublic2 = %+v", out)
	}
	in.PublicInfo = tpm2.NVPublic2{HandleType: tpm2.KindExternalNV, External: tpm2.NVPublicExp{NVIndex: 0x11000000, NameAlg: tpm2.AlgSHA256}}
	m.fails(parameterRC(tpm2.RCHandleValue, 2), tpm2.CCNVDefineSpace2, handles(tpm2.HandleOwner), password(""), in)
}

func TestNVSpaceEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		size uint16
		n    int
	}{
		"bytes":   {2048, 32},
		"indices": {1, 64},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			p := index(byOwner)
			p.DataSize = tc.size
			for range tc.n {
				m.defineNV(p)
				p.NVIndex++
			}
			m.fails(tpm2.RCNVSpace, tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{PublicInfo: p})
			m.do(tpm2.CCNVUndefineSpace, handles(tpm2.HandleOwner, anIndex), password(""), nil, nil)
			m.defineNV(p)
		})
	}
}

func TestPlatformNVCanBeDisabled(t *testing.T) {
	m := newMachine(t)
	m.defineNV(index(byOwner | tpm2.NVPlatformCreate))
	m.do(tpm2.CCHierarchyControl, handles(tpm2.HandlePlatform), password(""), &command.HierarchyControlIn{Enable: tpm2.HandlePlatformNV}, nil)
	p := index(byOwner | tpm2.NVPlatformCreate)
	p.NVIndex = anOther
	m.fails(handleRC(tpm2.RCHierarchy, 1), tpm2.CCNVDefineSpace, handles(tpm2.HandlePlatform), password(""), &command.NVDefineSpaceIn{PublicInfo: p})
	m.fails(handleRC(tpm2.RCHandleValue, 1), tpm2.CCNVReadPublic, handles(anIndex), nil, nil)
	p.Attributes = byOwner
	m.defineNV(p)
	m.do(tpm2.CCHierarchyControl, handles(tpm2.HandlePlatform), password(""), &command.HierarchyControlIn{Enable: tpm2.HandleOwner}, nil)
	m.fails(handleRC(tpm2.RCHandleValue, 1), tpm2.CCNVReadPublic, handles(anOther), nil, nil)
}

// nvUse is a command on an index that succeeds for all types for which it is.
type nvUse struct {
	cc tpm2.CC
	in wire.Layout
}

var nvUses = map[string]nvUse{
	"write":      {tpm2.CCNVWrite, &command.NVWriteIn{Data: []byte{1, 2, 3, 4, 5, 6, 7, 8}}},
	"increment":  {tpm2.CCNVIncrement, nil},
	"extend":     {tpm2.CCNVExtend, &command.NVExtendIn{Data: []byte("more")}},
	"set bits":   {tpm2.CCNVSetBits, &command.NVSetBitsIn{Bits: 5}},
	"write lock": {tpm2.CCNVWriteLock, nil},
	"read":       {tpm2.CCNVRead, &command.NVReadIn{Size: 8}},
	"read lock":  {tpm2.CCNVReadLock, nil},
}

// Each command takes the types that it is for, by whom the attributes allow.
func TestUsesOfAnIndex(t *testing.T) {
	attributes2 := handleRC(tpm2.RCAttributes, 2)
	types := map[string]tpm2.NVType{
		"write": tpm2.NVOrdinary, "increment": tpm2.NVCounter, "extend": tpm2.NVExtend, "set bits": tpm2.NVBits,
	}
	for _, k := range []tpm2.NVType{tpm2.NVOrdinary, tpm2.NVCounter, tpm2.NVBits, tpm2.NVExtend, tpm2.NVPinFail, tpm2.NVPinPass} {
		p := index(byOwner | tpm2.NVNoDA | k.Attributes())
		if k == tpm2.NVExtend {
			p.DataSize = 32
		}
		pin := k == tpm2.NVPinFail || k == tpm2.NVPinPass
		for name, use := range nvUses {
			want := tpm2.RCSuccess
			switch wanted, ok := types[name]; {
			case name == "read":
				want = tpm2.RCNVUninitialized
			case name == "write" && !pin && k != tpm2.NVOrdinary:
				want = tpm2.RCAttributes
			case name == "write":
			case !ok || k != wanted:
				want = attributes2
			}
			t.Run(fmt.Sprintf("%s of type %d", name, k), func(t *testing.T) {
				m := newMachine(t)
				m.defineNV(p)
				if got := m.nvCommand(use.cc, tpm2.HandleOwner, use.in); got != want {
					t.Errorf("%s = %v (%#x), want %v", commandName(use.cc), got, uint32(got), want)
				}
				if want == tpm2.RCSuccess && !m.nvAttributes().Has(tpm2.NVWritten) {
					t.Error("index is not written")
				}
			})
		}
	}
}

// Who may read and write is what the attributes say, and nobody else.
func TestWhoMayUseAnIndex(t *testing.T) {
	for name, use := range nvUses {
		reads := name == "read" || name == "read lock"
		kind := map[string]tpm2.NVType{"increment": tpm2.NVCounter, "set bits": tpm2.NVBits}[name]
		if name == "extend" {
			continue // an index of another size; the check is that of all
		}
		for by, bits := range map[tpm2.Handle][2]tpm2.NVAttributes{
			tpm2.HandleOwner:    {tpm2.NVOwnerWrite, tpm2.NVOwnerRead},
			tpm2.HandlePlatform: {tpm2.NVPPWrite, tpm2.NVPPRead},
			anIndex:             {tpm2.NVAuthWrite, tpm2.NVAuthRead},
			anOther:             {},
		} {
			allowed := bits[0]
			if reads {
				allowed = bits[1]
			}
			for _, ok := range []bool{true, false} {
				if ok && by == anOther {
					continue
				}
				t.Run(fmt.Sprintf("%s by %#x %v", name, uint32(by), ok), func(t *testing.T) {
					m := newMachine(t)
					all := byOwner | byAuth | tpm2.NVPPRead | tpm2.NVPPWrite
					p := index(all | kind.Attributes() | tpm2.NVReadSTClear | tpm2.NVWriteSTClear)
					want := tpm2.RCSuccess
					if !ok {
						p.Attributes &^= allowed
						want = tpm2.RCNVAuthorization
						if by == anIndex {
							want = tpm2.RCAuthUnavailable
						}
					}
					m.defineNV(p)
					other := index(all)
					other.NVIndex = anOther
					m.defineNV(other)
					if reads {
						m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, nvUses["write"].in)
					}
					if got := m.nvCommand(use.cc, by, use.in); got != want {
						t.Errorf("%s = %v (%#x), want %v", commandName(use.cc), got, uint32(got), want)
					}
				})
			}
		}
	}
}

func TestPartsOfAnIndex(t *testing.T) {
	write := func(offset uint16, n int) nvUse {
		return nvUse{tpm2.CCNVWrite, &command.NVWriteIn{Data: bytes.Repeat([]byte{7}, n), Offset: offset}}
	}
	read := func(offset, n uint16) nvUse {
		return nvUse{tpm2.CCNVRead, &command.NVReadIn{Size: n, Offset: offset}}
	}
	for name, tc := range map[string]struct {
		attributes tpm2.NVAttributes
		use        nvUse
		want       tpm2.RC
		content    []byte
	}{
		"write all":               {0, write(0, 8), tpm2.RCSuccess, bytes.Repeat([]byte{7}, 8)},
		"write a part":            {0, write(6, 2), tpm2.RCSuccess, []byte{255, 255, 255, 255, 255, 255, 7, 7}},
		"write a part in memory":  {tpm2.NVOrderly, write(6, 2), tpm2.RCSuccess, []byte{6: 7, 7: 7}},
		"write nothing":           {0, write(8, 0), tpm2.RCSuccess, bytes.Repeat([]byte{255}, 8)},
		"write beyond":            {0, write(7, 2), tpm2.RCNVRange, nil},
		"write behind":            {0, write(9, 0), parameterRC(tpm2.RCValue, 2), nil},
		"write all or nothing":    {tpm2.NVWriteAll, write(0, 7), tpm2.RCNVRange, nil},
		"write all, as one must":  {tpm2.NVWriteAll, write(0, 8), tpm2.RCSuccess, bytes.Repeat([]byte{7}, 8)},
		"read too much":           {0, read(0, 1025), parameterRC(tpm2.RCValue, 1), nil},
		"read behind":             {0, read(9, 0), parameterRC(tpm2.RCValue, 2), nil},
		"read beyond":             {0, read(7, 2), tpm2.RCNVRange, nil},
		"read nothing at the end": {0, read(8, 0), tpm2.RCSuccess, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.defineNV(index(byOwner | tc.attributes))
			if tc.use.cc == tpm2.CCNVRead {
				m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, nvUses["write"].in)
			}
			if got := m.nvCommand(tc.use.cc, tpm2.HandleOwner, tc.use.in); got != tc.want {
				t.Errorf("%s = %v (%#x), want %v", commandName(tc.use.cc), got, uint32(got), tc.want)
			}
			if got := m.content(8); tc.use.cc == tpm2.CCNVWrite && !bytes.Equal(got, tc.content) {
				t.Errorf("content is %x, want %x", got, tc.content)
			}
		})
	}
}

func TestValuesAddUp(t *testing.T) {
	m := newMachine(t)
	m.defineNV(index(byOwner | tpm2.NVBits.Attributes()))
	m.nvDo(tpm2.CCNVSetBits, tpm2.HandleOwner, &command.NVSetBitsIn{Bits: 1 << 63})
	m.nvDo(tpm2.CCNVSetBits, tpm2.HandleOwner, &command.NVSetBitsIn{Bits: 6})
	if got, want := m.content(8), []byte{0: 0x80, 7: 6}; !bytes.Equal(got, want) {
		t.Errorf("bits are %x, want %x", got, want)
	}
	m.do(tpm2.CCNVUndefineSpace, handles(tpm2.HandleOwner, anIndex), password(""), nil, nil)
	p := index(byOwner | tpm2.NVExtend.Attributes())
	p.DataSize = 32
	m.defineNV(p)
	m.nvDo(tpm2.CCNVExtend, tpm2.HandleOwner, &command.NVExtendIn{Data: []byte("a")})
	m.nvDo(tpm2.CCNVExtend, tpm2.HandleOwner, &command.NVExtendIn{Data: []byte("b")})
	one := sha256.Sum256(append(make([]byte, 32), 'a'))
	two := sha256.Sum256(append(one[:], 'b'))
	if got := m.content(32); !bytes.Equal(got, two[:]) {
		t.Errorf("extended value is %x, want %x", got, two)
	}
}

func TestUndefining(t *testing.T) {
	m := newMachine(t)
	undefine := func(want tpm2.RC, by tpm2.Handle) {
		t.Helper()
		m.fails(want, tpm2.CCNVUndefineSpace, handles(by, anIndex), password(""), nil)
	}
	m.defineNV(index(byOwner | tpm2.NVPlatformCreate))
	undefine(tpm2.RCNVAuthorization, tpm2.HandleOwner)
	undefine(tpm2.RCSuccess, tpm2.HandlePlatform)
	undefine(handleRC(tpm2.RCHandleValue, 2), tpm2.HandlePlatform)
	m.defineNV(index(byOwner))
	undefine(tpm2.RCSuccess, tpm2.HandlePlatform)
	m.defineNV(index(byOwner | tpm2.NVPlatformCreate | tpm2.NVPolicyDelete))
	undefine(handleRC(tpm2.RCAttributes, 2), tpm2.HandlePlatform)
}

// commandPolicy is the digest of a policy of TPM2_PolicyCommandCode alone.
func commandPolicy(cc tpm2.CC) []byte {
	return asserted(zeros(), tpm2.CCPolicyCommandCode, be32(uint32(cc)))
}

func TestUndefineSpaceSpecialWantsThePolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		attributes tpm2.NVAttributes
		want       tpm2.RC
	}{
		"policy delete": {tpm2.NVPolicyDelete, tpm2.RCSuccess},
		"ordinary":      {0, handleRC(tpm2.RCAttributes, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			p := index(byOwner | tpm2.NVPlatformCreate | tc.attributes)
			p.AuthPolicy = commandPolicy(tpm2.CCNVUndefineSpaceSpecial)
			m.defineNV(p)
			m.fails(tpm2.RCAuthType, tpm2.CCNVUndefineSpaceSpecial, handles(anIndex, tpm2.HandlePlatform), password("pin", ""), nil)
			s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
			m.do(tpm2.CCPolicyCommandCode, handles(s.handle), nil, &command.PolicyCommandCodeIn{Code: tpm2.CCNVUndefineSpaceSpecial}, nil)
			auths := append(s.with("pin"), password("")...)
			m.fails(tc.want, tpm2.CCNVUndefineSpaceSpecial, handles(anIndex, tpm2.HandlePlatform), auths, nil)
		})
	}
}

// The authValue of an index that is gone is in no key: the response is
// authenticated without it (Part 3, 31.5).
func TestUndefineSpaceSpecialForgetsTheAuthValue(t *testing.T) {
	m := newMachine(t)
	p := index(byOwner | tpm2.NVPlatformCreate | tpm2.NVPolicyDelete)
	p.AuthPolicy = asserted(asserted(zeros(), tpm2.CCPolicyAuthValue), tpm2.CCPolicyCommandCode, be32(uint32(tpm2.CCNVUndefineSpaceSpecial)))
	m.defineNV(p)
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy, bind: tpm2.HandlePlatform})
	m.do(tpm2.CCPolicyAuthValue, handles(s.handle), nil, nil, nil)
	m.do(tpm2.CCPolicyCommandCode, handles(s.handle), nil, &command.PolicyCommandCodeIn{Code: tpm2.CCNVUndefineSpaceSpecial}, nil)
	s.withAuthValue = true
	x := &exchange{m: m, cc: tpm2.CCNVUndefineSpaceSpecial, handles: handles(anIndex, tpm2.HandlePlatform), auths: append(s.with("pin"), password("")...)}
	request := x.request(nil)
	s.withAuthValue = false // of the response
	if rc := x.parse(m.execute(request), nil); rc != tpm2.RCSuccess {
		t.Errorf("NV_UndefineSpaceSpecial = %v, want success", rc)
	}
}

func TestNVChangeAuth(t *testing.T) {
	m := newMachine(t)
	p := index(byAuth)
	p.AuthPolicy = commandPolicy(tpm2.CCNVChangeAuth)
	m.defineNV(p)
	change := func(want tpm2.RC, auth string) {
		t.Helper()
		s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
		m.do(tpm2.CCPolicyCommandCode, handles(s.handle), nil, &command.PolicyCommandCodeIn{Code: tpm2.CCNVChangeAuth}, nil)
		m.fails(want, tpm2.CCNVChangeAuth, handles(anIndex), s.with("pin"), &command.NVChangeAuthIn{NewAuth: []byte(auth)})
		m.flush(s.handle)
	}
	change(parameterRC(tpm2.RCSize, 1), "012345678901234567890123456789012")
	change(tpm2.RCSuccess, "new\x00\x00")
	write := &command.NVWriteIn{Data: []byte{1}}
	m.fails(sessionRC(tpm2.RCBadAuth, 1), tpm2.CCNVWrite, handles(anIndex, anIndex), password("pin"), write)
	m.do(tpm2.CCNVWrite, handles(anIndex, anIndex), password("new"), write, nil)
}

// What a write leaves as it was need not be kept; anything else must.
func TestOnlyAWriteThatChangesAnIndexChangesTheState(t *testing.T) {
	write := func(offset uint16, data ...byte) *command.NVWriteIn {
		return &command.NVWriteIn{Offset: offset, Data: data}
	}
	for name, tc := range map[string]struct {
		before, in *command.NVWriteIn
		changed    bool
		want       []byte
	}{
		"the first, of what the data are":  {nil, write(0, 0, 0, 0, 0, 0, 0, 0, 0), true, make([]byte, 8)},
		"the same":                         {write(0, 1, 2, 3, 4, 5, 6, 7, 8), write(0, 1, 2, 3, 4, 5, 6, 7, 8), false, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		"the same part":                    {write(0, 1, 2, 3, 4, 5, 6, 7, 8), write(6, 7, 8), false, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		"nothing":                          {write(0, 1, 2, 3, 4, 5, 6, 7, 8), write(8), false, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		"what stands elsewhere":            {write(0, 1, 2, 3, 4, 5, 6, 7, 8), write(0, 7, 8), true, []byte{7, 8, 3, 4, 5, 6, 7, 8}},
		"the last byte another":            {write(0, 1, 2, 3, 4, 5, 6, 7, 8), write(0, 1, 2, 3, 4, 5, 6, 7, 9), true, []byte{1, 2, 3, 4, 5, 6, 7, 9}},
		"what the first write left erased": {write(0, 1), write(1, 0xff), false, []byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.defineNV(index(byOwner))
			if tc.before != nil {
				m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, tc.before)
			}
			kept := m.tpm.MustPermanent()
			m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, tc.in)
			if got := m.tpm.Changed(); got != tc.changed {
				t.Errorf("Changed = %v, want %v", got, tc.changed)
			}
			if same := bytes.Equal(kept, m.tpm.MustPermanent()); same == tc.changed {
				t.Errorf("the state is the same: %v", same)
			}
			if got := m.content(8); !bytes.Equal(got, tc.want) {
				t.Errorf("the index holds %x, want %x", got, tc.want)
			}
		})
	}
}

// After an orderly shutdown any command ends it, a write that changes nothing, too.
func TestAWriteOfTheSameEndsAnOrderlyShutdown(t *testing.T) {
	m := newMachine(t)
	m.defineNV(index(byOwner | tpm2.NVOrderly))
	in := &command.NVWriteIn{Data: []byte("as it was")[:8]}
	m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, in)
	m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{}, nil)
	m.tpm.MustPermanent()
	m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, in)
	if !m.tpm.Changed() {
		t.Error("the state still says that the shutdown was orderly")
	}
}
