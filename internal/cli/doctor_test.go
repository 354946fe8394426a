package cli

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/assay-project/assay/internal/program"
)

// bareMachine lacks everything that a program may ask for.
func bareMachine() *machine {
	return &machine{
		root:     fstest.MapFS{},
		lookPath: func(string) (string, error) { return "", exec.ErrNotFound },
		run:      func(context.Context, string, ...string) (string, error) { return "", errors.New("not to be run") },
		listen:   func() error { return errors.New("no loopback") },
		writable: func(string) error { return errors.New("read-only file system") },
		env:      &program.Env{Now: func() time.Time { return time.Unix(0, 0) }, Getenv: func(string) string { return "" }},
	}
}

// fullMachine has it all.
func fullMachine() *machine {
	m := bareMachine()
	m.root = fstest.MapFS{
		"dev/tpmrm0": {}, "dev/kvm": {},
		"sys/kernel/security/tpm0/binary_bios_measurements":   {},
		"sys/kernel/security/ima/binary_runtime_measurements": {},
		"usr/share/OVMF/OVMF_CODE_4M.secboot.fd":              {},
		"usr/lib/postgresql/15/bin/postgres":                  {},
	}
	m.lookPath = func(name string) (string, error) { return "/usr/bin/" + name, nil }
	m.run = func(context.Context, string, ...string) (string, error) {
		return "QEMU emulator version 7.2\nmore", nil
	}
	m.listen = func() error { return nil }
	m.writable = func(string) error { return nil }
	m.env.Now = func() time.Time { return released.AddDate(1, 0, 0) }
	return m
}

func TestDoctorNamesACureForEachThingMissing(t *testing.T) {
	for _, c := range bareMachine().examine(context.Background()) {
		if c.Status == "ok" || c.Mend == "" || c.Detail == "" {
			t.Errorf("on a bare machine %q is %q with mend %q, want a cure", c.Name, c.Status, c.Mend)
		}
	}
}

func TestDoctorFindsNothingOnAFullMachine(t *testing.T) {
	for _, c := range fullMachine().examine(context.Background()) {
		if c.Status != "ok" && c.Name != "FIPS 140-3" {
			t.Errorf("on a full machine %q is %q: %s", c.Name, c.Status, c.Detail)
		}
	}
}

func TestDoctorDoesNotBelieveTheKVMDeviceFile(t *testing.T) {
	m := fullMachine()
	m.run = func(_ context.Context, _ string, args ...string) (string, error) {
		if strings.Contains(strings.Join(args, " "), "kvm") {
			return "qemu: System Management Mode not supported by this hypervisor.", errors.New("exit status 1")
		}
		return "QEMU emulator version 7.2", nil
	}
	if c := m.kvm(context.Background()); c.Status != "problem" || !strings.Contains(c.Detail, "System Management Mode") {
		t.Errorf("kvm = %+v, want a problem that says why", c)
	}
}
