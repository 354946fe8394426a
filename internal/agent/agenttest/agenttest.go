// Package agenttest gives tests a guest with an agent: a TPM in this process whose
// registers are those of a recorded boot, the kernel's files of that boot, and the
// agent's server over them.
//
// It is as genuine as its test: nothing booted. Start with [NewGuest].
package agenttest

import (
	"crypto/rand"
	"net"
	"testing"
	"testing/fstest"
	"time"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/agent"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/tpmtest"
	"github.com/assay-project/assay/wire"
)

// Where the kernel of a guest has what the agent reads.
const (
	BootLog = "sys/kernel/security/tpm0/binary_bios_measurements"
	IMA     = "sys/kernel/security/ima/binary_runtime_measurements"
	BootID  = "proc/sys/kernel/random/boot_id"
)

// A Guest is a machine that booted.
type Guest struct {
	TPM  *tpmtest.TPM
	Root fstest.MapFS
	Key  agent.KeyConfig
	tb   testing.TB
}

// NewGuest boots a guest as a scenario of evidencetest was recorded ("good-uki").
func NewGuest(tb testing.TB, scenario string) *Guest {
	tb.Helper()
	g := &Guest{TPM: tpmtest.Open(tb), tb: tb}
	g.Boot(scenario, "11111111-2222-3333-4444-555555555555")
	return g
}

// Boot resets the guest and boots it as a scenario; id is what its kernel calls the boot.
func (g *Guest) Boot(scenario, id string) {
	g.tb.Helper()
	log := evidencetest.File(g.tb, scenario+"/eventlog.bin")
	if log == nil {
		g.tb.Fatalf("no boot %q was recorded", scenario)
	}
	if err := g.TPM.Reset(); err != nil {
		g.tb.Fatal(err)
	}
	parsed, err := eventlog.Parse(log)
	if err != nil {
		g.tb.Fatal(err)
	}
	for _, e := range parsed.Events() {
		if e.Measured() {
			g.Extend(int(e.PCR), e.Digest(tpm2.AlgSHA256))
		}
	}
	g.Root = fstest.MapFS{BootLog: {Data: log}, BootID: {Data: []byte(id + "\n")}, "proc/sys/kernel/tainted": {Data: []byte("0\n")}}
}

// Extend adds a SHA-256 digest to a register.
func (g *Guest) Extend(pcr int, digest []byte) {
	g.tb.Helper()
	_, err := client.New(g.TPM, rand.Reader).Run(&client.Command{
		Code: tpm2.CCPCRExtend, Handles: []client.Entity{{Handle: tpm2.Handle(pcr)}}, // a register's number
		In: &command.PCRExtendIn{Digests: tpm2.DigestValues{{HashAlg: tpm2.AlgSHA256, Digest: digest}}},
	})
	if err != nil {
		g.tb.Fatal(err)
	}
}

// EK is an endorsement key of the guest's TPM, by the name of its template.
func (g *Guest) EK(template string) *tpm2.Public {
	g.tb.Helper()
	t := g.open()
	defer t.Close()
	public, _, err := t.EndorsementKey(template)
	if err != nil {
		g.tb.Fatal(err)
	}
	var out tpm2.Public
	if err := wire.Decode(public, &out); err != nil {
		g.tb.Fatal(err)
	}
	return &out
}

func (g *Guest) open() *agent.TPM {
	g.tb.Helper()
	t, err := g.Prover()
	if err != nil {
		g.tb.Fatal(err)
	}
	return t
}

// Prover opens the guest's TPM as the agent does.
func (g *Guest) Prover() (*agent.TPM, error) {
	return agent.OpenTPM(device{g.TPM}, rand.Reader, g.Key)
}

// device is a TPM that outlives its users.
type device struct{ *tpmtest.TPM }

// Close leaves the TPM on.
func (device) Close() error { return nil }

// Device is the guest's TPM, as a file is opened.
func (g *Guest) Device() agent.Device { return device{g.TPM} }

// Agent is the guest's agent.
func (g *Guest) Agent() *agent.Server {
	return &agent.Server{Root: g.Root, Prover: g.Prover, Version: "test", Interval: time.Minute}
}

// Port is a serial port: what is written at one end is read at the other.
func Port() (guest, host net.Conn) { return net.Pipe() }
