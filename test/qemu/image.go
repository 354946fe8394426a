package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// An Image is what a machine boots from, by file name. With a disk its firmware starts
// what is there, else the kernel.
type Image struct {
	Firmware, Variables, Kernel, Initrd string
	Disk                                string // a folder that is shown as a disk
}

// ErrMissing is a program or file that this machine lacks; tools/setup.sh installs
// all of them.
var ErrMissing = errors.New("not on this machine")

// KernelFile is where tools/setup.sh puts the kernel, below the user's cache folder.
const KernelFile = "assay-test/vmlinuz"

// NewImage makes an image in a folder: the guest is built and packed.
func NewImage(dir string) (*Image, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	i := &Image{
		Firmware: "/usr/share/OVMF/OVMF_CODE_4M.fd", Variables: "/usr/share/OVMF/OVMF_VARS_4M.fd",
		Kernel: filepath.Join(cache, KernelFile), Initrd: filepath.Join(dir, "initrd"),
	}
	for _, name := range []string{i.Firmware, i.Variables, i.Kernel} {
		if _, err := os.Stat(name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMissing, err)
		}
	}
	for _, name := range []string{"qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrMissing, err)
		}
	}
	return i, i.pack(dir)
}

// Secured returns an image that boots under Secure Boot, with Microsoft's keys: firmware
// that guards its variables by System Management Mode, Debian's shim, GRUB and kernel,
// signed. With change the kernel is another than Debian signed.
func (i *Image) Secured(dir string, change bool) (*Image, error) {
	cache := filepath.Dir(i.Kernel)
	out := &Image{Firmware: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", Variables: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", Disk: filepath.Join(dir, "disk")}
	for _, d := range []string{"EFI/BOOT", "EFI/debian"} {
		if err := os.MkdirAll(filepath.Join(out.Disk, d), 0o700); err != nil {
			return nil, err
		}
	}
	for to, from := range map[string]string{
		"EFI/BOOT/BOOTX64.EFI": filepath.Join(cache, "shimx64.efi.signed"), "EFI/BOOT/grubx64.efi": filepath.Join(cache, "grubx64.efi.signed"),
		"vmlinuz": i.Kernel, "initrd": i.Initrd,
	} {
		text, err := os.ReadFile(from)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrMissing, err)
		}
		if err != nil {
			return nil, err
		}
		if change && to == "vmlinuz" {
			text[len(text)/2] ^= 1
		}
		if err := os.WriteFile(filepath.Join(out.Disk, to), text, 0o600); err != nil {
			return nil, err
		}
	}
	const menu = "linux /vmlinuz " + commandLine + "\ninitrd /initrd\nboot\n"
	return out, os.WriteFile(filepath.Join(out.Disk, "EFI/debian/grub.cfg"), []byte(menu), 0o600)
}

// commandLine is the kernel's.
const commandLine = "console=ttyS0,115200 panic=-1 quiet"

// pack builds the guest and makes an archive of it.
func (i *Image) pack(dir string) error {
	guest := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "github.com/assay-project/assay/test/qemu/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest: %w: %s", err, out)
	}
	program, err := os.ReadFile(guest)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, e := range []struct {
		name string
		mode uint32
		data []byte
	}{{"dev", 0o40755, nil}, {"proc", 0o40755, nil}, {"sys", 0o40755, nil}, {"init", 0o100755, program}, {"TRAILER!!!", 0, nil}} {
		entry(&b, e.name, e.mode, e.data)
	}
	return os.WriteFile(i.Initrd, b.Bytes(), 0o600)
}

// entry adds a file to an archive in the format "newc" (Linux,
// Documentation/driver-api/early-userspace/buffer-format.rst).
func entry(b *bytes.Buffer, name string, mode uint32, data []byte) {
	fields := []uint32{0, mode, 0, 0, 1, 0, uint32(len(data)), 0, 0, 0, 0, uint32(len(name) + 1), 0} // a program of a few MiB
	b.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(b, "%08x", f)
	}
	b.WriteString(name + "\x00")
	pad(b)
	b.Write(data)
	pad(b)
}

// pad fills up to a multiple of four.
func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
