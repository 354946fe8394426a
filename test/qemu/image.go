package qemu

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/internal/guestimage"
)

// An Image is what a machine boots from, by file name. With a disk its firmware starts
// what is there, else the kernel.
type Image struct {
	Firmware, Variables, Kernel, Initrd string
	Disk                                string // raw
}

// ErrMissing is a program or file that this machine lacks; tools/setup.sh installs
// all of them.
var ErrMissing = errors.New("not on this machine")

// NewImage makes an image in a folder: the guest is built and packed.
func NewImage(dir string) (*Image, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	i := &Image{
		Firmware: "/usr/share/OVMF/OVMF_CODE_4M.fd", Variables: "/usr/share/OVMF/OVMF_VARS_4M.fd",
		Kernel: filepath.Join(cache, demovm.CacheFolder, demovm.KernelFile), Initrd: filepath.Join(dir, "initrd"),
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
	out := &Image{Firmware: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", Variables: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", Disk: filepath.Join(dir, "disk")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	files := []guestimage.File{{
		Name: "EFI/debian/grub.cfg", Data: []byte("linux /vmlinuz " + commandLine + "\ninitrd /initrd\nboot\n"),
	}}
	cache := filepath.Dir(i.Kernel)
	for _, f := range [][2]string{
		{demovm.BootFile, filepath.Join(cache, demovm.ShimFile)},
		{"EFI/BOOT/grubx64.efi", filepath.Join(cache, demovm.GRUBFile)},
		{"vmlinuz", i.Kernel},
		{"initrd", i.Initrd},
	} {
		text, err := os.ReadFile(f[1])
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", ErrMissing, err)
		}
		if err != nil {
			return nil, err
		}
		if change && f[0] == "vmlinuz" {
			text[len(text)/2] ^= 1
		}
		files = append(files, guestimage.File{Name: f[0], Data: text})
	}
	return out, demovm.WriteFiles(out.Disk, files)
}

// commandLine is the kernel's.
const commandLine = "console=ttyS0,115200 panic=-1 quiet"

// pack builds the guest and makes an archive of it.
func (i *Image) pack(dir string) error {
	program, err := BuildGuest(dir)
	if err != nil {
		return err
	}
	archive, err := (&demovm.Parts{Init: program}).Initrd("1")
	if err != nil {
		return err
	}
	return os.WriteFile(i.Initrd, archive, 0o600)
}

// BuildGuest builds the program that runs in guests, in a folder, and returns it.
func BuildGuest(dir string) ([]byte, error) {
	guest := filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "github.com/assay-project/assay/test/qemu/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the guest: %w: %s", err, out)
	}
	return os.ReadFile(guest)
}
