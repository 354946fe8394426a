// Package vmconvert makes a machine of the parts of a virtual machine of another platform:
// its disks, its firmware's variables and the state of its TPM.
//
// [Look] says first what each part becomes, what changes for the guest, and what stops the
// conversion; [Plan.Make] makes the machine of copies, whole or not at all, and changes
// nothing of what it is made of. What is said of the boot is a prediction of package
// launch: it proves nothing about the machine that will run.
//
// OVMF's variable stores and swtpm's permanent states are those of packages varstore and
// libtpms.
package vmconvert

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/vmbackup"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/libtpms"
	"github.com/assay-project/assay/uefi/launch"
)

// Reason codes, explained in package evidence.
const (
	codeConverted evidence.Code = "machine.converted"
	codeNoEFI     evidence.Code = "convert.no-efi-partition"
	codeShared    evidence.Code = "convert.shared-disk"
	codeLayout    evidence.Code = "convert.firmware-layout"
	codeNoKeys    evidence.Code = "convert.no-platform-key"
	codeNoTPM     evidence.Code = "convert.no-tpm"
	codeKey       evidence.Code = "convert.tpm-key"
	codeVersion   evidence.Code = "convert.tpm-version"
	codeInUse     evidence.Code = "convert.tpm-in-use"
	codeLoss      evidence.Code = "convert.tpm-loss"
)

// Options say what a machine is made of.
type Options struct {
	// Definition is that of the machine; its disks are the sources.
	Definition *fleet.Definition
	// Variables are the guest's; nil for new ones, with the keys of the key set.
	Variables []byte
	// Enrol puts the keys of the key set into Variables, too.
	Enrol bool
	// AsGuest leaves secure boot on or off as Variables have it.
	AsGuest bool
	// TPM is the state of swtpm; nil for a new TPM where the definition has one.
	TPM *vtpm.MoveOptions
	// NoKey is the error of TPM.Key where nobody named a key.
	NoKey error
	// ID is the UUID that the guest knew; empty for a new one.
	ID       string
	Provider string
}

// A Line says what becomes of one thing.
type Line struct {
	What    string `json:"what"`
	Becomes string `json:"becomes"`
	Why     string `json:"why,omitempty"`
}

// A Plan is the machine that would be, and what stops it.
type Plan struct {
	Definition *fleet.Definition `json:"definition"`
	Lines      []Line            `json:"lines"`
	Prediction *Prediction       `json:"prediction,omitempty"`
	TPM        *vtpm.MoveReport  `json:"tpm,omitempty"`
	Refused    []evidence.Reason `json:"refused"`
	Warnings   []string          `json:"warnings"`
	// Machine is the machine's id; empty until it is made.
	Machine string `json:"machine,omitempty"`

	root    *machine.Root
	sources []fleet.Disk
	arrival machine.Arrival
	noKey   error
}

// A Prediction is what package launch says of the first boot here.
type Prediction struct {
	Verdict launch.Verdict    `json:"verdict"`
	Reasons []evidence.Reason `json:"reasons"`
	// PCRs are values of SHA-256 by register; one that is not known is not there.
	PCRs map[string]string `json:"pcrs"`
}

func (p *Plan) line(what, becomes, why string) { p.Lines = append(p.Lines, Line{what, becomes, why}) }

func (p *Plan) refuse(code evidence.Code, format string, args ...any) {
	p.Refused = append(p.Refused, evidence.Reason{Code: code, Message: fmt.Sprintf(format, args...)})
}

// Look says what would become of the parts. What stops the conversion is in the plan; an
// error is of a part that cannot be looked at.
func Look(ctx context.Context, r *machine.Root, actor string, o Options) (*Plan, error) {
	d := o.Definition
	d.Complete()
	p := &Plan{Definition: d, Lines: []Line{}, Refused: []evidence.Reason{}, Warnings: []string{}, root: r, noKey: o.NoKey}
	p.arrival = machine.Arrival{Definition: d, ID: o.ID, Provider: o.Provider, Moved: o.TPM, Event: integrity.EventImport}
	p.arrival.Reasons = []evidence.Reason{{Code: codeConverted, Message: "made of copies of another machine's parts: " + parts(&o)}}
	efi, err := p.disks()
	if err != nil {
		return nil, err
	}
	if err := p.variables(&o); err != nil {
		return nil, err
	}
	if efi && len(p.Refused) == 0 {
		if err := p.predict(ctx, &o); err != nil {
			return nil, err
		}
	}
	p.measured()
	p.place()
	warnings, err := r.CanArrive(ctx, &p.arrival)
	if err != nil {
		return nil, err
	}
	p.Warnings = append(p.Warnings, warnings...)
	return p, p.tpm(ctx, actor)
}

// parts names the files that a machine is made of.
func parts(o *Options) string {
	var out []string
	for i := range o.Definition.Disks {
		out = append(out, "disk "+filepath.Base(o.Definition.Disks[i].File))
	}
	if o.Variables != nil {
		out = append(out, "variables")
	}
	if o.TPM != nil {
		out = append(out, "the TPM of swtpm")
	}
	return strings.Join(out, ", ")
}

