package libtpms

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
	"github.com/assay-project/assay/wire"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func opened(t testing.TB, file []byte) *State {
	t.Helper()
	s, err := Open(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func profile(t testing.TB) *engine.Profile {
	t.Helper()
	p, err := engine.FindProfile(Profile, 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func engineConfig() engine.Config {
	return engine.Config{Random: rand.Reader, Now: func() time.Duration { return 0 }}
}

func engineOf(p *engine.Profile, from *engine.Imported) (*engine.TPM, error) {
	return engine.Import(p, engineConfig(), from)
}

// imported is the TPM of the sample, started.
func imported(t *testing.T, s *State) *client.TPM {
	t.Helper()
	from, _ := s.Convert(profile(t))
	e, err := engineOf(profile(t), from)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Changed() {
		t.Error("an imported TPM has nothing to save")
	}
	// Through its own state, as a service keeps it.
	blob, err := e.Permanent()
	if err != nil {
		t.Fatal(err)
	}
	if e, err = engine.Restore(engineConfig(), blob, nil); err != nil {
		t.Fatal(err)
	}
	e.PowerOn()
	tpm := client.New(client.InProcess(e, 0), rand.Reader)
	if err := tpm.Startup(tpm2.StartupClear); err != nil {
		t.Fatal(err)
	}
	return tpm
}

func public(t testing.TB, name string) *tpm2.Public {
	t.Helper()
	p := new(tpm2.Public)
	if err := wire.Decode(sample(t, name)[2:], p); err != nil { // behind the size of TPM2B_PUBLIC
		t.Fatal(err)
	}
	return p
}

// template is what the key was made of: with unique empty, or all zeros in those of
// the EK Credential Profile.
func template(p *tpm2.Public, zeros bool) *tpm2.Public {
	out := *p
	out.Unique = tpm2.PublicID{}
	if !zeros {
		return &out
	}
	out.Unique.RSA = make([]byte, len(p.Unique.RSA))
	out.Unique.ECC = tpm2.ECCPoint{X: make([]byte, len(p.Unique.ECC.X)), Y: make([]byte, len(p.Unique.ECC.Y))}
	return &out
}

func owner() client.Entity { return client.Entity{Handle: tpm2.HandleOwner, Auth: []byte("ownerpw")} }

func createPrimary(t *testing.T, tpm *client.TPM, hierarchy client.Entity, p *tpm2.Public) (client.Entity, *tpm2.Public) {
	t.Helper()
	out := new(command.CreatePrimaryOut)
	h, err := tpm.Run(&client.Command{Code: tpm2.CCCreatePrimary, Handles: []client.Entity{hierarchy}, In: &command.CreatePrimaryIn{InPublic: *p}, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	return client.Entity{Handle: h, Name: out.Name}, &out.OutPublic
}

// The keys that a guest makes again from the seeds are those that swtpm gave it: of
// every type and in every hierarchy.
func TestPrimaryKeysAreMadeAgain(t *testing.T) {
	tpm := imported(t, opened(t, sample(t, "suspended.permall")))
	endorsement, platform := client.Entity{Handle: tpm2.HandleEndorsement}, client.Entity{Handle: tpm2.HandlePlatform}
	for _, tc := range []struct {
		file      string
		hierarchy client.Entity
		zeros     bool
	}{
		{"o-rsa.pub", owner(), false},
		{"o-ecc256.pub", owner(), false},
		{"o-sign.pub", owner(), false},
		{"o-aes.pub", owner(), false},
		{"o-hmac.pub", owner(), false},
		{"e-rsa.pub", endorsement, false},
		{"ek-rsa.pub", endorsement, true},
		{"ek-ecc.pub", endorsement, true},
		{"p-ecc384.pub", platform, false},
		{"p-rsa1024.pub", platform, false},
		{"p-rsa3072.pub", platform, false},
	} {
		want := public(t, tc.file)
		made, got := createPrimary(t, tpm, tc.hierarchy, template(want, tc.zeros))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-swtpm +ours):\n%s", tc.file, diff)
		}
		if err := tpm.Flush(made.Handle); err != nil {
			t.Fatal(err)
		}
	}
}

// The seed values of parents are the same, too, or nothing under them would load.
func TestSealedDataOpen(t *testing.T) {
	tpm := imported(t, opened(t, sample(t, "suspended.permall")))
	endorsement := client.Entity{Handle: tpm2.HandleEndorsement}
	srk, err := public(t, "o-ecc256.pub").Name()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ child, parent, want string }{
		{"child", "o-rsa.pub", "sealed under srk\n"},
		{"childecc", "o-ecc256.pub", "sealed under ecc srk\n"},
		{"childecc", "", "sealed under ecc srk\n"},
		{"childe", "e-rsa.pub", "sealed under e\n"},
	} {
		parent := client.Entity{Handle: 0x81000001, Name: srk}
		if tc.parent != "" {
			h := owner()
			if strings.HasPrefix(tc.parent, "e-") {
				h = endorsement
			}
			parent, _ = createPrimary(t, tpm, h, template(public(t, tc.parent), false))
		}
		unsealed(t, tpm, parent, tc.child, tc.want)
		if parent.Handle.Kind() == tpm2.KindTransient {
			if err := tpm.Flush(parent.Handle); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// unsealed loads a sealed object of testdata under its parent and opens it.
func unsealed(t *testing.T, tpm *client.TPM, parent client.Entity, child, want string) {
	t.Helper()
	loaded := new(command.LoadOut)
	in := &command.LoadIn{InPrivate: sample(t, child+".priv")[2:], InPublic: *public(t, child+".pub")}
	h, err := tpm.Run(&client.Command{Code: tpm2.CCLoad, Handles: []client.Entity{parent}, In: in, Out: loaded})
	if err != nil {
		t.Fatalf("%s: %v", child, err)
	}
	data := new(command.UnsealOut)
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCUnseal, Handles: []client.Entity{{Handle: h, Name: loaded.Name}}, Out: data}); err != nil {
		t.Fatal(err)
	}
	if string(data.OutData) != want {
		t.Errorf("%s holds %q, want %q", child, data.OutData, want)
	}
	if err := tpm.Flush(h); err != nil {
		t.Fatal(err)
	}
}

// libtpms 0.10 writes its profile in front, and numbers commands otherwise.
func TestStateOfLibtpms010(t *testing.T) {
	s := opened(t, sample(t, "v4.permall"))
	if !strings.Contains(s.Profile, `"Name":"default-v1"`) {
		t.Errorf("profile is %q", s.Profile)
	}
	if _, losses := s.Convert(profile(t)); len(losses) != 0 {
		t.Errorf("losses: %v", losses)
	}
	tpm := imported(t, s)
	anyone := client.Entity{Handle: tpm2.HandleOwner}
	for _, name := range []string{"v4-rsa.pub", "v4-ecc.pub"} {
		want := public(t, name)
		made, got := createPrimary(t, tpm, anyone, template(want, false))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-swtpm +ours):\n%s", name, diff)
		}
		if name == "v4-ecc.pub" {
			unsealed(t, tpm, made, "v4child", "sealed under v4\n")
		}
		if err := tpm.Flush(made.Handle); err != nil {
			t.Fatal(err)
		}
	}
}

// What the owner wrote is there, with its authorizations, and counters go on.
func TestNVGoesOn(t *testing.T) {
	s := opened(t, sample(t, "suspended.permall"))
	tpm := imported(t, s)
	want := map[tpm2.Handle]string{
		0x01500001: "0123456789abcdef", 0x01500002: "\x00\x00\x00\x00\x00\x00\x00\x03", 0x01500003: "\x00\x00\x00\x00\x0b\xad\xc0\xde",
		0x01500006: "\x00\x00\x00\x00\x00\x00\x00\x05", 0x01500007: "plat",
	}
	for i := range s.Indices {
		x := &s.Indices[i].Public
		data, known := want[x.NVIndex]
		auth := owner()
		if x.Attributes.Has(tpm2.NVPlatformCreate) {
			auth = client.Entity{Handle: tpm2.HandlePlatform}
		}
		index := client.Entity{Handle: x.NVIndex, Name: nvName(t, tpm, x.NVIndex)}
		out := new(command.NVReadOut)
		_, err := tpm.Run(&client.Command{Code: tpm2.CCNVRead, Handles: []client.Entity{auth, index}, In: &command.NVReadIn{Size: x.DataSize}, Out: out})
		switch {
		case x.NVIndex == 0x01500005: // orderly: a TPM Reset ends its content (Part 1, 37.7)
			if err == nil {
				t.Errorf("orderly index reads %q after a TPM Reset", out.Data)
			}
		case err != nil:
			t.Errorf("index %08x: %v", uint32(x.NVIndex), err)
		case known && string(out.Data) != data:
			t.Errorf("index %08x has %q, want %q", uint32(x.NVIndex), out.Data, data)
		}
	}
	counter := client.Entity{Handle: 0x01500002, Name: nvName(t, tpm, 0x01500002)}
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCNVIncrement, Handles: []client.Entity{owner(), counter}}); err != nil {
		t.Fatal(err)
	}
	wrong := client.Entity{Handle: tpm2.HandleOwner, Auth: []byte("guess")}
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCNVIncrement, Handles: []client.Entity{wrong, counter}}); err == nil {
		t.Error("the owner's authValue was not taken over: another one is accepted")
	}
}

