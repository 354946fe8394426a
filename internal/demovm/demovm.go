// Package demovm makes the guests of the demonstration and of tests that boot real
// machines: Debian's kernel under systemd's stub, with one static program as the whole
// user space. There are four ([Guests]): a good one, the same with another command line
// of the kernel, the same without a signature, and a legitimate update.
//
// The kernel and the stub are Debian's own, out of a folder that tools/setup.sh fills;
// what they are is not looked at here. Nothing in a guest is secret. Start with [Open].
package demovm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/assay-project/assay/internal/guestimage"
	"github.com/assay-project/assay/uefi"
)

// CacheFolder is where tools/setup.sh puts what guests are made of, below the user's
// cache folder, and the names there.
const (
	CacheFolder = "assay-test"
	KernelFile  = "vmlinuz"
	StubFile    = "linuxx64.efi.stub"
	ShimFile    = "shimx64.efi.signed"
	GRUBFile    = "grubx64.efi.signed"
)

// ErrMissing is a part that is not on this machine.
var ErrMissing = errors.New("a part of the demonstration's guest is missing: make setup unpacks it")

// CommandLine is the kernel's, of the good guest.
const CommandLine = "console=ttyS0,115200 panic=-1 quiet"

// Parts are what guests are made of.
type Parts struct {
	Kernel, Stub []byte
	// Init is the first program, a static one, and Files what lies beside it.
	Init  []byte
	Files []guestimage.File
}

// Open reads the kernel and the stub from the folder of tools/setup.sh.
func Open(folder string, init []byte) (*Parts, error) {
	p := &Parts{Init: init}
	for name, to := range map[string]*[]byte{KernelFile: &p.Kernel, StubFile: &p.Stub} {
		b, err := ReadPart(folder, name)
		if err != nil {
			return nil, err
		}
		*to = b
	}
	return p, nil
}

// ReadPart reads one file of the folder of tools/setup.sh.
func ReadPart(folder, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return b, err
}

// Initrd is the first file system of a version of the guest.
func (p *Parts) Initrd(version string) ([]byte, error) {
	files := []guestimage.File{
		{Name: "dev", Mode: fs.ModeDir | 0o755},
		{Name: "proc", Mode: fs.ModeDir | 0o755},
		{Name: "sys", Mode: fs.ModeDir | 0o755},
		{Name: "tmp", Mode: fs.ModeDir | 0o700},
		{Name: "etc/os-release", Mode: 0o644, Data: release(version)},
		{Name: "init", Mode: 0o755, Data: p.Init},
	}
	return guestimage.Initrd(append(files, p.Files...))
}

// release says what the guest is (os-release(5)).
func release(version string) []byte {
	return fmt.Appendf(nil, "ID=assay-demo\nNAME=\"Assay demonstration\"\nVERSION_ID=%s\nPRETTY_NAME=\"Assay demonstration %s\"\n", version, version)
}

// UKI makes the unified kernel image of a version, without a signature.
func (p *Parts) UKI(version, commandLine string) ([]byte, error) {
	initrd, err := p.Initrd(version)
	if err != nil {
		return nil, fmt.Errorf("initrd of the guest: %w", err)
	}
	return guestimage.UKI(
		p.Stub,
		guestimage.Section{Name: ".osrel", Data: release(version)},
		guestimage.Section{Name: ".cmdline", Data: []byte(commandLine)},
		guestimage.Section{Name: ".linux", Data: p.Kernel},
		guestimage.Section{Name: ".initrd", Data: initrd},
	)
}

// Guests are the images of the demonstration, ready for [WriteDisk].
type Guests struct {
	Good        []byte
	CommandLine []byte // another one of the kernel; signed
	Unsigned    []byte
	Update      []byte // another version; signed
}

// Guests makes all of them. sign returns an image with a signature.
func (p *Parts) Guests(sign func(image []byte) ([]byte, error)) (*Guests, error) {
	g := new(Guests)
	for _, i := range []struct {
		to                   *[]byte
		version, commandLine string
		signed               bool
	}{
		{&g.Good, "1", CommandLine, true},
		{&g.CommandLine, "1", CommandLine + " init=/bin/sh", true},
		{&g.Unsigned, "1", CommandLine, false},
		{&g.Update, "2", CommandLine, true},
	} {
		image, err := p.UKI(i.version, i.commandLine)
		if err == nil && i.signed {
			image, err = sign(image)
		}
		if err != nil {
			return nil, fmt.Errorf("guest %s: %w", i.version, err)
		}
		*i.to = image
	}
	return g, nil
}

// BootFile is what firmware starts of a disk that no boot option names a file of
// (UEFI 2.10, 3.5.1.1).
const BootFile = "EFI/BOOT/BOOTX64.EFI"

// diskIDs name the demonstration's disks. Firmware measures them into PCR 5, so that
// one disk may take the place of another.
var diskIDs = [2]uefi.GUID{
	uefi.MustGUID("3e7f5ac2-94b1-4d0a-8f5e-6b1d2c9a7e01"), uefi.MustGUID("3e7f5ac2-94b1-4d0a-8f5e-6b1d2c9a7e02"),
}

// WriteDisk makes a disk with one image that firmware starts by itself.
func WriteDisk(name string, image []byte) error {
	return WriteFiles(name, []guestimage.File{{Name: BootFile, Data: image}})
}

// WriteFiles makes a disk with these files. One that is there is replaced.
func WriteFiles(name string, files []guestimage.File) (err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	d := guestimage.Disk{
		GUID: diskIDs[0], Partition: diskIDs[1], Volume: 0xA55A_0001,
		Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Files: files,
	}
	_, err = d.Write(f)
	return err
}
