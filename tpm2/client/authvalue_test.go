package client_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/tpmtest"
	"github.com/assay-project/assay/wire"
)

// run runs a command that nobody authorizes or a password does.
func run(t *testing.T, tpm *client.TPM, code tpm2.CC, in, out wire.Layout, handles ...client.Entity) {
	t.Helper()
	if _, err := tpm.Run(&client.Command{Code: code, Handles: handles, In: in, Out: out}); err != nil {
		t.Fatal(err)
	}
}

// assert gives a policy session two assertions of no parameters or one: a command code
// and TPM2_PolicyAuthValue or another.
func assert(t *testing.T, tpm *client.TPM, s *client.Session, code, how tpm2.CC) {
	t.Helper()
	h := client.Entity{Handle: s.Handle()}
	run(t, tpm, tpm2.CCPolicyCommandCode, &command.PolicyCommandCodeIn{Code: code}, nil, h)
	run(t, tpm, how, nil, nil, h)
}

// policyFor is the policy of those two assertions (Part 3, 23.11 and 23.17).
func policyFor(code tpm2.CC) []byte {
	b := make([]byte, 32, 40)
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.CCPolicyCommandCode))
	one := sha256.Sum256(binary.BigEndian.AppendUint32(b, uint32(code)))
	two := sha256.Sum256(binary.BigEndian.AppendUint32(one[:], uint32(tpm2.CCPolicyAuthValue)))
	return two[:]
}

const anIndex tpm2.Handle = 0x01800001

// index defines an NV index with the authValue "old" and the policy, and returns it as
// it is named until it is written.
func index(t *testing.T, tpm *client.TPM, by tpm2.Handle, a tpm2.NVAttributes, policy []byte) client.Entity {
	t.Helper()
	in := &command.NVDefineSpaceIn{Auth: []byte("old"), PublicInfo: tpm2.NVPublic{
		NVIndex: anIndex, NameAlg: tpm2.AlgSHA256, Attributes: a | tpm2.NVAuthRead | tpm2.NVAuthWrite, AuthPolicy: policy, DataSize: 8,
	}}
	run(t, tpm, tpm2.CCNVDefineSpace, in, nil, client.Entity{Handle: by})
	out := new(command.NVReadPublicOut)
	run(t, tpm, tpm2.CCNVReadPublic, nil, out, client.Entity{Handle: anIndex})
	return client.Entity{Handle: anIndex, Name: out.NVName, Auth: []byte("old")}
}

