// Package launch says of a machine that is off whether it will boot, by its disk and
// its variables alone, and what its boot will measure.
//
// [Predict] follows the chain as firmware, shim, GRUB and systemd's stub do: which file
// is started next, who has to have signed it, what is revoked, and which digests end
// up in which register. A [Prediction] proves nothing about a machine that runs: it
// is an expectation, which a TPM's own record is compared with. What the disk and the
// variables do not determine is unknown, with the reason, and never guessed; that
// holds for versions of GRUB and of the stub whose measurements were not compared with
// a TPM's, too. The firmware is taken for OVMF with Secure Boot built in, and the disk
// for the machine's only one.
//
// UEFI Specification 2.10, 3 and 32; TCG PC Client Platform Firmware Profile 1.06
// (PFP), 3.3; shim's SBAT.md and README.tpm; GRUB's manual, "Measuring boot components".
package launch

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/authenticode"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

// Reason codes, explained in package evidence.
const (
	codeNoLoader    evidence.Code = "launch.no-loader"
	codeNotAProgram evidence.Code = "launch.not-a-program"
	codeSBATRevoked evidence.Code = "launch.sbat-revoked"
	codeSBATMissing evidence.Code = "launch.sbat-missing"
	codeFileMissing evidence.Code = "launch.file-missing"
	codePrompt      evidence.Code = "launch.grub-prompt"

	// Of package authenticode, where shim decides as it does.
	codeRevokedHash        evidence.Code = "image.revoked-hash"
	codeRevokedCertificate evidence.Code = "image.revoked-certificate"

	codeDisk     evidence.Code = "launch.disk-unreadable"
	codeState    evidence.Code = "launch.firmware-state"
	codeScript   evidence.Code = "launch.grub-script"
	codeSize     evidence.Code = "launch.too-much-to-read"
	codeLoader   evidence.Code = "launch.loader-unknown"
	codeVersion  evidence.Code = "launch.version-unknown"
	codeExtras   evidence.Code = "launch.extra-files"
	codeFirmware evidence.Code = "launch.by-firmware"
	codeSystem   evidence.Code = "launch.by-system"
	codeStopped  evidence.Code = "launch.not-reached"
)

// Files are those of a file system. [disk.FAT] is one.
type Files interface {
	// Open finds a file whatever letters of its path are capital; the error wraps
	// [fs.ErrNotExist] when there is none.
	Open(path string) (*io.SectionReader, error)
	List(folder string) ([]disk.Entry, error)
}

// A Volume is a partition that firmware can read files of.
type Volume struct {
	Files  Files
	ID     uefi.GUID // UniquePartitionGUID
	Number int       // in the table, from 1
}

// A Disk is what a machine boots from.
type Disk struct {
	Volumes []Volume // in the order of the table
	// Table is the partition table as firmware measures it; nil when that is not known.
	Table []byte
}

// ReadDisk finds the volumes of a disk.
func ReadDisk(d *disk.Disk) (*Disk, error) {
	table, volumes, err := d.Volumes()
	if err != nil {
		return nil, err
	}
	out := &Disk{Table: table.Measured}
	for _, v := range volumes {
		out.Volumes = append(out.Volumes, Volume{v.FAT, v.ID, v.Number})
	}
	return out, nil
}

// A Machine is what firmware decides by.
type Machine struct {
	Variables sigdb.Variables
	// SecureBoot says that firmware enforces Secure Boot. Without a platform key it
	// does not, whatever this says.
	SecureBoot bool
	// Store has the other variables: boot options, what shim keeps. nil is a machine
	// that has never booted.
	Store *varstore.Store
}

// MachineOf reads the variables of a machine.
func MachineOf(store *varstore.Store) (*Machine, error) {
	v, err := keyset.Read(store)
	if err != nil {
		return nil, err
	}
	return &Machine{Variables: v, SecureBoot: keyset.SecureBoot(store), Store: store}, nil
}

// A Verdict says whether a chain starts. The zero Verdict is that nobody knows.
type Verdict uint8

// The verdicts.
const (
	Undecided Verdict = iota // the disk and the variables do not determine it
	Refused                  // a link of the chain will not be started
	Starts                   // up to the operating system's kernel, or the one program that there is
)

// String is the verdict in small letters.
func (v Verdict) String() string {
	return map[Verdict]string{Undecided: "undecided", Refused: "refused", Starts: "starts"}[v]
}

// MarshalText gives the text of String.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// undecided is a [evidence.Refusal] that says why something cannot be known.
type undecided struct{ *evidence.Refusal }

func unknown(code evidence.Code, format string, args ...any) *undecided {
	return &undecided{evidence.Refuse(code, format, args...)}
}

// Unwrap gives the reason.
func (u *undecided) Unwrap() error { return u.Refusal }

// A boot is a chain that is being followed.
type boot struct {
	m      *Machine
	disk   *Disk
	secure bool
	p      *Prediction
	table  bool // the partition table was measured
	// digests are those of whole files, by path: GRUB may be told to read one often.
	digests map[string]Digests
}

// Predict follows the boot chain of a disk under a machine's variables. An error is
// of reading the disk, or of ctx; what is wrong with what is read is in the prediction.
// Disks that would have more than 4 GiB read are undecided.
func Predict(ctx context.Context, m *Machine, d *Disk) (*Prediction, error) {
	return predict(&meter{ctx, maxRead}, m, d)
}

func predict(read *meter, m *Machine, d *Disk) (*Prediction, error) {
	b := &boot{
		m: m, disk: &Disk{Table: d.Table}, secure: m.SecureBoot && !m.Variables.SetupMode(),
		p: newPrediction(), digests: map[string]Digests{},
	}
	for _, v := range d.Volumes {
		b.disk.Volumes = append(b.disk.Volumes, Volume{metered{v.Files, read}, v.ID, v.Number})
	}
	err := b.firmware()
	// A reading that was cut short may have been taken for a file that is not whole.
	if stop := cmp.Or(read.ctx.Err(), read.over()); stop != nil {
		err = stop
	}
	var open *undecided
	switch {
	case err == nil:
		b.p.Verdict = Starts
	case errors.As(err, &open):
		b.p.Verdict, b.p.Reasons = Undecided, evidence.Reasons(err)
	case len(evidence.Reasons(err)) > 0:
		b.p.Verdict, b.p.Reasons = Refused, evidence.Reasons(err)
	default:
		return nil, err
	}
	b.p.finish()
	return b.p, nil
}

// open opens a file, and tells what is not read here apart from what is not there.
func (v *Volume) open(path string) (*io.SectionReader, error) {
	r, err := v.Files.Open(path)
	if errors.Is(err, disk.ErrMalformed) || errors.Is(err, disk.ErrUnsupported) {
		return nil, &undecided{evidence.Refuse(codeDisk, "%v", err).About(path)}
	}
	return r, err
}

// list names what is in a folder; one that is not there is empty.
func (v *Volume) list(folder string) ([]disk.Entry, error) {
	out, err := v.Files.List(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, disk.ErrMalformed), errors.Is(err, disk.ErrUnsupported):
		return nil, &undecided{evidence.Refuse(codeDisk, "%v", err).About(folder)}
	}
	return out, err
}

// keys are databases by which firmware judges.
func (b *boot) keys() *authenticode.Keys {
	return authenticode.NewKeys(b.m.Variables.Database(sigdb.DB), b.m.Variables.Database(sigdb.DBX))
}
