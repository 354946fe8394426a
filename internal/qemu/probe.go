package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// probeTime is how long a machine has to run for KVM to be believed. Where KVM
// cannot run OVMF, QEMU stops within milliseconds.
const probeTime = 2 * time.Second

// A Probe is what was found out about a host.
type Probe struct {
	Accelerator string // KVM or TCG
	// Why says why it is not KVM, in the words of QEMU where it gave any.
	Why string
}

// ProbeKVM starts a machine with the given firmware under KVM, and looks whether it
// still runs after two seconds. That /dev/kvm can be opened, or makes machines, is
// no evidence: there are hosts on which it does and OVMF stops in its first
// instructions. program is as in [Config]. The error is for files that cannot be read.
func ProbeKVM(ctx context.Context, program string, f Firmware) (Probe, error) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return Probe{TCG, "there is no /dev/kvm"}, nil
	}
	dir, err := os.MkdirTemp("", "assay-kvm-")
	if err != nil {
		return Probe{}, err
	}
	defer os.RemoveAll(dir)
	console, err := net.Listen("unix", filepath.Join(dir, "console"))
	if err != nil {
		return Probe{}, err
	}
	defer console.Close()
	vars, err := os.ReadFile(f.Variables)
	if err != nil {
		return Probe{}, err
	}
	f.Variables = filepath.Join(dir, "vars")
	if err := os.WriteFile(f.Variables, vars, 0o600); err != nil {
		return Probe{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*probeTime)
	defer cancel()
	p, err := Start(ctx, Config{Program: program, Dir: dir, Machine: Machine{
		Name: "probe", Accelerator: KVM, CPUs: 1, MemoryMiB: 256, Firmware: f, Serial: "console", Monitor: "monitor",
	}})
	if err != nil {
		return Probe{TCG, err.Error()}, nil
	}
	defer func() {
		p.Kill()
		<-p.Done()
	}()
	t := time.NewTimer(probeTime)
	defer t.Stop()
	select {
	case <-p.Done():
		return Probe{TCG, fmt.Sprintf("QEMU ended: %v", p.End().Err)}, nil
	case <-ctx.Done():
		return Probe{}, ctx.Err()
	case <-t.C:
	}
	status, err := p.Status(ctx)
	if err != nil && !errors.Is(err, context.Canceled) {
		return Probe{TCG, err.Error()}, nil
	}
	if status != "running" {
		return Probe{TCG, fmt.Sprintf("the machine stopped within %v: %s", probeTime, status)}, nil
	}
	return Probe{Accelerator: KVM}, nil
}
