package vmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/homecard"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/libvirtxml"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vmbackup"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpmcli"
	"github.com/assay-project/assay/uefi/varstore"
)

// NewImportCmd is "import": machines of other platforms.
func NewImportCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Make machines of those of other platforms"}
	cmd.AddCommand(newImportLibvirtCmd(env))
	return cmd
}

// An importing is one import on its way.
type importing struct {
	h                 *hostFlags
	name, provider    string
	keyset, guest     string
	dryRun, newTPM    bool
	tpm               *swtpmState
	quiet             bool
	progress          vmbackup.Progress
	format            program.OutputFormat
	variables         []byte
	plan              *libvirtxml.Plan
	sources, own      []fleet.Disk
	made              *machine.Card
	warnings, refused []string
}

func newImportLibvirtCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "libvirt FILE",
		Short: "Make a machine of a domain of libvirt, by its XML",
		Long: `Read the definition of a domain (virsh dumpxml --inactive), and say of each part of it
what it becomes, what is left, and why. --dry-run ends there.

Without it the machine is made of copies of the domain's disks and variables, with the
domain's UUID; the domain stays as it is, and must be off. Its TPM is taken over by
--tpm-state, the folder of its swtpm; with --new-tpm the machine has a new, empty one.
Do not run both: they are one machine to the network.

Exit status: 0 it can be made, or is; 1 it cannot, and why is said; 2 the file is of no use.`,
		Example: "  virsh dumpxml --inactive web > web.xml\n  assay import libvirt web.xml --dry-run",
		Args:    cobra.ExactArgs(1),
	}
	m := &importing{h: addHostFlags(env, cmd)}
	format := program.AddOutputFlag(cmd, "table", "json")
	f := cmd.Flags()
	f.StringVar(&m.name, "name", "", "`NAME` of the machine (default the domain's)")
	f.StringVar(&m.provider, "key-provider", "", "`SPEC` of the key provider: its name, or a URI (default the root's default)")
	f.StringVar(&m.keyset, "keyset", "", "`NAME` of the key set of secure boot (default microsoft)")
	f.StringVar(&m.guest, "guest-os", "linux", "operating `SYSTEM` of the guest")
	f.BoolVar(&m.dryRun, "dry-run", false, "say what would be made, and make nothing")
	f.BoolVar(&m.newTPM, "new-tpm", false, "make the machine with a new, empty TPM where the domain has one")
	f.BoolVar(&m.quiet, "quiet", false, "print no progress")
	m.tpm = addSwtpmState(cmd)
	cmd.MarkFlagsMutuallyExclusive("new-tpm", "tpm-state")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		m.format = *format
		if !m.quiet {
			m.progress = progress(env.Stderr)
		}
		return m.run(cmd.Context(), args[0])
	}
	return cmd
}

// maxDomain bounds the file of a domain in bytes.
const maxDomain = 1 << 20

func (m *importing) run(ctx context.Context, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxDomain+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	domain, err := libvirtxml.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	m.plan = domain.Map(m.name)
	m.plan.Definition.Keyset, m.plan.Definition.GuestOS = m.keyset, m.guest
	m.plan.Definition.Complete()
	m.plan.Lines = append(m.plan.Lines, libvirtxml.Line{What: "guest's system", Becomes: m.guest, Why: "libvirt does not say it: --guest-os does"})
	m.takeTPM()
	if err := m.plan.Definition.Check(); err != nil {
		m.refused = append(m.refused, err.Error())
	}
	if m.dryRun || m.plan.Stopped() || len(m.refused) > 0 {
		return m.show()
	}
	return m.h.with(ctx, func(r *machine.Root) error {
		if err := m.make(ctx, r, file); err != nil {
			return err
		}
		m.h.recommend(ctx, r, m.made.Name)
		return m.show()
	})
}

// takeTPM says what becomes of the domain's TPM.
func (m *importing) takeTPM() {
	switch {
	case m.tpm.file != "" && !m.plan.TPM:
		m.refused = append(m.refused, "--tpm-state is the state of a TPM, and the domain has none")
	case m.tpm.file != "":
		m.plan.TakesTPM()
	case m.plan.TPM && !m.newTPM:
		m.refused = append(m.refused, "the domain has a TPM: --tpm-state takes over the state of its swtpm, --new-tpm makes the machine with a new, empty one")
	}
}

