package vmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

// A toggle is an option with a flag for each way.
type toggle struct{ yes, no bool }

func addToggle(cmd *cobra.Command, name, what string) *toggle {
	t := &toggle{}
	cmd.Flags().BoolVar(&t.yes, name, false, what)
	cmd.Flags().BoolVar(&t.no, "no-"+name, false, "without it")
	cmd.MarkFlagsMutuallyExclusive(name, "no-"+name)
	return t
}

func (t *toggle) set(to *bool) {
	if t.yes || t.no {
		*to = t.yes
	}
}

// definitionFlags are a machine's definition on the command line.
type definitionFlags struct {
	cmd                          *cobra.Command
	file, profile                string
	secure, vtpm, monitoring     *toggle
	approve, stopOnFailure, vbs  *toggle
	agent                        *toggle
	d                            fleet.Definition
	disks, networks, labelValues []string
	names                        []string // of the flags
}

// given are the flags of a definition that stand on the command line.
func (f *definitionFlags) given() (out []string) {
	for _, name := range f.names {
		if f.cmd.Flags().Changed(name) {
			out = append(out, "--"+name)
		}
	}
	return out
}

func addDefinitionFlags(cmd *cobra.Command) *definitionFlags {
	d := &definitionFlags{cmd: cmd}
	f := cmd.Flags()
	others := map[string]bool{}
	f.VisitAll(func(one *pflag.Flag) { others[one.Name] = true })
	f.StringVar(&d.profile, "profile", "", "set the options by `NAME`: off, baseline, hardened or strict (assay vm profiles shows what each sets)")
	d.secure = addToggle(cmd, "secure-boot", "the firmware starts only what the key set allows")
	d.vtpm = addToggle(cmd, "vtpm", "with a TPM 2.0")
	d.monitoring = addToggle(cmd, "integrity-monitoring", "compare each boot with the baseline; needs --vtpm")
	d.approve = addToggle(cmd, "approve-first-boot", "the first baseline is approved by a person, too")
	d.stopOnFailure = addToggle(cmd, "stop-on-failure", "stop the machine when a boot fails its judgement")
	d.agent = addToggle(cmd, "agent", "the guest runs assay-agent on its second serial port, and attests")
	d.vbs = addToggle(cmd, "vbs", "what a Windows guest's virtualization-based security needs: an IOMMU, nested virtualization")
	f.StringVar(&d.d.Keyset, "keyset", "", "`NAME` of the key set of secure boot (default microsoft)")
	f.StringVar(&d.d.Policy, "integrity-policy", "", "what is judged: `default` or gce")
	f.StringVar(&d.d.GuestOS, "guest-os", "", "operating `SYSTEM` of the guest: linux, windows-11, windows-server-2022, … (default linux)")
	f.StringVar(&d.d.MachineType, "machine-type", "", "`TYPE` of QEMU's machine (default q35)")
	f.StringVar(&d.d.TPM, "tpm-interface", "", "`crb` or tis")
	f.IntVar(&d.d.CPUs, "cpus", 0, "number of processors (default 1)")
	f.IntVar(&d.d.MemoryMiB, "memory", 0, "memory in `MIB` (default 1024)")
	f.IntVar(&d.d.BootDeadline, "boot-deadline", 0, "`SECONDS` that a boot may take before it is an event; 0 is for ever")
	f.StringArrayVar(&d.disks, "disk", nil, "`FILE[,format=raw|qcow2][,bus=virtio|nvme|sata][,boot][,readonly][,shared][,ephemeral]` (repeatable; the first boots unless another says so)")
	if cmd.Name() == "create" {
		f.StringVar(&d.d.Image, "image", "", "boot from a copy of the image `NAME[@VERSION]` of the gallery (assay image)")
	}
	f.StringArrayVar(&d.networks, "network", nil, "`user[,mac=MAC]` or tap,device=NAME[,mac=MAC] (repeatable)")
	f.StringVar(&d.d.Site, "site", "", "`NAME` of the site where it may run")
	f.StringVar(&d.d.Host, "host", "", "`NAME` of the host where it may run")
	f.StringArrayVar(&d.labelValues, "label", nil, "`NAME=VALUE` (repeatable)")
	f.VisitAll(func(one *pflag.Flag) {
		if !others[one.Name] {
			d.names = append(d.names, one.Name)
		}
	})
	return d
}

