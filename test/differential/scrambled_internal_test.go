package differential

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// twins is a stream of two TPMs of ours that differ in their randomness alone.
func twins(t *testing.T) *generator {
	t.Helper()
	begin := time.Now()
	made := byte(0)
	ours := func() (Peer, error) {
		made++
		return Ours("default", rand.NewChaCha8([32]byte{made}), func() time.Duration { return time.Since(begin) })
	}
	p, err := newPair(&Config{Seed: 1, Ours: ours, Theirs: ours}, newReport(false), 1)
	if err != nil {
		t.Fatal(err)
	}
	g := newGenerator(p, 1, 1)
	g.startup(tpm2.StartupClear)
	return g
}

// signer makes a key that its policy lets use, whatever the authValue.
func signer(t *testing.T, g *generator) *thing {
	t.Helper()
	policy := g.learn(recipeKey{kind: byPCR, hash: tpm2.AlgSHA256})
	p := &tpm2.Public{
		Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256, Attributes: ordinary | tpm2.AttrSign, AuthPolicy: policy.digest,
		Parameters: tpm2.PublicParms{ECC: eccParms(tpm2.CurveNISTP256, tpm2.ECCScheme{Scheme: tpm2.AlgECDSA, HashAlg: tpm2.AlgSHA256})},
	}
	auth := []byte("secret")
	s := g.plain(tpm2.CCCreatePrimary, &command.CreatePrimaryIn{InSensitive: tpm2.SensitiveCreate{UserAuth: auth}, InPublic: *p})
	s.handles, s.uses = []*thing{g.permanent[tpm2.HandleOwner]}, []use{{attr: tpm2.SessionContinue}}
	h, outs := g.run(s)
	if outs == nil {
		t.Fatal("no key was made")
	}
	return g.addObject(h, outs, auth, policy)
}

// A policy session that authorizes without the authValue encrypts with it all the
// same (Part 1, 21): with a wrong one, or a spoilt nonce, both TPMs run a command
// whose first parameter each has decrypted to something else. That is no difference
// between them, and nothing that follows compares.
func TestWhatEachTPMDecryptsToSomethingElseIsNoDifference(t *testing.T) {
	const nonce, attributes = 24, 56 // places in a request with one handle, and one session of SHA-256
	for name, tc := range map[string]struct {
		spoil  func(*step)
		attr   tpm2.SessionAttributes
		parted bool
	}{
		"nothing is spoilt":                  {func(*step) {}, tpm2.SessionDecrypt | tpm2.SessionEncrypt, false},
		"a wrong authValue":                  {func(s *step) { s.wrong = true }, tpm2.SessionDecrypt, true},
		"a wrong authValue that is not used": {func(s *step) { s.wrong = true }, 0, false},
		"a nonce":                            {func(s *step) { s.bend = bend{headed, nonce, 0} }, tpm2.SessionDecrypt, true},
		"decryption comes to be":             {func(s *step) { s.bend = bend{headed, attributes, 5} }, 0, true},
		"decryption is lost":                 {func(s *step) { s.bend = bend{headed, attributes, 5} }, tpm2.SessionDecrypt, true},
		"encryption comes to be":             {func(s *step) { s.bend = bend{headed, attributes, 6} }, 0, false},
		"an answer, by a wrong authValue":    {func(s *step) { s.wrong = true }, tpm2.SessionEncrypt, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := twins(t)
			key := signer(t, g)
			for g.report.ByCommand["TPM2_Quote"] == 0 { // some sessions have no cipher
				s := g.plain(tpm2.CCQuote, &command.QuoteIn{QualifyingData: []byte("what the caller sends"), InScheme: tpm2.SigScheme{Scheme: tpm2.AlgNull}})
				s.handles, s.uses = []*thing{key}, []use{{g.satisfied(key, s), tpm2.SessionContinue | tc.attr}}
				tc.spoil(s)
				g.run(s)
			}
			if g.report.Successes["TPM2_Quote"] != 1 || g.err != nil {
				t.Fatalf("TPM2_Quote was not run by both: %v\n%s", g.err, g.report)
			}
			if err := g.report.Err(); err != nil {
				t.Error(err)
			}
			if g.parted != tc.parted {
				t.Errorf("the streams part: %v, want %v", g.parted, tc.parted)
			}
		})
	}
}

