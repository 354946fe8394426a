package differential

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

// objectRows are the commands that move objects and sessions.
func objectRows() []Row {
	hmac := &command.StartAuthSessionIn{NonceCaller: make([]byte, 32), SessionType: tpm2.SessionHMAC, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}, AuthHash: tpm2.AlgSHA256}
	return []Row{
		{"StartAuthSession, HMAC, and FlushContext", 300, func(*Served) (work, error) {
			return inTurn(sameTurn(tpm2.CCStartAuthSession, hmac, tpm2.HandleNull, tpm2.HandleNull), flushTurn), nil
		}},
		{"ContextSave and ContextLoad of a session", 300, sessionContext},
		{"ContextLoad, P-256, and FlushContext", 300, using(eccSigner(), func(s *Served, h tpm2.Handle) (work, error) {
			w, err := restore(s, h)
			if err != nil {
				return work{}, err
			}
			return inTurn(func([]byte) ([]byte, error) { return w.request(0) }, flushTurn), nil
		})},
		{"ReadPublic, P-256", 300, keyOnly(eccSigner(), tpm2.CCReadPublic, new(command.None))},
		{"LoadExternal, P-256, and FlushContext", 300, withKey(eccSigner(), func(_ *Served, k key) (work, error) {
			return inTurn(sameTurn(tpm2.CCLoadExternal, &command.LoadExternalIn{InPublic: k.OutPublic, Hierarchy: tpm2.HandleOwner}), flushTurn), nil
		})},
		{"CreateLoaded, P-256, and FlushContext", 60, withKey(eccStorage(), func(_ *Served, k key) (work, error) {
			t := eccSigner().InPublic
			template, err := wire.Encode(&t)
			if err != nil {
				return work{}, err
			}
			return inTurn(sameTurn(tpm2.CCCreateLoaded, &command.CreateLoadedIn{InPublic: template}, k.Handle), flushTurn), nil
		})},
		{"ObjectChangeAuth, P-256", 300, withKey(eccStorage(), func(s *Served, parent key) (work, error) {
			h, err := s.child(parent.Handle, eccSigner())
			if err != nil {
				return work{}, err
			}
			return always(tpm2.CCObjectChangeAuth, &command.ObjectChangeAuthIn{NewAuth: make([]byte, 32)}, h, parent.Handle)
		})},
	}
}

// wrappedRows are the commands that wrap secrets for another key.
func wrappedRows() []Row {
	return []Row{
		{"MakeCredential, P-256", 60, withKey(eccStorage(), func(_ *Served, k key) (work, error) {
			return always(tpm2.CCMakeCredential, &command.MakeCredentialIn{Credential: make([]byte, 32), ObjectName: k.Name}, k.Handle)
		})},
		{"ActivateCredential, P-256", 60, withKey(eccStorage(), func(s *Served, k key) (work, error) {
			var out command.MakeCredentialOut
			if _, err := s.do(tpm2.CCMakeCredential, &command.MakeCredentialIn{Credential: make([]byte, 32), ObjectName: k.Name}, &out, k.Handle); err != nil {
				return work{}, err
			}
			return always(tpm2.CCActivateCredential, &command.ActivateCredentialIn{CredentialBlob: out.CredentialBlob, Secret: out.Secret}, k.Handle, k.Handle)
		})},
		{"PolicyCommandCode and Duplicate, P-256", 60, withKey(eccStorage(), func(s *Served, k key) (work, error) {
			_, w, err := s.duplicate(k)
			return w, err
		})},
		{"Import, P-256", 60, withKey(eccStorage(), func(s *Served, k key) (work, error) {
			d, _, err := s.duplicate(k)
			if err != nil {
				return work{}, err
			}
			return always(tpm2.CCImport, &command.ImportIn{ObjectPublic: d.public, Duplicate: d.Duplicate, InSymSeed: d.OutSymSeed, SymmetricAlg: none()}, k.Handle)
		})},
		{"Rewrap, P-256", 60, withKey(eccStorage(), func(s *Served, k key) (work, error) {
			d, _, err := s.duplicate(k)
			if err != nil {
				return work{}, err
			}
			name, err := d.public.Name()
			if err != nil {
				return work{}, err
			}
			return always(tpm2.CCRewrap, &command.RewrapIn{InDuplicate: d.Duplicate, Name: name, InSymSeed: d.OutSymSeed}, k.Handle, k.Handle)
		})},
	}
}

