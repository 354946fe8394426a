// Package systemd tries the unit files of this project: what systemd-analyze says of
// them, and, in a container of systemd-nspawn's that sees this machine through an
// overlay, a service that starts, is asked for TPMs, answers its watchdog and stops.
// It does not show what another release of systemd makes of them. Start with
// TestTheServiceRunsUnderSystemd.
//
// systemd 252: systemd.service(5), systemd.exec(5), systemd-nspawn(1).
package systemd

import (
	"context"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unit is the service of the daemon.
const unit = "assay-vtpm.service"

// packaging is where the unit files are.
const packaging = "../../packaging"

// maxExposure is what "systemd-analyze security" may say of the unit, in tenths; what
// is left is the network for key providers and the users that sockets are given to.
const maxExposure = "17"

// analyze runs systemd-analyze, and skips a test where there is none.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("ASSAY_REQUIRE_SYSTEMD") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	return string(out), err
}

// changed writes the unit to a folder, with a program that every machine has.
func changed(t *testing.T, replace ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(packaging, "systemd", unit))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), unit)
	replace = append(replace, "/usr/bin/assay-vtpm", "/bin/true")
	if err := os.WriteFile(name, []byte(strings.NewReplacer(replace...).Replace(string(text))), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTheUnitIsWhatSystemdUnderstands(t *testing.T) {
	if out, err := analyze(t, "verify", "--man=no", changed(t)); err != nil || strings.Contains(out, unit) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	if out, _ := analyze(t, "verify", "--man=no", changed(t, "LockPersonality=yes", "LockPersonalty=yes")); !strings.Contains(out, "LockPersonalty") {
		t.Errorf("systemd-analyze verify finds no fault in a unit that has one:\n%s", out)
	}
}

func TestTheUnitIsConfined(t *testing.T) {
	if out, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+maxExposure, changed(t)); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	if _, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+maxExposure, changed(t, "CapabilityBoundingSet=\n", "", "SystemCallFilter", "#")); err == nil {
		t.Error("systemd-analyze security is content with a unit that has all capabilities and system calls")
	}
}

//go:embed testdata/inside.sh
var inside string

// TestTheServiceRunsUnderSystemd needs root, systemd-nspawn, and half a minute.
func TestTheServiceRunsUnderSystemd(t *testing.T) {
	if os.Getenv("ASSAY_REQUIRE_NSPAWN") == "" {
		t.Skip("ASSAY_REQUIRE_NSPAWN is not set: make test-systemd")
	}
	root := newRoot(t)
	install(t, root)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "systemd-nspawn", "--quiet", "--directory="+root, "--boot", "--register=no", "--keep-unit", "--link-journal=no",
		"--machine=assay-test", "--console=read-only", "--private-network", "systemd.unit=assay-test.target", "systemd.show_status=0")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	out, err := c.CombinedOutput()
	said, readErr := os.ReadFile(filepath.Join(root, "assay-test.log"))
	if readErr != nil || !strings.Contains(string(said), "\ndone\n") {
		log, _ := os.ReadFile(filepath.Join(root, "assay-vtpm.log"))
		t.Fatalf("it did not come to its end: %v, %v\nsystemd:\n%s\nthe service:\n%s\nthe test:\n%s", err, readErr, out, log[:min(len(log), 4000)], said)
	}
	t.Logf("%s", said)
}

// newRoot makes a root folder for a container: this machine's, and what is written goes
// to memory.
func newRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) }) //nolint:errcheck // its end
	for _, name := range []string{"up", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	root := filepath.Join(dir, "root")
	options := "lowerdir=/,upperdir=" + filepath.Join(dir, "up") + ",workdir=" + filepath.Join(dir, "work")
	if err := syscall.Mount("none", root, "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(root, syscall.MNT_DETACH) }) //nolint:errcheck // its end
	return root
}

// install puts the program, the unit files and the test into the container.
func install(t *testing.T, root string) {
	t.Helper()
	program := os.Getenv("ASSAY_PROGRAM")
	if program == "" {
		program = filepath.Join(t.TempDir(), "assay-vtpm")
		build := exec.Command("go", "build", "-o", program, "github.com/assay-project/assay/cmd/assay-vtpm")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build assay: %v\n%s", err, out)
		}
	}
	const test = "[Service]\nType=oneshot\nExecStart=/bin/sh /assay-test.sh\nExecStopPost=/bin/systemctl --no-block start poweroff.target\nStandardOutput=append:/assay-test.log\nStandardError=inherit\n"
	for name, text := range map[string]string{
		"/etc/machine-id":                              "",
		"/assay-test.sh":                               inside,
		"/etc/systemd/system/assay-test.service":       test,
		"/etc/systemd/system/assay-test.target":        "[Unit]\nWants=assay-test.service\n",
		"/etc/systemd/system/" + unit + ".d/test.conf": "[Service]\nStandardError=append:/assay-vtpm.log\nWatchdogSec=2s\n",
		"/usr/lib/systemd/system/" + unit:              read(t, filepath.Join(packaging, "systemd", unit)),
		"/usr/lib/sysusers.d/assay.conf":               read(t, filepath.Join(packaging, "sysusers.d/assay.conf")),
		"/usr/lib/sysusers.d/libvirt.conf":             "u libvirt-qemu - \"QEMU\" /\n",
		"/usr/bin/assay-vtpm":                          read(t, program),
	} {
		name = filepath.Join(root, name)
		os.Remove(name) //nolint:errcheck // it may not be there
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if filepath.Dir(name) == filepath.Join(root, "/usr/bin") {
			mode = 0o755
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
