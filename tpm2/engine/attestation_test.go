package engine_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// An attesting is one attestation command: which of its handles and parameters are
// the key and the scheme, and how to run it.
type attesting struct {
	cc          tpm2.CC
	key, scheme int
	handles     func(m *witness, key tpm2.Handle) []tpm2.Handle
	in          func(m *witness, s tpm2.SigScheme, extra []byte) wire.Layout
}

func noScheme() tpm2.SigScheme { return tpm2.SigScheme{Scheme: tpm2.AlgNull} }

// restrictedKey is an ECC key that signs what the TPM says.
func restrictedKey() tpm2.Public {
	p := eccTemplate(signing | tpm2.AttrRestricted)
	p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	return p
}

func attestings() map[string]attesting {
	endorsed := func(_ *witness, key tpm2.Handle) []tpm2.Handle { return handles(tpm2.HandleEndorsement, key) }
	return map[string]attesting{
		"Certify": {
			tpm2.CCCertify, 2, 2,
			func(_ *witness, key tpm2.Handle) []tpm2.Handle { return handles(0x80000000, key) },
			func(_ *witness, s tpm2.SigScheme, x []byte) wire.Layout {
				return &command.CertifyIn{QualifyingData: x, InScheme: s}
			},
		},
		"CertifyCreation": {
			tpm2.CCCertifyCreation, 1, 3,
			func(_ *witness, key tpm2.Handle) []tpm2.Handle { return handles(key, 0x80000000) },
			func(m *witness, s tpm2.SigScheme, x []byte) wire.Layout {
				m.Helper()
				return &command.CertifyCreationIn{QualifyingData: x, InScheme: s, CreationHash: m.made.CreationHash, CreationTicket: m.made.CreationTicket}
			},
		},
		"Quote": {
			tpm2.CCQuote, 1, 2,
			func(_ *witness, key tpm2.Handle) []tpm2.Handle { return handles(key) },
			func(_ *witness, s tpm2.SigScheme, x []byte) wire.Layout {
				return &command.QuoteIn{QualifyingData: x, InScheme: s, PCRSelect: tpm2.PCRSelections{
					{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 7, 17)}, {Hash: tpm2.AlgSHA3x256, Select: tpm2.SelectPCRs(3)},
				}}
			},
		},
		"GetSessionAuditDigest": {
			tpm2.CCGetSessionAuditDigest, 2, 2,
			func(m *witness, key tpm2.Handle) []tpm2.Handle {
				m.Helper()
				s := m.session(sessionConfig{})
				m.do(tpm2.CCGetRandom, nil, s.with("", tpm2.SessionAudit), &command.GetRandomIn{}, nil)
				return handles(tpm2.HandleEndorsement, key, s.handle)
			},
			func(_ *witness, s tpm2.SigScheme, x []byte) wire.Layout {
				return &command.GetSessionAuditDigestIn{QualifyingData: x, InScheme: s}
			},
		},
		"GetCommandAuditDigest": {
			tpm2.CCGetCommandAuditDigest, 2, 2, endorsed,
			func(_ *witness, s tpm2.SigScheme, x []byte) wire.Layout {
				return &command.GetCommandAuditDigestIn{QualifyingData: x, InScheme: s}
			},
		},
		"GetTime": {
			tpm2.CCGetTime, 2, 2, endorsed,
			func(_ *witness, s tpm2.SigScheme, x []byte) wire.Layout {
				return &command.GetTimeIn{QualifyingData: x, InScheme: s}
			},
		},
		"NV_Certify": {
			tpm2.CCNVCertify, 1, 2,
			func(_ *witness, key tpm2.Handle) []tpm2.Handle { return handles(key, policyIndex, policyIndex) },
			func(_ *witness, s tpm2.SigScheme, x []byte) wire.Layout {
				return &command.NVCertifyIn{QualifyingData: x, InScheme: s, Size: 4, Offset: 2}
			},
		},
	}
}

// A witness is a machine with an object, whose creation it knows, and an index.
type witness struct {
	*machine
	made command.CreatePrimaryOut
}

// newWitness has the object in the first slot and the key in the second.
func newWitness(t testing.TB, h tpm2.Handle, key tpm2.Public) (*witness, tpm2.Handle) {
	t.Helper()
	m := &witness{machine: newMachine(t)}
	m.now = 20 * time.Second
	m.filled([]byte("0123456789"))
	m.do(tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), &command.CreatePrimaryIn{InPublic: eccTemplate(signing)}, &m.made)
	return m, m.primary(h, key, "")
}

