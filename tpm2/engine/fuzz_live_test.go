package engine_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// A flow is commands of which the later ones have what the earlier ones gave: what is
// wrapped, signed, saved or agreed upon, of which no fixed bytes would be right.
type flow struct {
	scene string
	run   func(m *machine)
}

// flows end, each, with commands that no seed of one command has run.
func flows() []flow {
	return []flow{
		{"after Startup", loadFlow},
		{"after Startup", importFlow},
		{"after Startup", credentialFlow},
		{"after Startup", sessionFlow},
		{"after Startup", contextFlow},
		{"after Startup", creationFlow},
		{"after Startup", x509Flow},
		{"after Startup", signatureFlow},
		{"after Startup", ticketFlow},
		{"after Startup", commitFlow},
		{"after Startup", agreementFlow},
		{"after Startup", encryptionFlow},
		{"after Startup", bitsFlow},
		{"after Startup", certifiedIndexFlow},
		{"after Startup", indexPolicyFlow},
		{"after Startup", deletionFlow},
		{"after Startup", approvedIndexFlow},
		{"policies", presenceFlow},
		{"post-quantum", encapsulationFlow},
		{"post-quantum", messageFlow},
		{"post-quantum", digestFlow},
		{"post-quantum", mldsaFlow},
		{"post-quantum", externalMuFlow},
		{"post-quantum", hashMLDSAFlow},
	}
}

// ecdsaKey signs by one scheme alone.
func ecdsaKey() tpm2.Public {
	p := eccTemplate(signing)
	p.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256}
	return p
}

func loadFlow(m *machine) { m.child(m.storage(""), keyedHashTemplate(fixed|usable), "", "sealed") }

func importFlow(m *machine) {
	parent := m.storage("")
	o := outsideHMAC(usable|tpm2.AttrSign, "key")
	plain, err := wire.Encode(&tpm2.Sensitive2B{Sensitive: &o.sensitive})
	if err != nil {
		m.Fatal(err)
	}
	m.imports(parent, &command.ImportIn{ObjectPublic: o.public, Duplicate: plain})
	name, err := o.public.Name()
	if err != nil {
		m.Fatal(err)
	}
	m.do(tpm2.CCRewrap, handles(tpm2.HandleNull, parent), password(""), &command.RewrapIn{InDuplicate: plain, Name: name}, nil)
}

func credentialFlow(m *machine) {
	parent, key := m.storage(""), m.primary(tpm2.HandleOwner, eccTemplate(signing), "")
	var made command.MakeCredentialOut
	m.do(tpm2.CCMakeCredential, handles(parent), nil, &command.MakeCredentialIn{Credential: make([]byte, 16), ObjectName: m.name(key)}, &made)
	m.do(tpm2.CCActivateCredential, handles(key, parent), password("", ""),
		&command.ActivateCredentialIn{CredentialBlob: made.CredentialBlob, Secret: made.Secret}, nil)
}

func sessionFlow(m *machine) {
	s := m.session(sessionConfig{symmetric: aes128()})
	m.random(s, tpm2.SessionAudit)
	m.random(s, tpm2.SessionAudit, tpm2.SessionEncrypt)
	m.sessionAudit(s)
}

func contextFlow(m *machine) {
	key, s := m.storage(""), m.session(sessionConfig{})
	object, session := m.save(key), m.save(s.handle)
	m.loadContext(object)
	m.loadContext(session)
}

func creationFlow(m *machine) {
	var made command.CreatePrimaryOut
	m.do(tpm2.CCCreatePrimary, handles(tpm2.HandleOwner), password(""), &command.CreatePrimaryIn{InPublic: ecdsaKey()}, &made)
	m.do(tpm2.CCCertifyCreation, handles(m.handle, m.handle), password(""),
		&command.CertifyCreationIn{CreationHash: made.CreationHash, InScheme: noScheme(), CreationTicket: made.CreationTicket}, nil)
}

func x509Flow(m *machine) {
	key := m.primary(tpm2.HandleOwner, ecdsaKey(), "")
	if _, rc := m.certifyX509(key, key, noScheme(), mustDER(m, *newPartial(usage(m, 0x80)))); rc != tpm2.RCSuccess {
		m.Fatalf("TPM2_CertifyX509 = %v", rc)
	}
}

// signatureFlow signs a policy, verifies that and has a session take it.
func signatureFlow(m *machine) {
	key := m.primary(tpm2.HandleOwner, ecdsaKey(), "")
	k := signer{key, func(digest []byte) tpm2.Signature {
		var out command.SignOut
		m.do(tpm2.CCSign, handles(key), password(""), signIn(digest), &out)
		return out.Signature
	}}
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	for _, a := range []assertion{{cc: tpm2.CCPolicyAuthorize, in: m.approve(k, zeros(), "")}, k.by(&command.PolicySignedIn{})} {
		if rc := m.asserts(s, a); rc != tpm2.RCSuccess {
			m.Fatalf("%s = %v", commandName(a.cc), rc)
		}
	}
}