// The TPM authenticates the response of a command that changes an authValue with the
// value after it (Part 3, 24.6, 24.8, 22.7). Taken for ErrHMAC, a change that was made
// would count as none.
func TestChangesOfAuthValuesAreBelieved(t *testing.T) {
	owner := func(auth string) client.Entity { return client.Entity{Handle: tpm2.HandleOwner, Auth: []byte(auth)} }
	change := func(h tpm2.Handle, old, auth string) *client.Command {
		return &client.Command{
			Code: tpm2.CCHierarchyChangeAuth, Handles: []client.Entity{{Handle: h, Auth: []byte(old)}},
			In: &command.HierarchyChangeAuthIn{NewAuth: []byte(auth)},
		}
	}
	lockout := client.Entity{Handle: tpm2.HandleLockout, Auth: []byte("old")}
	for name, tc := range map[string]struct {
		cmd *client.Command
		old string // set before
	}{
		"owner":                            {change(tpm2.HandleOwner, "", "new"), ""},
		"owner, with zeros at the end":     {change(tpm2.HandleOwner, "old", "new\x00\x00"), "old"},
		"owner, away":                      {change(tpm2.HandleOwner, "old", ""), "old"},
		"lockout":                          {change(tpm2.HandleLockout, "old", "new"), "old"},
		"lockout, by TPM2_Clear":           {&client.Command{Code: tpm2.CCClear, Handles: []client.Entity{lockout}}, "old"},
		"platform, not by its TPM2_Clear":  {&client.Command{Code: tpm2.CCClear, Handles: []client.Entity{{Handle: tpm2.HandlePlatform, Auth: []byte("old")}}}, "old"},
		"platform, not by TPM2_ChangePPS":  {&client.Command{Code: tpm2.CCChangePPS, Handles: []client.Entity{{Handle: tpm2.HandlePlatform, Auth: []byte("old")}}}, "old"},
		"platform, not by TPM2_ChangeEPS":  {&client.Command{Code: tpm2.CCChangeEPS, Handles: []client.Entity{{Handle: tpm2.HandlePlatform, Auth: []byte("old")}}}, "old"},
		"platform, which is switched off":  {&client.Command{Code: tpm2.CCHierarchyControl, Handles: []client.Entity{{Handle: tpm2.HandlePlatform, Auth: []byte("old")}}, In: &command.HierarchyControlIn{Enable: tpm2.HandlePlatform}}, "old"},
		"owner, whose hierarchy goes off":  {&client.Command{Code: tpm2.CCHierarchyControl, Handles: []client.Entity{owner("old")}, In: &command.HierarchyControlIn{Enable: tpm2.HandleOwner}}, "old"},
		"owner, whose policy is another's": {&client.Command{Code: tpm2.CCSetPrimaryPolicy, Handles: []client.Entity{owner("old")}, In: &command.SetPrimaryPolicyIn{HashAlg: tpm2.AlgNull}}, "old"},
	} {
		for how, cfg := range map[string]func(key client.Entity, public *tpm2.Public) client.SessionConfig{
			"plain": func(client.Entity, *tpm2.Public) client.SessionConfig { return client.SessionConfig{} },
			"salted": func(key client.Entity, public *tpm2.Public) client.SessionConfig {
				return client.SessionConfig{Salt: &client.SaltKey{Handle: key.Handle, Public: public}}
			},
			"bound to another": func(key client.Entity, _ *tpm2.Public) client.SessionConfig { return client.SessionConfig{Bind: &key} },
			"bound to it": func(client.Entity, *tpm2.Public) client.SessionConfig {
				return client.SessionConfig{Bind: &tc.cmd.Handles[0]}
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				tpm := client.New(tpmtest.Open(t), rand.Reader)
				key, public := primary(t, tpm, eccStorage(), "key")
				if tc.old != "" {
					set := change(tc.cmd.Handles[0].Handle, "", tc.old)
					run(t, tpm, set.Code, set.In, nil, set.Handles...)
				}
				cmd := *tc.cmd
				use := client.Use{Session: start(t, tpm, cfg(key, public)), Attributes: tpm2.SessionContinue}
				if info, _ := command.Lookup(cmd.Code); info.DecryptFirst && how == "salted" {
					use.Attributes |= tpm2.SessionDecrypt
				}
				cmd.Uses = []client.Use{use}
				if _, err := tpm.Run(&cmd); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// So of an index and of a PCR; the session after it goes on with the new value.
func TestNewAuthValuesOfIndicesAndPCRsAreBelieved(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	nv := index(t, tpm, tpm2.HandleOwner, 0, policyFor(tpm2.CCNVChangeAuth))
	s := start(t, tpm, client.SessionConfig{Type: tpm2.SessionPolicy})
	for _, auth := range []string{"new", "", "newer"} {
		assert(t, tpm, s, tpm2.CCNVChangeAuth, tpm2.CCPolicyAuthValue)
		s.AuthValue = true
		cmd := &client.Command{
			Code: tpm2.CCNVChangeAuth, Handles: []client.Entity{nv}, Uses: []client.Use{{Session: s, Attributes: tpm2.SessionContinue}},
			In: &command.NVChangeAuthIn{NewAuth: []byte(auth)},
		}
		if _, err := tpm.Run(cmd); err != nil {
			t.Errorf("NV_ChangeAuth to %q: %v", auth, err)
		}
		nv.Auth = []byte(auth)
	}
	pcr := client.Entity{Handle: 20}
	plain := start(t, tpm, client.SessionConfig{})
	for _, auth := range []string{"new", ""} {
		cmd := &client.Command{
			Code: tpm2.CCPCRSetAuthValue, Handles: []client.Entity{pcr}, Uses: []client.Use{{Session: plain, Attributes: tpm2.SessionContinue}},
			In: &command.PCRSetAuthValueIn{Auth: []byte(auth)},
		}
		if _, err := tpm.Run(cmd); err != nil {
			t.Errorf("PCR_SetAuthValue to %q: %v", auth, err)
		}
		pcr.Auth = []byte(auth)
	}
}

// An index that is gone has no authValue.
func TestUndefinedIndicesHaveNoAuthValue(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	const deletable = tpm2.NVPlatformCreate | tpm2.NVPolicyDelete
	nv := index(t, tpm, tpm2.HandlePlatform, deletable, policyFor(tpm2.CCNVUndefineSpaceSpecial))
	s := start(t, tpm, client.SessionConfig{Type: tpm2.SessionPolicy, Bind: &nv})
	assert(t, tpm, s, tpm2.CCNVUndefineSpaceSpecial, tpm2.CCPolicyAuthValue)
	s.AuthValue = true
	platform := start(t, tpm, client.SessionConfig{})
	cmd := &client.Command{
		Code: tpm2.CCNVUndefineSpaceSpecial, Handles: []client.Entity{nv, {Handle: tpm2.HandlePlatform}},
		Uses: []client.Use{{Session: s}, {Session: platform}},
	}
	if _, err := tpm.Run(cmd); err != nil {
		t.Error(err)
	}
}

// Objects that a command changes or that are gone after it keep their authValue as long
// as it runs.
func TestResponsesOfCommandsAfterWhichObjectsAreOthers(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	key, _ := primary(t, tpm, eccStorage(), "")
	item := sealed(t, tpm, key, client.Use{}, "old", "data", nil)
	use := []client.Use{{Session: start(t, tpm, client.SessionConfig{}), Attributes: tpm2.SessionContinue}}
	for _, cmd := range []*client.Command{
		{Code: tpm2.CCEvictControl, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, item}, In: &command.EvictControlIn{PersistentHandle: 0x81000001}},
		{Code: tpm2.CCUnseal, Handles: []client.Entity{{Handle: 0x81000001, Name: item.Name, Auth: item.Auth}}},
		{Code: tpm2.CCEvictControl, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: 0x81000001, Name: item.Name}}, In: &command.EvictControlIn{PersistentHandle: 0x81000001}},
	} {
		cmd.Uses = use
		if _, err := tpm.Run(cmd); err != nil {
			t.Fatal(err)
		}
	}
	// TPM2_ObjectChangeAuth is authorized by ADMIN, which for this item is its authValue.
	change := &client.Command{Code: tpm2.CCObjectChangeAuth, Handles: []client.Entity{item, key}, Uses: use, In: &command.ObjectChangeAuthIn{NewAuth: []byte("new")}}
	if _, err := tpm.Run(change); err != nil {
		t.Error(err)
	}
	h, err := tpm.Run(&client.Command{Code: tpm2.CCHashSequenceStart, In: &command.HashSequenceStartIn{Auth: []byte("auth"), HashAlg: tpm2.AlgSHA256}})
	if err != nil {
		t.Fatal(err)
	}
	sequence := client.Entity{Handle: h, Name: []byte{}, Auth: []byte("auth")}
	end := &client.Command{Code: tpm2.CCSequenceComplete, Handles: []client.Entity{sequence}, Uses: use, In: &command.SequenceCompleteIn{Hierarchy: tpm2.HandleNull}}
	if _, err := tpm.Run(end); err != nil {
		t.Error(err)
	}
}

// failedTries is the TPM's count of wrong authValues.
func failedTries(t *testing.T, tpm *client.TPM) uint32 {
	t.Helper()
	out := new(command.GetCapabilityOut)
	run(t, tpm, tpm2.CCGetCapability, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTLockoutCounter), PropertyCount: 1}, out)
	return out.CapabilityData.Properties[0].Value
}