// certified is the response of all attestation commands.
type certified struct {
	Info      []byte
	Signature tpm2.Signature
}

func (r *certified) Wire(c *wire.Codec) {
	c.Sized16(&r.Info, tpm2.MaxAttest)
	r.Signature.Wire(c)
}

// attests runs an attestation.
func (m *witness) attests(a attesting, key tpm2.Handle, s tpm2.SigScheme, extra string) (certified, tpm2.RC) {
	m.Helper()
	info, _ := command.Lookup(a.cc)
	var auths []auth
	for range info.Auths() {
		auths = append(auths, auth{})
	}
	var out certified
	h := a.handles(m, key)
	rc := m.run(a.cc, h, auths, a.in(m, s, []byte(extra)), &out)
	if h[len(h)-1].Kind() == tpm2.KindHMACSession {
		m.flush(h[len(h)-1])
	}
	return out, rc
}

// clock is what the TPM tells of its clock.
func (m *witness) clock() tpm2.TimeInfo {
	m.Helper()
	var out command.ReadClockOut
	m.do(tpm2.CCReadClock, nil, nil, nil, &out)
	return out.CurrentTime
}

func TestAttestationsAreSignedAndTellTheCircumstances(t *testing.T) {
	for name, a := range attestings() {
		t.Run(name, func(t *testing.T) {
			m, key := newWitness(t, tpm2.HandleEndorsement, restrictedKey())
			var read command.ReadPublicOut
			m.do(tpm2.CCReadPublic, handles(key), nil, nil, &read)
			out, rc := m.attests(a, key, noScheme(), "nonce")
			if rc != tpm2.RCSuccess {
				t.Fatalf("%s = %v", commandName(a.cc), rc)
			}
			v, err := tpm2.NewVerifier(&read.OutPublic)
			if err != nil {
				t.Fatal(err)
			}
			if err := v.Verify(out.Info, &out.Signature); err != nil {
				t.Errorf("signature: %v", err)
			}
			at, err := tpm2.ParseAttest(out.Info)
			if err != nil {
				t.Fatal(err)
			}
			if string(at.ExtraData) != "nonce" || !bytes.Equal(at.QualifiedSigner, read.QualifiedName) {
				t.Errorf("extra data %q, signer %x; want the nonce and %x", at.ExtraData, at.QualifiedSigner, read.QualifiedName)
			}
			if d := cmp.Diff(m.clock().ClockInfo, at.ClockInfo); d != "" {
				t.Errorf("clock differs (-told +attested):\n%s", d)
			}
		})
	}
}

func TestAttestationsRefuseKeysAndSchemes(t *testing.T) {
	ecdsa := func(h tpm2.Alg) tpm2.SigScheme { return tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: h} }
	anonymous := restrictedKey()
	anonymous.Parameters.ECC.Scheme.Scheme = tpm2.AlgECDAA
	for name, a := range attestings() {
		badKey, badScheme := handleRC(tpm2.RCKey, a.key), parameterRC(tpm2.RCScheme, a.scheme)
		for fault, tc := range map[string]struct {
			key    tpm2.Public
			scheme tpm2.SigScheme
			want   tpm2.RC
		}{
			"a storage key":         {eccTemplate(storing), ecdsa(tpm2.AlgSHA256), badKey},
			"an AES key":            {symTemplate(signing), tpm2.SigScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256}, badKey},
			"no scheme at all":      {eccTemplate(signing), noScheme(), badScheme},
			"another scheme":        {restrictedKey(), tpm2.SigScheme{Scheme: tpm2.AlgECSchnorr, HashAlg: tpm2.AlgSHA256}, badScheme},
			"another hash":          {restrictedKey(), ecdsa(tpm2.AlgSHA384), badScheme},
			"a scheme of RSA":       {eccTemplate(signing), tpm2.SigScheme{Scheme: tpm2.AlgRSASSA, HashAlg: tpm2.AlgSHA256}, badScheme},
			"HMAC with ECC":         {eccTemplate(signing), tpm2.SigScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256}, badScheme},
			"ECDSA with HMAC":       {keyedHashTemplate(signing), ecdsa(tpm2.AlgSHA256), badScheme},
			"ECDAA without a count": {anonymous, noScheme(), badScheme},
		} {
			t.Run(name+"/"+fault, func(t *testing.T) {
				m, key := newWitness(t, tpm2.HandleEndorsement, tc.key)
				if _, rc := m.attests(a, key, tc.scheme, ""); rc != tc.want {
					t.Errorf("%s = %v (%#x), want %v", commandName(a.cc), rc, uint32(rc), tc.want)
				}
			})
		}
	}
}

