package engine_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// A step is something that was done to a TPM: a command, with its response, or
// what its platform does.
type step struct {
	now               time.Duration
	locality          uint8
	request, response []byte
	platform          func(*engine.TPM)
}

// execute runs a command; all commands of a machine come through here.
func (m *machine) execute(request []byte) []byte {
	response := m.tpm.Execute(m.locality, request)
	if m.trace != nil {
		*m.trace = append(*m.trace, step{
			now: m.now, locality: m.locality, request: bytes.Clone(request), response: bytes.Clone(response),
		})
	}
	return response
}

// platform does something to the TPM that is no command.
func (m *machine) platform(do func(*engine.TPM)) {
	do(m.tpm)
	if m.trace != nil {
		*m.trace = append(*m.trace, step{now: m.now, platform: do})
	}
}

// replay does the steps again to this machine's TPM and compares the responses.
func (m *machine) replay(steps []step) {
	m.Helper()
	for i, s := range steps {
		m.now = s.now
		if s.platform != nil {
			s.platform(m.tpm)
			continue
		}
		if got := m.tpm.Execute(s.locality, s.request); !bytes.Equal(got, s.response) {
			cc := tpm2.CC(binary.BigEndian.Uint32(s.request[6:]))
			m.Fatalf("step %d, %s(%x) = %x, want %x", i, commandName(cc), s.request, got, s.response)
		}
	}
}

// fork returns a machine whose entropy is, from here on, what m's is.
func (m *machine) fork() *machine {
	m.Helper()
	state, err := m.entropy.MarshalBinary()
	if err != nil {
		m.Fatal(err)
	}
	twin := &machine{TB: m.TB, now: m.now, locality: m.locality, entropy: new(rand.ChaCha8), names: map[tpm2.Handle][]byte{}}
	if err := twin.entropy.UnmarshalBinary(state); err != nil {
		m.Fatal(err)
	}
	return twin
}

// snapshot returns a machine with a TPM that was restored from the state of m's.
func (m *machine) snapshot() *machine {
	m.Helper()
	twin := m.fork()
	var err error
	if twin.tpm, err = engine.Restore(twin.config(), m.tpm.MustPermanent(), m.tpm.MustVolatile()); err != nil {
		m.Fatal(err)
	}
	if err := m.tpm.Reseed(); err != nil {
		m.Fatal(err)
	}
	return twin
}

// A guest sends random commands, most of them good, that reach all kinds of state.
type guest struct {
	*machine
	*rand.Rand
	objects  []tpm2.Handle
	sessions []*session
	saved    []command.ContextSaveOut
}

// live does n random things.
func (g *guest) live(n int) {
	acts := []func(){
		g.extend, g.define, g.useIndex, g.useIndex, g.make, g.startSession, g.useSession, g.useSession, g.policy,
		g.sequence, g.hierarchies, g.contexts, g.contexts, g.flushSome, g.clocks, g.guess, g.power, g.measure,
	}
	for range n {
		g.now += time.Duration(g.IntN(3000)) * time.Millisecond
		if g.IntN(8) == 0 {
			g.locality = uint8(g.IntN(5))
		}
		acts[g.IntN(len(acts))]()
	}
}

func (g *guest) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g *guest) extend() {
	h := handles(tpm2.Handle(g.IntN(tpm2.NumPCR)))
	switch g.IntN(4) {
	case 0:
		g.run(tpm2.CCPCREvent, h, password(""), &command.PCREventIn{EventData: g.bytes(g.IntN(40))}, nil)
	case 1:
		g.run(tpm2.CCPCRReset, h, password(""), nil, nil)
	case 2:
		g.run(tpm2.CCPCRRead, nil, nil, &command.PCRReadIn{PCRSelectionIn: selection(tpm2.AlgSHA256, int(h[0]))}, nil)
	default:
		g.run(tpm2.CCPCRExtend, h, password(""), &command.PCRExtendIn{Digests: tpm2.DigestValues{
			{HashAlg: tpm2.AlgSHA1, Digest: g.bytes(20)}, {HashAlg: tpm2.AlgSHA256, Digest: g.bytes(32)},
		}}, nil)
	}
}

func selection(a tpm2.Alg, pcrs ...int) tpm2.PCRSelections {
	return tpm2.PCRSelections{{Hash: a, Select: tpm2.SelectPCRs(pcrs...)}}
}

