package qemu_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/test/qemu"
)

// secured makes an image that boots under Secure Boot, or a changed one.
func (b *bench) secured(name string, change bool) func(*qemu.Config) {
	b.t.Helper()
	image, err := b.image.Secured(filepath.Join(b.dir, name), change)
	if errors.Is(err, qemu.ErrMissing) && os.Getenv("ASSAY_REQUIRE_QEMU") == "" {
		b.t.Skipf("no machine is booted: %v (make setup unpacks it)", err)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return func(c *qemu.Config) { c.Image = image }
}

// Firmware under System Management Mode verifies shim, shim GRUB, GRUB the kernel, and
// all is in the log that the TPM's quote confirms; also after a reset.
func TestSecureBootIsProvenByTheQuote(t *testing.T) {
	needAll(t)
	b := newBench(t)
	server := b.kept("t1")
	m := b.start("m1", server.Socket, "tpm-crb", b.secured("i1", false))
	guest := b.boot(m)
	guest.securelyBooted()
	if _, err := m.Do("system_reset", nil); err != nil {
		t.Fatal(err)
	}
	if err := guest.guest.Reset(); err != nil {
		t.Fatalf("%v: %s", err, m.Said())
	}
	b.enrol(guest.guest).securelyBooted()
	quit(t, m, server)
}

// securelyBooted verifies the guest, and that its quote proves Secure Boot.
func (s *subject) securelyBooted() {
	t := s.b.t
	t.Helper()
	if c := s.verify().Facts()["secureBoot"]; c.Value != evidence.Bool(true) {
		t.Errorf("secureBoot is %v", c)
	}
}

// A kernel that nobody signed does not run, and the TPM has been told nothing of one.
func TestAChangedKernelDoesNotBootUnderSecureBoot(t *testing.T) {
	needAll(t)
	b := newBench(t)
	m := b.start("m1", b.kept("t1").Socket, "tpm-crb", b.secured("i1", true))
	if err := m.Await("bad shim signature"); err != nil {
		t.Error(err)
	}
}