// The TPM unbinds a session by its first use for audit. A client that did not would send
// HMACs that count as wrong authValues.
func TestASessionThatAuditsIsBoundToNothing(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	template := eccStorage()
	template.Attributes &^= tpm2.AttrNoDA
	key, _ := primary(t, tpm, template, "auth")
	s := start(t, tpm, client.SessionConfig{Bind: &key})
	in := &command.CreateIn{InSensitive: tpm2.SensitiveCreate{Data: []byte("data")}}
	in.InPublic = tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: ordinary}
	in.InPublic.Parameters.KeyedHash.Scheme = tpm2.AlgNull
	for i, a := range []tpm2.SessionAttributes{0, tpm2.SessionAudit, tpm2.SessionAudit, 0, tpm2.SessionAudit | tpm2.SessionAuditReset, tpm2.SessionDecrypt} {
		cmd := &client.Command{Code: tpm2.CCCreate, Handles: []client.Entity{key}, Uses: []client.Use{{Session: s, Attributes: tpm2.SessionContinue | a}}, In: in}
		if _, err := tpm.Run(cmd); err != nil {
			t.Fatalf("use %d: %v; failures counted: %d", i, err, failedTries(t, tpm))
		}
	}
	// Also where it audits a command that it does not authorize.
	s = start(t, tpm, client.SessionConfig{Bind: &key})
	random := &client.Command{Code: tpm2.CCGetRandom, Uses: []client.Use{{Session: s, Attributes: tpm2.SessionContinue | tpm2.SessionAudit}}, In: &command.GetRandomIn{BytesRequested: 8}}
	for _, cmd := range []*client.Command{random, {Code: tpm2.CCCreate, Handles: []client.Entity{key}, Uses: []client.Use{{Session: s}}, In: in}} {
		if _, err := tpm.Run(cmd); err != nil {
			t.Fatalf("%v; failures counted: %d", err, failedTries(t, tpm))
		}
	}
	if n := failedTries(t, tpm); n != 0 {
		t.Errorf("%d failures counted, want 0", n)
	}
}