func ticketFlow(m *machine) {
	ticket := m.secretTicket()
	s := m.session(sessionConfig{kind: tpm2.SessionPolicy})
	if rc := m.asserts(s, assertion{cc: tpm2.CCPolicyTicket, in: &ticket.in}); rc != tpm2.RCSuccess {
		m.Fatalf("TPM2_PolicyTicket = %v", rc)
	}
}

func commitFlow(m *machine) {
	p := eccTemplate(signing)
	anonymous(&p)
	key := m.primary(tpm2.HandleOwner, p, "")
	var made command.CommitOut
	m.do(tpm2.CCCommit, handles(key), password(""), &command.CommitIn{P1: m.public(key).Unique.ECC}, &made)
	in := signIn(sum())
	in.InScheme = tpm2.SigScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256, Count: made.Counter}
	m.do(tpm2.CCSign, handles(key), password(""), in, nil)
}

func agreementFlow(m *machine) {
	key := m.primary(tpm2.HandleOwner, eccTemplate(decrypting), "")
	point := m.public(key).Unique.ECC
	for _, a := range []tpm2.Alg{tpm2.AlgECDH, tpm2.AlgECMQV} {
		mine, theirs := m.ephemeral(), &command.ECEphemeralOut{Q: point}
		m.agree(a, key, point, theirs, mine.Counter)
	}
}

func encryptionFlow(m *machine) {
	key := m.primary(tpm2.HandleOwner, eccTemplate(decrypting), "")
	kdf := tpm2.KDFScheme{Scheme: tpm2.AlgKDF2, HashAlg: tpm2.AlgSHA256}
	var out command.ECCEncryptOut
	m.do(tpm2.CCECCEncrypt, handles(key), nil, &command.ECCEncryptIn{PlainText: []byte("plain"), InScheme: kdf}, &out)
	m.do(tpm2.CCECCDecrypt, handles(key), password(""), &command.ECCDecryptIn{C1: out.C1, C2: out.C2, C3: out.C3, InScheme: kdf}, nil)
}

func bitsFlow(m *machine) {
	m.defineNV(index(byOwner | tpm2.NVBits.Attributes() | tpm2.NVReadSTClear))
	m.nvDo(tpm2.CCNVSetBits, tpm2.HandleOwner, &command.NVSetBitsIn{Bits: 5})
	m.nvDo(tpm2.CCNVReadLock, tpm2.HandleOwner, nil)
}

func certifiedIndexFlow(m *machine) {
	key := m.primary(tpm2.HandleOwner, ecdsaKey(), "")
	m.defineNV(index(byOwner))
	m.nvDo(tpm2.CCNVWrite, tpm2.HandleOwner, &command.NVWriteIn{Data: make([]byte, 8)})
	for _, size := range []uint16{8, 0} {
		m.do(tpm2.CCNVCertify, handles(key, tpm2.HandleOwner, anIndex), password("", ""), &command.NVCertifyIn{InScheme: noScheme(), Size: size}, nil)
	}
}

// ofIndex asserts the command that a policy of anIndex names.
func (m *machine) ofIndex(cc tpm2.CC) *session {
	m.Helper()
	return m.satisfied(assertion{cc: tpm2.CCPolicyCommandCode, in: &command.PolicyCommandCodeIn{Code: cc}})
}

func indexPolicyFlow(m *machine) {
	p := index(byAuth)
	p.AuthPolicy = commandPolicy(tpm2.CCNVChangeAuth)
	m.defineNV(p)
	m.do(tpm2.CCNVChangeAuth, handles(anIndex), m.ofIndex(tpm2.CCNVChangeAuth).with("pin"), &command.NVChangeAuthIn{}, nil)
}

func deletionFlow(m *machine) {
	p := index(byOwner | tpm2.NVPlatformCreate | tpm2.NVPolicyDelete)
	p.AuthPolicy = commandPolicy(tpm2.CCNVUndefineSpaceSpecial)
	m.defineNV(p)
	s := m.ofIndex(tpm2.CCNVUndefineSpaceSpecial)
	m.do(tpm2.CCNVUndefineSpaceSpecial, handles(anIndex, tpm2.HandlePlatform), append(s.with("pin"), password("")...), nil, nil)
}

func approvedIndexFlow(m *machine) {
	m.filled(append(be16(uint16(tpm2.AlgSHA256)), zeros()...))
	if rc := m.asserts(m.satisfied(), assertion{tpm2.CCPolicyAuthorizeNV, handles(policyIndex, policyIndex), nil}); rc != tpm2.RCSuccess {
		m.Fatalf("TPM2_PolicyAuthorizeNV = %v", rc)
	}
}

func presenceFlow(m *machine) {
	m.do(tpm2.CCPPCommands, handles(tpm2.HandlePlatform), password(""), &command.PPCommandsIn{SetList: []tpm2.CC{tpm2.CCClear}}, nil)
}

