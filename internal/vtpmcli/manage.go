package vtpmcli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/internal/vtpm/state"
)

// vtpmManagers are the subcommands of assay vtpm over a root of TPMs.
func vtpmManagers(env *program.Env) []*cobra.Command {
	return []*cobra.Command{
		newVTPMListCmd(env), newVTPMDescribeCmd(env), newVTPMCreateCmd(env), newVTPMAttachCmd(env),
		newVTPMLosingCmd(env, vtpm.VerbDetach), newVTPMLosingCmd(env, vtpm.VerbClear), newVTPMLosingCmd(env, vtpm.VerbDelete),
		newVTPMCloneCmd(env), newVTPMRotateCmd(env), newVTPMPowerCmd(env, vtpm.VerbStart), newVTPMPowerCmd(env, vtpm.VerbStop),
		newVTPMDaemonCmd(env), newVTPMAuditCmd(env),
	}
}

// A vtpmVerb is a subcommand that makes one request and shows its result.
type vtpmVerb struct {
	env    *program.Env
	root   *rootFlags
	format *program.OutputFormat
	q      vtpm.Request
}

func newVTPMVerb(env *program.Env, cmd *cobra.Command, verb string) *vtpmVerb {
	return &vtpmVerb{env: env, root: addRootFlag(cmd), format: program.AddOutputFlag(cmd, "table", "json"), q: vtpm.Request{Verb: verb}}
}

// run makes the request; show prints its result for people.
func (v *vtpmVerb) run(cmd *cobra.Command, show func(w io.Writer, result json.RawMessage) error) error {
	result, err := v.root.ask(cmd.Context(), v.env, &v.q)
	if err != nil {
		return v.refusal(err)
	}
	if *v.format != "json" {
		return show(v.env.Stdout, result)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, result, "", "  "); err != nil {
		return err
	}
	_, err = fmt.Fprintln(v.env.Stdout, out.String())
	return err
}

// refusal gives an error its exit status: 1 for a request that could be judged,
// and the answer is no.
func (v *vtpmVerb) refusal(err error) error {
	var confirm *vtpm.ConfirmError
	var needs *vtpm.RequirementError
	switch {
	case errors.As(err, &confirm):
		return program.RefusedBy(fmt.Errorf("%s %s: %w; --yes does it", v.q.Verb, v.q.Name, confirm))
	case errors.As(err, &needs), refusedCertificate(err):
		return program.RefusedBy(err)
	}
	return err
}

func newVTPMListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the TPMs of a root, and what is odd about them", Args: cobra.NoArgs}
	v := newVTPMVerb(env, cmd, vtpm.VerbList)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return v.run(cmd, showTPMs) }
	return cmd
}

func showTPMs(w io.Writer, result json.RawMessage) error {
	var list []vtpm.Summary
	if err := json.Unmarshal(result, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tMACHINE\tSTATE\tPROFILE\tKEY PROVIDER\tFINDINGS")
	for _, s := range list {
		state := "off"
		if s.Running {
			state = "running"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\n", s.Name, dash(s.VM), state, dash(s.Profile), dash(s.Provider), len(s.Findings))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range list {
		for _, f := range s.Findings {
			if _, err := fmt.Fprintf(w, "%s: %s (%s)\n", s.Name, f.Message, f.Code); err != nil {
				return err
			}
		}
	}
	return nil
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newVTPMDescribeCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "Open the state of a TPM and tell all that is known of it",
		Long: `Open the state of a TPM with its key provider, and tell all that is known of it.
"proved" says that the state opened: without that, everything shown is what the
folder says, which anybody who can write there can alter.`,
		Args: cobra.ExactArgs(1),
	}
	v := newVTPMVerb(env, cmd, vtpm.VerbDescribe)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v.q.Name = args[0]
		return v.run(cmd, showTPM)
	}
	return cmd
}

func showTPM(w io.Writer, result json.RawMessage) error {
	var d vtpm.Description
	if err := json.Unmarshal(result, &d); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	row("name", d.Name)
	row("id", d.ID)
	row("machine", dash(d.VM))
	row("running", d.Running)
	row("profile", d.Profile)
	row("key provider", d.Provider)
	row("created", d.Created.Format(time.RFC3339))
	row("proved", d.Proved)
	if d.Problem != "" {
		row("not proved", d.Problem)
	}
	if d.Proved {
		row("generation", d.Generation)
	}
	if d.Journal != nil {
		row("measurements", d.Journal)
	}
	if c := d.Contents; c != nil {
		row("persistent keys", dash(strings.Join(c.Persistent, " ")))
		row("NV indices", dash(strings.Join(c.NV, " ")))
	}
	showRecord(row, d.Record)
	for _, n := range d.Needs {
		row("needs "+n.What, fmt.Sprintf("%s; has %s: %s", n.Want, dash(n.Have), metOrNot(n.Met)))
	}
	for _, f := range d.Findings {
		row("finding "+string(f.Code), f.Message)
	}
	return t.Flush()
}