// What each has decrypted may be a structure for the one and none for the other; but
// sessions are checked before, and neither refuses one that the other takes.
func TestOneOfTwoMayReadWhatEachDecryptsToSomethingElse(t *testing.T) {
	size := tpm2.RCSize.Of(tpm2.RCParameter, 1)
	for name, tc := range map[string]struct {
		wrong bool
		attr  tpm2.SessionAttributes
		rc    [2]tpm2.RC
		want  string
	}{
		"one reads it":            {true, tpm2.SessionDecrypt, [2]tpm2.RC{size, 0}, ""},
		"other faults":            {true, tpm2.SessionDecrypt, [2]tpm2.RC{tpm2.RCValue, size}, ""},
		"one refuses the session": {true, tpm2.SessionDecrypt, [2]tpm2.RC{0, tpm2.RCBadAuth.Of(tpm2.RCSession, 1)}, "response code"},
		"one refuses a handle":    {true, tpm2.SessionDecrypt, [2]tpm2.RC{0, tpm2.RCValue.Of(tpm2.RCHandle, 1)}, "response code"},
		"one asks for more":       {true, tpm2.SessionDecrypt, [2]tpm2.RC{0, tpm2.RCAuthMissing}, "response code"},
		"the right authValue":     {false, tpm2.SessionDecrypt, [2]tpm2.RC{size, 0}, "response code"},
		"nothing is decrypted":    {true, tpm2.SessionEncrypt, [2]tpm2.RC{size, 0}, "response code"},
	} {
		t.Run(name, func(t *testing.T) {
			info, _ := command.Lookup(tpm2.CCCreate)
			s := &step{info: info, wrong: tc.wrong, uses: []use{{attr: tc.attr}}}
			o := &Observation{RC: tc.rc}
			if s.compare(o, [2]error{}); o.Diff != tc.want {
				t.Errorf("%v, %v: %q, want %q", tc.rc[0], tc.rc[1], o.Diff, tc.want)
			}
		})
	}
}

// Of a key that each TPM has made, each decrypts what it has encrypted itself.
func TestAnRSAKeyOfOneTPMDecryptsWhatItEncrypted(t *testing.T) {
	g := twins(t)
	shared, err := tpmcrypto.GenerateRSA(nonces(1, 0), 2048, 65537)
	if err != nil {
		t.Fatal(err)
	}
	g.cfg.rsa = shared
	p := &tpm2.Public{
		Type: tpm2.AlgRSA, NameAlg: tpm2.AlgSHA256, Attributes: ordinary | tpm2.AttrDecrypt | tpm2.AttrNoDA,
		Parameters: tpm2.PublicParms{RSA: tpm2.RSAParms{Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: tpm2.RSAScheme{Scheme: tpm2.AlgNull}, KeyBits: 2048}},
	}
	make := g.plain(tpm2.CCCreatePrimary, &command.CreatePrimaryIn{InPublic: *p})
	make.handles, make.uses = []*thing{g.permanent[tpm2.HandleOwner]}, []use{{attr: tpm2.SessionContinue}}
	h, outs := g.run(make)
	if outs == nil {
		t.Fatal("no key was made")
	}
	key := g.addObject(h, outs, nil, nil)
	for range 30 {
		s := g.newStep(tpm2.CCRSADecrypt)
		s.handles, s.uses = []*thing{key}, []use{{attr: tpm2.SessionContinue}}
		if after := makeRSADecrypt(g, s); after != nil && s.handles[0] == key {
			g.run(s)
		}
	}
	if n := g.report.Successes["TPM2_RSA_Decrypt"]; n < 5 || g.err != nil {
		t.Errorf("both ran TPM2_RSA_Decrypt %d times: %v", n, g.err)
	}
	if err := g.report.Err(); err != nil {
		t.Error(err)
	}
}

// TPM_RH_NULL binds a session to nothing, and gives it no key (Part 1, 19.6.8).
func TestNoSessionIsBoundToNothing(t *testing.T) {
	g := twins(t)
	bound := 0
	for range 300 {
		switch h := g.bindTo(); {
		case h == nil:
		case h.handle == tpm2.HandleNull:
			t.Fatal("a session is bound to TPM_RH_NULL")
		default:
			bound++
		}
	}
	if bound == 0 {
		t.Error("no session is bound")
	}
}
