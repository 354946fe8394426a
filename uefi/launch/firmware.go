package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/sigdb"
)

// removable is what firmware starts of a disk that no boot option names a file of
// (UEFI 2.10, 3.5.1.1).
const removable = `\EFI\BOOT\BOOTX64.EFI`

// Texts that firmware measures (PFP 10.4.4).
const (
	actionCalling   = "Calling EFI Application from Boot Option"
	actionReturning = "Returning from EFI Application from Boot Option"
	actionExit      = "Exit Boot Services Invocation"
	actionExitDone  = "Exit Boot Services Returned with Success"
)

// firmware is the boot manager: it measures its variables, and starts the first option
// that it can.
func (b *boot) firmware() error {
	if s := b.m.Store; s != nil && s.Pending() {
		return unknown(codeState, "firmware finishes a write to its variables at the next start, and what they hold then is not known")
	}
	b.measureVariables()
	b.separator(5)
	options, err := b.options()
	if err != nil {
		return err
	}
	var failed []error
	for n, o := range options {
		if n > 0 {
			b.action(4, actionReturning)
		}
		b.action(4, actionCalling)
		if n == 0 {
			b.separator(4)
		}
		i, err := b.begin(o)
		var open *undecided
		switch {
		case err == nil:
			return b.run(i, o)
		case errors.As(err, &open) || len(evidence.Reasons(err)) == 0:
			return err
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// measureVariables is edk2's MeasureAllSecureVariables (PFP 3.3.4.8).
func (b *boot) measureVariables() {
	on := byte(0)
	if b.secure {
		on = 1
	}
	b.variable(uefi.GlobalVariable, "SecureBoot", []byte{on}, Name{Kind: eventlog.KindVariable, Name: "SecureBoot", Detail: fmt.Sprintf("%02x", on)})
	for _, r := range sigdb.Roles() {
		data := b.m.Variables[r].Data
		detail := "empty"
		if d := b.m.Variables.Database(r); d != nil {
			c := d.Count()
			detail = fmt.Sprintf("%d certificates, %d hashes", c.Certificates, c.Digests)
		}
		b.variable(r.Vendor(), r.String(), data, Name{Kind: eventlog.KindVariable, Name: r.String(), Detail: detail})
	}
	if b.m.Store != nil {
		for _, name := range []string{"dbt", "dbr"} {
			if _, ok := b.m.Store.Get(uefi.ImageSecurityDatabase, name); ok {
				b.p.leave(unknown(codeState, "the machine has the variable %s, whose measurement differs between builds of the firmware", name), 7)
			}
		}
	}
	b.separator(7)
}

// An option is one that firmware may boot from.
type option struct {
	volume *Volume
	path   string
	data   []byte // that the program gets
}

// options are those on the disk, in the order in which firmware tries them.
func (b *boot) options() ([]option, error) {
	var out []option
	media := false // the disk as such is among them
	for _, raw := range b.entries() {
		o, err := uefi.ParseLoadOption(raw)
		if err != nil || o.Attributes&loadActive == 0 || o.Attributes&loadCategory != 0 {
			continue
		}
		nodes, err := uefi.ParseDevicePath(o.DevicePath)
		if err != nil {
			continue
		}
		path := uefi.FilePath(o.DevicePath)
		if path == "" && isDisk(nodes) {
			media = true
			path = removable
		}
		if v := b.volume(nodes, path); v != nil && path != "" {
			out = append(out, option{v, path, optionalData(o.OptionalData)})
		}
	}
	if !media {
		if v := b.volume(nil, removable); v != nil {
			out = append(out, option{v, removable, nil})
		}
	}
	if len(out) == 0 {
		return nil, evidence.Refuse(codeNoLoader, "no partition has a FAT file system with %s, and no boot option names a file of the disk", removable).About(removable)
	}
	return out, nil
}

// Of EFI_LOAD_OPTION (UEFI 2.10, 3.1.3), and of edk2's own boot options.
const (
	loadActive   = 0x00000001
	loadCategory = 0x00001F00
	maxOptions   = 64
)

// autoCreated marks the options that edk2 makes itself; it is not passed on.
var autoCreated = uefi.MustGUID("8108ac4e-9f11-4d59-850e-e21a522c59b2")

func optionalData(b []byte) []byte {
	if string(b) == string(autoCreated[:]) {
		return nil
	}
	return b
}

// entries are the boot options that are set, in order: BootNext, then BootOrder.
func (b *boot) entries() [][]byte {
	if b.m.Store == nil {
		return nil
	}
	var order []byte
	for _, name := range []string{"BootNext", "BootOrder"} {
		if v, ok := b.m.Store.Get(uefi.GlobalVariable, name); ok {
			order = append(order, v.Data...)
		}
	}
	var out [][]byte
	for ; len(order) >= 2 && len(out) < maxOptions; order = order[2:] {
		name := fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(order))
		if v, ok := b.m.Store.Get(uefi.GlobalVariable, name); ok {
			out = append(out, v.Data)
		}
	}
	return out
}

// Types of nodes of a device path (UEFI 2.10, 10.3).
const (
	nodeMessaging = 3
	nodeMedia     = 4
	mediaDrive    = 1
	driveGPT      = 2
)

// isDisk reports whether a path may lead to a disk: not to a network or into firmware.
func isDisk(nodes []uefi.Node) bool {
	for _, n := range nodes {
		switch {
		case n.Type == nodeMessaging && (n.SubType == 11 || n.SubType == 12 || n.SubType == 13 || n.SubType == 24): // MAC, IPv4, IPv6, URI
			return false
		case n.Type == nodeMedia && n.SubType != mediaDrive:
			return false
		}
	}
	return len(nodes) > 0
}

// volume is the one that a path names, or the first that has the file.
func (b *boot) volume(nodes []uefi.Node, path string) *Volume {
	for _, n := range nodes {
		if n.Type == nodeMedia && n.SubType == mediaDrive {
			for i := range b.disk.Volumes {
				v := &b.disk.Volumes[i]
				if len(n.Data) == 38 && n.Data[37] == driveGPT && uefi.GUID(n.Data[20:36]) == v.ID {
					return v
				}
			}
			return nil // of another disk
		}
		if n.Type == nodeMedia && n.SubType != 4 { // anything but a file: into firmware
			return nil
		}
	}
	for i := range b.disk.Volumes {
		if _, err := b.disk.Volumes[i].open(path); !errors.Is(err, fs.ErrNotExist) {
			return &b.disk.Volumes[i]
		}
	}
	return nil
}

// begin opens the program of an option and decides whether firmware starts it.
func (b *boot) begin(o option) (*image, error) {
	i, err := b.load(o.volume, o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, evidence.Refuse(codeNoLoader, "a boot option names it, and it is not there").About(o.path)
	}
	if err != nil {
		return nil, err
	}
	if err := i.runs(); err != nil {
		return nil, err
	}
	if err := b.verify(i); err != nil {
		return nil, err
	}
	b.measureTable()
	b.p.extend(4, i.c.Digests, i.c.name())
	return i, nil
}

// verify is edk2's DxeImageVerificationLib, with what it measures.
func (b *boot) verify(i *image) error {
	if !b.secure {
		return nil
	}
	v, err := i.Verify(b.keys())
	if err != nil {
		return i.c.refuse(err)
	}
	i.c.Authority = authority(sigdb.DB.String(), v.Entry)
	b.authority(sigdb.DB.Vendor(), sigdb.DB.String(), v.Entry)
	return nil
}

// authority measures the entry of a database that allowed an image (PFP 10.4.1,
// EV_EFI_VARIABLE_AUTHORITY).
func (b *boot) authority(vendor uefi.GUID, name string, s sigdb.Signature) {
	data := append(append([]byte{}, s.Owner[:]...), s.Data...)
	b.variable(vendor, name, data, Name{Kind: eventlog.KindAuthority, Name: authority(name, s)})
}

func authority(database string, s sigdb.Signature) string {
	if s.Type == sigdb.X509 {
		subject, _, _ := sigdb.Names(s.Data)
		return database + ": " + subject
	}
	return fmt.Sprintf("%s: digest %x", database, s.Data)
}

// measureTable measures the partition table of the disk, once, with the first image.
func (b *boot) measureTable() {
	if b.table {
		return
	}
	b.table = true
	if b.disk.Table == nil {
		b.p.leave(unknown(codeDisk, "the partition table in front is damaged, and firmware repairs it"), 5)
		return
	}
	b.p.extend(5, digestOf(b.disk.Table), Name{Kind: eventlog.KindPartitionTable, Name: "partition table of the boot disk"})
}

// run goes on with what firmware has started.
func (b *boot) run(i *image, o option) error {
	switch i.c.Kind {
	case Shim:
		return b.shim(i, o)
	case UKI:
		return b.stub(i, o)
	case GRUB:
		if b.secure {
			return &undecided{evidence.Refuse(codeLoader, "firmware starts GRUB without shim, and how GRUB checks a kernel then depends on how it was built").About(i.c.Path)}
		}
		return b.grub(i, nil)
	case Linux:
		b.p.leave(unknown(codeVersion, "a kernel that firmware starts by itself measures what it is given, and that is not on the disk"), 8, 9)
		b.exit()
		return nil
	case SystemdBoot:
		return &undecided{evidence.Refuse(codeLoader, "systemd-boot chooses by its menu what it starts").About(i.c.Path)}
	default:
		b.p.leave(unknown(codeLoader, "what the program %s measures and starts is not known", i.c.Path), 4, 5, 7, 8, 9, 11, 12, 13, 14)
		return nil
	}
}

// exit is the hand-over to the operating system.
func (b *boot) exit() {
	b.action(5, actionExit)
	b.action(5, actionExitDone)
}

// folderOf is the folder of a path.
func folderOf(path string) string { return path[:strings.LastIndexAny(path, `\/`)+1] }