func nvName(t *testing.T, tpm *client.TPM, h tpm2.Handle) []byte {
	t.Helper()
	out := new(command.NVReadPublicOut)
	if _, err := tpm.Run(&client.Command{Code: tpm2.CCNVReadPublic, Handles: []client.Entity{{Handle: h}}, Out: out}); err != nil {
		t.Fatal(err)
	}
	return out.NVName
}

// What cannot be taken over is named, and nothing that can is.
func TestLossesAreNamed(t *testing.T) {
	file := sample(t, "suspended.permall")
	lost := func(change func(*State)) string {
		s := opened(t, bytes.Clone(file))
		s.Shutdown = 0
		change(s)
		_, losses := s.Convert(profile(t))
		var out []string
		for _, l := range losses {
			out = append(out, fmt.Sprintf("%s: %s", l.What, l.Why))
		}
		return strings.Join(out, "\n")
	}
	for _, tc := range []struct {
		name   string
		change func(*State)
		want   string
	}{
		{"nothing", func(*State) {}, ""},
		{"suspended", func(s *State) { s.Shutdown = 1 }, "TPM Resume"},
		{"suspended at locality 3", func(s *State) { s.Shutdown = 0x4001 }, "TPM Resume"},
		{"audited commands", func(s *State) { s.AuditCommands[0] |= 1 }, "audited"},
		{"presence", func(s *State) { s.Presence[5] |= 1 }, "physical presence"},
		{"hash of audit", func(s *State) { s.AuditAlg = tpm2.AlgSM3 }, "command audit"},
		{"algorithm set", func(s *State) { s.AlgorithmSet = 2 }, "algorithm set 2"},
		{"bank", func(s *State) { s.Banks[0].Hash = tpm2.AlgSM3 }, "PCR bank"},
		{"curve", func(s *State) { s.Objects[0].Public.Parameters.ECC.CurveID = 1 }, "persistent object"},
		{"index", func(s *State) { s.Indices[2].Public.NameAlg = tpm2.AlgSM3 }, "NV index 01500003"},
		{"policy", func(s *State) { s.Owner.Policy = Policy{tpm2.AlgSM3, make([]byte, 32)} }, "policy of the owner hierarchy"},
		{"second PCR policy", func(s *State) { s.PCRPolicies = append(s.PCRPolicies, Policy{tpm2.AlgSHA256, make([]byte, 32)}) }, "policy 1 of PCRs"},
	} {
		got := lost(tc.change)
		if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: losses are %q, want %q", tc.name, got, tc.want)
		}
	}
}

// What never goes back there does not here.
func TestCountsAreConverted(t *testing.T) {
	s := opened(t, sample(t, "suspended.permall"))
	s.AuditCounter, s.AuditAlg, s.TimeEpoch = 9, tpm2.AlgSHA384, 41
	if out, _ := s.Convert(profile(t)); out.AuditCounter != 9 || out.AuditAlg != tpm2.AlgSHA384 || out.TimeEpoch != 41 {
		t.Errorf("audit counter %d by %v, epoch %d; want 9, sha384, 41", out.AuditCounter, out.AuditAlg, out.TimeEpoch)
	}
}

// A loss is left out of what is imported, so that the rest goes on.
func TestLossesAreLeftOut(t *testing.T) {
	s := opened(t, sample(t, "suspended.permall"))
	s.Objects[0].Public.Parameters.ECC.CurveID = 1
	s.Indices[2].Public.NameAlg = tpm2.AlgSM3
	s.Owner.Policy = Policy{tpm2.AlgSM3, make([]byte, 32)}
	s.Banks[0].Hash = tpm2.AlgSM3
	s.AuditAlg = tpm2.AlgSM3
	imported(t, s)
}
