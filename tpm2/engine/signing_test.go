package engine_test

import (
	"crypto/hmac"
	"crypto/sha512"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Every scheme that a key can sign by verifies, in the TPM and outside of it.
func TestSignaturesVerify(t *testing.T) {
	for name, tc := range map[string]struct {
		key     tpm2.Public
		scheme  tpm2.Alg
		outside bool // package tpm2 verifies it, too
	}{
		"RSASSA":    {rsaTemplate(signing), tpm2.AlgRSASSA, true},
		"RSAPSS":    {rsaTemplate(signing), tpm2.AlgRSAPSS, true},
		"ECDSA":     {eccTemplate(signing), tpm2.AlgECDSA, true},
		"ECSCHNORR": {eccTemplate(signing), tpm2.AlgECSchnorr, false},
		"HMAC":      {keyedHashTemplate(signing), tpm2.AlgHMAC, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			key := m.primary(tpm2.HandleOwner, tc.key, "")
			message := []byte("a message")
			digest := sum(message)
			in := signIn(digest)
			in.InScheme.Scheme = tc.scheme
			var out command.SignOut
			m.do(tpm2.CCSign, handles(key), password(""), in, &out)
			if tc.outside {
				v, err := tpm2.NewVerifier(m.public(key))
				if err != nil {
					t.Fatal(err)
				}
				if err := v.Verify(message, &out.Signature); err != nil {
					t.Error(err)
				}
			}
			verify := &command.VerifySignatureIn{Digest: digest, Signature: out.Signature}
			var ok command.VerifySignatureOut
			m.do(tpm2.CCVerifySignature, handles(key), nil, verify, &ok)
			if ok.Validation.Hierarchy != tpm2.HandleOwner || len(ok.Validation.Digest) != 64 {
				t.Errorf("ticket is %+v", ok.Validation)
			}
			verify.Digest = sum(digest)
			m.fails(parameterRC(tpm2.RCSignature, 2), tpm2.CCVerifySignature, handles(key), nil, verify)
		})
	}
}

