package agent_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/internal/agent"
	"github.com/assay-project/assay/internal/agent/agenttest"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/wire"
)

var nonce = bytes.Repeat([]byte{5}, 32)

// appraise judges a bundle by the key that is in it.
func appraise(t *testing.T, b *agent.Bundle, nonce []byte) *tpm.Appraisal {
	t.Helper()
	text, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm.ParseKey(b.AKPublic)
	if err != nil {
		t.Fatal(err)
	}
	return tpm.AppraiseBundle(text, tpm.Options{Expect: tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{key}}})
}

var keyConfigs = map[string]agent.KeyConfig{
	"P-256":             {},
	"RSA":               {RSA: true},
	"P-256, owner":      {Owner: true},
	"P-256, persistent": {Handle: 0x81010010},
	"RSA, persistent":   {RSA: true, Owner: true, Handle: 0x81000007},
}

func TestTheAgentsTPMProvesItsBoot(t *testing.T) {
	for name, cfg := range keyConfigs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := agenttest.NewGuest(t, "good-uki")
			g.Key = cfg
			var before []byte
			for range 2 { // the same key each time
				m, err := g.Prover()
				if err != nil {
					t.Fatal(err)
				}
				if before != nil && !bytes.Equal(before, m.AKPublic()) {
					t.Error("the attestation key is another one at the second start")
				}
				before = m.AKPublic()
				b, err := m.Evidence(g.Root, nonce, true)
				if err != nil {
					t.Fatal(err)
				}
				if a := appraise(t, b, nonce); a.Verdict != evidence.Trusted {
					t.Errorf("verdict %v: %+v", a.Verdict, a.Reasons)
				}
				if a := appraise(t, b, nonce[1:]); a.Verdict == evidence.Trusted {
					t.Error("the quote answers another nonce")
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
			if handles := loaded(t, g); len(handles) != 0 {
				t.Errorf("%v are left in the TPM", handles)
			}
		})
	}
}

// loaded lists the transient objects and sessions that a TPM holds.
func loaded(t *testing.T, g *agenttest.Guest) (out []tpm2.Handle) {
	t.Helper()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} {
		got := new(command.GetCapabilityOut)
		_, err := client.New(g.TPM, rand.Reader).Run(&client.Command{
			Code: tpm2.CCGetCapability, In: &command.GetCapabilityIn{Capability: tpm2.CapHandles, Property: first, PropertyCount: 64}, Out: got,
		})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, got.CapabilityData.Handles...)
	}
	return out
}

func TestCredentialsOpenForTheRightKeysOnly(t *testing.T) {
	for _, template := range []string{"L-1", "L-2", "H-2", "H-3"} {
		t.Run(template, func(t *testing.T) {
			t.Parallel()
			g := agenttest.NewGuest(t, "good-uki")
			m, err := g.Prover()
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			ek := g.EK(template)
			secret := []byte("thirty-two bytes are a digest...")
			make := func(name []byte) *tpm2.Credential {
				t.Helper()
				c, err := tpm2.MakeCredential(rand.Reader, ek, name, secret)
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			var ak tpm2.Public
			if err := wire.Decode(m.AKPublic(), &ak); err != nil {
				t.Fatal(err)
			}
			name, err := ak.Name()
			if err != nil {
				t.Fatal(err)
			}
			c := make(name)
			if got, err := m.Activate(template, c.Blob, c.Secret); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("Activate = %x, %v", got, err)
			}
			other := bytes.Clone(name)
			other[9] ^= 1
			c = make(other)
			tries := 2
			if template == "L-2" {
				tries = 80 // more than a TPM has sessions
			}
			for range tries {
				if got, err := m.Activate(template, c.Blob, c.Secret); !errors.Is(err, tpm2.RCIntegrity.Of(tpm2.RCParameter, 1)) {
					t.Fatalf("for another key: %x, %v", got, err)
				}
			}
			if n := len(loaded(t, g)); n != 1 {
				t.Errorf("%d objects and sessions are left in the TPM, want the attestation key", n)
			}
		})
	}
	g := agenttest.NewGuest(t, "good-uki")
	m, err := g.Prover()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Activate("X-9", nil, nil); err == nil || !strings.Contains(err.Error(), "template") {
		t.Errorf("Activate by an unknown template = %v", err)
	}
}

