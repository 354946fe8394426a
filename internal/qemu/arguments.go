package qemu

import (
	"fmt"
	"strings"
)

// Arguments returns the arguments of qemu-system-x86_64 for a machine, the
// program's name apart. The same machine has the same arguments. The error is a
// [*FieldError].
func Arguments(m Machine) ([]string, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b := &builder{m: &m}
	b.board()
	b.firmware()
	b.ports()
	b.disks()
	b.networks()
	return b.args, nil
}

type builder struct {
	m    *Machine
	args []string
}

func (b *builder) add(args ...string) { b.args = append(b.args, args...) }

// option joins the parts of an option's value. A comma inside a part is doubled,
// as QEMU wants it (qemu-option: "commas are escaped by doubling").
func option(parts ...string) string {
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(p, ",", ",,")
	}
	return strings.Join(parts, ",")
}

// board is the machine without its devices. What QEMU adds by itself is left out:
// a device more is a measurement more. The sandbox keeps a QEMU that a guest took
// over from starting programs and gaining rights.
func (b *builder) board() {
	m := b.m
	b.add(
		"-nodefaults", "-no-user-config", "-display", "none",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-name", option("guest="+m.Name, "process="+m.Name),
	)
	if m.UUID != "" {
		b.add("-uuid", m.UUID)
	}
	smm := "smm=off"
	if m.Firmware.Secure {
		smm = "smm=on"
	}
	machine := []string{"q35", smm, "vmport=off", "dump-guest-core=off"}
	if m.Protection.IOMMU {
		machine = append(machine, "kernel-irqchip=split")
	}
	b.add("-machine", option(machine...))
	switch {
	case m.Accelerator == TCG:
		b.add("-accel", "tcg,thread=multi", "-cpu", "max")
	case m.Protection.Nested:
		b.add("-accel", "kvm", "-cpu", "host")
	default:
		b.add("-accel", "kvm", "-cpu", "host,-vmx,-svm")
	}
	b.add("-smp", fmt.Sprint(m.CPUs), "-m", fmt.Sprint(m.MemoryMiB))
	if m.Protection.IOMMU {
		b.add("-device", "intel-iommu,intremap=on,caching-mode=on")
	}
	if m.Incoming {
		b.add("-incoming", "defer")
	}
	if m.Paused {
		b.add("-S")
	}
}

// firmware is OVMF in two flashes; secure keeps all but SMM from writing them.
func (b *builder) firmware() {
	f := &b.m.Firmware
	if f.Secure {
		b.add("-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	b.add(
		"-drive", option("if=pflash", "unit=0", "format=raw", "readonly=on", "file="+f.Code),
		"-drive", option("if=pflash", "unit=1", "format=raw", "file="+f.Variables),
	)
	// No sleep states: a machine that wakes from S3 has not measured its boot again.
	b.add("-global", "ICH9-LPC.disable_s3=1", "-global", "ICH9-LPC.disable_s4=1")
}

// ports are the console, the agent, the monitor and the TPM.
func (b *builder) ports() {
	m := b.m
	b.add("-chardev", option("socket", "id=console", "path="+m.Serial), "-serial", "chardev:console")
	if m.Agent != "" {
		b.add("-chardev", option("socket", "id=agent", "path="+m.Agent), "-serial", "chardev:agent")
	}
	b.add(
		"-chardev", option("socket", "id=monitor", "path="+m.Monitor, "server=on", "wait=off"),
		"-mon", "chardev=monitor,mode=control",
	)
	if m.TPM != nil {
		b.add(
			"-chardev", option("socket", "id=tpm", "path="+m.TPM.Socket),
			"-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", m.TPM.Interface+",tpmdev=tpm0",
		)
	}
	if m.VsockCID != 0 {
		b.add("-device", fmt.Sprintf("vhost-vsock-pci,guest-cid=%d", m.VsockCID))
	}
	b.add("-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0")
}

func (b *builder) disks() {
	boot, ports := 0, 0
	for i := range b.m.Disks {
		d := &b.m.Disks[i]
		id := fmt.Sprintf("disk%d", i)
		drive := []string{"if=none", "id=" + id, "format=" + d.Format, "file=" + d.File, "discard=unmap"}
		if d.ReadOnly {
			drive = append(drive, "readonly=on")
		}
		if d.Ephemeral {
			drive = append(drive, "snapshot=on")
		}
		if d.Shared { // no cache of this host between two that write
			drive = append(drive, "cache=none", "file.locking=off")
		}
		b.add("-drive", option(drive...))
		var device []string
		switch d.Bus {
		case "nvme":
			device = []string{"nvme", "serial=" + id}
		case "sata":
			device = []string{"ide-hd", fmt.Sprintf("bus=ide.%d", ports)}
			ports++
		default:
			device = []string{"virtio-blk-pci"}
		}
		device = append(device, "drive="+id)
		if d.Shared {
			device = append(device, "share-rw=on")
		}
		if d.Bootable {
			device = append(device, fmt.Sprintf("bootindex=%d", boot))
			boot++
		}
		b.add("-device", option(device...))
	}
}

// networks have no option ROM (romfile is empty): it would be measured into PCR 2,
// and change with QEMU.
func (b *builder) networks() {
	for i := range b.m.Networks {
		n := &b.m.Networks[i]
		id := fmt.Sprintf("net%d", i)
		netdev := []string{"user", "id=" + id}
		if n.Kind == "tap" {
			netdev = []string{"tap", "id=" + id, "ifname=" + n.Device, "script=no", "downscript=no"}
		}
		for _, f := range n.Forward {
			netdev = append(netdev, fmt.Sprintf("hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest))
		}
		b.add("-netdev", option(netdev...))
		device := []string{"virtio-net-pci", "netdev=" + id, "romfile="}
		if n.MAC != "" {
			device = append(device, "mac="+n.MAC)
		}
		b.add("-device", option(device...))
	}
}