// index is one of the few that the guest defines; its number says its attributes.
func (g *guest) index() (h tpm2.Handle, p tpm2.NVPublic) {
	types := []tpm2.NVType{tpm2.NVOrdinary, tpm2.NVCounter, tpm2.NVBits, tpm2.NVExtend, tpm2.NVPinFail, tpm2.NVPinPass}
	n := g.IntN(2 * len(types))
	p = tpm2.NVPublic{
		NVIndex: 0x01800000 + tpm2.Handle(n), NameAlg: tpm2.AlgSHA256, DataSize: 8,
		Attributes: types[n/2].Attributes() | tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVAuthRead | tpm2.NVNoDA | tpm2.NVReadSTClear | tpm2.NVWriteSTClear,
	}
	if n%2 == 0 {
		p.Attributes |= tpm2.NVOrderly
	}
	if types[n/2] == tpm2.NVExtend {
		p.DataSize = 32
	}
	return p.NVIndex, p
}

func (g *guest) define() {
	h, p := g.index()
	if g.IntN(6) == 0 {
		g.run(tpm2.CCNVUndefineSpace, handles(tpm2.HandleOwner, h), password(""), nil, nil)
		return
	}
	g.run(tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{Auth: []byte("pin"), PublicInfo: p}, nil)
}

func (g *guest) useIndex() {
	h, p := g.index()
	by := handles(tpm2.HandleOwner, h)
	switch t := p.Attributes.Type(); {
	case g.IntN(16) == 0:
		g.run(tpm2.CCNVWriteLock, by, password(""), nil, nil)
	case g.IntN(16) == 0:
		g.run(tpm2.CCNVReadLock, by, password(""), nil, nil)
	case g.IntN(3) == 0:
		g.run(tpm2.CCNVRead, handles(h, h), password("pin"), &command.NVReadIn{Size: p.DataSize}, nil)
	case t == tpm2.NVCounter:
		g.run(tpm2.CCNVIncrement, by, password(""), nil, nil)
	case t == tpm2.NVBits:
		g.run(tpm2.CCNVSetBits, by, password(""), &command.NVSetBitsIn{Bits: 1 << g.IntN(64)}, nil)
	case t == tpm2.NVExtend:
		g.run(tpm2.CCNVExtend, by, password(""), &command.NVExtendIn{Data: g.bytes(5)}, nil)
	default:
		g.run(tpm2.CCNVWrite, by, password(""), &command.NVWriteIn{Data: append(make([]byte, 7), byte(g.IntN(9)))}, nil)
	}
}

func (g *guest) make() {
	templates := []tpm2.Public{
		eccTemplate(fixed | ordinary | storageUse), eccTemplate(fixed | ordinary | tpm2.AttrSign),
		keyedHashTemplate(fixed | ordinary | tpm2.AttrSign), symTemplate(fixed | ordinary | tpm2.AttrDecrypt),
	}
	h := []tpm2.Handle{tpm2.HandleOwner, tpm2.HandleNull, tpm2.HandleEndorsement}[g.IntN(3)]
	in := &command.CreatePrimaryIn{InPublic: templates[g.IntN(len(templates))], CreationPCR: selection(tpm2.AlgSHA256, 0, 16)}
	in.InSensitive.UserAuth = []byte("key")
	if g.run(tpm2.CCCreatePrimary, handles(h), password(""), in, nil) == tpm2.RCSuccess {
		g.objects = append(g.objects, g.handle)
	}
	persistent := 0x81000000 + tpm2.Handle(g.IntN(4))
	g.run(tpm2.CCEvictControl, handles(tpm2.HandleOwner, g.object()), password(""), &command.EvictControlIn{PersistentHandle: persistent}, nil)
}

// object is a transient or persistent object, if there is one.
func (g *guest) object() tpm2.Handle {
	if len(g.objects) == 0 || g.IntN(4) == 0 {
		return 0x81000000 + tpm2.Handle(g.IntN(4))
	}
	return g.objects[g.IntN(len(g.objects))]
}