// fickle extends a register before each quote, some times.
type fickle struct {
	agent.Device
	guest *agenttest.Guest
	times int
}

func (f *fickle) Send(c []byte) ([]byte, error) {
	if code := hex.EncodeToString(c[6:10]); code == fmt.Sprintf("%08x", uint32(tpm2.CCQuote)) && f.times > 0 {
		f.times--
		f.guest.Extend(10, make([]byte, 32))
	}
	return f.Device.Send(c)
}

func TestRegistersThatChangeAreReadAgain(t *testing.T) {
	g := agenttest.NewGuest(t, "good-uki")
	for _, tc := range []struct {
		times int
		ok    bool
	}{{3, true}, {100, false}} {
		m, err := agent.OpenTPM(&fickle{g.Device(), g, tc.times}, rand.Reader, agent.KeyConfig{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.Evidence(g.Root, nonce, false)
		if (err == nil) != tc.ok {
			t.Errorf("%d changes: %v", tc.times, err)
		}
		if err == nil {
			if a := appraise(t, b, nonce); a.Verdict != evidence.Trusted {
				t.Errorf("verdict %v: %+v", a.Verdict, a.Reasons)
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsNoAttestationKeyIsNotTaken(t *testing.T) {
	unrestricted := tpm2.EKTemplates()[1].Public
	unrestricted.Attributes = tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth | tpm2.AttrSign
	unrestricted.AuthPolicy = nil
	unrestricted.Parameters.ECC.Symmetric = tpm2.SymDefObject{Algorithm: tpm2.AlgNull}
	for name, template := range map[string]tpm2.Public{"an endorsement key": tpm2.EKTemplates()[1].Public, "a key that signs anything": unrestricted} {
		t.Run(name, func(t *testing.T) {
			g := agenttest.NewGuest(t, "good-uki")
			tpm := client.New(g.TPM, rand.Reader)
			out := new(command.CreatePrimaryOut)
			h, err := tpm.Run(&client.Command{
				Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: tpm2.HandleOwner}}, In: &command.CreatePrimaryIn{InPublic: template}, Out: out,
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = tpm.Run(&client.Command{
				Code: tpm2.CCEvictControl, Handles: []client.Entity{{Handle: tpm2.HandleOwner}, {Handle: h, Name: out.Name}},
				In: &command.EvictControlIn{PersistentHandle: 0x81000001},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := agent.OpenTPM(g.Device(), rand.Reader, agent.KeyConfig{Handle: 0x81000001}); err == nil || !strings.Contains(err.Error(), "no attestation key") {
				t.Errorf("OpenTPM = %v", err)
			}
		})
	}
}

func TestEvidenceFitsTheChannel(t *testing.T) {
	g := agenttest.NewGuest(t, "good-uki")
	m, err := g.Prover()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	evidenceOf := func(ima int) *agent.Bundle {
		t.Helper()
		g.Root[agenttest.IMA].Data = make([]byte, ima)
		b, err := m.Evidence(g.Root, nonce, true)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	g.Root[agenttest.IMA] = new(fstest.MapFile)
	whole, _, err := evidenceOf(3000).Within(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		ima, limit  int
		noIMA, fail bool
	}{
		"all of it":              {3000, len(whole), false, false},
		"a byte too much":        {3000, len(whole) - 1, true, false},
		"too long for a service": {3 << 20, 1 << 20, true, false},
		"the log does not fit":   {3000, 5000, false, true},
	} {
		text, noIMA, err := evidenceOf(tc.ima).Within(tc.limit)
		if noIMA != tc.noIMA || (err != nil) != tc.fail || len(text) > tc.limit {
			t.Errorf("%s: %d bytes, noIMA %v, %v", name, len(text), noIMA, err)
		}
	}
}