func metOrNot(met bool) string {
	if met {
		return "met"
	}
	return "not met"
}

func showRecord(row func(string, any), r *vtpm.Record) {
	if r == nil {
		return
	}
	row("made by", r.CreatedBy)
	for _, k := range r.Identity {
		cert := "no certificate"
		if k.Serial != "" {
			cert = fmt.Sprintf("certificate %s by %s", k.Serial, k.Issuer)
		}
		row("key "+string(k.Kind), fmt.Sprintf("%s, %s", k.Handle, cert))
	}
	for _, o := range r.Lineage {
		from := ""
		if o.From != "" {
			from = fmt.Sprintf(" from %q at generation %d", o.From, o.Generation)
		}
		row("history", strings.TrimSpace(fmt.Sprintf("%s %s %s%s by %s", o.Time.Format(time.RFC3339), o.Event, o.Mode, from, o.By)))
	}
}

// vmFlags say what virtual machine a TPM is for.
type vmFlags struct {
	file string
	vm   vtpm.VM
}

func addVMFlags(cmd *cobra.Command) *vmFlags {
	f := &vmFlags{}
	s := cmd.Flags()
	s.StringVar(&f.file, "vm-config", "", "`FILE` with the virtual machine as JSON, in place of the flags below")
	s.StringVar(&f.vm.Name, "vm", "", "`NAME` of the virtual machine")
	s.StringVar(&f.vm.UUID, "vm-uuid", "", "`UUID` of the virtual machine")
	s.StringVar(&f.vm.Firmware, "vm-firmware", "", "its firmware: `efi` is needed")
	s.IntVar(&f.vm.HardwareVersion, "vm-hardware", 0, "its virtual hardware `VERSION`: 14 or later is needed")
	s.StringVar(&f.vm.GuestOS, "vm-guest", "", "its operating `SYSTEM`: linux, windows-11, windows-server-2022, …")
	s.StringVar(&f.vm.EncryptedHome, "vm-encrypted-home", "", "whether its home files are encrypted: `yes` is needed")
	s.StringVar(&f.vm.Manager, "vm-manager", "", "`PROGRAM VERSION` that manages it, as \"libvirt 9.0.0\" (default this one)")
	cmd.MarkFlagsMutuallyExclusive("vm-config", "vm")
	return f
}

// read returns the machine; nil when none was named.
func (f *vmFlags) read() (*vtpm.VM, error) {
	switch {
	case f.file != "":
		text, err := os.ReadFile(f.file)
		if err != nil {
			return nil, err
		}
		vm, err := vtpm.ParseVM(text)
		return &vm, err
	case f.vm == vtpm.VM{}:
		return nil, nil
	case f.vm.Name == "":
		return nil, errors.New("--vm is missing: which virtual machine?")
	}
	return &f.vm, nil
}

func newVTPMCreateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a TPM: seeds, endorsement keys, certificates, encrypted state",
		Long: `Make a TPM. With a virtual machine named, all that it must have is checked first:
EFI firmware, virtual hardware 14 or later, a fitting operating system, a key
provider, encrypted home files and a manager that knows TPMs. Exit status 1 names
all that is missing, and nothing was made.`,
		Args: cobra.ExactArgs(1),
	}
	v := newVTPMVerb(env, cmd, vtpm.VerbCreate)
	vm := addVMFlags(cmd)
	var id string
	f := cmd.Flags()
	f.StringVar(&v.q.Profile, "profile", "", profileUsage("its profile"))
	addProviderFlag(cmd, &v.q.Provider)
	f.BoolVar(&v.q.DeviceIdentity, "device-identity", false, "with an IAK and an IDevID, and certificates for them")
	f.BoolVar(&v.q.PlatformCertificate, "platform-certificate", false, "with a certificate of the virtual machine, which needs --vm-uuid")
	f.StringVar(&id, "id", "", "`UUID` of a TPM that will arrive here by migration (default a new one)")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		v.q.Name = args[0]
		if v.q.VM, err = vm.read(); err != nil {
			return err
		}
		if id != "" {
			if v.q.ID, err = state.ParseID(id); err != nil {
				return err
			}
		}
		return v.run(cmd, showMade)
	}
	return cmd
}

func addProviderFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "key-provider", "", "`SPEC` of the key provider: its name, or a URI (default the root's default)")
}

