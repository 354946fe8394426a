package engine_test

import (
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// The checks of the authorization area (Part 3, 5.5 and 5.6) that come before any
// authValue or policy.
func TestAuthorizationAreasAreChecked(t *testing.T) {
	random := &command.GetRandomIn{BytesRequested: 8}
	secret := &command.PolicySecretIn{}
	for name, tc := range map[string]struct {
		cc      tpm2.CC
		handles func(m *machine) []tpm2.Handle
		auths   func(m *machine) []auth
		in      wire.Layout
		want    tpm2.RC
	}{
		"none where one is needed": {tpm2.CCPolicySecret, ownerAndPolicy, func(*machine) []auth { return nil }, secret, tpm2.RCAuthMissing},
		"one where two are needed": {
			tpm2.CCGetTime, func(*machine) []tpm2.Handle { return handles(tpm2.HandleEndorsement, tpm2.HandleNull) },
			func(*machine) []auth { return password("") }, &command.GetTimeIn{InScheme: noScheme()}, tpm2.RCAuthMissing,
		},
		"with a command that takes none": {
			tpm2.CCFlushContext, func(*machine) []tpm2.Handle { return nil },
			func(*machine) []auth { return password("") }, &command.FlushContextIn{FlushHandle: 0x02000000}, tpm2.RCAuthContext,
		},
		"a password for nothing":   {tpm2.CCGetRandom, nil, func(*machine) []auth { return password("") }, random, sessionRC(tpm2.RCHandleValue, 1)},
		"a password that encrypts": {tpm2.CCPolicySecret, ownerAndPolicy, func(*machine) []auth { return []auth{{attributes: tpm2.SessionEncrypt}} }, secret, sessionRC(tpm2.RCAttributes, 1)},
		"a password that audits":   {tpm2.CCPolicySecret, ownerAndPolicy, func(*machine) []auth { return []auth{{attributes: tpm2.SessionAudit}} }, secret, sessionRC(tpm2.RCAttributes, 1)},
		"a session for nothing":    {tpm2.CCGetRandom, nil, func(m *machine) []auth { return m.session(sessionConfig{}).with("") }, random, sessionRC(tpm2.RCAttributes, 1)},
		"a session twice": {tpm2.CCGetRandom, nil, func(m *machine) []auth {
			s := m.session(sessionConfig{})
			return append(s.with("", tpm2.SessionAudit), s.with("", tpm2.SessionAudit)...)
		}, random, sessionRC(tpm2.RCHandleValue, 2)},
		"a session that is not there": {tpm2.CCGetRandom, nil, func(m *machine) []auth {
			s := m.session(sessionConfig{})
			m.flush(s.handle)
			return s.with("", tpm2.SessionAudit)
		}, random, tpm2.RCReferenceS0},
		"an HMAC session as a policy session": {tpm2.CCGetRandom, nil, func(m *machine) []auth {
			s := m.session(sessionConfig{})
			s.handle += tpm2.KindPolicySession.First() - tpm2.KindHMACSession.First()
			return s.with("", tpm2.SessionAudit)
		}, random, sessionRC(tpm2.RCHandleValue, 1)},
		"a handle of no session": {tpm2.CCGetRandom, nil, func(m *machine) []auth {
			s := m.session(sessionConfig{})
			s.handle = tpm2.HandleOwner
			return s.with("", tpm2.SessionAudit)
		}, random, sessionRC(tpm2.RCValue, 1)},
		"nothing to decrypt": {tpm2.CCGetRandom, nil, func(m *machine) []auth {
			return m.session(sessionConfig{symmetric: aes128()}).with("", tpm2.SessionDecrypt)
		}, &command.GetRandomIn{}, sessionRC(tpm2.RCAttributes, 1)},
		"nothing to encrypt": {tpm2.CCReadClock, nil, func(m *machine) []auth {
			return m.session(sessionConfig{symmetric: aes128()}).with("", tpm2.SessionEncrypt)
		}, nil, sessionRC(tpm2.RCAttributes, 1)},
		"no algorithm to encrypt by": {tpm2.CCGetRandom, nil, func(m *machine) []auth { return m.session(sessionConfig{}).with("", tpm2.SessionEncrypt) }, random, sessionRC(tpm2.RCSymmetric, 1)},
		"two that encrypt": {tpm2.CCGetRandom, nil, func(m *machine) []auth {
			one, two := m.session(sessionConfig{symmetric: aes128()}), m.session(sessionConfig{symmetric: aes128()})
			return append(one.with("", tpm2.SessionEncrypt), two.with("", tpm2.SessionEncrypt)...)
		}, random, sessionRC(tpm2.RCAttributes, 2)},
		"nobody is there": {
			tpm2.CCPPCommands, func(*machine) []tpm2.Handle { return handles(tpm2.HandlePlatform) },
			func(*machine) []auth { return password("") }, &command.PPCommandsIn{}, sessionRC(tpm2.RCPP, 1),
		},
		"four": {tpm2.CCGetRandom, nil, func(*machine) []auth { return password("", "", "", "") }, random, sessionRC(tpm2.RCSize, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			var h []tpm2.Handle
			if tc.handles != nil {
				h = tc.handles(m)
			}
			if rc := m.run(tc.cc, h, tc.auths(m), tc.in, nil); rc != tc.want {
				t.Errorf("%s = %v (%#x), want %v (%#x)", commandName(tc.cc), rc, uint32(rc), tc.want, uint32(tc.want))
			}
		})
	}
}

func ownerAndPolicy(m *machine) []tpm2.Handle {
	m.Helper()
	return handles(tpm2.HandleOwner, m.satisfied().handle)
}

// An area whose size is not that of its entries.
func TestAuthorizationAreasHaveTheirSize(t *testing.T) {
	m := newMachine(t)
	entry := []byte{0x40, 0, 0, 9, 0, 0, 1, 0, 0}
	for name, tc := range map[string]struct {
		area []byte
		want tpm2.RC
	}{
		"no size":      {nil, tpm2.RCInsufficient},
		"nothing else": {be32(9), tpm2.RCSize},
		"too small":    {append(be32(8), entry...), tpm2.RCSize},
		"too large":    {append(be32(10), entry...), tpm2.RCSize},
		"a bad handle": {append(be32(9), append(be32(0x40000001), entry[4:]...)...), sessionRC(tpm2.RCValue, 1)},
		"only a bad handle": {
			append(append(be32(13), entry...), be32(0x40000001)...), sessionRC(tpm2.RCValue, 2),
		},
		"cut off":          {append(be32(9), append(be32(0x40000009), 0, 9, 1, 0, 0)...), sessionRC(tpm2.RCInsufficient, 1)},
		"reserved bits":    {append(be32(9), append(be32(0x40000009), 0, 0, 8, 0, 0)...), sessionRC(tpm2.RCReservedBits, 1)},
		"a nonce, though":  {append(be32(10), append(be32(0x40000009), 0, 1, 7, 1, 0, 0)...), sessionRC(tpm2.RCNonce, 1)},
		"and an attribute": {append(be32(10), append(be32(0x40000009), 0, 1, 7, 0x40, 0, 0)...), sessionRC(tpm2.RCAttributes, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			request := append([]byte{0x80, 2, 0, 0, 0, 0}, be32(uint32(tpm2.CCClear))...)
			request = append(append(request, be32(uint32(tpm2.HandleLockout))...), tc.area...)
			copy(request[2:], be32(uint32(len(request))))
			rsp := m.tpm.Execute(0, request)
			if got := tpm2.RC(uint32(rsp[6])<<24 | uint32(rsp[7])<<16 | uint32(rsp[8])<<8 | uint32(rsp[9])); got != tc.want {
				t.Errorf("Clear = %v (%#x), want %v (%#x)", got, uint32(got), tc.want, uint32(tc.want))
			}
		})
	}
}