// A session that is bound to TPM_RH_NULL is bound to nothing, and has no key (Part 1,
// 19.6.8): a client that made one would send HMACs that count as wrong authValues.
func TestASessionBoundToNullHasNoKey(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	template := eccStorage()
	template.Attributes &^= tpm2.AttrNoDA
	key, _ := primary(t, tpm, template, "auth")
	s := start(t, tpm, client.SessionConfig{Bind: &client.Entity{Handle: tpm2.HandleNull}})
	in := &command.CreateIn{InPublic: tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: ordinary}, InSensitive: tpm2.SensitiveCreate{Data: []byte("data")}}
	in.InPublic.Parameters.KeyedHash.Scheme = tpm2.AlgNull
	for _, a := range []tpm2.SessionAttributes{0, tpm2.SessionDecrypt} {
		cmd := &client.Command{Code: tpm2.CCCreate, Handles: []client.Entity{key}, Uses: []client.Use{{Session: s, Attributes: tpm2.SessionContinue | a}}, In: in}
		if _, err := tpm.Run(cmd); err != nil {
			t.Errorf("with attributes %v: %v", a, err)
		}
	}
	if n := failedTries(t, tpm); n != 0 {
		t.Errorf("%d failures counted, want 0", n)
	}
}

// A session stays bound to the authValue of when it was started: the TPM compares with
// that, whatever the caller has made of his entity since.
func TestASessionIsBoundToTheAuthValueOfItsStart(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	owner := client.Entity{Handle: tpm2.HandleOwner}
	s := start(t, tpm, client.SessionConfig{Bind: &owner})
	for _, auth := range []string{"new", "newer", ""} {
		cmd := &client.Command{
			Code: tpm2.CCHierarchyChangeAuth, Handles: []client.Entity{owner}, Uses: []client.Use{{Session: s, Attributes: tpm2.SessionContinue}},
			In: &command.HierarchyChangeAuthIn{NewAuth: []byte(auth)},
		}
		if _, err := tpm.Run(cmd); err != nil {
			t.Fatalf("HierarchyChangeAuth to %q: %v", auth, err)
		}
		owner.Auth = []byte(auth)
	}
}

