package vmcli

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/uefi/varstore"
)

// variableView is one firmware variable without its content.
type variableView struct {
	Name       string `json:"name"`
	Vendor     string `json:"vendor"`
	Attributes uint32 `json:"attributes"`
	Size       int    `json:"size"`
	SHA256     string `json:"sha256"` // of the content
}

func newVariablesCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "variables NAME",
		Short: "Show the firmware variables of a machine that is off",
		Long: `List the variables of a machine's firmware, which are encrypted in its home: name, vendor,
attributes (UEFI 8.2, in hexadecimal digits), size and digest. -o virt-firmware writes them
with their contents, in the JSON of virt-fw-vars --output-json, which virt-fw-vars
--set-json, QEMU's device uefi-vars and assay keyset import read. Nothing is changed.

Exit status: 1 the firmware is in the middle of a write, so that it is not known what its
variables will be; 2 the machine runs, or its home does not open.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	format := program.AddOutputFlag(cmd, "table", "json", "virt-firmware")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var text []byte
		if err := h.with(cmd.Context(), func(r *machine.Root) (err error) {
			text, err = r.Variables(cmd.Context(), args[0])
			if errors.Is(err, machine.ErrBusy) {
				err = fmt.Errorf("%w: stop it first, for what its firmware has in memory is not in its home yet", err)
			}
			return err
		}); err != nil {
			return err
		}
		store, err := varstore.Parse(text)
		if err != nil {
			return err
		}
		if store.Pending() {
			return program.RefusedBy(fmt.Errorf("%s: the firmware is in the middle of a write: start the machine once", args[0]))
		}
		if *format == "virt-firmware" {
			out, err := varstore.JSON(store.All())
			if err == nil {
				_, err = env.Stdout.Write(out)
			}
			return err
		}
		list := viewVariables(store)
		return emit(env, *format, list, func(w io.Writer) error { return printVariables(w, list) })
	}
	return cmd
}

func viewVariables(store *varstore.Store) []variableView {
	list := []variableView{}
	for v := range store.All() {
		sum := sha256.Sum256(v.Data)
		list = append(list, variableView{v.Name, v.Vendor.String(), v.Attributes, len(v.Data), hex.EncodeToString(sum[:])})
	}
	slices.SortStableFunc(list, func(a, b variableView) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func printVariables(w io.Writer, list []variableView) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "VARIABLE\tVENDOR\tATTRIBUTES\tSIZE\tSHA-256")
	for _, v := range list {
		fmt.Fprintf(t, "%s\t%s\t%#x\t%d\t%.16s\n", program.Printable(v.Name), v.Vendor, v.Attributes, v.Size, v.SHA256)
	}
	return t.Flush()
}