func TestWithoutAKeyNothingIsSigned(t *testing.T) {
	for name, a := range attestings() {
		t.Run(name, func(t *testing.T) {
			m, _ := newWitness(t, tpm2.HandleEndorsement, restrictedKey())
			out, rc := m.attests(a, tpm2.HandleNull, tpm2.SigScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}, "nonce")
			if a.cc == tpm2.CCQuote {
				if rc != parameterRC(tpm2.RCScheme, 2) {
					t.Errorf("Quote = %v, want TPM_RC_SCHEME (parameter 2): no hash for the PCRs", rc)
				}
				return
			}
			if rc != tpm2.RCSuccess || out.Signature.SigAlg != tpm2.AlgNull {
				t.Fatalf("%s = %v with signature %+v", commandName(a.cc), rc, out.Signature)
			}
			at, err := tpm2.ParseAttest(out.Info)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(at.QualifiedSigner, be32(uint32(tpm2.HandleNull))) || string(at.ExtraData) != "nonce" {
				t.Errorf("signer %x, extra data %q", at.QualifiedSigner, at.ExtraData)
			}
		})
	}
}

// Keys outside the endorsement and platform hierarchies tell counts with an offset
// that is theirs.
func TestCountsAreHiddenFromOthersThanTheEndorsement(t *testing.T) {
	a := attestings()["GetTime"]
	for h, hidden := range map[tpm2.Handle]bool{
		tpm2.HandleOwner: true, tpm2.HandleNull: true, tpm2.HandleEndorsement: false, tpm2.HandlePlatform: false,
	} {
		m, key := newWitness(t, h, restrictedKey())
		at := func() *tpm2.Attest {
			out, rc := m.attests(a, key, noScheme(), "")
			at, err := tpm2.ParseAttest(out.Info)
			if rc != tpm2.RCSuccess || err != nil {
				t.Fatal(rc, err)
			}
			return at
		}
		one, two := at(), at()
		plain := one.Attested.Time
		if got := one.ClockInfo.ResetCount != plain.Time.ClockInfo.ResetCount && one.ClockInfo.RestartCount != plain.Time.ClockInfo.RestartCount &&
			one.FirmwareVersion != plain.FirmwareVersion; got != hidden {
			t.Errorf("counts hidden from %v: %v, want %v", h, got, hidden)
		}
		if one.ClockInfo.ResetCount != two.ClockInfo.ResetCount || one.FirmwareVersion != two.FirmwareVersion {
			t.Errorf("the offset of a key in %v is not constant", h)
		}
		if one.ClockInfo.Clock != plain.Time.ClockInfo.Clock || plain.Time.Time != 20_000 {
			t.Errorf("clock %d and time %d are not what they were", one.ClockInfo.Clock, plain.Time.Time)
		}
	}
}

// An anonymous signer says neither who it is nor what it was asked with, and uses
// a commitment once.
func TestAnonymousAttestationsDoNotTellWhoSigned(t *testing.T) {
	template := restrictedKey()
	template.Parameters.ECC.Scheme.Scheme = tpm2.AlgECDAA
	for name, a := range attestings() {
		t.Run(name, func(t *testing.T) {
			m, key := newWitness(t, tpm2.HandleEndorsement, template)
			var made command.CommitOut
			m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{}, &made)
			scheme := tpm2.SigScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256, Count: made.Counter}
			out, rc := m.attests(a, key, scheme, "nonce")
			at, err := tpm2.ParseAttest(out.Info)
			if rc != tpm2.RCSuccess || err != nil {
				t.Fatal(rc, err)
			}
			if len(at.QualifiedSigner) != 0 || len(at.ExtraData) != 0 || len(at.Attested.Certify.QualifiedName) != 0 {
				t.Errorf("an anonymous attestation tells %+v", at)
			}
			// [s]G = E + [H(K || H(nonce || H(attestation)))]Q (Part 1, C.4.2).
			c := sum(out.Signature.R, sum([]byte("nonce"), sum(out.Info)))
			want := p256(t, made.E)
			want.Add(want, times(t, p256(t, m.public(key).Unique.ECC), c))
			if got := times(t, nil, out.Signature.S); !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Error("the signature does not fit its commitment")
			}
			if _, rc := m.attests(a, key, scheme, "nonce"); rc != tpm2.RCValue {
				t.Errorf("a second use of the commitment = %v, want TPM_RC_VALUE", rc)
			}
		})
	}
}

