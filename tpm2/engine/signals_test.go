package engine_test

import (
	"crypto/fips140"
	"encoding/binary"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

func TestCancelEndsTheSearchForPrimesAndNothingElse(t *testing.T) {
	if fips140.Enabled() {
		t.Skip("the module does not stop its search")
	}
	m := manufacture(t, "default")
	cfg := m.config()
	during := false // whether each command is canceled once it runs
	cfg.Now = func() time.Duration {
		if during {
			m.tpm.Cancel()
		}
		return m.now
	}
	p, err := engine.FindProfile("default", 0)
	if err != nil {
		t.Fatal(err)
	}
	if m.tpm, err = engine.Manufacture(p, cfg); err != nil {
		t.Fatal(err)
	}
	m.tpm.PowerOn()
	m.startup(tpm2.StartupClear)
	srk := m.storage("")
	in := &command.CreateIn{InPublic: rsaTemplate(ordinary | tpm2.AttrSign)}
	during = true
	m.fails(tpm2.RCCanceled, tpm2.CCCreate, handles(srk), password(""), in)
	m.do(tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 8}, nil)
	m.create(srk, eccTemplate(ordinary|tpm2.AttrSign), "", "")
	during = false
	m.tpm.Cancel() // no command runs
	m.do(tpm2.CCCreate, handles(srk), password(""), in, nil)
}

func TestASelfTestFailsWhenAskedTo(t *testing.T) {
	m := newMachine(t)
	m.tpm.FailSelfTest()
	m.do(tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 8}, nil)
	m.fails(tpm2.RCFailure, tpm2.CCSelfTest, nil, nil, &command.SelfTestIn{})
	m.fails(tpm2.RCFailure, tpm2.CCGetRandom, nil, nil, &command.GetRandomIn{BytesRequested: 8})
	m.tpm.PowerOn()
	m.startup(tpm2.StartupClear)
	m.do(tpm2.CCSelfTest, nil, nil, &command.SelfTestIn{}, nil)
}

func TestTheBufferBoundsCommands(t *testing.T) {
	m := manufacture(t, "default")
	m.startup(tpm2.StartupClear)
	size := func() uint32 {
		t.Helper()
		out := new(command.GetCapabilityOut)
		m.do(tpm2.CCGetCapability, nil, nil, &command.GetCapabilityIn{Capability: tpm2.CapTPMProperties, Property: uint32(tpm2.PTMaxCommandSize), PropertyCount: 1}, out)
		return out.CapabilityData.Properties[0].Value
	}
	random := func(length int) tpm2.RC {
		request := make([]byte, length)
		copy(request, "\x80\x01\x00\x00\x00\x00\x00\x00\x01\x7b\x00\x08")
		binary.BigEndian.PutUint32(request[2:], uint32(length))
		return tpm2.RC(binary.BigEndian.Uint32(m.tpm.Execute(0, request)[6:]))
	}
	if got := size(); got != 4096 {
		t.Errorf("TPM_PT_MAX_COMMAND_SIZE = %d, want 4096", got)
	}
	m.tpm.SetBufferSize(3000)
	if got := size(); got != 3000 {
		t.Errorf("TPM_PT_MAX_COMMAND_SIZE = %d, want 3000", got)
	}
	if at, above := random(3000), random(3001); at == tpm2.RCCommandSize || above != tpm2.RCCommandSize {
		t.Errorf("command of 3000 bytes: %v, of 3001 bytes: %v, want TPM_RC_COMMAND_SIZE of the second alone", at, above)
	}
	m.tpm.SetBufferSize(1 << 20)
	if got := size(); got != 4096 {
		t.Errorf("TPM_PT_MAX_COMMAND_SIZE = %d, want no more than the profile has", got)
	}
}
