package engine_test

import (
	"crypto/fips140"
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
