package vmconvert

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/launch"
	"github.com/assay-project/assay/uefi/varstore"
)

// systemPartition is the type of an EFI system partition (UEFI 2.10, 5.3.3).
var systemPartition = uefi.MustGUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")

// hasEFI reports whether a disk has an EFI system partition. A disk without a partition
// table that is read here has none.
func hasEFI(k *fleet.Disk) (_ bool, err error) {
	f, err := os.Open(k.File)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	d, err := disk.Open(f, size, disk.Format(k.Format))
	if err != nil {
		return false, err
	}
	t, err := d.Table()
	if errors.Is(err, disk.ErrMalformed) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(t.Partitions, func(p disk.Partition) bool { return p.Type == systemPartition }), nil
}

// variables says which variables the machine has, and which keys judge its boot.
func (p *Plan) variables(o *Options) error {
	d := p.Definition
	if o.Variables == nil {
		p.line("variables", "new ones, keys of key set "+d.Keyset, "boot entries and keys of the guest are lost: firmware starts what lies at the path for removable disks")
		return p.enrol(d, nil)
	}
	if err := p.root.FirmwareTakes(o.Variables); errors.Is(err, machine.ErrLayout) {
		p.refuse(codeLayout, "%v", err)
		return nil
	} else if err != nil {
		return err
	}
	store, err := varstore.Parse(o.Variables)
	if err != nil {
		return fmt.Errorf("variables: %w", err)
	}
	if o.AsGuest {
		d.Shielded.SecureBoot = keyset.SecureBoot(store)
	}
	if o.Enrol {
		p.line("variables", "a copy, keys of key set "+d.Keyset, "boot entries of the guest stay, and its own keys do not")
		return p.enrol(d, o.Variables)
	}
	p.line("variables", "a copy", "keys and boot entries of the guest stay")
	p.arrival.Variables = o.Variables
	if keyset.SecureBoot(store) == d.Shielded.SecureBoot {
		return nil
	}
	if d.Shielded.SecureBoot && missing(store) {
		p.refuse(codeNoKeys, "secure boot is to be on, and the guest's variables have no platform key: --keyset NAME enrols keys")
		return nil
	}
	if err := keyset.SetSecureBoot(store, d.Shielded.SecureBoot); err != nil {
		return err
	}
	p.arrival.Variables, err = store.Bytes()
	return err
}

// missing reports whether a store has no platform key that can be read.
func missing(store *varstore.Store) bool {
	v, err := keyset.Read(store)
	return err != nil || v.SetupMode()
}

func (p *Plan) enrol(d *fleet.Definition, guest []byte) (err error) {
	p.arrival.Variables, err = p.root.VariablesFor(d, guest)
	return err
}

// predict says how the disk boots under the variables, and how that differs from what the
// guest's own variables gave.
func (p *Plan) predict(ctx context.Context, o *Options) error {
	d := p.Definition
	f, err := p.root.Forecast(ctx, d, p.arrival.Variables)
	if err != nil {
		return err
	}
	now := f.Prediction
	p.Prediction = &Prediction{Verdict: now.Verdict, Reasons: append(p.Refused[:0:0], now.Reasons...), PCRs: registers(now)}
	keys := "keys of key set " + d.Keyset
	if o.Variables != nil && !o.Enrol {
		keys = "the guest's own keys"
	}
	on := map[bool]string{true: "on", false: "off"}[d.Shielded.SecureBoot]
	p.line("secure boot", on+", under "+keys, "")
	p.line("boot", now.Verdict.String(), "")
	switch now.Verdict {
	case launch.Refused:
		p.Refused = append(p.Refused, now.Reasons...)
	case launch.Undecided:
		p.Warnings = append(p.Warnings, "whether it boots here cannot be known from the disk: "+now.Reasons[0].Message)
	}
	return p.compare(ctx, o, now)
}

// compare says of register 7 whether its value stays: what BitLocker and systemd seal to.
func (p *Plan) compare(ctx context.Context, o *Options, now *launch.Prediction) error {
	value, known := now.PCR(tpm2.AlgSHA256, 7)
	if !known {
		why := "the disk and the variables do not determine it"
		if reasons := now.Unknown(7); len(reasons) > 0 {
			why = reasons[0].Message
		}
		p.line("PCR 7", "not known", why)
		return nil
	}
	if o.Variables == nil {
		p.line("PCR 7", hex.EncodeToString(value), "it is of the new keys: what is sealed to it does not open unless it had them")
		return nil
	}
	was := *p.Definition
	store, err := varstore.Parse(o.Variables)
	if err != nil {
		return fmt.Errorf("variables: %w", err)
	}
	was.Shielded.SecureBoot = keyset.SecureBoot(store)
	f, err := p.root.Forecast(ctx, &was, o.Variables)
	if err != nil {
		return err
	}
	old, known := f.Prediction.PCR(tpm2.AlgSHA256, 7)
	switch {
	case !known:
		p.line("PCR 7", hex.EncodeToString(value), "what it was cannot be known")
	case string(old) == string(value):
		p.line("PCR 7", hex.EncodeToString(value), "as it was: what is sealed to it alone stays")
	default:
		p.line("PCR 7", hex.EncodeToString(value), "it was "+hex.EncodeToString(old)+": what is sealed to it does not open, have the recovery key ready")
	}
	return nil
}

// registers are the values of SHA-256 that are known.
func registers(p *launch.Prediction) map[string]string {
	out := map[string]string{}
	for pcr := range launch.Registers {
		if v, ok := p.PCR(tpm2.AlgSHA256, pcr); ok {
			out[strconv.Itoa(pcr)] = hex.EncodeToString(v)
		}
	}
	return out
}