// With TPM2_PolicyPassword the response has no HMAC, whatever the key of the session.
func TestPolicyPasswordInSessionsWithAKey(t *testing.T) {
	for how, cfg := range map[string]func(key client.Entity, public *tpm2.Public) client.SessionConfig{
		"salted": func(key client.Entity, public *tpm2.Public) client.SessionConfig {
			return client.SessionConfig{Type: tpm2.SessionPolicy, Salt: &client.SaltKey{Handle: key.Handle, Public: public}}
		},
		"bound": func(key client.Entity, _ *tpm2.Public) client.SessionConfig {
			return client.SessionConfig{Type: tpm2.SessionPolicy, Bind: &key}
		},
	} {
		t.Run(how, func(t *testing.T) {
			wire := &tap{Transport: tpmtest.Open(t)}
			tpm := client.New(wire, rand.Reader)
			key, public := primary(t, tpm, eccStorage(), "key")
			item := sealed(t, tpm, key, client.Use{}, "word", "secret", policyFor(tpm2.CCUnseal))
			s := start(t, tpm, cfg(key, public))
			for range 2 {
				assert(t, tpm, s, tpm2.CCUnseal, tpm2.CCPolicyPassword)
				s.Password = true
				got, err := unseal(tpm, item, client.Use{Session: s, Attributes: tpm2.SessionContinue | tpm2.SessionEncrypt})
				if err != nil || string(got) != "secret" {
					t.Fatalf("Unseal = %q, %v", got, err)
				}
			}
			// An HMAC that is there all the same is of no TPM.
			assert(t, tpm, s, tpm2.CCUnseal, tpm2.CCPolicyPassword)
			s.Password = true
			tpm = client.New(withHMAC{wire}, rand.Reader)
			if got, err := unseal(tpm, item, client.Use{Session: s, Attributes: tpm2.SessionContinue}); !errors.Is(err, client.ErrHMAC) {
				t.Errorf("with an HMAC: Unseal = %q, %v, want ErrHMAC", got, err)
			}
		})
	}
}

// The TPM starts a policy anew after each command that its session serves, also where
// that encrypts only; so does the session, which would send an authValue in the clear
// that nobody asks for.
func TestAPolicyIsForgottenAfterAnyUse(t *testing.T) {
	tpm := client.New(tpmtest.Open(t), rand.Reader)
	key, _ := primary(t, tpm, eccStorage(), "key")
	s := start(t, tpm, client.SessionConfig{Type: tpm2.SessionPolicy, Bind: &key})
	assert(t, tpm, s, tpm2.CCUnseal, tpm2.CCPolicyPassword)
	s.Password, s.AuthValue = true, true
	use := []client.Use{{Session: s, Attributes: tpm2.SessionContinue | tpm2.SessionEncrypt}}
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCGetRandom, Uses: use, In: &command.GetRandomIn{BytesRequested: 8}}); err != nil {
		t.Fatal(err)
	}
	out := new(command.PolicyGetDigestOut)
	run(t, tpm, tpm2.CCPolicyGetDigest, nil, out, client.Entity{Handle: s.Handle()})
	if !bytes.Equal(out.PolicyDigest, make([]byte, 32)) || s.Password || s.AuthValue {
		t.Errorf("after a use that authorizes nothing: digest %x, Password %v, AuthValue %v", out.PolicyDigest, s.Password, s.AuthValue)
	}
}

// withHMAC puts an HMAC into the last authorization of a response, which has none.
type withHMAC struct{ client.Transport }

func (w withHMAC) Send(b []byte) ([]byte, error) {
	b, err := w.Transport.Send(b)
	if err != nil {
		return nil, err
	}
	b = append(b[:len(b)-1:len(b)-1], 1, 0xaa)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b, nil
}
