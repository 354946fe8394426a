package engine_test

import (
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A scene is a state of a TPM from which FuzzExecute starts. All authValues are
// empty, so that random commands get past them.
type scene struct {
	name                string
	profile             string
	prepare             func(m *machine)
	permanent, volatile []byte
	now                 time.Duration
}

// scenes prepares all scenes. They are the same in every process: an input of the
// fuzzer means the same in all.
func scenes(t testing.TB) []*scene {
	t.Helper()
	all := []*scene{
		{name: "before Startup", prepare: func(m *machine) { m.tpm.PowerOn() }},
		{name: "after Startup", prepare: func(*machine) {}},
		{name: "asymmetric keys", prepare: asymmetricScene},
		{name: "symmetric keys", prepare: symmetricScene},
		{name: "sequences", prepare: sequenceScene},
		{name: "NV", prepare: nvScene},
		{name: "policies", prepare: policyScene},
		{name: "locked out", prepare: lockedOutScene},
		{name: "failure mode", prepare: func(m *machine) { m.tpm.Fail() }},
		{name: "mid H-CRTM", prepare: func(m *machine) { m.tpm.PowerOn(); m.tpm.HashStart(4); m.tpm.HashData([]byte("core")) }},
		{name: "mid D-RTM", prepare: func(m *machine) { symmetricScene(m); m.tpm.HashStart(4); m.tpm.HashData([]byte("root")) }},
		{name: "read only", prepare: func(m *machine) {
			asymmetricScene(m)
			m.do(tpm2.CCReadOnlyControl, handles(tpm2.HandlePlatform), password(""), &command.ReadOnlyControlIn{State: true}, nil)
		}},
		{name: "before Resume", prepare: resumeScene},
		{name: "post-quantum", profile: "post-quantum", prepare: postQuantumScene},
	}
	for _, s := range all {
		if s.profile == "" {
			s.profile = "default"
		}
		m := manufacture(t, s.profile)
		m.startup(tpm2.StartupClear)
		m.now = time.Minute
		s.prepare(m)
		m.tpm.Execute(0, nil) // from here on the time stands still
		s.permanent, s.volatile, s.now = m.tpm.MustPermanent(), m.tpm.MustVolatile(), m.now
	}
	return all
}

const (
	scenePersistent = tpm2.Handle(0x81000001) // a storage key
	sceneHMACKey    = tpm2.Handle(0x81000002)
	sceneIndex      = tpm2.Handle(0x01800000) // the first of several
)

// sceneHandles are those of which the seeds have some.
func sceneHandles() []tpm2.Handle {
	return []tpm2.Handle{
		tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandleNull, tpm2.HandleLockout, tpm2.HandlePlatformNV,
		0x80000000, 0x80000001, 0x80000002, scenePersistent, sceneHMACKey, 0, 16, 23,
		sceneIndex, sceneIndex + 1, sceneIndex + 2, sceneIndex + 3, sceneIndex + 4, sceneIndex + 5, sceneIndex + 6,
		0x02000000, 0x03000001, 0x03000002, tpm2.HandleACT0,
	}
}

// sessionsAndStore starts a session of each kind and makes two persistent keys.
func (m *machine) sessionsAndStore() {
	m.Helper()
	m.session(sessionConfig{symmetric: aes128()})
	m.session(sessionConfig{kind: tpm2.SessionPolicy})
	m.session(sessionConfig{kind: tpm2.SessionTrial})
	m.store(scenePersistent, eccTemplate(storing|tpm2.AttrNoDA))
	m.store(sceneHMACKey, keyedHashTemplate(signing|tpm2.AttrNoDA))
}

// store makes a persistent primary object.
func (m *machine) store(h tpm2.Handle, p tpm2.Public) {
	m.Helper()
	made := m.primary(tpm2.HandleOwner, p, "")
	m.do(tpm2.CCEvictControl, handles(tpm2.HandleOwner, made), password(""), &command.EvictControlIn{PersistentHandle: h}, nil)
	m.flush(made)
}

func asymmetricScene(m *machine) {
	m.sessionsAndStore()
	small := rsaTemplate(ordinary | tpm2.AttrSign | tpm2.AttrDecrypt)
	small.Parameters.RSA.KeyBits = 1024
	m.primary(tpm2.HandleOwner, small, "")
	m.primary(tpm2.HandleEndorsement, eccTemplate(ordinary|tpm2.AttrSign|tpm2.AttrDecrypt|tpm2.AttrNoDA), "")
	restricted := eccTemplate(signing | tpm2.AttrRestricted)
	restricted.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	m.primary(tpm2.HandleNull, restricted, "")
}

func symmetricScene(m *machine) {
	m.sessionsAndStore()
	free := symTemplate(ordinary | tpm2.AttrSign | tpm2.AttrDecrypt)
	free.Parameters.SymCipher.Mode = tpm2.AlgNull
	m.primary(tpm2.HandleOwner, free, "")
	m.primary(tpm2.HandleOwner, keyedHashTemplate(fixed|ordinary|storageUse), "") // a derivation parent
	m.child(scenePersistent, keyedHashTemplate(fixed|usable), "", "sealed")
}

func sequenceScene(m *machine) {
	m.sessionsAndStore()
	m.hashSequence(tpm2.AlgSHA256, "")
	m.macSequence(sceneHMACKey, "")
	m.hashSequence(tpm2.AlgNull, "") // of an event
	m.update(0x80000000, "", "some data")
}

func nvScene(m *machine) {
	m.sessionsAndStore()
	types := []tpm2.NVType{tpm2.NVOrdinary, tpm2.NVCounter, tpm2.NVBits, tpm2.NVExtend, tpm2.NVPinFail, tpm2.NVPinPass, tpm2.NVOrdinary}
	for i, kind := range types {
		p := tpm2.NVPublic{NVIndex: sceneIndex + tpm2.Handle(i), NameAlg: tpm2.AlgSHA256, DataSize: 8}
		p.Attributes = kind.Attributes() | tpm2.NVOwnerRead | tpm2.NVOwnerWrite | tpm2.NVAuthRead | tpm2.NVNoDA | tpm2.NVReadSTClear | tpm2.NVWriteSTClear
		if i%2 == 1 || i == 6 {
			p.Attributes |= tpm2.NVOrderly
		}
		cc, in := tpm2.CCNVWrite, wire.Layout(&command.NVWriteIn{Data: []byte{0, 0, 0, 0, 0, 0, 0, 5}})
		switch kind {
		case tpm2.NVCounter:
			cc, in = tpm2.CCNVIncrement, nil
		case tpm2.NVBits:
			cc, in = tpm2.CCNVSetBits, &command.NVSetBitsIn{Bits: 5}
		case tpm2.NVExtend:
			p.DataSize = 32
			cc, in = tpm2.CCNVExtend, &command.NVExtendIn{Data: []byte("x")}
		case tpm2.NVPinFail, tpm2.NVPinPass:
		default:
			p.Attributes |= tpm2.NVAuthWrite
		}
		m.do(tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{PublicInfo: p}, nil)
		if i < 6 { // one is left unwritten
			m.do(cc, handles(tpm2.HandleOwner, p.NVIndex), password(""), in, nil)
		}
	}
	m.primary(tpm2.HandleEndorsement, eccTemplate(ordinary|tpm2.AttrSign), "")
}

// policyScene has objects and a hierarchy that a policy session, which satisfies
// the policy, may use.
func policyScene(m *machine) {
	m.sessionsAndStore()
	m.tpm.SetPhysicalPresence(true)
	p := eccTemplate(ordinary | tpm2.AttrSign | tpm2.AttrAdminWithPolicy)
	p.AuthPolicy = asserted(zeros(), tpm2.CCPolicyCommandCode, be32(uint32(tpm2.CCDuplicate)))
	m.primary(tpm2.HandleOwner, p, "")
	m.do(tpm2.CCSetPrimaryPolicy, handles(tpm2.HandleOwner), password(""),
		&command.SetPrimaryPolicyIn{AuthPolicy: p.AuthPolicy, HashAlg: tpm2.AlgSHA256}, nil)
	m.do(tpm2.CCPolicyCommandCode, handles(0x03000001), nil, &command.PolicyCommandCodeIn{Code: tpm2.CCDuplicate}, nil)
	m.primary(tpm2.HandleOwner, eccTemplate(storing), "")
}

func lockedOutScene(m *machine) {
	m.sessionsAndStore()
	key := m.primary(tpm2.HandleOwner, keyedHashTemplate(signing), "")
	for range 3 {
		m.fails(sessionRC(tpm2.RCAuthFail, 1), tpm2.CCHMAC, handles(key), password("wrong"), &command.HMACIn{InScheme: tpm2.AlgNull})
	}
	m.fails(tpm2.RCLockout, tpm2.CCHMAC, handles(key), password(""), &command.HMACIn{InScheme: tpm2.AlgNull})
}

// resumeScene has a TPM with all that TPM2_Shutdown(STATE) keeps, before TPM2_Startup.
func resumeScene(m *machine) {
	nvScene(m)
	m.do(tpm2.CCContextSave, handles(0x02000000), nil, nil, nil)
	m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupState}, nil)
	m.tpm.PowerOn()
}

func postQuantumScene(m *machine) {
	m.sessionsAndStore()
	m.primary(tpm2.HandleOwner, mlkemTemplate(tpm2.MLKEM768, decrypting), "")
	m.primary(tpm2.HandleOwner, mlkemTemplate(tpm2.MLKEM1024, storing), "")
}
