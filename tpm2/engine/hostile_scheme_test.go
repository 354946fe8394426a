package engine_test

import (
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// CVE-2025-49133: libtpms read beyond its buffers when an HMAC key was to sign by the
// scheme of another kind of key. Each command that signs refuses to, for a key with its
// own scheme and for one without, and the TPM goes on.
func TestCVE2025x49133AnHMACKeySignsByNoOtherScheme(t *testing.T) {
	schemeless := outsideHMAC(bothUses, "key")
	schemeless.public.Parameters.KeyedHash = tpm2.KeyedHashScheme{Scheme: tpm2.AlgNull}
	for name, key := range map[string]*outside{"HMAC": outsideHMAC(usable|tpm2.AttrSign, "key"), "no scheme": schemeless} {
		m := newMachine(t)
		m.defineIndex(tpm2.HandleOwner, anIndex, byOwner)
		m.do(tpm2.CCNVWrite, handles(tpm2.HandleOwner, anIndex), password(""), &command.NVWriteIn{Data: make([]byte, 8)}, nil)
		s := m.session(sessionConfig{})
		m.random(s, tpm2.SessionAudit)
		other := m.storage("")
		h := m.external(key)
		one, two := password(""), password("", "")
		try := func(what string, want func(rc tpm2.RC) bool, scheme tpm2.SigScheme) {
			t.Helper()
			sign := signIn(sum())
			sign.InScheme = scheme
			creation := &command.CertifyCreationIn{CreationHash: make([]byte, 32), InScheme: scheme, CreationTicket: tpm2.CreationTicket{Hierarchy: tpm2.HandleOwner, Digest: make([]byte, 64)}}
			for _, c := range []struct {
				cc tpm2.CC
				rc tpm2.RC
			}{
				{tpm2.CCSign, m.run(tpm2.CCSign, handles(h), one, sign, nil)},
				{tpm2.CCQuote, m.run(tpm2.CCQuote, handles(h), one, &command.QuoteIn{InScheme: scheme, PCRSelect: selection(tpm2.AlgSHA256, 0)}, nil)},
				{tpm2.CCCertify, m.run(tpm2.CCCertify, handles(other, h), two, &command.CertifyIn{InScheme: scheme}, nil)},
				{tpm2.CCCertifyCreation, m.run(tpm2.CCCertifyCreation, handles(h, other), one, creation, nil)},
				{tpm2.CCGetTime, m.run(tpm2.CCGetTime, handles(tpm2.HandleEndorsement, h), two, &command.GetTimeIn{InScheme: scheme}, nil)},
				{tpm2.CCNVCertify, m.run(tpm2.CCNVCertify, handles(h, tpm2.HandleOwner, anIndex), two, &command.NVCertifyIn{InScheme: scheme, Size: 8}, nil)},
				{tpm2.CCGetCommandAuditDigest, m.run(tpm2.CCGetCommandAuditDigest, handles(tpm2.HandleEndorsement, h), two, &command.GetCommandAuditDigestIn{InScheme: scheme}, nil)},
				{tpm2.CCGetSessionAuditDigest, m.run(tpm2.CCGetSessionAuditDigest, handles(tpm2.HandleEndorsement, h, s.handle), two, &command.GetSessionAuditDigestIn{InScheme: scheme}, nil)},
			} {
				if !want(c.rc) {
					t.Errorf("%s key: %s by %s = %v (%#x)", name, commandName(c.cc), what, c.rc, uint32(c.rc))
				}
			}
		}
		for _, a := range []tpm2.Alg{tpm2.AlgRSASSA, tpm2.AlgRSAPSS, tpm2.AlgECDSA, tpm2.AlgECDAA, tpm2.AlgECSchnorr} {
			try(a.BankName(), func(rc tpm2.RC) bool { return rc.Base() == tpm2.RCScheme }, tpm2.SigScheme{Scheme: a, HashAlg: tpm2.AlgSHA256})
		}
		// By its own all of them sign but one, whose ticket is of another TPM.
		signed := 0
		try("HMAC", func(rc tpm2.RC) bool {
			if rc == tpm2.RCSuccess {
				signed++
			}
			return rc == tpm2.RCSuccess || rc.Base() == tpm2.RCTicket
		}, tpm2.SigScheme{Scheme: tpm2.AlgHMAC, HashAlg: tpm2.AlgSHA256})
		if signed != 7 {
			t.Errorf("%s key: %d of 8 commands sign by HMAC, want 7", name, signed)
		}
	}
}