func showMade(w io.Writer, result json.RawMessage) error {
	var r vtpm.Record
	if err := json.Unmarshal(result, &r); err != nil {
		return err
	}
	certified := 0
	for _, k := range r.Identity {
		if k.Serial != "" {
			certified++
		}
	}
	hint := ""
	if certified == 0 {
		hint = " (assay vtpm ca init makes an authority, assay vtpm ek csr a request to another)"
	}
	_, err := fmt.Fprintf(w, "%s %s: %d keys, %d with a certificate%s\n", r.Name, r.ID, len(r.Identity), certified, hint)
	return err
}

func newVTPMAttachCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach NAME",
		Short: "Give a TPM to a virtual machine that exists already",
		Args:  cobra.ExactArgs(1),
	}
	v := newVTPMVerb(env, cmd, vtpm.VerbAttach)
	vm := addVMFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		v.q.Name = args[0]
		if v.q.VM, err = vm.read(); err == nil && v.q.VM == nil {
			err = errors.New("which virtual machine? give --vm or --vm-config")
		}
		if err != nil {
			return err
		}
		return v.run(cmd, showTPM)
	}
	return cmd
}

// newVTPMLosingCmd are the verbs that take something from a machine.
func newVTPMLosingCmd(env *program.Env, verb string) *cobra.Command {
	cmd := &cobra.Command{
		Use: verb + " NAME",
		Short: map[string]string{
			vtpm.VerbDetach: "Take a TPM from its virtual machine; the TPM is kept",
			vtpm.VerbClear:  "Make a TPM anew: seeds, keys and certificates; what it protected is lost",
			vtpm.VerbDelete: "Remove a TPM that belongs to no virtual machine, with all that it protects",
		}[verb],
		Long: "Without --yes nothing is done: what would be lost is named, and the exit status is 1.",
		Args: cobra.ExactArgs(1),
	}
	v := newVTPMVerb(env, cmd, verb)
	cmd.Flags().BoolVar(&v.q.Confirm, "yes", false, "do it")
	if verb == vtpm.VerbDetach {
		cmd.Flags().BoolVar(&v.q.Delete, "delete", false, "delete the TPM, too")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v.q.Name = args[0]
		show := showTPM
		switch {
		case verb == vtpm.VerbClear:
			show = showMade
		case verb == vtpm.VerbDelete || v.q.Delete:
			show = func(w io.Writer, _ json.RawMessage) error {
				_, err := fmt.Fprintf(w, "%s is deleted\n", v.q.Name)
				return err
			}
		}
		return v.run(cmd, show)
	}
	return cmd
}

func newVTPMCloneCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clone NAME NEW",
		Short: "Make a TPM after another: with secrets of its own, or with the same",
		Long: `Make a TPM after another. --mode replace, the default, gives the clone seeds and an
identity of its own: what the guest sealed to the original does not open there.
--mode copy gives it those of the original: each can take the other's place, and
both are listed with that finding from then on.`,
		Args: cobra.ExactArgs(2),
	}
	v := newVTPMVerb(env, cmd, vtpm.VerbClone)
	vm := addVMFlags(cmd)
	cmd.Flags().StringVar(&v.q.Mode, "mode", vtpm.ModeReplace, "`copy` or replace")
	addProviderFlag(cmd, &v.q.Provider)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		v.q.Name, v.q.To = args[0], args[1]
		if v.q.VM, err = vm.read(); err != nil {
			return err
		}
		return v.run(cmd, showMade)
	}
	return cmd
}

func newVTPMRotateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-key NAME",
		Short: "Wrap the key of a TPM's state anew, under the newest key of its provider or of another",
		Args:  cobra.ExactArgs(1),
	}
	v := newVTPMVerb(env, cmd, vtpm.VerbRotateKey)
	addProviderFlag(cmd, &v.q.Provider)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v.q.Name = args[0]
		return v.run(cmd, showTPM)
	}
	return cmd
}

func newVTPMPowerCmd(env *program.Env, verb string) *cobra.Command {
	cmd := &cobra.Command{
		Use: verb + " NAME",
		Short: map[string]string{
			vtpm.VerbStart: "Have the daemon open a TPM and its socket",
			vtpm.VerbStop:  "Have the daemon shut a TPM down and close its socket",
		}[verb],
		Args: cobra.ExactArgs(1),
	}
	v := newVTPMVerb(env, cmd, verb)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		v.q.Name = args[0]
		return v.run(cmd, func(w io.Writer, result json.RawMessage) error {
			var s vtpm.Started
			if err := json.Unmarshal(result, &s); err != nil {
				return err
			}
			if !s.Running {
				_, err := fmt.Fprintf(w, "%s is stopped\n", s.Name)
				return err
			}
			_, err := fmt.Fprintf(w, "%s is ready at %s\n", s.Name, s.Socket)
			return err
		})
	}
	return cmd
}
