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
// instructions. program is as in [Config]. The error is for files that cannot be read, and for the end of
// ctx, which says nothing about the host.
func ProbeKVM(ctx context.Context, program string, f Firmware) (Probe, error) {
	vars, err := readFirmware(&f)
	if err != nil {
		return Probe{}, err
	}
	if _, err := os.Stat("/dev/kvm"); err != nil {
		return Probe{TCG, "there is no /dev/kvm"}, nil
	}
	return probe(ctx, program, f, vars)
}

// readFirmware returns the variables, and makes the path of the code one that holds
// in any folder.
func readFirmware(f *Firmware) (vars []byte, err error) {
	if f.Code, err = filepath.Abs(f.Code); err != nil {
		return nil, err
	}
	code, err := os.Open(f.Code)
	if err != nil {
		return nil, err
	}
	code.Close()
	return os.ReadFile(f.Variables)
}

// probe starts the machine.
func probe(ctx context.Context, program string, f Firmware, vars []byte) (Probe, error) {
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
	f.Variables = filepath.Join(dir, "vars")
	if err := os.WriteFile(f.Variables, vars, 0o600); err != nil {
		return Probe{}, err
	}
	limit, cancel := context.WithTimeout(ctx, 10*probeTime)
	defer cancel()
	p, err := Start(limit, Config{Program: program, Dir: dir, Machine: Machine{
		Name: "probe", Accelerator: KVM, CPUs: 1, MemoryMiB: 256, Firmware: f, Serial: "console", Monitor: "monitor",
	}})
	if err != nil {
		return notKVM(ctx, err)
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
	case <-limit.Done():
		return notKVM(ctx, limit.Err())
	case <-t.C:
	}
	status, err := p.Status(limit)
	if err != nil {
		return notKVM(ctx, err)
	}
	if status != "running" {
		return Probe{TCG, fmt.Sprintf("the machine stopped within %v: %s", probeTime, status)}, nil
	}
	return Probe{Accelerator: KVM}, nil
}

// notKVM is the answer when a machine failed, unless that says nothing about KVM:
// the caller gave up, or named what no machine can have.
func notKVM(ctx context.Context, err error) (Probe, error) {
	if ctx.Err() != nil {
		return Probe{}, ctx.Err()
	}
	var field *FieldError
	if errors.As(err, &field) {
		return Probe{}, err
	}
	return Probe{TCG, err.Error()}, nil
}
