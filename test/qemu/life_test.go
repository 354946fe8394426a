package qemu_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/assay-project/assay/test/qemu"
)

// A guest goes through what QEMU does to machines: pause, snapshot and back, reset.
func TestATISMachineIsPausedRestoredAndReset(t *testing.T) {
	needAll(t)
	b := newBench(t)
	server := b.kept("t1")
	m := b.start("m1", server.Socket, "tpm-tis", func(c *qemu.Config) { c.Snapshot = true })
	guest := b.boot(m)
	guest.verify()

	marked := guest.mark()
	for _, command := range []string{"stop", "cont"} {
		if _, err := m.Do(command, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := guest.marked(); !bytes.Equal(got, marked) {
		t.Errorf("after a pause PCR 16 is %x and was %x", got, marked)
	}

	if err := m.Human("savevm s1"); err != nil {
		t.Fatal(err)
	}
	if later := guest.mark(); bytes.Equal(later, marked) {
		t.Fatal("PCR 16 does not change")
	}
	if err := m.Human("loadvm s1"); err != nil {
		t.Fatal(err)
	}
	if got := guest.marked(); !bytes.Equal(got, marked) {
		t.Errorf("after loadvm PCR 16 is %x and was %x", got, marked)
	}
	guest.verify()

	if _, err := m.Do("system_reset", nil); err != nil {
		t.Fatal(err)
	}
	if err := guest.guest.Reset(); err != nil {
		t.Fatalf("%v: %s", err, m.Said())
	}
	key := guest.key
	guest = b.enrol(guest.guest)
	if got := guest.marked(); !bytes.Equal(got, make([]byte, 32)) {
		t.Errorf("after a reset PCR 16 is %x", got)
	}
	if !bytes.Equal(guest.key.Name(), key.Name()) {
		t.Error("after a reset the attestation key is another")
	}
	guest.verify()
	quit(t, m, server)
}

// Whatever fails at the destination, the source goes on with its guest and its TPM;
// and in the end the guest migrates, back too.
func TestAMigrationMayFailAtEachStep(t *testing.T) {
	needAll(t)
	b := newBench(t)
	server := b.kept("t1")
	m := b.start("m1", server.Socket, "tpm-crb", nil)
	guest := b.boot(m)
	for name, socket := range map[string]func(dir string) string{
		"it dies when it is given state": func(dir string) string { return b.dying(dir, qemu.CommandSetStateBlob, 1) },
		"it dies between the two states": func(dir string) string { return b.dying(dir, qemu.CommandSetStateBlob, 2) },
		"it dies when it should start":   func(dir string) string { return b.dying(dir, qemu.CommandInit, 1) },
		"it has other keys": func(dir string) string {
			return b.serve(dir, "--state", filepath.Join(b.dir, dir, "state"), "--ledger", filepath.Join(b.dir, dir, "ledger"), "--key-file", filepath.Join(b.dir, dir, "keys")).Socket
		},
		"it has none": func(dir string) string { return b.serve(dir, "--ephemeral").Socket },
	} {
		dir := "d" + name[len(name)-3:]
		t.Run(name, func(t *testing.T) {
			before := guest.mark()
			to := b.start(dir, socket(dir+"t"), "tpm-crb", incoming)
			how, err := m.Migrate(to)
			if err != nil {
				t.Fatal(err)
			}
			if how.Status != "failed" {
				t.Errorf("the migration is %s; the destination says %s", how.Status, to.Said())
			}
			if err := m.Reach("running"); err != nil {
				t.Error(err)
			}
			if after := guest.marked(); !bytes.Equal(before, after) {
				t.Errorf("PCR 16 is %x at the source and was %x", after, before)
			}
			guest.verify()
			if err := guest.Seal([]byte("still here")); err != nil {
				t.Error(err)
			}
		})
	}
	other := b.kept("t2")
	there := b.start("m2", other.Socket, "tpm-crb", incoming)
	guest.move(m, there)
	quit(t, m, server)
	again := b.kept("t3")
	back := b.start("m3", again.Socket, "tpm-crb", incoming)
	guest.move(there, back)
	quit(t, there, other)
	quit(t, back, again)
}

// A source whose TPM is gone does not migrate: nothing runs at the destination.
func TestASourceWithoutItsTPMDoesNotMigrate(t *testing.T) {
	needAll(t)
	b := newBench(t)
	m := b.start("m1", b.dying("t1", qemu.CommandGetStateBlob, 1), "tpm-crb", nil)
	guest := b.boot(m)
	guest.verify()
	to := b.start("m2", b.kept("t2").Socket, "tpm-crb", incoming)
	how, err := m.Migrate(to)
	if err != nil {
		t.Fatal(err)
	}
	if how.Status != "failed" {
		t.Errorf("the migration is %s", how.Status)
	}
	if status, err := to.Status(); err == nil && status == "running" {
		t.Error("the destination runs")
	}
}

// dying serves a TPM that is killed when QEMU sends a command for the nth time.
func (b *bench) dying(dir string, code uint32, nth int) string {
	b.t.Helper()
	s := b.kept(dir)
	tap, err := qemu.NewTap(filepath.Join(b.dir, dir), s.Socket, func(c uint32) {
		if c != code {
			return
		}
		if nth--; nth == 0 {
			if err := errors.Join(s.Kill(), waited(s)); err != nil {
				b.t.Error(err)
			}
		}
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { tap.Close() })
	return tap.Socket
}

// waited waits for a process that was killed, which says so.
func waited(s *qemu.Server) error {
	if s.Wait() == nil {
		return errors.New("the TPM was killed and says that all is well")
	}
	return nil
}
