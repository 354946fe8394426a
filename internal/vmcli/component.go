package vmcli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/internal/component"
	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpmcli"
)

// componentsFile, in the root, has the components that the operator named.
const componentsFile = "components.json"

// NewComponentCmd is "component".
func NewComponentCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "component",
		Short: "The index of known components: names for digests in reports",
		Long: `Names for digests that boots show though no disk of the machine has them, as the shell
inside the firmware. The index comes with the program, and an operator adds to it.

A name is a hint for who reads a report. It decides nothing, and does not say that the
thing is good.`,
	}
	cmd.AddCommand(newComponentListCmd(env), newComponentAddCmd(env))
	return cmd
}

func newComponentListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the components that have a name, and who named them", Args: cobra.NoArgs}
	h := &hostFlags{Host: vtpmcli.AddHostFlag(cmd), env: env}
	format := program.AddOutputFlag(cmd, "table", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		mine, err := h.named()
		if err != nil {
			return err
		}
		all := component.Builtin().With(mine).All()
		return emit(env, *format, all, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "SHA-256\tKIND\tNAME\tSOURCE")
			for _, c := range all {
				fmt.Fprintf(t, "%.16s\t%s\t%s\t%s\n", c.Digest, c.Kind, c.Name, c.Source)
			}
			return t.Flush()
		})
	}
	return cmd
}

func newComponentAddCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAME {FILE | --sha256 DIGEST}",
		Short: "Name a file, or a digest",
		Long: `Name what a boot measures of a file: of a program the digest that firmware measures, and
that of the content, which GRUB measures. --sha256 names a digest of which there is no
file. What is known already keeps its name.`,
		Example: `  assay component add "our kernel 6.9.2" vmlinuz-6.9.2 --kind kernel`,
		Args:    cobra.RangeArgs(1, 2),
	}
	h := &hostFlags{Host: vtpmcli.AddHostFlag(cmd), env: env}
	var kind, digest, source string
	f := cmd.Flags()
	f.StringVar(&kind, "kind", eventlog.KindOther, "`KIND`: firmware, boot-loader, kernel, initrd, config, option-rom, boot-entry or other")
	f.StringVar(&digest, "sha256", "", "the `DIGEST`, in place of a file")
	f.StringVar(&source, "source", "", "`TEXT`: who says so, and what it is from (default who runs this command)")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if (len(args) == 2) == (digest != "") {
			return errors.New("give a file or --sha256")
		}
		digests := []string{digest}
		if digest == "" {
			var err error
			if digests, err = digestsOf(args[1]); err != nil {
				return err
			}
		}
		if source == "" {
			source = actor()
		}
		var add []component.Component
		for _, d := range digests {
			add = append(add, component.Component{Digest: d, Kind: kind, Name: args[0], Source: source})
		}
		return h.name(add)
	}
	return cmd
}

func digestsOf(name string) (_ []string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", name)
	}
	return component.Digests(f, info.Size())
}

// named are the components of the operator's file; none where there is no file.
func (h *hostFlags) named() ([]component.Component, error) {
	dir, err := h.Dir(h.env)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, componentsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := component.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", componentsFile, err)
	}
	return all, nil
}

// name adds to the operator's file.
func (h *hostFlags) name(add []component.Component) (err error) {
	dir, err := h.Dir(h.env)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	all, err := h.named()
	if err != nil {
		return err
	}
	known := component.Builtin().With(all)
	for _, c := range add {
		if err := c.Check(); err != nil {
			return err
		}
		there := slices.IndexFunc(known.All(), func(k component.Component) bool { return k.Digest == c.Digest })
		if there >= 0 {
			k := known.All()[there]
			return program.RefusedBy(fmt.Errorf("%.16s… is known as %q (%s)", c.Digest, k.Name, k.Source))
		}
		all = append(all, c)
	}
	text, err := component.Format(all)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, componentsFile), text, 0o600); err != nil {
		return err
	}
	for _, c := range add {
		fmt.Fprintf(h.env.Stdout, "%s is %s\n", c.Digest, c.Name)
	}
	return nil
}

// components is the index of this host. A file that cannot be read keeps no machine from
// running: it has nothing but names.
func (h *hostFlags) components() *component.Index {
	mine, err := h.named()
	if err != nil {
		fmt.Fprintf(h.env.Stderr, "components are not named: %v\n", err)
	}
	return component.Builtin().With(mine)
}
