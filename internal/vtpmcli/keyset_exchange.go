package vtpmcli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keysets"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/uefi/keyset"
	"github.com/assay-project/assay/uefi/varstore"
)

func newKeysetExportCmd(env *program.Env) *cobra.Command {
	var vars, to string
	cmd := &cobra.Command{
		Use:   "export NAME | export --vars STORE",
		Short: "Write a key set, or a variable store, as the JSON of virt-fw-vars",
		Long: `Write the variables that enrolling the set gives an empty store, or all variables of a
machine's store, in the JSON that virt-fw-vars --set-json and QEMU's device uefi-vars
read. There is no private key in it.`,
		Args: cobra.MaximumNArgs(1),
	}
	root := addRootFlag(cmd)
	cmd.Flags().StringVar(&vars, "vars", "", "variable store `STORE` to read in place of a key set")
	cmd.Flags().StringVar(&to, "out", "", "`FILE` to write, in place of standard output")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		text, err := root.exportJSON(env, vars, args)
		if err != nil {
			return err
		}
		if to != "" {
			return durable.WriteFile(to, text, 0o644)
		}
		_, err = env.Stdout.Write(text)
		return err
	}
	return cmd
}

func (f *rootFlags) exportJSON(env *program.Env, vars string, args []string) ([]byte, error) {
	if (vars == "") == (len(args) == 0) {
		return nil, errors.New("name a key set, or a variable store by --vars")
	}
	if vars == "" {
		s, err := f.loadKeyset(env, args[0])
		if err != nil {
			return nil, err
		}
		return s.Set.JSON()
	}
	store, err := readVars(vars)
	if err != nil {
		return nil, err
	}
	if store.Pending() {
		return nil, program.RefusedBy(fmt.Errorf("%s: the firmware is in the middle of a write: start it once", vars))
	}
	return varstore.JSON(store.All())
}

// keysetImported is the JSON of assay keyset import --vars.
type keysetImported struct {
	Vars       string   `json:"vars"`
	Layout     string   `json:"layout"`
	SecureBoot bool     `json:"secureBoot"`
	Written    []string `json:"written"` // names of variables
}

func newKeysetImportCmd(env *program.Env) *cobra.Command {
	var vars, template string
	cmd := &cobra.Command{
		Use:   "import NAME FILE | import --vars STORE FILE",
		Short: "Read variables in the JSON of virt-fw-vars, into a key set or a variable store",
		Long: `Read what virt-fw-vars --output-json, QEMU's device uefi-vars and assay keyset export
write. PK, KEK, db and dbx become a key set of kind own, whose private keys are
elsewhere; all else in FILE is left alone. With --vars all variables are written into
the store of a machine that is off, as virt-fw-vars --set-json does, in the place of
those of the same names; no signature is asked for, revocations included. With --template
that store is made, as by assay keyset enrol. Exit status 1: there is a key set of that
name; the firmware has no room or is writing, or the machine is running.`,
		Args: cobra.RangeArgs(1, 2),
	}
	root, format := addRootFlag(cmd), program.AddOutputFlag(cmd, "text", "json")
	cmd.Flags().StringVar(&vars, "vars", "", "variable store `STORE` to write, in place of a key set")
	cmd.Flags().StringVar(&template, "template", "", "make --vars of this `FILE`, or of nothing: 2M or 4M")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (vars == "") != (len(args) == 2) || vars == "" && template != "" {
			return errors.New("name a key set, or a variable store by --vars, and the file to read")
		}
		text, err := readFile(args[len(args)-1], varstore.MaxJSON)
		if err != nil {
			return err
		}
		variables, err := varstore.ParseJSON(text)
		if err != nil {
			return fmt.Errorf("%s: %w", args[len(args)-1], err)
		}
		if vars != "" {
			return importVars(env, vars, template, variables, *format)
		}
		s, err := root.importKeyset(cmd.Context(), env, args[0], variables)
		if err != nil {
			return err
		}
		v := viewKeyset(s, env.Now())
		if *format == "json" {
			return program.PrintJSON(env, v)
		}
		return v.print(env.Stdout)
	}
	return cmd
}

// importKeyset keeps the set that variables make.
func (f *rootFlags) importKeyset(ctx context.Context, env *program.Env, name string, variables []varstore.Variable) (*keysets.Stored, error) {
	r, err := f.keysets(env)
	if err != nil {
		return nil, err
	}
	set, err := keyset.Import(name, variables, keyset.Options{Random: env.Rand, Now: env.Now()})
	if err != nil {
		return nil, err
	}
	s, err := f.sealKeyset(ctx, env, set, nil, "")
	if err != nil {
		return nil, err
	}
	if err := r.Create(s); errors.Is(err, keysets.ErrExists) {
		return nil, program.RefusedBy(fmt.Errorf("%q: %w", name, err))
	} else if err != nil {
		return nil, err
	}
	return s, nil
}

// importVars writes variables into a store: all, or none.
func importVars(env *program.Env, vars, template string, variables []varstore.Variable, format program.OutputFormat) error {
	store, err := storeToWrite(vars, template)
	if err != nil {
		return err
	}
	out := keysetImported{Vars: vars, Layout: store.Layout().String(), Written: []string{}}
	for _, v := range variables {
		if err := store.Set(v); err != nil {
			return storeFault(err)
		}
		out.Written = append(out.Written, v.Name)
	}
	if _, err := keyset.Read(store); err != nil { // firmware would not start with them
		return fmt.Errorf("%s: %w", vars, err)
	}
	if err := writeVars(vars, store); err != nil {
		return err
	}
	out.SecureBoot = keyset.SecureBoot(store)
	if format == "json" {
		return program.PrintJSON(env, out)
	}
	_, err = fmt.Fprintf(env.Stdout, "%s has %d variables of the file; Secure Boot %s\n", vars, len(out.Written), onOff(&out.SecureBoot))
	return err
}
