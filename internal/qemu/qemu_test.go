package qemu

import (
	"context"
	"errors"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/qemu/qmp"
)

func TestMain(m *testing.M) {
	if kind, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "fake-"); ok {
		runFake(kind)
		return
	}
	goleak.VerifyTestMain(m)
}

var update = flag.Bool("update", false, "write the golden files")

// plain is a machine with nothing that need not be.
func plain() Machine {
	return Machine{
		Name: "web-1", Accelerator: TCG, CPUs: 1, MemoryMiB: 512,
		Firmware: Firmware{Code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", Variables: "vars.fd", Secure: true},
		Serial:   "console", Monitor: "monitor",
	}
}

// full has one of everything.
func full() Machine {
	m := plain()
	m.UUID, m.CPUs, m.MemoryMiB, m.Accelerator = "0badc0de-0000-4000-8000-000000000001", 4, 8192, KVM
	m.TPM = &TPM{Socket: "tpm", Interface: CRB}
	m.Agent, m.VsockCID, m.Incoming, m.Paused = "agent", 7, true, true
	m.Firmware.Variables = "/dev/fdset/1"
	m.Protection = Protection{IOMMU: true, Nested: true}
	m.Disks = []Disk{
		{File: "/images/a,b.qcow2", Format: "qcow2", Bus: "virtio", Bootable: true, Ephemeral: true},
		{File: "data.raw", Format: "raw", Bus: "nvme", ReadOnly: true},
		{File: "shared.raw", Format: "raw", Bus: "sata", Shared: true},
		{File: "more.raw", Format: "raw", Bus: "sata", Bootable: true},
	}
	m.Networks = []Network{
		{Kind: "user", MAC: "52:54:00:12:34:56", Forward: []Forward{{2222, 22}}},
		{Kind: "tap", Device: "tap0"},
	}
	return m
}

func TestArgumentsAreAFunctionOfTheMachine(t *testing.T) {
	off := plain()
	off.Firmware.Secure = false
	kvm := plain()
	kvm.Accelerator = KVM
	for name, m := range map[string]Machine{"plain": plain(), "full": full(), "insecure": off, "kvm": kvm} {
		t.Run(name, func(t *testing.T) {
			args, err := Arguments(m)
			if err != nil {
				t.Fatal(err)
			}
			// One option a line.
			got := strings.ReplaceAll(strings.Join(args, "\n"), "\n-", "\n\t-")
			got = strings.ReplaceAll(got, "\n\t-", "\x00-")
			got = strings.ReplaceAll(strings.ReplaceAll(got, "\n", " "), "\x00", "\n") + "\n"
			file := filepath.Join("testdata", name+".args")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("arguments (-want +got):\n%s", d)
			}
		})
	}
}

