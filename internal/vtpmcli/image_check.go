package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/disk"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi/launch"
)

// NewImageCmd is "image", with the subcommands of others.
func NewImageCmd(env *program.Env, others ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Disk images of virtual machines"}
	cmd.AddCommand(append(others, newImageCheckCmd(env))...)
	return cmd
}

// ImageVerdict says of a disk whether it boots under a key set: yes, no or unknown, and
// why not.
func (h *Host) ImageVerdict(ctx context.Context, env *program.Env, file, format, keyset string) (boots, why string, err error) {
	f := &imageFlags{root: h.flags, format: format, keyset: keyset, secureBoot: true}
	_, p, err := f.check(ctx, env, file, true)
	if err != nil {
		return "", "", err
	}
	var words []string
	for _, r := range p.Reasons {
		words = append(words, r.Message)
	}
	boots = "unknown"
	switch p.Verdict {
	case launch.Starts:
		boots = "yes"
	case launch.Refused:
		boots = "no"
	}
	return boots, strings.Join(words, "; "), nil
}

// imageReport is the JSON of assay image check.
type imageReport struct {
	Disk       string              `json:"disk"`
	Format     disk.Format         `json:"format"`
	Boots      *bool               `json:"boots"` // null: not known
	SecureBoot bool                `json:"secureBoot"`
	Reasons    []evidence.Reason   `json:"reasons"`
	Chain      []*launch.Component `json:"chain"`
	Events     []launch.Event      `json:"events"`
	// PCRs are values by bank and register; null is one that is not known.
	PCRs    map[string]map[string]*string `json:"pcrs"`
	Unknown map[string][]evidence.Reason  `json:"unknown"` // by register
	program.Outcome
}

// imageFlags say what a disk is judged by.
type imageFlags struct {
	root       *rootFlags
	format     string
	keyset     string
	vars       string
	secureBoot bool
}

func newImageCheckCmd(env *program.Env) *cobra.Command {
	f := &imageFlags{}
	cmd := &cobra.Command{
		Use:   "check DISK --keyset NAME | check DISK --vars FILE",
		Short: "Say without booting whether a disk boots, and which PCR values that gives",
		Long: `Follow the boot chain of a disk that is in no use: firmware, shim, GRUB and the
kernel, or a unified kernel image. Says which file would be refused under the keys of a
key set or of a machine's variable store, by which signature, revocation or SBAT level,
and which values the registers of the TPM will have. What the disk does not determine
is said to be unknown, with the reason. docs/images.md is the guide.

Exit status: 0 it boots, 1 it is refused, 2 the disk cannot be used, or whether it
boots cannot be known from it.`,
		Args: cobra.ExactArgs(1),
	}
	f.root = addRootFlag(cmd)
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.Flags().StringVar(&f.format, "format", "", "how the disk lies in its file: raw or qcow2 (default: qcow2 for names that end so, else raw)")
	cmd.Flags().StringVar(&f.keyset, "keyset", "", "`NAME` of the key set that the machine will have")
	cmd.Flags().StringVar(&f.vars, "vars", "", "variable store `FILE` of the machine")
	cmd.Flags().BoolVar(&f.secureBoot, "secure-boot", true, "the firmware enforces Secure Boot (default with --vars: as the store says)")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		r, p, err := f.check(cmd.Context(), env, args[0], cmd.Flags().Changed("secure-boot"))
		if err != nil {
			return UnusableImage(err)
		}
		return r.show(env, *format, p.Verdict)
	}
	return cmd
}

// UnusableImage is the end of a check of a disk that cannot be used.
func UnusableImage(err error) error { return program.Unusable(newImageReport(), err) }

// A Forecast is what is expected of the boot of a disk.
type Forecast struct {
	File       string
	Format     disk.Format
	Machine    *launch.Machine
	Prediction *launch.Prediction
}

// PrintPrediction shows what is expected of the boot of a disk, and ends with the exit
// status that says whether it boots.
func PrintPrediction(env *program.Env, to program.OutputFormat, f Forecast) error {
	return viewImage(f.File, f.Format, f.Machine, f.Prediction).show(env, to, f.Prediction.Verdict)
}

func (r *imageReport) show(env *program.Env, to program.OutputFormat, v launch.Verdict) (err error) {
	if to == "json" {
		err = program.PrintJSON(env, r)
	} else {
		err = r.print(env.Stdout)
	}
	switch {
	case err != nil:
		return err
	case v == launch.Refused:
		return program.Refused()
	case v == launch.Undecided:
		return program.Exit(program.StatusUnusable)
	}
	return nil
}

