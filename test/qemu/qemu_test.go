package qemu_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/test/qemu"
)

var all = flag.Bool("all", false, "every machine and failure, not only one boot and one migration (make test-qemu)")

// parts are made once for all tests.
type parts struct {
	dir, program string
	image        *qemu.Image
}

var made = sync.OnceValues(func() (p parts, err error) {
	if p.dir, err = os.MkdirTemp("", "guest"); err != nil {
		return p, err
	}
	if p.image, err = qemu.NewImage(p.dir); err != nil {
		return p, err
	}
	p.program, err = qemu.Program(p.dir)
	return p, err
})

// TestMain removes what the tests share.
func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if p, _ := made(); p.dir != "" {
		os.RemoveAll(p.dir)
	}
	os.Exit(code)
}

// A bench is a folder for the machines of one test.
type bench struct {
	t *testing.T
	parts
	dir string // with a short name: the path of a socket has 107 bytes
}

// newBench skips a test on a machine without QEMU, unless it must not be skipped.
func newBench(t *testing.T) *bench {
	t.Helper()
	p, err := made()
	if errors.Is(err, qemu.ErrMissing) && os.Getenv("ASSAY_REQUIRE_QEMU") == "" {
		t.Skipf("no real machine is booted: %v (make setup installs it)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &bench{t, p, dir}
}

// needAll skips what make test leaves out.
func needAll(t *testing.T) {
	t.Helper()
	if !*all {
		t.Skip("-all runs it: make test-qemu")
	}
}

// kept serves a TPM that is kept in a folder called name, under the keys that all
// TPMs of the bench share.
func (b *bench) kept(name string) *qemu.Server {
	b.t.Helper()
	return b.serve(name, "--state", filepath.Join(b.dir, name, "state"), "--ledger", filepath.Join(b.dir, name, "ledger"), "--key-file", filepath.Join(b.dir, "keys"), "--new")
}

func (b *bench) serve(name string, arguments ...string) *qemu.Server {
	b.t.Helper()
	s, err := qemu.Serve(b.program, filepath.Join(b.dir, name), arguments...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		s.Kill()
		if b.t.Failed() {
			b.t.Logf("TPM %s: %s", name, s.Said())
		}
	})
	return s
}

// start starts a machine over a TPM.
func (b *bench) start(name, socket, device string, change func(*qemu.Config)) *qemu.Machine {
	b.t.Helper()
	cfg := qemu.Config{Dir: filepath.Join(b.dir, name), Image: b.image, TPM: socket, Device: device}
	if change != nil {
		change(&cfg)
	}
	m, err := qemu.Start(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		m.Kill()
		if b.t.Failed() {
			b.t.Logf("machine %s: %s", name, m.Said())
		}
	})
	return m
}

func incoming(c *qemu.Config) { c.Incoming = true }

// A subject is a guest that has proven what it is.
type subject struct {
	b     *bench
	guest *qemu.Guest
	*qemu.Prover
	key *tpm.Key
	log []byte
}

// boot waits for a guest and enrols it.
func (b *bench) boot(m *qemu.Machine) *subject {
	b.t.Helper()
	g, err := m.Guest()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.enrol(g)
}