// apply changes a definition by the flags that were given.
func (f *definitionFlags) apply(d *fleet.Definition) error {
	if f.profile != "" {
		p, err := fleet.PresetNamed(f.profile)
		if err != nil {
			return err
		}
		p.Apply(d)
	}
	f.secure.set(&d.Shielded.SecureBoot)
	f.vtpm.set(&d.Shielded.VTPM)
	if f.vtpm.no && !f.monitoring.yes {
		d.Shielded.IntegrityMonitoring = false
	}
	f.monitoring.set(&d.Shielded.IntegrityMonitoring)
	f.agent.set(&d.Agent)
	if f.vtpm.no && !f.agent.yes {
		d.Agent = false
	}
	f.approve.set(&d.ApproveFirst)
	f.stopOnFailure.set(&d.StopOnFailure)
	if !d.Shielded.IntegrityMonitoring && !f.stopOnFailure.yes {
		d.StopOnFailure = false
	}
	f.vbs.set(&d.Virtualization)
	for name, set := range map[string]func(){
		"keyset":           func() { d.Keyset = f.d.Keyset },
		"integrity-policy": func() { d.Policy = f.d.Policy },
		"guest-os":         func() { d.GuestOS = f.d.GuestOS },
		"machine-type":     func() { d.MachineType = f.d.MachineType },
		"tpm-interface":    func() { d.TPM = f.d.TPM },
		"cpus":             func() { d.CPUs = f.d.CPUs },
		"memory":           func() { d.MemoryMiB = f.d.MemoryMiB },
		"boot-deadline":    func() { d.BootDeadline = f.d.BootDeadline },
		"site":             func() { d.Site = f.d.Site },
		"host":             func() { d.Host = f.d.Host },
		"image":            func() { d.Image = f.d.Image },
	} {
		if f.cmd.Flags().Changed(name) {
			set()
		}
	}
	return f.applyParts(d)
}

func (f *definitionFlags) applyParts(d *fleet.Definition) error {
	if f.cmd.Flags().Changed("disk") {
		d.Disks = nil
		for _, text := range f.disks {
			disk, err := parseDisk(text)
			if err != nil {
				return err
			}
			d.Disks = append(d.Disks, disk)
		}
		if !slices.ContainsFunc(d.Disks, func(d fleet.Disk) bool { return d.Boot }) && len(d.Disks) > 0 {
			d.Disks[0].Boot = true
		}
	}
	if f.cmd.Flags().Changed("network") {
		d.Networks = nil
		for _, text := range f.networks {
			n, err := parseNetwork(text)
			if err != nil {
				return err
			}
			d.Networks = append(d.Networks, n)
		}
	}
	for _, text := range f.labelValues {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return fmt.Errorf("--label %q: want NAME=VALUE", text)
		}
		if d.Labels == nil {
			d.Labels = map[string]string{}
		}
		d.Labels[name] = value
	}
	return nil
}

// parseDisk reads --disk. The format is by the file's name, never by its content, which
// a guest may have written.
func parseDisk(text string) (fleet.Disk, error) {
	words := strings.Split(text, ",")
	path, err := filepath.Abs(words[0])
	if err != nil || words[0] == "" {
		return fleet.Disk{}, fmt.Errorf("--disk %q: want a file", text)
	}
	d := fleet.Disk{File: path, Bus: "virtio"}
	for _, w := range words[1:] {
		name, value, _ := strings.Cut(w, "=")
		switch name {
		case "format":
			d.Format = value
		case "bus":
			d.Bus = value
		case "boot":
			d.Boot = true
		case "readonly":
			d.ReadOnly = true
		case "shared":
			d.Shared = true
		case "ephemeral":
			d.Ephemeral = true
		default:
			return fleet.Disk{}, fmt.Errorf("--disk %q: %q is none of format, bus, boot, readonly, shared, ephemeral", text, name)
		}
	}
	if d.Format == "" {
		switch filepath.Ext(path) {
		case ".raw", ".img":
			d.Format = "raw"
		case ".qcow2":
			d.Format = "qcow2"
		default:
			return fleet.Disk{}, fmt.Errorf("--disk %q: say format=raw or format=qcow2", text)
		}
	}
	return d, nil
}

func parseNetwork(text string) (fleet.Network, error) {
	words := strings.Split(text, ",")
	n := fleet.Network{Kind: words[0]}
	for _, w := range words[1:] {
		switch name, value, _ := strings.Cut(w, "="); name {
		case "device":
			n.Device = value
		case "mac":
			n.MAC = value
		default:
			return n, fmt.Errorf("--network %q: %q is neither device nor mac", text, name)
		}
	}
	return n, nil
}

func newCreateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a machine: its encrypted home, its keys of secure boot, its TPM",
		Long: `Make a machine. Without options it has secure boot, a TPM and a watched boot (profile
hardened). What the support matrix does not have is refused with the reason, before
anything is made (status 1).

--count N makes NAME-1 to NAME-N of the one definition, labelled group=NAME.`,
		Example: "  assay vm create web-1 --disk /images/web-1.qcow2\n  assay vm create web --count 3 --profile strict --keyset own",
		Args:    cobra.ExactArgs(1),
	}
	h, d := addHostFlags(env, cmd), addDefinitionFlags(cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	var provider string
	var count int
	f := cmd.Flags()
	f.StringVar(&provider, "key-provider", "", "`SPEC` of the key provider: its name, or a URI (default the root's default)")
	f.StringVar(&d.file, "file", "", "`FILE` with the definition as JSON; flags change it")
	f.IntVar(&count, "count", 0, "make a group of `N` machines")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		definitions, err := d.definitions(args[0], count)
		if err != nil {
			return err
		}
		return h.with(cmd.Context(), func(r *machine.Root) error {
			cards, failed := h.createAll(cmd.Context(), r, provider, definitions)
			if len(cards) == 0 {
				return failed
			}
			return errors.Join(emit(env, *format, cardViews(cards), func(w io.Writer) error {
				for i, c := range cards {
					if _, err := fmt.Fprintf(w, "%s is made, %s; key provider %s; %s\n", c.Name, c.ID, c.Provider, options(&definitions[i].Shielded)); err != nil {
						return err
					}
				}
				return nil
			}), failed)
		})
	}
	return cmd
}

// createAll makes machines until one cannot be made. Those before it stay, and the error
// names them.
func (h *hostFlags) createAll(ctx context.Context, r *machine.Root, provider string, definitions []*fleet.Definition) ([]*machine.Card, error) {
	var cards []*machine.Card
	var made []string
	for _, one := range definitions {
		card, err := h.create(ctx, r, actor(), provider, one)
		if err != nil && len(made) > 0 {
			err = fmt.Errorf("%w; %d of %d were made before it, and stay: %s", err, len(made), len(definitions), strings.Join(made, ", "))
		}
		if err != nil {
			return cards, err
		}
		cards, made = append(cards, card), append(made, card.Name)
		h.recommend(ctx, r, card.Name)
	}
	return cards, nil
}

type cardView struct {
	Name     string `json:"name"`
	ID       string `json:"id"`
	Provider string `json:"provider"`
}

func cardViews(cards []*machine.Card) []cardView {
	out := []cardView{}
	for _, c := range cards {
		out = append(out, cardView{c.Name, c.ID, c.Provider})
	}
	return out
}

// maxGroup bounds a group made by one command.
const maxGroup = 1000

// definitions are those of the machines to make.
func (f *definitionFlags) definitions(name string, count int) ([]*fleet.Definition, error) {
	if count < 0 || count > maxGroup {
		return nil, fmt.Errorf("--count %d is not 1 to %d", count, maxGroup)
	}
	names := []string{name}
	if count > 0 {
		names = nil
		for i := range count {
			names = append(names, fmt.Sprintf("%s-%d", name, i+1))
		}
	}
	var out []*fleet.Definition
	for _, n := range names {
		d, err := f.definition(n)
		if err != nil {
			return nil, err
		}
		if count > 0 {
			if d.Labels == nil {
				d.Labels = map[string]string{}
			}
			d.Labels["group"] = name
		}
		out = append(out, d)
	}
	return out, nil
}

func (f *definitionFlags) definition(name string) (*fleet.Definition, error) {
	d := &fleet.Definition{Name: name, GuestOS: "linux", CPUs: 1, MemoryMiB: 1024}
	if f.file != "" {
		text, err := os.ReadFile(f.file)
		if err != nil {
			return nil, err
		}
		if d, err = fleet.ParseDefinition(text); err != nil {
			return nil, err
		}
		d.Name = name
	} else {
		hardened, err := fleet.PresetNamed("hardened")
		if err != nil {
			return nil, err
		}
		hardened.Apply(d)
	}
	if err := f.apply(d); err != nil {
		return nil, err
	}
	d.Complete()
	return d, d.Check()
}

// options names the three in words.
func options(s *fleet.Shielded) string {
	word := func(on bool, what string) string {
		if on {
			return what + " on"
		}
		return what + " off"
	}
	return strings.Join([]string{word(s.SecureBoot, "secure boot"), word(s.VTPM, "vTPM"), word(s.IntegrityMonitoring, "integrity monitoring")}, ", ")
}
