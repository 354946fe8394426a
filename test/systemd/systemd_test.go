// Package systemd tries the unit files of this project: what systemd-analyze says of
// them, and, in containers of systemd-nspawn's that see this machine through an overlay,
// a service that starts, is asked for TPMs, answers its watchdog and stops, and machines
// that are started, killed, started anew once, and shut down. It does not show what
// another release of systemd makes of them. Start with TestServicesRunUnderSystemd.
//
// systemd 252: systemd.service(5), systemd.exec(5), systemd-nspawn(1).
package systemd

import (
	"context"
	"embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// packaging is where the unit files are.
const packaging = "../../packaging"

// units are all services, under the name that systemd knows them by, with what
// "systemd-analyze security" may say of each, in tenths. What is left is the network, the
// users that sockets are given to, the processor's emulation, and that agents are root.
var units = map[string]string{
	"assay-vtpm.service":         "17",
	"assay-vm@web-1.service":     "18",
	"assay-findings.service":     "14",
	"assay-agent.service":        "21",
	"assay-agent-serial.service": "17",
}

// file is where the text of a service is: that of a template for its instances.
func file(unit string) string {
	name, instance, ok := strings.Cut(unit, "@")
	if ok {
		_, kind, _ := strings.Cut(instance, ".")
		unit = name + "@." + kind
	}
	return filepath.Join(packaging, "systemd", unit)
}

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

// programs are those that units start.
var programs = []string{"assay", "assay-vtpm", "assay-agent"}

// changed writes a unit to a folder, with a program that every machine has.
func changed(t *testing.T, unit string, replace ...string) string {
	t.Helper()
	for _, p := range programs {
		replace = append(replace, "/usr/bin/"+p+" ", "/bin/true ")
	}
	name := filepath.Join(t.TempDir(), unit)
	if err := os.WriteFile(name, []byte(strings.NewReplacer(replace...).Replace(read(t, file(unit)))), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestUnitsAreWhatSystemdUnderstands(t *testing.T) {
	t.Parallel()
	for unit := range units {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			if out, err := analyze(t, "verify", "--man=no", changed(t, unit)); err != nil || strings.Contains(out, unit) {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
			if out, _ := analyze(t, "verify", "--man=no", changed(t, unit, "LockPersonality=yes", "LockPersonalty=yes")); !strings.Contains(out, "LockPersonalty") {
				t.Errorf("systemd-analyze verify finds no fault in a unit that has one:\n%s", out)
			}
		})
	}
}

func TestUnitsAreConfined(t *testing.T) {
	t.Parallel()
	for unit, most := range units {
		t.Run(unit, func(t *testing.T) {
			t.Parallel()
			if out, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+most, changed(t, unit)); err != nil {
				t.Errorf("systemd-analyze security: %v\n%s", err, out)
			}
			if _, err := analyze(t, "security", "--offline=true", "--no-pager", "--threshold="+most, changed(t, unit, "CapabilityBoundingSet=", "# ", "SystemCallFilter", "#")); err == nil {
				t.Error("systemd-analyze security is content with a unit that has all capabilities and system calls")
			}
		})
	}
}

// Every unit of the folder is tried, and make install-service installs it.
func TestEveryUnitIsInstalledAndTried(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(packaging, "systemd", "*"))
	if err != nil || len(files) != len(units) {
		t.Errorf("%d units are there, %d are tried: %v", len(files), len(units), err)
	}
	makefile := read(t, filepath.Join(packaging, "../Makefile"))
	for unit := range units {
		if name := filepath.Base(file(unit)); !strings.Contains(makefile, name) {
			t.Errorf("make install-service does not install %s", name)
		}
	}
}

//go:embed testdata
var scripts embed.FS

// TestServicesRunUnderSystemd needs root, systemd-nspawn, and some minutes.
func TestServicesRunUnderSystemd(t *testing.T) {
	if os.Getenv("ASSAY_REQUIRE_NSPAWN") == "" {
		t.Skip("ASSAY_REQUIRE_NSPAWN is not set: make test-systemd")
	}
	dir := build(t)
	for _, name := range []string{"tpms", "machines"} {
		t.Run(name, func(t *testing.T) { contain(t, dir, name) })
	}
}

// contain runs a script as a service in a container.
func contain(t *testing.T, programs, name string) {
	root := newRoot(t)
	install(t, root, programs, name+".sh")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "systemd-nspawn", "--quiet", "--directory="+root, "--boot", "--register=no", "--keep-unit", "--link-journal=no",
		"--machine=assay-test", "--console=read-only", "--private-network", "systemd.unit=assay-test.target", "systemd.show_status=0")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	out, err := c.CombinedOutput()
	said, readErr := os.ReadFile(filepath.Join(root, "assay-test.log"))
	if readErr != nil || !strings.Contains(string(said), "\ndone\n") {
		log, _ := os.ReadFile(filepath.Join(root, "assay-service.log"))
		t.Fatalf("it did not come to its end: %v, %v\nsystemd:\n%s\nthe service:\n%s\nthe test:\n%s", err, readErr, out, log[:min(len(log), 4000)], said)
	}
	t.Logf("%s", said)
}

// build builds the programs, and returns their folder.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range programs {
		c := exec.Command("go", "build", "-o", filepath.Join(dir, p), "github.com/assay-project/assay/cmd/"+p)
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", p, err, out)
		}
	}
	return dir
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

// install puts the programs, the unit files and a script into the container.
func install(t *testing.T, root, dir, script string) {
	t.Helper()
	const test = "[Service]\nType=oneshot\nExecStart=/bin/sh /assay-test.sh\nExecStopPost=/bin/systemctl --no-block start poweroff.target\nStandardOutput=append:/assay-test.log\nStandardError=inherit\n"
	inside, err := scripts.ReadFile("testdata/" + script)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, text string, mode os.FileMode) {
		t.Helper()
		name = filepath.Join(root, name)
		os.Remove(name) //nolint:errcheck // it may not be there
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	// What this machine itself keeps is no part of the test.
	if err := os.RemoveAll(filepath.Join(root, "var/lib/assay")); err != nil {
		t.Fatal(err)
	}
	put("/etc/machine-id", "", 0o644)
	put("/assay-test.sh", string(inside), 0o644)
	put("/etc/systemd/system/assay-test.service", test, 0o644)
	put("/etc/systemd/system/assay-test.target", "[Unit]\nWants=assay-test.service\n", 0o644)
	put("/usr/lib/sysusers.d/assay.conf", read(t, filepath.Join(packaging, "sysusers.d/assay.conf")), 0o644)
	put("/usr/lib/sysusers.d/libvirt.conf", "u libvirt-qemu - \"QEMU\" /\n", 0o644)
	for unit := range units {
		name := filepath.Base(file(unit))
		change := "[Service]\nStandardError=append:/assay-service.log\n"
		if name == "assay-vtpm.service" {
			change += "WatchdogSec=2s\n"
		}
		put("/usr/lib/systemd/system/"+name, read(t, file(unit)), 0o644)
		put("/etc/systemd/system/"+name+".d/test.conf", change, 0o644)
	}
	for _, p := range programs {
		put("/usr/bin/"+p, read(t, filepath.Join(dir, p)), 0o755)
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