// newImageReport is the report of a disk that cannot be used.
func newImageReport() *imageReport {
	return &imageReport{
		Reasons: []evidence.Reason{}, Chain: []*launch.Component{}, Events: []launch.Event{},
		PCRs: map[string]map[string]*string{}, Unknown: map[string][]evidence.Reason{},
	}
}

func (f *imageFlags) check(ctx context.Context, env *program.Env, name string, forced bool) (*imageReport, *launch.Prediction, error) {
	m, err := f.machine(env)
	if err != nil {
		return nil, nil, err
	}
	if forced {
		m.SecureBoot = f.secureBoot
	}
	format := disk.Format(f.format)
	switch {
	case format == "" && strings.HasSuffix(strings.ToLower(name), ".qcow2"):
		format = disk.QCOW2
	case format == "":
		format = disk.Raw
	}
	file, size, err := openDisk(name)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	d, err := disk.Open(file, size, format)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	volumes, err := launch.ReadDisk(d)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	p, err := launch.Predict(ctx, m, volumes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return viewImage(name, format, m, p), p, nil
}

// machine is what the flags say of the machine.
func (f *imageFlags) machine(env *program.Env) (*launch.Machine, error) {
	if (f.keyset == "") == (f.vars == "") {
		return nil, errors.New("name a key set by --keyset, or a variable store by --vars")
	}
	if f.vars != "" {
		store, err := readVars(f.vars)
		if err != nil {
			return nil, err
		}
		return launch.MachineOf(store)
	}
	s, err := f.root.loadKeyset(env, f.keyset)
	if err != nil {
		return nil, err
	}
	return &launch.Machine{Variables: s.Set.Variables(), SecureBoot: true}, nil
}

// openDisk opens a disk, which may be a block device.
func openDisk(name string) (*os.File, int64, error) {
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && info.Mode()&os.ModeDevice == 0 {
		err = fmt.Errorf("%s is neither a file nor a disk", name)
	}
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

func viewImage(name string, format disk.Format, m *launch.Machine, p *launch.Prediction) *imageReport {
	r := newImageReport()
	r.Disk, r.Format, r.SecureBoot = name, format, m.SecureBoot && !m.Variables.SetupMode()
	r.Reasons, r.Chain, r.Events = p.Reasons, p.Chain, p.Events
	if p.Verdict != launch.Undecided {
		boots := p.Verdict == launch.Starts
		r.Boots = &boots
	}
	r.PCRs, r.Unknown = p.Values(), p.Unknowns()
	return r
}

func (r *imageReport) print(w io.Writer) error {
	verdict := "whether it boots cannot be known"
	if r.Boots != nil {
		verdict = map[bool]string{true: "boots", false: "is refused"}[*r.Boots]
	}
	fmt.Fprintf(w, "%s: %s; Secure Boot %s\n", r.Disk, verdict, onOff(&r.SecureBoot))
	for _, reason := range r.Reasons {
		fmt.Fprintf(w, "%s\n", describeReason(reason))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range r.Chain {
		fmt.Fprintf(t, "%s\t%s\tsha256 %x\t%s\n", program.Printable(c.Path), c.Kind, c.Digests[tpm2.AlgSHA256], program.Printable(whose(c)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for pcr := range launch.Registers {
		if v := r.PCRs[tpm2.AlgSHA256.BankName()][strconv.Itoa(pcr)]; v != nil {
			fmt.Fprintf(w, "PCR %-2d  sha256 %s\n", pcr, *v)
		}
	}
	return r.printUnknown(w)
}

// printUnknown names the registers that are unknown, those of one reason together.
func (r *imageReport) printUnknown(w io.Writer) error {
	var order []string
	registers := map[string][]string{}
	for pcr := range launch.Registers {
		n := strconv.Itoa(pcr)
		for _, why := range r.Unknown[n] {
			text := describeReason(why)
			if registers[text] == nil {
				order = append(order, text)
			}
			registers[text] = append(registers[text], n)
		}
	}
	for _, text := range order {
		if _, err := fmt.Fprintf(w, "PCR %s unknown: %s\n", strings.Join(registers[text], ", "), text); err != nil {
			return err
		}
	}
	return nil
}

// whose says who signed a program, and what allows it.
func whose(c *launch.Component) string {
	var out []string
	if len(c.Signers) > 0 {
		out = append(out, "signed by "+strings.Join(c.Signers, " and "))
	}
	if c.Authority != "" {
		out = append(out, "allowed by "+c.Authority)
	}
	for _, r := range c.Reasons {
		out = append(out, "refused: "+string(r.Code))
	}
	return strings.Join(out, ", ")
}

// describeReason is a reason in one line.
func describeReason(r evidence.Reason) string {
	out := string(r.Code) + ": "
	if r.Component != "" {
		out += r.Component + ": "
	}
	return program.Printable(out + r.Message)
}