func TestAFieldAtFaultIsNamed(t *testing.T) {
	disk := Disk{File: "d", Format: "raw", Bus: "virtio"}
	with := func(change func(*Disk)) []Disk {
		d := disk
		change(&d)
		return []Disk{d}
	}
	network := func(n Network) []Network { return []Network{n} }
	for name, tc := range map[string]struct {
		change func(*Machine)
		field  string
	}{
		"no name":              {func(m *Machine) { m.Name = "" }, "name"},
		"name with a comma":    {func(m *Machine) { m.Name = "a,debug-threads=on" }, "name"},
		"uuid":                 {func(m *Machine) { m.UUID = "1234" }, "uuid"},
		"accelerator":          {func(m *Machine) { m.Accelerator = "xen" }, "accelerator"},
		"no processor":         {func(m *Machine) { m.CPUs = 0 }, "cpus"},
		"too many processors":  {func(m *Machine) { m.CPUs = 256 }, "cpus"},
		"little memory":        {func(m *Machine) { m.MemoryMiB = 64 }, "memory"},
		"nested in TCG":        {func(m *Machine) { m.Protection.Nested = true }, "nested virtualization"},
		"no firmware":          {func(m *Machine) { m.Firmware.Code = "" }, "firmware"},
		"firmware by network":  {func(m *Machine) { m.Firmware.Code = "nbd:localhost:1" }, "firmware"},
		"variables as JSON":    {func(m *Machine) { m.Firmware.Variables = `json:{"driver":"ssh"}` }, "variables"},
		"an option for a file": {func(m *Machine) { m.Firmware.Variables = "-readconfig" }, "variables"},
		"a line end":           {func(m *Machine) { m.Monitor = "a\nb" }, "monitor"},
		"no console":           {func(m *Machine) { m.Serial = "" }, "serial"},
		"long socket":          {func(m *Machine) { m.Agent = "/" + strings.Repeat("a", 107) }, "agent"},
		"interface":            {func(m *Machine) { m.TPM = &TPM{"tpm", "tpm-spapr"} }, "TPM"},
		"no TPM socket":        {func(m *Machine) { m.TPM = &TPM{"", TIS} }, "TPM"},
		"too many disks":       {func(m *Machine) { m.Disks = slices.Repeat([]Disk{disk}, 25) }, "disks"},
		"format":               {func(m *Machine) { m.Disks = with(func(d *Disk) { d.Format = "" }) }, "disk 0"},
		"bus":                  {func(m *Machine) { m.Disks = with(func(d *Disk) { d.Bus = "floppy" }) }, "disk 0"},
		"no file":              {func(m *Machine) { m.Disks = with(func(d *Disk) { d.File = "" }) }, "disk 0"},
		"shared qcow2":         {func(m *Machine) { m.Disks = with(func(d *Disk) { d.Format, d.Shared = "qcow2", true }) }, "disk 0"},
		"shared, ephemeral":    {func(m *Machine) { m.Disks = with(func(d *Disk) { d.Ephemeral, d.Shared = true, true }) }, "disk 0"},
		"seventh sata":         {func(m *Machine) { m.Disks = slices.Repeat(with(func(d *Disk) { d.Bus = "sata" }), 7) }, "disk 6"},
		"network":              {func(m *Machine) { m.Networks = network(Network{Kind: "vde"}) }, "network 0"},
		"multicast":            {func(m *Machine) { m.Networks = network(Network{Kind: "user", MAC: "01:00:00:00:00:01"}) }, "network 0"},
		"tap without a name":   {func(m *Machine) { m.Networks = network(Network{Kind: "tap"}) }, "network 0"},
		"tap with forwards":    {func(m *Machine) { m.Networks = network(Network{Kind: "tap", Device: "t", Forward: []Forward{{1, 1}}}) }, "network 0"},
		"user with a device":   {func(m *Machine) { m.Networks = network(Network{Kind: "user", Device: "t"}) }, "network 0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := plain()
			tc.change(&m)
			_, err := Arguments(m)
			var f *FieldError
			if !errors.As(err, &f) || f.Field != tc.field {
				t.Errorf("Arguments = %v, want a fault of %q", err, tc.field)
			}
		})
	}
}