func (g *guest) startSession() {
	if len(g.sessions) >= 3 {
		return
	}
	kind := []tpm2.SessionType{tpm2.SessionHMAC, tpm2.SessionHMAC, tpm2.SessionPolicy, tpm2.SessionTrial}[g.IntN(4)]
	s := &session{policy: kind != tpm2.SessionHMAC, hash: tpm2.AlgSHA256, nonceCaller: g.bytes(16), symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}}
	in := &command.StartAuthSessionIn{NonceCaller: s.nonceCaller, SessionType: kind, Symmetric: s.symmetric, AuthHash: s.hash}
	var out command.StartAuthSessionOut
	if g.run(tpm2.CCStartAuthSession, handles(tpm2.HandleNull, tpm2.HandleNull), nil, in, &out) == tpm2.RCSuccess {
		s.handle, s.nonceTPM = g.handle, bytes.Clone(out.NonceTPM)
		g.sessions = append(g.sessions, s)
	}
}

func (g *guest) useSession() {
	for _, s := range g.sessions {
		if s.policy {
			continue
		}
		bits := []tpm2.SessionAttributes{0, tpm2.SessionAudit}[g.IntN(2)]
		h, _ := g.index()
		g.run(tpm2.CCNVRead, handles(tpm2.HandleOwner, h), s.with("", bits), &command.NVReadIn{Size: 4}, nil)
		if bits != 0 {
			g.run(tpm2.CCGetRandom, nil, s.with("", bits), &command.GetRandomIn{BytesRequested: 9}, nil)
		}
	}
}

func (g *guest) policy() {
	for _, s := range g.sessions {
		if !s.policy {
			continue
		}
		g.run(tpm2.CCPolicyPCR, handles(s.handle), nil, &command.PolicyPCRIn{PCRs: selection(tpm2.AlgSHA256, g.IntN(24))}, nil)
		g.run(tpm2.CCPolicyLocality, handles(s.handle), nil, &command.PolicyLocalityIn{Locality: 1}, nil)
		g.run(tpm2.CCPolicyGetDigest, handles(s.handle), nil, nil, nil)
	}
}

func (g *guest) sequence() {
	if g.IntN(2) == 0 {
		in := &command.HashSequenceStartIn{Auth: []byte("key"), HashAlg: []tpm2.Alg{tpm2.AlgNull, tpm2.AlgSHA256, tpm2.AlgSHA3x256}[g.IntN(3)]}
		if g.run(tpm2.CCHashSequenceStart, nil, nil, in, nil) == tpm2.RCSuccess {
			g.objects = append(g.objects, g.handle)
		}
	}
	for _, h := range g.objects {
		g.run(tpm2.CCSequenceUpdate, handles(h), password("key"), &command.SequenceUpdateIn{Buffer: g.bytes(g.IntN(200))}, nil)
	}
}

func (g *guest) hierarchies() {
	switch g.IntN(12) {
	case 0:
		g.run(tpm2.CCClear, handles(tpm2.HandlePlatform), password(""), nil, nil)
	case 1:
		g.run(tpm2.CCChangeEPS, handles(tpm2.HandlePlatform), password(""), nil, nil)
	case 2:
		g.run(tpm2.CCSetPrimaryPolicy, handles(tpm2.HandleEndorsement), password(""), &command.SetPrimaryPolicyIn{AuthPolicy: g.bytes(32), HashAlg: tpm2.AlgSHA256}, nil)
	case 3:
		g.run(tpm2.CCSetCommandCodeAuditStatus, handles(tpm2.HandleOwner), password(""), &command.SetCommandCodeAuditStatusIn{
			AuditAlg: tpm2.AlgNull, SetList: []tpm2.CC{tpm2.CCGetRandom, tpm2.CCNVRead},
		}, nil)
	default:
		g.run(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{
			Capability: tpm2.Capability(g.IntN(10)), Property: uint32(g.IntN(4)) * 0x100, PropertyCount: 100,
		}, nil)
	}
}

func (g *guest) contexts() {
	if n := len(g.saved); n > 0 && g.IntN(2) == 0 {
		i := g.IntN(n)
		if g.run(tpm2.CCContextLoad, nil, nil, &command.ContextLoadIn{Context: g.saved[i].Context}, nil) == tpm2.RCSuccess {
			g.saved = append(g.saved[:i], g.saved[i+1:]...)
		}
		return
	}
	h := g.object()
	if n := len(g.sessions); n > 0 && g.IntN(2) == 0 {
		h = g.sessions[g.IntN(n)].handle
	}
	var out command.ContextSaveOut
	if g.run(tpm2.CCContextSave, handles(h), nil, nil, &out) == tpm2.RCSuccess {
		g.saved = append(g.saved, out)
	}
}