// enrol has a guest prove that its attestation key is in its TPM.
func (b *bench) enrol(g *qemu.Guest) *subject {
	b.t.Helper()
	var err error
	s := &subject{b: b, guest: g}
	if s.log, err = g.File(qemu.BootLog); err != nil {
		b.t.Fatal(err)
	}
	if s.Prover, err = qemu.NewProver(g, rand.Reader); err != nil {
		b.t.Fatal(err)
	}
	if s.key, err = s.Enrol(); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// verify has the guest quoted and judged, under the key that it enrolled.
func (s *subject) verify() *tpm.Verified {
	s.b.t.Helper()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	e, err := s.Evidence(nonce, s.log)
	if err != nil {
		s.b.t.Fatal(err)
	}
	v, err := tpm.Verify(e, tpm.Expect{Nonce: nonce, Keys: []*tpm.Key{s.key}, At: time.Now()})
	if err != nil {
		s.b.t.Fatalf("Verify: %v", err)
	}
	if v.Boot() == nil || v.Proof() != tpm.ProofActivation {
		s.b.t.Errorf("the log is not confirmed, or the key proven by %q", v.Proof())
	}
	if _, err := tpm.Verify(e, tpm.Expect{Nonce: nonce[1:], Keys: []*tpm.Key{s.key}, At: time.Now()}); err == nil {
		s.b.t.Error("the quote answers another nonce, too")
	}
	return v
}

// mark extends a register that the guest's boot leaves alone and returns its value.
func (s *subject) mark() []byte {
	s.b.t.Helper()
	if err := s.Extend(16, bytes.Repeat([]byte{0x5a}, 32)); err != nil {
		s.b.t.Fatal(err)
	}
	return s.marked()
}

func (s *subject) marked() []byte {
	s.b.t.Helper()
	v, err := s.PCRs(16)
	if err != nil {
		s.b.t.Fatal(err)
	}
	return v[16]
}

// sealing seals and unseals until it is stopped, and says how often.
func (s *subject) sealing() (stop func() int) {
	end, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { done <- n }()
		for {
			if err := s.Seal([]byte{byte(n), 1, 2, 3}); err != nil {
				s.b.t.Errorf("seal %d: %v", n, err)
				return
			}
			n++
			select {
			case <-end:
				return
			default:
			}
		}
	}()
	return func() int {
		close(end)
		return <-done
	}
}

// move migrates a guest while it seals, and checks that it is the one it was.
func (s *subject) move(from, to *qemu.Machine) *qemu.Migration {
	t := s.b.t
	t.Helper()
	before := s.mark()
	stop := s.sealing()
	how, err := from.Migrate(to)
	if err != nil {
		t.Fatal(err)
	}
	if how.Status != "completed" {
		t.Fatalf("the migration %s; the destination says %s", how.Status, to.Said())
	}
	if err := errors.Join(to.Reach("running"), s.guest.Follow(to)); err != nil {
		t.Fatal(err)
	}
	if n := stop(); n == 0 {
		t.Error("nothing was sealed meanwhile")
	}
	if after := s.marked(); !bytes.Equal(before, after) {
		t.Errorf("PCR 16 is %x after the migration and was %x", after, before)
	}
	s.verify()
	return how
}

// quit ends a machine as an operator does, and its TPM with it.
func quit(t *testing.T, m *qemu.Machine, s *qemu.Server) {
	t.Helper()
	if _, err := m.Do("quit", nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Wait(), s.Wait()); err != nil {
		t.Errorf("after quit: %v", err)
	}
}

// A guest boots over the TPM by real firmware, its quote and its log are verified,
// and it migrates to another QEMU with another process for its TPM while it uses
// that. This is what make test shows.
func TestAGuestIsTrustedAndMigratesWhileItSeals(t *testing.T) {
	b := newBench(t)
	tpm1, tpm2 := b.kept("t1"), b.kept("t2")
	m1 := b.start("m1", tpm1.Socket, "tpm-crb", nil)
	m2 := b.start("m2", tpm2.Socket, "tpm-crb", incoming)
	guest := b.boot(m1)
	if c := guest.verify().Facts()["secureBoot"]; c.Value != evidence.Bool(false) {
		t.Errorf("secureBoot is %v, without keys in the firmware", c)
	}
	how := guest.move(m1, m2)
	t.Logf("migrated in %d ms, down for %d ms", how.TotalTime, how.Downtime)
	quit(t, m1, tpm1)
	if err := guest.guest.PowerOff(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m2.Wait(), tpm2.Wait()); err != nil {
		t.Errorf("after power-off: %v", err)
	}
}