// child makes an object below a parent and loads it.
func (s *Served) child(parent tpm2.Handle, t command.CreateIn) (tpm2.Handle, error) {
	var out command.CreateOut
	if _, err := s.do(tpm2.CCCreate, &t, &out, parent); err != nil {
		return 0, err
	}
	return s.do(tpm2.CCLoad, &command.LoadIn{InPrivate: out.OutPrivate, InPublic: out.OutPublic}, nil, parent)
}

// A duplicate is what TPM2_Duplicate made of an object.
type duplicate struct {
	command.DuplicateOut
	public tpm2.Public
}

// duplicate makes an object below a parent, and a duplicate of it for the same one. The
// work is to do that again, each time with the policy that allows it.
func (s *Served) duplicate(parent key) (*duplicate, work, error) {
	session, err := s.tpm.StartSession(client.SessionConfig{Type: tpm2.SessionPolicy, Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}})
	if err != nil {
		return nil, work{}, err
	}
	allow := &command.PolicyCommandCodeIn{Code: tpm2.CCDuplicate}
	if _, err := s.do(tpm2.CCPolicyCommandCode, allow, nil, session.Handle()); err != nil {
		return nil, work{}, err
	}
	var policy command.PolicyGetDigestOut
	if _, err := s.do(tpm2.CCPolicyGetDigest, nil, &policy, session.Handle()); err != nil {
		return nil, work{}, err
	}
	t := eccSigner()
	t.InPublic.AuthPolicy = policy.PolicyDigest
	t.InPublic.Attributes &^= tpm2.AttrFixedTPM | tpm2.AttrFixedParent
	h, err := s.child(parent.Handle, t)
	if err != nil {
		return nil, work{}, err
	}
	var read command.ReadPublicOut
	if _, err := s.do(tpm2.CCReadPublic, nil, &read, h); err != nil {
		return nil, work{}, err
	}
	d := &duplicate{public: read.OutPublic}
	// The session has no key, so that its HMAC is empty and the request good for ever.
	request, err := s.encode(&client.Command{
		Code: tpm2.CCDuplicate, Handles: []client.Entity{{Handle: h, Name: read.Name}, {Handle: parent.Handle, Name: parent.Name}},
		Uses: []client.Use{{Session: session, Attributes: tpm2.SessionContinue}}, In: &command.DuplicateIn{SymmetricAlg: none()},
	})
	if err != nil {
		return nil, work{}, err
	}
	response, err := s.Transport.Send(request)
	if err != nil {
		return nil, work{}, err
	}
	if rc := rcOf(response); rc != 0 {
		return nil, work{}, rc
	}
	// The parameters lie behind their size and before the session.
	if _, err := wire.DecodePrefix(response[14:], &d.DuplicateOut); err != nil {
		return nil, work{}, err
	}
	return d, inTurn(sameTurn(tpm2.CCPolicyCommandCode, allow, session.Handle()), func([]byte) ([]byte, error) { return request, nil }), nil
}

// encode is a command as it would be sent.
func (s *Served) encode(c *client.Command) ([]byte, error) {
	var to capture
	if _, err := client.New(&to, s.random).Run(c); to.request == nil {
		return nil, err
	}
	return to.request, nil
}

// sessionContext saves a session and loads it. The response of the one has the
// parameters of the other.
func sessionContext(s *Served) (work, error) {
	session, err := s.tpm.StartSession(client.SessionConfig{Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}})
	if err != nil {
		return work{}, err
	}
	return inTurn(sameTurn(tpm2.CCContextSave, new(command.None), session.Handle()), func(before []byte) ([]byte, error) {
		return plainCommand(tpm2.CCContextLoad, before[10:]), nil
	}), nil
}

// sessionAudit attests a session that audited a command.
func sessionAudit(s *Served, k key) (work, error) {
	session, err := s.tpm.StartSession(client.SessionConfig{Symmetric: tpm2.SymDef{Algorithm: tpm2.AlgNull}})
	if err != nil {
		return work{}, err
	}
	var out command.GetRandomOut
	if _, err := s.tpm.Run(&client.Command{
		Code: tpm2.CCGetRandom, In: &command.GetRandomIn{BytesRequested: 8}, Out: &out,
		Uses: []client.Use{{Session: session, Attributes: tpm2.SessionContinue | tpm2.SessionAudit}},
	}); err != nil {
		return work{}, err
	}
	return always(tpm2.CCGetSessionAuditDigest, &command.GetSessionAuditDigestIn{InScheme: asKeySays()}, tpm2.HandleEndorsement, k.Handle, session.Handle())
}