func TestSignRefuses(t *testing.T) {
	rsassa := tpm2.SigScheme{Scheme: tpm2.AlgRSASSA, HashAlg: tpm2.AlgSHA256}
	restricted, anonymous := restrictedKey(), eccTemplate(signing)
	anonymous.Parameters.ECC.Scheme = tpm2.ECCScheme{Scheme: tpm2.AlgECDAA, HashAlg: tpm2.AlgSHA256}
	for name, tc := range map[string]struct {
		key    tpm2.Public
		change func(in *command.SignIn)
		want   tpm2.RC
	}{
		"nothing":            {eccTemplate(signing), func(*command.SignIn) {}, tpm2.RCSuccess},
		"a storage key":      {eccTemplate(storing), func(*command.SignIn) {}, handleRC(tpm2.RCKey, 1)},
		"an AES key":         {symTemplate(signing), func(*command.SignIn) {}, handleRC(tpm2.RCKey, 1)},
		"a certificates key": {eccTemplate(signing | tpm2.AttrX509Sign), func(*command.SignIn) {}, handleRC(tpm2.RCAttributes, 1)},
		"no scheme":          {eccTemplate(signing), func(in *command.SignIn) { in.InScheme = noScheme() }, parameterRC(tpm2.RCScheme, 2)},
		"RSA with ECC":       {eccTemplate(signing), func(in *command.SignIn) { in.InScheme = rsassa }, parameterRC(tpm2.RCScheme, 2)},
		// CVE-2025-2884.
		"RSA with HMAC":           {keyedHashTemplate(signing), func(in *command.SignIn) { in.InScheme = rsassa }, parameterRC(tpm2.RCScheme, 2)},
		"another hash":            {restricted, func(in *command.SignIn) { in.InScheme.HashAlg = tpm2.AlgSHA384 }, parameterRC(tpm2.RCScheme, 2)},
		"ECDAA without count":     {anonymous, func(in *command.SignIn) { in.InScheme = noScheme() }, parameterRC(tpm2.RCScheme, 2)},
		"ECDAA without commit":    {anonymous, func(in *command.SignIn) { in.InScheme.Scheme = tpm2.AlgECDAA }, tpm2.RCValue},
		"a short digest":          {eccTemplate(signing), func(in *command.SignIn) { in.Digest = in.Digest[1:] }, parameterRC(tpm2.RCSize, 1)},
		"no digest":               {eccTemplate(signing), func(in *command.SignIn) { in.Digest = nil }, parameterRC(tpm2.RCSize, 1)},
		"restricted, no ticket":   {restricted, func(*command.SignIn) {}, parameterRC(tpm2.RCTicket, 3)},
		"a ticket that is not":    {eccTemplate(signing), func(in *command.SignIn) { in.Validation.Digest = make([]byte, 64) }, parameterRC(tpm2.RCTicket, 3)},
		"restricted, zero ticket": {restricted, func(in *command.SignIn) { in.Validation.Digest = make([]byte, 64) }, parameterRC(tpm2.RCTicket, 3)},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			in := signIn(sum())
			tc.change(in)
			rc := m.run(tpm2.CCSign, handles(m.primary(tpm2.HandleOwner, tc.key, "")), password(""), in, nil)
			if rc != tc.want {
				t.Errorf("Sign = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
}

// A restricted key signs what the TPM hashed, unless it looks like an attestation.
func TestRestrictedKeysSignWhatTheTPMHashed(t *testing.T) {
	m := newMachine(t)
	key := m.primary(tpm2.HandleOwner, restrictedKey(), "")
	hash := func(data string, h tpm2.Handle, a tpm2.Alg) *command.SignIn {
		var out command.HashOut
		m.do(tpm2.CCHash, nil, nil, &command.HashIn{Data: []byte(data), HashAlg: a, Hierarchy: h}, &out)
		return &command.SignIn{Digest: out.OutHash, InScheme: noScheme(), Validation: out.Validation}
	}
	bad := parameterRC(tpm2.RCTicket, 3)
	for name, tc := range map[string]struct {
		in     *command.SignIn
		change func(in *command.SignIn)
		want   tpm2.RC
	}{
		"hashed":            {hash("data", tpm2.HandleOwner, tpm2.AlgSHA256), nil, tpm2.RCSuccess},
		"an attestation":    {hash("\xffTCGdata", tpm2.HandleOwner, tpm2.AlgSHA256), nil, bad},
		"by another hash":   {hash("data", tpm2.HandleOwner, tpm2.AlgSHA3x256), nil, bad},
		"another digest":    {hash("data", tpm2.HandleOwner, tpm2.AlgSHA256), func(in *command.SignIn) { in.Digest[0]++ }, bad},
		"another ticket":    {hash("data", tpm2.HandleOwner, tpm2.AlgSHA256), func(in *command.SignIn) { in.Validation.Digest[63]++ }, bad},
		"another hierarchy": {hash("data", tpm2.HandleOwner, tpm2.AlgSHA256), func(in *command.SignIn) { in.Validation.Hierarchy = tpm2.HandlePlatform }, bad},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			if tc.change != nil {
				tc.change(tc.in)
			}
			if rc := m.run(tpm2.CCSign, handles(key), password(""), tc.in, nil); rc != tc.want {
				t.Errorf("Sign = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
	in := hash("data", tpm2.HandleOwner, tpm2.AlgSHA256)
	m.tpm.SetProof(tpm2.HandleOwner, zeros())
	m.fails(bad, tpm2.CCSign, handles(key), password(""), in)
}

func TestVerifySignatureRefuses(t *testing.T) {
	m := newMachine(t)
	k := m.ecdsaSigner(tpm2.HandleOwner)
	digest := sum()
	verify := func(change func(s *tpm2.Signature)) *command.VerifySignatureIn {
		in := &command.VerifySignatureIn{Digest: digest, Signature: k.sign(digest)}
		change(&in.Signature)
		return in
	}
	for name, tc := range map[string]struct {
		change func(s *tpm2.Signature)
		want   tpm2.RC
	}{
		"nothing":              {func(*tpm2.Signature) {}, tpm2.RCSuccess},
		"another hash's name":  {func(s *tpm2.Signature) { s.Hash = tpm2.AlgSHA384 }, tpm2.RCSuccess}, // ECDSA does not sign it
		"another r":            {func(s *tpm2.Signature) { s.R[0]++ }, parameterRC(tpm2.RCSignature, 2)},
		"another s":            {func(s *tpm2.Signature) { s.S[0]++ }, parameterRC(tpm2.RCSignature, 2)},
		"zero":                 {func(s *tpm2.Signature) { clear(s.S) }, parameterRC(tpm2.RCSignature, 2)},
		"nothing signed":       {func(s *tpm2.Signature) { s.R, s.S = nil, nil }, parameterRC(tpm2.RCSignature, 2)},
		"by the order too big": {func(s *tpm2.Signature) { s.S = append([]byte{1}, s.S...) }, parameterRC(tpm2.RCSignature, 2)},
		"ECDAA":                {func(s *tpm2.Signature) { s.SigAlg = tpm2.AlgECDAA }, parameterRC(tpm2.RCScheme, 2)},
		"HMAC":                 {func(s *tpm2.Signature) { *s = tpm2.Signature{SigAlg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA256, HMAC: sum()} }, parameterRC(tpm2.RCScheme, 2)},
		"RSA":                  {func(s *tpm2.Signature) { *s = tpm2.Signature{SigAlg: tpm2.AlgRSASSA, Hash: tpm2.AlgSHA256, RSA: sum()} }, parameterRC(tpm2.RCScheme, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			m.in(t)
			if rc := m.run(tpm2.CCVerifySignature, handles(k.handle), nil, verify(tc.change), nil); rc != tc.want {
				t.Errorf("VerifySignature = %v (%#x), want %v", rc, uint32(rc), tc.want)
			}
		})
	}
	m.fails(parameterRC(tpm2.RCScheme, 2), tpm2.CCVerifySignature, handles(k.handle), nil, &raw{0, 0, 0, 0x10})
	storage := m.storage("")
	m.fails(handleRC(tpm2.RCAttributes, 1), tpm2.CCVerifySignature, handles(storage), nil, verify(func(*tpm2.Signature) {}))
}

func TestVerifySignatureByHMAC(t *testing.T) {
	m := newMachine(t)
	k := m.hmacSigner()
	in := &command.VerifySignatureIn{Digest: sum(), Signature: k.sign(sum())}
	var out command.VerifySignatureOut
	m.do(tpm2.CCVerifySignature, handles(k.handle), nil, in, &out)
	if out.Validation.Hierarchy != tpm2.HandleNull || len(out.Validation.Digest) != 0 {
		t.Errorf("a key of TPM_RH_NULL gives the ticket %+v", out.Validation)
	}
	public := m.loadPublic(outsideHMAC(tpm2.AttrSign, "shared").public)
	m.fails(parameterRC(tpm2.RCHandleValue, 2), tpm2.CCVerifySignature, handles(public), nil, in)
	in.Signature.HMAC[3]++
	m.fails(parameterRC(tpm2.RCSignature, 2), tpm2.CCVerifySignature, handles(k.handle), nil, in)
	// The key is for SHA-256 only.
	mac := hmac.New(sha512.New384, []byte("shared"))
	mac.Write(sum())
	in.Signature = tpm2.Signature{SigAlg: tpm2.AlgHMAC, Hash: tpm2.AlgSHA384, HMAC: mac.Sum(nil)}
	m.fails(parameterRC(tpm2.RCSignature, 2), tpm2.CCVerifySignature, handles(k.handle), nil, in)
	in.Signature = tpm2.Signature{SigAlg: tpm2.AlgECDSA, Hash: tpm2.AlgSHA256, R: sum(), S: sum()}
	m.fails(parameterRC(tpm2.RCScheme, 2), tpm2.CCVerifySignature, handles(k.handle), nil, in)
}