// need skips where there is no QEMU or no OVMF, and fails where both must be.
func need(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("qemu-system-x86_64")
	if err == nil {
		_, err = os.Stat(plain().Firmware.Code)
	}
	switch {
	case err == nil:
	case os.Getenv("ASSAY_REQUIRE_QEMU") != "":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// variables is a variable store that lies in memory only.
func variables(t *testing.T) *os.File {
	t.Helper()
	b, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("vars", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "vars")
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	return f
}

func listen(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
}

// TestQEMUTakesTheArguments starts one machine of everything that this host can
// have, lets it run a little and ends it.
func TestQEMUTakesTheArguments(t *testing.T) {
	need(t)
	t.Parallel()
	dir := t.TempDir()
	m := full()
	m.Accelerator, m.VsockCID, m.Incoming, m.TPM, m.MemoryMiB = TCG, 0, false, nil, 256
	m.Protection.Nested = false
	m.Networks = m.Networks[:1]
	m.Networks[0].Forward = nil
	m.Disks[0].File = "a,b.qcow2"
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(dir, "a,b.qcow2"), "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"data.raw", "shared.raw", "more.raw"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.Disks[2].Shared = false // a file system in memory has no O_DIRECT
	listen(t, dir, "console", "agent")
	var resets atomic.Int32
	seen := make(chan struct{}, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p, err := Start(ctx, Config{Dir: dir, Machine: m, Files: []*os.File{variables(t)}, Event: func(e qmp.Event) {
		if e.Name == "RESET" && resets.Add(1) == 1 {
			seen <- struct{}{}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.Status(ctx); err != nil || s != "prelaunch" {
		t.Errorf("status %q, %v; want prelaunch", s, err)
	}
	for name, do := range map[string]func(context.Context) error{"continue": p.Continue, "pause": p.Pause} {
		if err := do(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.Continue(ctx); err != nil {
		t.Error(err)
	}
	if err := p.Reset(ctx); err != nil {
		t.Error(err)
	}
	select {
	case <-seen:
	case <-ctx.Done():
		t.Error("no event of the reset")
	}
	if err := p.Quit(ctx); err != nil {
		t.Error(err)
	}
	if e := p.End(); e.Reason != "host-qmp-quit" || e.Guest || e.Err != nil {
		t.Errorf("end %+v", e)
	}
}

func TestAnEndThatNobodyAskedForIsTold(t *testing.T) {
	need(t)
	t.Parallel()
	dir := t.TempDir()
	listen(t, dir, "console")
	m := plain()
	m.Paused, m.Firmware.Variables, m.MemoryMiB = true, "/dev/fdset/1", 128
	p, err := Start(t.Context(), Config{Dir: dir, Machine: m, Files: []*os.File{variables(t)}})
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	if e := p.End(); e.Err == nil || e.Reason != "" {
		t.Errorf("end %+v, want a failure without a reason", e)
	}
	if err := p.Reset(t.Context()); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("reset of nothing: %v", err)
	}
}

func TestAMachineThatDoesNotStartSaysWhy(t *testing.T) {
	need(t)
	dir := t.TempDir()
	listen(t, dir, "console")
	m := plain()
	_, err := Start(t.Context(), Config{Dir: dir, Machine: m}) // there is no vars.fd
	if err == nil || !strings.Contains(err.Error(), "vars.fd") {
		t.Errorf("Start = %v, want QEMU's own words about vars.fd", err)
	}
	if _, err := Start(t.Context(), Config{Dir: dir, Machine: m, Program: "no-such-qemu"}); err == nil {
		t.Error("started without a program")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.Firmware.Variables, m.Paused = "/dev/fdset/1", true
	if _, err := Start(ctx, Config{Dir: dir, Machine: m, Files: []*os.File{variables(t)}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Start = %v, want the context's end", err)
	}
}

// TestKVMIsBelievedOnlyWhenItRuns does not know what this host has; it knows that
// an answer of kvm has no reason, and one of tcg has.
func TestKVMIsBelievedOnlyWhenItRuns(t *testing.T) {
	need(t)
	t.Parallel()
	got, err := ProbeKVM(t.Context(), "", Firmware{Code: plain().Firmware.Code, Variables: "/usr/share/OVMF/OVMF_VARS_4M.fd", Secure: true})
	if err != nil {
		t.Fatal(err)
	}
	if (got.Accelerator == KVM) != (got.Why == "") || got.Accelerator != KVM && got.Accelerator != TCG {
		t.Errorf("probe %+v", got)
	}
	t.Logf("%+v", got)
	if got, err := ProbeKVM(t.Context(), "no-such-qemu", Firmware{Code: plain().Firmware.Code, Variables: "/usr/share/OVMF/OVMF_VARS_4M.fd"}); err != nil || got.Accelerator != TCG {
		t.Errorf("without QEMU: %+v, %v", got, err)
	}
}