func encapsulationFlow(m *machine) {
	var out command.EncapsulateOut
	m.do(tpm2.CCEncapsulate, handles(sceneRSA), nil, nil, &out)
	m.do(tpm2.CCDecapsulate, handles(sceneRSA), password(""), &command.DecapsulateIn{Ciphertext: out.Ciphertext}, nil)
}

func messageFlow(m *machine) {
	m.flush(sceneRSA)
	sig := m.signMessage(sceneHMACKey, "message")
	h := m.verifying(sceneHMACKey, "message")
	m.do(tpm2.CCVerifySequenceComplete, handles(h, sceneHMACKey), password(""), &command.VerifySequenceCompleteIn{Signature: sig}, nil)
}

func digestFlow(m *machine) {
	key := m.primary(tpm2.HandleNull, ecdsaKey(), "")
	m.digestsAreSigned(key, sum())
}

// mldsaFlow signs a message in parts and verifies it.
func mldsaFlow(m *machine) {
	m.flush(sceneRSA)
	key := m.external(outsideMLDSA(m, externalMu(mldsaTemplate(tpm2.MLDSA44, usable|tpm2.AttrSign))))
	h := m.startSigning(key, "context")
	sig := m.endSigning(h, key, "a message")
	h = m.startVerifying(key, "context")
	m.update(h, "", "a message")
	m.do(tpm2.CCVerifySequenceComplete, handles(h, key), password(""), &command.VerifySequenceCompleteIn{Signature: *sig}, nil)
}

// externalMuFlow signs a representative and an attestation.
func externalMuFlow(m *machine) {
	m.flush(sceneRSA)
	key := m.primary(tpm2.HandleNull, externalMu(mldsaTemplate(tpm2.MLDSA44, signing)), "")
	m.do(tpm2.CCSignDigest, handles(key), password(""), &command.SignDigestIn{Digest: make([]byte, 64), Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}}, nil)
	m.do(tpm2.CCQuote, handles(key), password(""), &command.QuoteIn{InScheme: noScheme(), PCRSelect: selection(tpm2.AlgSHA256, 0)}, nil)
}

// hashMLDSAFlow signs and verifies a digest with a context.
func hashMLDSAFlow(m *machine) {
	m.flush(sceneRSA)
	key := m.primary(tpm2.HandleNull, hashMLDSATemplate(tpm2.MLDSA44, tpm2.AlgSHA256, signing), "")
	context := []byte("context")
	var out command.SignDigestOut
	m.do(tpm2.CCSignDigest, handles(key), password(""), &command.SignDigestIn{Context: context, Digest: sum(), Validation: tpm2.HashCheckTicket{Hierarchy: tpm2.HandleNull}}, &out)
	m.do(tpm2.CCVerifyDigestSignature, handles(key), nil, &command.VerifyDigestSignatureIn{Context: context, Digest: sum(), Signature: out.Signature}, nil)
	m.endSigning(m.startSigning(key, "context"), key, "message")
}

// stream is the flow as one input of the fuzzer: its commands one behind the other,
// but for questions for Names.
func (f flow) stream(t testing.TB, s *scene) []byte {
	t.Helper()
	var steps []step
	m := s.machine(t)
	m.trace = &steps
	f.run(m)
	var out []byte
	n := 0
	for _, c := range steps {
		switch tpm2.CC(binary.BigEndian.Uint32(c.request[6:])) {
		case tpm2.CCReadPublic, tpm2.CCNVReadPublic:
			continue
		}
		out, n = append(out, c.request...), n+1
	}
	if n > maxStream {
		t.Fatalf("a flow has %d commands, an input of the fuzzer at most %d", n, maxStream)
	}
	return out
}

// find returns the number of a scene.
func find(t testing.TB, all []*scene, name string) int {
	t.Helper()
	i := slices.IndexFunc(all, func(s *scene) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("there is no scene %q", name)
	}
	return i
}

// runs notes which commands of a stream succeed.
func (s *scene) runs(t testing.TB, stream []byte, into map[tpm2.CC]bool) {
	t.Helper()
	m := s.machine(t)
	for _, request := range commands(stream, false) {
		if b := m.tpm.Execute(0, request); bytes.Equal(b[6:10], make([]byte, 4)) {
			into[tpm2.CC(binary.BigEndian.Uint32(request[6:]))] = true
		}
	}
}

// A seed that is only refused gives the fuzzer nothing of its command to change.
func TestASeedRunsEveryCommand(t *testing.T) {
	all, live := scenes(t), map[tpm2.CC]bool{}
	for _, f := range flows() {
		s := all[find(t, all, f.scene)]
		s.runs(t, f.stream(t, s), live)
	}
	for n, s := range all {
		for _, request := range s.meant(t, n) {
			if cc := tpm2.CC(binary.BigEndian.Uint32(request[6:])); !live[cc] {
				s.runs(t, request, live)
			}
		}
	}
	for _, info := range command.All() {
		if !live[info.Code] {
			t.Errorf("no seed has %s succeed", info.Name)
		}
	}
}
