package vmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/homecard"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vmconvert"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpmcli"
)

const convertHelp = `Make a machine of an existing UEFI machine's disk (generation 2), its OVMF variables and
the permanent state of its swtpm. All are only read; the machine is made of copies, and
a conversion that fails leaves nothing. The original must be off, and must not run again
beside the machine.

With --vars the guest keeps its keys and boot entries, and secure boot is as it was;
--keyset enrols other keys. Without it the variables are new, under the key set.
With --tpm-state the guest finds the TPM that it knows: seeds, keys, NV. Without it the
TPM is new and empty, and what was sealed needs its recovery key.

--dry-run says what is taken, what changes for the guest, and what the boot will measure.

Exit status: 0 it can be made, or is; 1 refused, with the reason; 2 it could not be done.`

// swtpmState says where a TPM of swtpm is, and how to open it.
type swtpmState struct {
	file string
	key  *vtpmcli.SwtpmKey
	sure bool
}

func addSwtpmState(cmd *cobra.Command) *swtpmState {
	s := &swtpmState{key: vtpmcli.AddSwtpmKeyFlags(cmd)}
	f := cmd.Flags()
	f.StringVar(&s.file, "tpm-state", "", "`FILE|DIR` with the permanent state of the guest's swtpm: the machine goes on with that TPM")
	f.BoolVar(&s.sure, "yes", false, "go on where something of the TPM cannot be taken over")
	return s
}

// options are those of taking the TPM over; nil where there is none.
func (s *swtpmState) options() (*vtpm.MoveOptions, error) {
	if s.file == "" {
		return nil, nil
	}
	o, err := vmconvert.StateOf(s.file)
	if err != nil {
		return nil, err
	}
	o.Key, o.AcceptLosses = s.key.Read, s.sure
	return o, nil
}

// A converting is one conversion on its way.
type converting struct {
	h             *hostFlags
	d             *definitionFlags
	tpm           *swtpmState
	o             vmconvert.Options
	vars          string
	dryRun, quiet bool
	format        *program.OutputFormat
}

func newConvertCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "convert NAME --disk FILE",
		Short:   "Make a machine of another platform's disk, firmware variables and TPM",
		Long:    convertHelp,
		Example: "  assay vm convert web --disk web.qcow2 --vars web_VARS.fd --tpm-state /var/lib/libvirt/swtpm/UUID/tpm2 --dry-run",
		Args:    cobra.ExactArgs(1),
	}
	c := &converting{h: addHostFlags(env, cmd), d: addDefinitionFlags(cmd), tpm: addSwtpmState(cmd), format: program.AddOutputFlag(cmd, "table", "json")}
	f := cmd.Flags()
	f.StringVar(&c.vars, "vars", "", "`FILE` with the guest's OVMF variables (OVMF_VARS)")
	f.StringVar(&c.o.ID, "uuid", "", "`UUID` that the guest knows (default a new one)")
	f.StringVar(&c.o.Provider, "key-provider", "", "`SPEC` of the key provider: its name, or a URI (default the root's default)")
	f.BoolVar(&c.dryRun, "dry-run", false, "say what would be made, and make nothing")
	f.BoolVar(&c.quiet, "quiet", false, "print no progress")
	cmd.MarkFlagRequired("disk") //nolint:errcheck // the flag is there
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), args[0]) }
	return cmd
}

// read reads what the flags name.
func (c *converting) read(name string) (err error) {
	if c.o.Definition, err = c.d.definition(name); err != nil {
		return err
	}
	if c.o.ID != "" && !homecard.ValidID(c.o.ID) {
		return fmt.Errorf("--uuid %.80q is no UUID in lower-case letters", c.o.ID)
	}
	given := c.d.cmd.Flags().Changed
	c.o.Enrol = given("keyset")
	if c.vars != "" {
		if c.o.Variables, err = readVariableFile(c.vars); err != nil {
			return err
		}
		c.o.AsGuest = !given("secure-boot") && !given("no-secure-boot") && !given("keyset") && !given("profile")
	}
	c.o.NoKey = vtpmcli.ErrNoSwtpmKey
	c.o.TPM, err = c.tpm.options()
	return err
}

func (c *converting) run(ctx context.Context, name string) error {
	if err := c.read(name); err != nil {
		return err
	}
	return c.h.with(ctx, func(r *machine.Root) error {
		plan, err := vmconvert.Look(ctx, r, actor(), c.o)
		if err != nil {
			return err
		}
		if !c.dryRun && len(plan.Refused) == 0 {
			if err := c.make(ctx, plan); err != nil {
				return err
			}
			c.h.recommend(ctx, r, name)
		}
		err = emit(c.h.env, *c.format, plan, func(w io.Writer) error { return printConversion(w, plan) })
		if err == nil && len(plan.Refused) > 0 {
			return program.Refused()
		}
		return err
	})
}

func (c *converting) make(ctx context.Context, plan *vmconvert.Plan) error {
	if c.quiet {
		return plan.Make(ctx, actor(), nil)
	}
	return plan.Make(ctx, actor(), progress(c.h.env.Stderr))
}

// readVariableFile reads a file of a firmware's variables.
func readVariableFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxVariables))
	return text, errors.Join(err, f.Close())
}

func printConversion(out io.Writer, p *vmconvert.Plan) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tBECOMES\tWHY")
	for _, l := range p.Lines {
		fmt.Fprintf(w, "%s\t%s\t%s\n", program.Printable(l.What), program.Printable(l.Becomes), program.Printable(l.Why))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range p.Refused {
		fmt.Fprintf(out, "refused: %s: %s\n", r.Code, program.Printable(r.Message))
	}
	for _, text := range p.Warnings {
		fmt.Fprintf(out, "warning: %s\n", program.Printable(text))
	}
	if p.Machine == "" {
		_, err := fmt.Fprintln(out, "nothing was made")
		return err
	}
	_, err := fmt.Fprintf(out, "%s is made, %s; what it is made of is as it was\n", p.Definition.Name, p.Machine)
	return err
}