func TestWhatIsAttested(t *testing.T) {
	m, key := newWitness(t, tpm2.HandleEndorsement, restrictedKey())
	var object command.ReadPublicOut
	m.do(tpm2.CCReadPublic, handles(0x80000000), nil, nil, &object)
	ones := bytes.Repeat([]byte{0xff}, 32)
	want := map[string]tpm2.Attested{
		"Certify":         {Certify: tpm2.CertifyInfo{Name: object.Name, QualifiedName: object.QualifiedName}},
		"CertifyCreation": {Creation: tpm2.CreationInfo{ObjectName: object.Name, CreationHash: m.made.CreationHash}},
		"Quote": {Quote: tpm2.QuoteInfo{
			PCRSelect: tpm2.PCRSelections{{Hash: tpm2.AlgSHA256, Select: tpm2.SelectPCRs(0, 7, 17)}, {Hash: tpm2.AlgSHA3x256}},
			PCRDigest: sum(zeros(), zeros(), ones),
		}},
		"GetTime":    {Time: tpm2.TimeAttestInfo{Time: m.clock()}},
		"NV_Certify": {NV: tpm2.NVCertifyInfo{IndexName: m.name(policyIndex), Offset: 2, NVContents: []byte("2345")}},
	}
	for name, w := range want {
		a := attestings()[name]
		out, rc := m.attests(a, key, noScheme(), "")
		at, err := tpm2.ParseAttest(out.Info)
		if rc != tpm2.RCSuccess || err != nil {
			t.Fatal(name, rc, err)
		}
		w.Time.FirmwareVersion = at.Attested.Time.FirmwareVersion // compared below, with the other
		if d := cmp.Diff(w, at.Attested); d != "" {
			t.Errorf("%s attests (-want +got):\n%s", name, d)
		}
		if name == "GetTime" && at.FirmwareVersion != at.Attested.Time.FirmwareVersion {
			t.Errorf("firmware is told as %x and %x", at.FirmwareVersion, at.Attested.Time.FirmwareVersion)
		}
	}
}

func TestCertifyCreationWantsTheTicketOfTheCreation(t *testing.T) {
	for name, change := range map[string]func(m *witness, in *command.CertifyCreationIn, h []tpm2.Handle){
		"another hash": func(_ *witness, in *command.CertifyCreationIn, _ []tpm2.Handle) { in.CreationHash = sum() },
		"a short hash": func(_ *witness, in *command.CertifyCreationIn, _ []tpm2.Handle) {
			in.CreationHash = in.CreationHash[1:]
		},
		"another hierarchy": func(_ *witness, in *command.CertifyCreationIn, _ []tpm2.Handle) {
			in.CreationTicket.Hierarchy = tpm2.HandleEndorsement
		},
		"another digest": func(_ *witness, in *command.CertifyCreationIn, _ []tpm2.Handle) { in.CreationTicket.Digest[0]++ },
		"no digest":      func(_ *witness, in *command.CertifyCreationIn, _ []tpm2.Handle) { in.CreationTicket.Digest = nil },
		"another object": func(_ *witness, _ *command.CertifyCreationIn, h []tpm2.Handle) { h[1] = h[0] },
		"another TPM's": func(m *witness, _ *command.CertifyCreationIn, _ []tpm2.Handle) {
			m.tpm.SetProof(tpm2.HandleOwner, zeros())
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, key := newWitness(t, tpm2.HandleEndorsement, restrictedKey())
			in := &command.CertifyCreationIn{InScheme: noScheme(), CreationHash: m.made.CreationHash, CreationTicket: m.made.CreationTicket}
			h := handles(key, 0x80000000)
			m.do(tpm2.CCCertifyCreation, h, password(""), in, nil)
			change(m, in, h)
			m.fails(parameterRC(tpm2.RCTicket, 4), tpm2.CCCertifyCreation, h, password(""), in)
		})
	}
}