func (g *guest) flushSome() {
	for len(g.objects) > 1 {
		g.run(tpm2.CCFlushContext, nil, nil, &command.FlushContextIn{FlushHandle: g.objects[0]}, nil)
		g.objects = g.objects[1:]
	}
	if len(g.sessions) > 2 {
		g.run(tpm2.CCFlushContext, nil, nil, &command.FlushContextIn{FlushHandle: g.sessions[0].handle}, nil)
		g.sessions = g.sessions[1:]
	}
}

func (g *guest) clocks() {
	g.run(tpm2.CCReadClock, nil, nil, nil, nil)
	g.run(tpm2.CCClockRateAdjust, handles(tpm2.HandleOwner), password(""), &command.ClockRateAdjustIn{RateAdjust: tpm2.ClockAdjust(g.IntN(7) - 3)}, nil)
	if g.IntN(4) == 0 {
		g.run(tpm2.CCClockSet, handles(tpm2.HandleOwner), password(""), &command.ClockSetIn{NewTime: uint64(g.now.Milliseconds()) * 2}, nil)
	}
}

// guess tries a wrong authValue, which counts.
func (g *guest) guess() {
	g.run(tpm2.CCReadPublic, handles(g.object()), nil, nil, nil)
	g.run(tpm2.CCSign, handles(g.object()), password("no"), nil, nil)
	g.run(tpm2.CCObjectChangeAuth, handles(g.object(), tpm2.HandleNull), password("no"), &command.ObjectChangeAuthIn{NewAuth: []byte("x")}, nil)
}

func (g *guest) power() {
	if g.IntN(4) != 0 {
		return
	}
	kind := tpm2.StartupType(g.IntN(2))
	if g.IntN(3) != 0 {
		g.run(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: kind}, nil)
	}
	g.objects, g.sessions = nil, nil
	g.platform((*engine.TPM).PowerOn)
	g.locality = uint8(g.IntN(2) * 3)
	if g.IntN(4) == 0 {
		g.measure()
	}
	if g.run(tpm2.CCStartup, nil, nil, &command.StartupIn{StartupType: kind}, nil) != tpm2.RCSuccess {
		g.run(tpm2.CCStartup, nil, nil, &command.StartupIn{StartupType: tpm2.StartupClear}, nil)
	}
}

func (g *guest) measure() {
	data := g.bytes(30)
	if g.IntN(3) != 0 {
		g.platform(func(t *engine.TPM) { t.HashStart(4) })
	}
	g.platform(func(t *engine.TPM) { t.HashData(data) })
	if g.IntN(2) == 0 {
		g.platform((*engine.TPM).HashEnd)
	}
}

// A TPM that is restored from a snapshot, taken at any moment, answers as the one
// that goes on does, to the byte: nothing is left out of its state.
func TestARestoredTwinAnswersTheSame(t *testing.T) {
	for seed := range uint64(twins(t)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			g := &guest{machine: newMachine(t), Rand: rand.New(rand.NewPCG(seed, 1))}
			g.live(40 + g.IntN(150))
			twin := g.snapshot()
			var steps []step
			g.trace = &steps
			g.live(100)
			twin.replay(steps)
			twin.now = g.now
			if got, want := twin.tpm.MustPermanent(), g.tpm.MustPermanent(); !bytes.Equal(got, want) {
				t.Errorf("permanent states differ:\n%x\n%x", got, want)
			}
			if got, want := twin.tpm.MustVolatile(), g.tpm.MustVolatile(); !bytes.Equal(got, want) {
				t.Errorf("volatile states differ:\n%x\n%x", got, want)
			}
		})
	}
}

func twins(t *testing.T) int {
	if testing.Short() {
		return 4
	}
	return 40
}

// Equal commands, times and entropy give equal responses and equal state.
func TestARecordedStreamReplays(t *testing.T) {
	for seed := range uint64(4) {
		g := &guest{machine: manufacture(t, "default"), Rand: rand.New(rand.NewPCG(seed, 2))}
		var steps []step
		g.trace = &steps
		g.startup(tpm2.StartupClear)
		g.live(400)
		again := manufacture(t, "default")
		again.replay(steps)
		again.now = g.now
		if got, want := again.tpm.MustVolatile(), g.tpm.MustVolatile(); !bytes.Equal(got, want) {
			t.Errorf("seed %d: volatile states differ", seed)
		}
	}
}