// disks says what the disks become, and whether the one that boots has an EFI system
// partition.
func (p *Plan) disks() (efi bool, err error) {
	boot := false
	for i := range p.Definition.Disks {
		k := &p.Definition.Disks[i]
		if k.Shared {
			p.refuse(codeShared, "%s is shared with other machines: a copy would part from them", k.File)
		}
		p.line("disk "+k.File, fmt.Sprintf("a copy, %s, on %s", k.Format, k.Bus), "")
		if !k.Boot {
			continue
		}
		boot = true
		if efi, err = hasEFI(k); err != nil {
			return false, fmt.Errorf("disk %q: %w", k.File, err)
		}
		if !efi {
			p.refuse(codeNoEFI, "%s has no GUID partition table with an EFI system partition: it is of a machine with BIOS (generation 1), and does not start under UEFI", k.File)
		}
	}
	if !boot {
		return false, machine.ErrNoDisk
	}
	return efi, nil
}

// place gives the disks their files in the machine's home.
func (p *Plan) place() {
	d := p.Definition
	p.sources = append(p.sources, d.Disks...)
	for i := range d.Disks {
		d.Disks[i].File = p.root.DiskPath(d.Name, fmt.Sprintf("disk%d.%s", i, d.Disks[i].Format))
	}
}

// measured says what of the registers is not foreseen by the disk.
func (p *Plan) measured() {
	p.line("PCR 0, 1", "another value may come", "they are of the firmware, the memory and the devices here: the first boot is the baseline, and what is sealed to them may not open")
}

// tpm says what becomes of the TPM and of what is sealed to it.
func (p *Plan) tpm(ctx context.Context, actor string) error {
	switch {
	case p.arrival.Moved == nil && !p.Definition.Shielded.VTPM:
		p.line("TPM", "none", "what the guest sealed or encrypted by one needs its recovery key")
		return nil
	case p.arrival.Moved == nil:
		p.line("TPM", "a new, empty one", "what the guest sealed or encrypted by its own, its disk key among it, needs the recovery key; its endorsement key and certificates are other ones")
		return nil
	case !p.Definition.Shielded.VTPM:
		p.refuse(codeNoTPM, "there is the state of a TPM, and the machine is to have none")
		return nil
	}
	report, err := p.root.LookAtMoved(ctx, actor, &p.arrival)
	if code := p.stops(err); code != "" {
		p.refuse(code, "%v", err)
		return nil
	}
	if err != nil {
		return err
	}
	p.TPM = report
	p.line("TPM", "goes on with its seeds, keys, NV and authorizations", fmt.Sprintf("%d persistent objects, %d NV indices", len(report.Objects), len(report.Indices)))
	p.line("endorsement key", "the same", "it is made of the same seed; certificates are among the NV indices")
	p.line("sealed things", "stay", "they open where their policy names registers whose values stay, or none")
	for _, l := range report.Losses {
		p.line("of the TPM: "+l.What, "lost", l.Why)
	}
	if len(report.Losses) > 0 && !p.arrival.Moved.AcceptLosses {
		p.refuse(codeLoss, "the TPM would not have %d of the things that it has, the first %s: %s; --yes goes on without them", len(report.Losses), report.Losses[0].What, report.Losses[0].Why)
	}
	return nil
}

// stops is the code of a state that is one, and cannot be had.
func (p *Plan) stops(err error) evidence.Code {
	switch {
	case errors.Is(err, libtpms.ErrKey), p.noKey != nil && errors.Is(err, p.noKey):
		return codeKey
	case errors.Is(err, libtpms.ErrRunning):
		return codeInUse
	case errors.Is(err, libtpms.ErrVersion):
		return codeVersion
	}
	return ""
}

// ErrRefused is a plan that cannot be carried out.
var ErrRefused = errors.New("the machine cannot be made")

// Make makes the machine, whole or not at all.
func (p *Plan) Make(ctx context.Context, actor string, progress vmbackup.Progress) error {
	if len(p.Refused) > 0 {
		return ErrRefused
	}
	a := p.arrival
	a.Disks = func(ctx context.Context, dir string) error { return p.copyTo(ctx, dir, progress) }
	made, err := p.root.Arrive(ctx, actor, a)
	if err != nil {
		return err
	}
	p.Machine = made.Card.ID
	if p.TPM != nil {
		p.Warnings = append(p.Warnings, "the state of swtpm is as it was: started again, it is a second TPM with the same secrets")
	}
	return nil
}

// copyTo copies the sources into the machine's home.
func (p *Plan) copyTo(ctx context.Context, dir string, progress vmbackup.Progress) error {
	for i := range p.sources {
		if err := vmbackup.CopyDisk(ctx, &p.sources[i], filepath.Join(dir, filepath.Base(p.Definition.Disks[i].File)), progress); err != nil {
			return err
		}
	}
	return nil
}

// StateOf names a state of swtpm by its file, or by the folder that has it.
func StateOf(name string) (*vtpm.MoveOptions, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return &vtpm.MoveOptions{Dir: name}, nil
	}
	return &vtpm.MoveOptions{Dir: filepath.Dir(name), File: filepath.Base(name)}, nil
}
