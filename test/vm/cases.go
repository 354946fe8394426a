package vm

import (
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/internal/guestimage"
	"github.com/assay-project/assay/internal/integrity"
)

// A Case is a boot of a machine whose first boot, of the good disk, is its baseline.
type Case struct {
	Name string
	Disk func(*Media) ([]File, error)
	// Keys is the key set that the machine has got since; "" is still the chain's.
	Keys string
	// Off turns secure boot off.
	Off bool
	// Codes are what the console's lines are known as, in order, of a boot that never gets
	// to an operating system.
	Codes []string
	// Refusal is why, and File which, as it can be said before the boot.
	Refusal evidence.Code
	File    string
	// Early and Late are the outcomes.
	Early, Late integrity.Outcome
	// PCRs are those with a difference that decides, in the report of the late boot, or
	// of the early boot when that is the last.
	PCRs []int
	// Kind is of a component that is among these differences.
	Kind string
}

// Refused reports whether the boot never gets to an operating system.
func (c *Case) Refused() bool { return len(c.Codes) > 0 }

// File is one of a disk.
type File = guestimage.File

// The names of two cases that more than one test has.
const (
	Unsigned = "an image without a signature"
	Update   = "a legitimate update"
)

// A Chain is what boots: one kind of disk, and its cases.
type Chain struct {
	Name string
	Keys string
	Good func(*Media) ([]File, error)
	// Predicted are the registers whose values can be said before the boot.
	Predicted []int
	Cases     []Case
}

// Chains are all cases: those of a unified kernel image under keys of one's own, and of
// Debian's shim, GRUB and kernel under Microsoft's.
func Chains() []Chain {
	return []Chain{
		{"uki", KeysOwn, func(m *Media) ([]File, error) { return image(m.Guests.Good) }, []int{4, 5, 7, 8, 9, 11, 12, 13, 14}, ukiCases()},
		{"grub", KeysMicrosoft, func(m *Media) ([]File, error) { return m.debian(nil) }, []int{4, 5, 7, 8, 9, 11, 12, 13, 14}, grubCases()},
	}
}

// debian is the chain of Debian's boot loaders, with a change.
func (m *Media) debian(change func(menu *string, kernel, initrd *[]byte)) ([]File, error) {
	text, kernel := menu, m.Parts.Kernel
	initrd, err := m.Parts.Initrd("1")
	if err != nil {
		return nil, err
	}
	if change != nil {
		change(&text, &kernel, &initrd)
	}
	return m.chain(text, kernel, initrd)
}

// loader is the end of the name of what firmware starts.
const loader = "BOOTX64.EFI"

func ukiCases() []Case {
	refused := []string{"serial.secure-boot-refused", "serial.shell-refused", "serial.no-boot-option"}
	return []Case{
		{
			Name: Unsigned, Disk: func(m *Media) ([]File, error) { return image(m.Guests.Unsigned) },
			Codes:   refused,
			Refusal: "image.unsigned", File: loader, Early: integrity.Failed, Late: integrity.NotReached, PCRs: []int{4, 7}, Kind: eventlog.KindAuthority,
		},
		{
			Name: "an image that another key signed", Disk: func(m *Media) ([]File, error) { return image(m.rogueSigned) },
			Codes:   refused,
			Refusal: "image.no-anchor", File: loader, Early: integrity.Failed, Late: integrity.NotReached, PCRs: []int{4, 7}, Kind: eventlog.KindAuthority,
		},
		{
			Name: "a byte of a signed image changed", Disk: func(m *Media) ([]File, error) { return image(flipped(m.Guests.Good)) },
			Codes:   refused,
			Refusal: "image.digest-mismatch", File: loader, Early: integrity.Failed, Late: integrity.NotReached, PCRs: []int{4, 7}, Kind: eventlog.KindAuthority,
		},
		{
			Name: "another command line of the kernel, signed", Disk: func(m *Media) ([]File, error) { return image(m.Guests.CommandLine) },
			Early: integrity.Failed, Late: integrity.Failed, PCRs: []int{4, 9, 11}, Kind: eventlog.KindCommandLine,
		},
		{
			Name: "signed by another key that db has got", Keys: KeysRogue, Disk: func(m *Media) ([]File, error) { return image(m.rogueSigned) },
			Early: integrity.Failed, Late: integrity.Failed, PCRs: []int{7}, Kind: eventlog.KindAuthority,
		},
		{
			Name: Update, Disk: func(m *Media) ([]File, error) { return image(m.Guests.Update) },
			Early: integrity.Failed, Late: integrity.Failed, PCRs: []int{4, 9, 11}, Kind: eventlog.KindInitrd,
		},
		// Revocations are never taken back: these are the last.
		{
			Name: "the digest of the image is in dbx", Keys: KeysImage, Disk: func(m *Media) ([]File, error) { return image(m.Guests.Good) },
			Codes:   refused,
			Refusal: "image.revoked-hash", File: loader, Early: integrity.Failed, Late: integrity.NotReached, PCRs: []int{4, 7}, Kind: eventlog.KindVariable,
		},
		{
			Name: "the certificate that signs is in dbx", Keys: KeysSigner, Disk: func(m *Media) ([]File, error) { return image(m.Guests.Update) },
			Codes:   refused,
			Refusal: "image.revoked-certificate", File: loader, Early: integrity.Failed, Late: integrity.NotReached, PCRs: []int{4, 7}, Kind: eventlog.KindVariable,
		},
	}
}

func grubCases() []Case {
	return []Case{
		{
			Name: "a byte of the kernel changed", Disk: func(m *Media) ([]File, error) {
				return m.debian(func(_ *string, kernel, _ *[]byte) { *kernel = flipped(*kernel) })
			},
			Codes:   []string{"serial.grub-refused"},
			Refusal: "image.digest-mismatch", File: "vmlinuz", Early: integrity.Passed, Late: integrity.NotReached,
		},
		{
			Name: "GRUB's configuration edited", Disk: func(m *Media) ([]File, error) {
				return m.debian(func(menu *string, _, _ *[]byte) { *menu = "set timeout=0\n" + *menu })
			},
			Early: integrity.Passed, Late: integrity.Failed, PCRs: []int{8, 9},
		},
		{
			Name: "another command line of the kernel", Disk: func(m *Media) ([]File, error) {
				return m.debian(func(menu *string, _, _ *[]byte) {
					*menu = strings.ReplaceAll(*menu, demovm.CommandLine, demovm.CommandLine+" init=/bin/sh")
				})
			},
			Early: integrity.Passed, Late: integrity.Failed, PCRs: []int{8, 9},
		},
		{
			Name: "another initrd", Disk: func(m *Media) ([]File, error) {
				other, err := m.Parts.Initrd("2")
				if err != nil {
					return nil, err
				}
				return m.debian(func(_ *string, _, initrd *[]byte) { *initrd = other })
			},
			Early: integrity.Passed, Late: integrity.Failed, PCRs: []int{9},
		},
		{
			Name: "secure boot off", Off: true, Disk: func(m *Media) ([]File, error) { return m.debian(nil) },
			Early: integrity.Failed, Late: integrity.Failed, PCRs: []int{0, 4, 7}, Kind: eventlog.KindVariable,
		},
	}
}