// make makes the machine of copies.
func (m *importing) make(ctx context.Context, r *machine.Root, file string) error {
	if m.plan.Variables != "" {
		if err := m.readVariables(); err != nil {
			return err
		}
	}
	d := m.plan.Definition
	m.sources = append(m.sources, d.Disks...)
	for i := range d.Disks {
		d.Disks[i].File = r.DiskPath(d.Name, fmt.Sprintf("disk%d.%s", i, d.Disks[i].Format))
	}
	m.own = d.Disks
	a := machine.Arrival{
		Definition: d, Provider: m.provider, Variables: m.variables, Disks: m.copy, Event: integrity.EventImport,
		Reasons: []evidence.Reason{{Code: "machine.imported", Message: fmt.Sprintf("made of the libvirt domain in %q", filepath.Base(file))}},
	}
	if homecard.ValidID(m.plan.UUID) {
		a.ID = m.plan.UUID
	}
	var err error
	if a.Moved, err = m.tpm.options(); err != nil {
		return err
	}
	if m.warnings, err = r.CanArrive(ctx, &a); err != nil {
		return err
	}
	if a.Moved != nil { // before the disks are copied
		if err := m.canMove(ctx, r, &a); err != nil {
			return err
		}
	}
	made, err := r.Arrive(ctx, actor(), a)
	if err != nil {
		return err
	}
	m.made = made.Card
	return nil
}

// canMove refuses a TPM that cannot be taken over.
func (m *importing) canMove(ctx context.Context, r *machine.Root, a *machine.Arrival) error {
	report, err := r.LookAtMoved(ctx, actor(), a)
	if err != nil {
		if errors.Is(err, vtpmcli.ErrNoSwtpmKey) {
			return program.RefusedBy(err)
		}
		return vtpmcli.SwtpmRefusal(err)
	}
	if len(report.Losses) > 0 && !m.tpm.sure {
		return program.RefusedBy(fmt.Errorf("%w; --yes goes on without them", &vtpm.LossesError{Losses: report.Losses}))
	}
	return nil
}

// maxVariables bounds the file of a firmware's variables in bytes.
const maxVariables = 16 << 20

func (m *importing) readVariables() (err error) {
	if m.variables, err = readVariableFile(m.plan.Variables); err != nil {
		return err
	}
	if _, err := varstore.Parse(m.variables); err != nil {
		return fmt.Errorf("nvram %q is not read here: %w", m.plan.Variables, err)
	}
	return nil
}

// copy copies the domain's disks into the machine's home.
func (m *importing) copy(ctx context.Context, dir string) error {
	for i := range m.sources {
		if err := vmbackup.CopyDisk(ctx, &m.sources[i], filepath.Join(dir, filepath.Base(m.own[i].File)), m.progress); err != nil {
			return err
		}
	}
	return nil
}

// importView is the JSON of an import.
type importView struct {
	*libvirtxml.Plan
	// Machine is the machine's id; empty when none was made.
	Machine  string   `json:"machine,omitempty"`
	Refused  []string `json:"refused"`
	Warnings []string `json:"warnings"`
}

// show prints the plan and what became of it. A plan that cannot be carried out ends with
// status 1.
func (m *importing) show() error {
	v := importView{Plan: m.plan, Refused: append([]string{}, m.refused...), Warnings: append([]string{}, m.warnings...)}
	for _, l := range m.plan.Lines {
		if l.Stops {
			v.Refused = append(v.Refused, l.What+": "+l.Why)
		}
	}
	if m.made != nil {
		v.Machine = m.made.ID
	}
	err := emit(m.h.env, m.format, v, func(w io.Writer) error { return m.print(w, &v) })
	if err == nil && len(v.Refused) > 0 {
		return program.Refused()
	}
	return err
}

func (m *importing) print(out io.Writer, v *importView) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, program.Printable(c))
		}
		fmt.Fprintln(w)
	}
	row("DOMAIN", "MACHINE", "WHY")
	for _, l := range v.Lines {
		becomes := l.Becomes
		switch {
		case l.Stops:
			becomes = "REFUSED"
		case becomes == "":
			becomes = "left"
		}
		row(l.What, becomes, l.Why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, text := range append(m.refused, m.warnings...) {
		fmt.Fprintln(out, program.Printable(text))
	}
	if m.made == nil {
		_, err := fmt.Fprintln(out, "nothing was made")
		return err
	}
	_, err := fmt.Fprintf(out, "%s is made, %s; the domain is as it was\n", m.made.Name, m.made.ID)
	return err
}