func TestNVCertifyReadsWhatMayBeRead(t *testing.T) {
	m, key := newWitness(t, tpm2.HandleEndorsement, restrictedKey())
	h := handles(key, policyIndex, policyIndex)
	part := func(size, offset uint16) *command.NVCertifyIn {
		return &command.NVCertifyIn{InScheme: noScheme(), Size: size, Offset: offset}
	}
	var out certified
	m.do(tpm2.CCNVCertify, h, password("", ""), part(0, 0), &out)
	at, err := tpm2.ParseAttest(out.Info)
	if err != nil {
		t.Fatal(err)
	}
	if want := (tpm2.NVDigestCertifyInfo{IndexName: m.name(policyIndex), NVDigest: sum([]byte("0123456789"))}); at.Type != tpm2.AttestNVDigest || !cmp.Equal(at.Attested.NVDigest, want) {
		t.Errorf("a whole index is attested as %v %+v, want %+v", at.Type, at.Attested.NVDigest, want)
	}
	m.do(tpm2.CCNVCertify, h, password("", ""), part(0, 10), nil)
	m.fails(tpm2.RCNVRange, tpm2.CCNVCertify, h, password("", ""), part(0, 11))
	m.fails(tpm2.RCNVRange, tpm2.CCNVCertify, h, password("", ""), part(9, 2))
	m.fails(tpm2.RCNVRange, tpm2.CCNVCertify, h, password("", ""), part(0xffff, 0xffff))
	m.fails(tpm2.RCNVAuthorization, tpm2.CCNVCertify, handles(key, tpm2.HandlePlatform, policyIndex), password("", ""), part(1, 0))
	// Of a large index only what a response can carry.
	large := tpm2.NVPublic{NVIndex: policyIndex + 1, NameAlg: tpm2.AlgSHA256, DataSize: 2048, Attributes: tpm2.NVOwnerRead | tpm2.NVOwnerWrite}
	m.do(tpm2.CCNVDefineSpace, handles(tpm2.HandleOwner), password(""), &command.NVDefineSpaceIn{PublicInfo: large}, nil)
	h = handles(key, tpm2.HandleOwner, policyIndex+1)
	m.fails(tpm2.RCNVUninitialized, tpm2.CCNVCertify, h, password("", ""), part(1, 0))
	m.do(tpm2.CCNVWrite, h[1:], password(""), &command.NVWriteIn{Data: []byte("x")}, nil)
	m.do(tpm2.CCNVCertify, h, password("", ""), part(1024, 1024), nil)
	m.fails(parameterRC(tpm2.RCValue, 3), tpm2.CCNVCertify, h, password("", ""), part(1025, 0))
}

// A clock that was signed must not be told again: a shutdown before it is void.
func TestASignedClockEndsAnOrderlyShutdown(t *testing.T) {
	for name, tc := range map[string]struct {
		signed bool
		want   tpm2.RC
	}{"signed": {true, parameterRC(tpm2.RCValue, 1)}, "not signed": {false, tpm2.RCSuccess}} {
		t.Run(name, func(t *testing.T) {
			m, key := newWitness(t, tpm2.HandleEndorsement, restrictedKey())
			if !tc.signed {
				key = tpm2.HandleNull
			}
			m.do(tpm2.CCShutdown, nil, nil, &command.ShutdownIn{ShutdownType: tpm2.StartupState}, nil)
			if _, rc := m.attests(attestings()["GetTime"], key, noScheme(), ""); rc != tpm2.RCSuccess {
				t.Fatal(rc)
			}
			m.tpm.PowerOn()
			if rc := m.run(tpm2.CCStartup, nil, nil, &command.StartupIn{StartupType: tpm2.StartupState}, nil); rc != tc.want {
				t.Errorf("Startup(STATE) = %v, want %v", rc, tc.want)
			}
		})
	}
}

// Each key has an offset of its own (Part 3, 18.1), an anonymous one too: who saw one
// offset twice would know that two signers are of one TPM.
func TestAnonymousKeysAreNotLinkedByTheirCounts(t *testing.T) {
	template := restrictedKey()
	template.Parameters.ECC.Scheme.Scheme = tpm2.AlgECDAA
	m, one := newWitness(t, tpm2.HandleOwner, template)
	template.Unique.ECC.X = []byte{1}
	other := m.primary(tpm2.HandleOwner, template, "")
	told := func(key tpm2.Handle) *tpm2.Attest {
		var made command.CommitOut
		m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{}, &made)
		out, rc := m.attests(attestings()["Quote"], key, tpm2.SigScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256, Count: made.Counter}, "")
		at, err := tpm2.ParseAttest(out.Info)
		if rc != tpm2.RCSuccess || err != nil {
			t.Fatal(rc, err)
		}
		return at
	}
	a, b := told(one), told(other)
	if a.ClockInfo.ResetCount == b.ClockInfo.ResetCount || a.FirmwareVersion == b.FirmwareVersion {
		t.Errorf("two anonymous keys tell the resetCounts %#x and %#x, the firmware versions %#x and %#x", a.ClockInfo.ResetCount, b.ClockInfo.ResetCount, a.FirmwareVersion, b.FirmwareVersion)
	}
}
