package vtpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// anRSAKey is TPM2_CreatePrimary of an RSA key of the owner's.
func anRSAKey(bits uint16) *client.Command {
	var out command.CreatePrimaryOut
	return &client.Command{
		Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: tpm2.HandleOwner}}, Out: &out,
		In: &command.CreatePrimaryIn{InPublic: tpm2.Public{
			Type: tpm2.AlgRSA, NameAlg: tpm2.AlgSHA256,
			Attributes: tpm2.AttrUserWithAuth | tpm2.AttrSign | tpm2.AttrSensitiveDataOrigin | tpm2.AttrFixedTPM | tpm2.AttrFixedParent,
			Parameters: tpm2.PublicParms{RSA: tpm2.RSAParms{
				Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: tpm2.RSAScheme{Scheme: tpm2.AlgNull}, KeyBits: bits,
			}},
		}},
	}
}

// A key that takes long to make waits behind others; short commands of other TPMs
// do not, and who waited too long is told to try again.
func TestHeavyCommandsShareALane(t *testing.T) {
	f := newFixture(t)
	f.cfg.Limits = Limits{Heavy: 1, HeavyWait: 50 * time.Millisecond}
	f.reopen()
	f.many(2)
	i, c := f.started("vm-0")
	defer i.Close()
	j, d := f.started("vm-1")
	defer j.Close()
	if !f.heavy.enter(time.Second) { // as a third TPM does
		t.Fatal("the lane is not free")
	}
	if _, err := c.Run(anRSAKey(2048)); !errors.Is(err, tpm2.RCRetry) {
		t.Errorf("CreatePrimary = %v, want %v", err, tpm2.RCRetry)
	}
	if err := defineCounter(d); err != nil {
		t.Errorf("a short command: %v", err)
	}
	f.heavy.leave()
	if _, err := c.Run(anRSAKey(2048)); err != nil {
		t.Errorf("CreatePrimary = %v", err)
	}
	if len(f.heavy) != 0 {
		t.Error("the lane is not left")
	}
}

func TestAHeavyCommandIsCanceledInTheEnd(t *testing.T) {
	f := newFixture(t)
	f.cfg.Limits = Limits{HeavyTime: 5 * time.Millisecond}
	f.reopen()
	f.create("web")
	i, c := f.started("web")
	defer i.Close()
	canceled := false
	for range 20 { // on a busy machine the timer may come before the command, which then is not canceled
		h, err := c.Run(anRSAKey(4096))
		if canceled = errors.Is(err, tpm2.RCCanceled); canceled {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Flush(h); err != nil {
			t.Fatal(err)
		}
	}
	i.reports.Wait()
	if e := findEvent(f, EventLimit); !canceled || !strings.Contains(string(e.Detail), "too long") {
		t.Errorf("canceled %v, event %+v", canceled, e)
	}
}

func TestHeavyIsWhatMakesRSAKeys(t *testing.T) {
	ecc := anRSAKey(0)
	ecc.In.(*command.CreatePrimaryIn).InPublic = tpm2.Public{
		Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256,
		Parameters: tpm2.PublicParms{ECC: tpm2.ECCParms{
			Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgNull}, Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgNull}, CurveID: tpm2.CurveNISTP256, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull},
		}},
	}
	for name, tc := range map[string]struct {
		c    *client.Command
		want bool
	}{"RSA": {anRSAKey(2048), true}, "ECC": {ecc, false}, "extension": {extend(1), false}} {
		var sent recorder
		client.New(&sent, zeroReader{}).Run(tc.c)
		if got := IsHeavy(sent.request); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		for n := range sent.request {
			if IsHeavy(sent.request[:n]) && !tc.want {
				t.Errorf("%s: the first %d bytes are heavy", name, n)
			}
		}
	}
}

type recorder struct{ request []byte }

func (r *recorder) Send(b []byte) ([]byte, error) {
	r.request = bytes.Clone(b)
	return nil, io.EOF
}

// A guest that writes all the time is slowed down, and that is told once.
func TestWritesHaveARate(t *testing.T) {
	f := newFixture(t)
	f.cfg.Limits = Limits{Saves: 100, SaveBurst: 3}
	f.reopen()
	f.create("web")
	i, c := f.started("web")
	defer i.Close()
	if err := defineCounter(c); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for range 12 {
		if err := increment(c); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(start); took < 80*time.Millisecond {
		t.Errorf("12 writes took %v", took)
	}
	i.reports.Wait()
	n := 0
	for _, e := range f.events {
		if e.Type == EventLimit {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

// What one hypervisor sends, or does not, another does not notice.
func TestAHostileStreamReachesNobodyElse(t *testing.T) {
	f := newFixture(t)
	f.many(2)
	f.daemon(DaemonConfig{})
	commands := bootCommands(t)
	streams := map[string][]byte{
		"unknown command": {0, 0, 1, 0}, "half a command": {0, 0}, "huge blob": []byte("\x00\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00\x01\xff\xff\xff\xff"),
		"noise": bytes.Repeat([]byte{0xa5, 0x00, 0x13}, 5000), "zeros": make([]byte, 4096),
		"blob of nobody":   append([]byte("\x00\x00\x00\x0d\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x10"), bytes.Repeat([]byte{7}, 16)...),
		"hash without end": []byte("\x00\x00\x00\x07\x7f\xff\xff\xff"),
	}
	for name, text := range streams {
		c, err := net.Dial("unix", f.socket("vm-0"))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Write(text)
		if err := bootOnce(f.socket("vm-1"), &guest{salt: 1}, commands); err != nil { // while the connection is open
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
		if err := bootOnce(f.socket("vm-0"), &guest{salt: 2}, commands); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

// panicking is a source of randomness that panics while told to.
type panicking struct {
	io.Reader
	on *atomic.Bool
}

func (p panicking) Read(b []byte) (int, error) {
	if p.on.Load() {
		panic("no randomness")
	}
	return p.Reader.Read(b)
}

// A fault of ours ends one TPM, at any place; the daemon and the others go on.
func TestAFaultEndsOneTPMOnly(t *testing.T) {
	f := newFixture(t)
	var on atomic.Bool
	f.cfg.Random = panicking{f.cfg.Random, &on}
	f.reopen()
	f.many(2)
	f.daemon(DaemonConfig{})
	running, _, err := startedVM(f.socket("vm-1"))
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	on.Store(true)
	if v, err := dialVM(f.socket("vm-0")); err == nil {
		v.Close()
		t.Fatal("the TPM starts: the test shows nothing")
	}
	on.Store(false)
	if b, err := running.Send([]byte("\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x7b\x00\x08")); err != nil || binary.BigEndian.Uint32(b[6:]) != 0 {
		t.Errorf("another TPM: %x, %v", b, err)
	}
	if _, err := Call(context.Background(), f.Dir(), &Request{Verb: VerbList}); err != nil {
		t.Error(err)
	}
	if err := bootOnce(f.socket("vm-0"), &guest{salt: 1}, bootCommands(t)); err != nil {
		t.Errorf("the same TPM afterwards: %v", err)
	}
	if e := findEvent(f, EventFault); !strings.Contains(string(e.Detail), "no randomness") {
		t.Errorf("event %+v", e)
	}
}
