package program

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// PrintJSON writes v as the one JSON value on standard output.
func PrintJSON(env *Env, v any) error {
	enc := json.NewEncoder(env.Stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// An OutputFormat is the value of -o.
type OutputFormat string

// AddOutputFlag declares -o with the formats that a command knows; the first is the default.
func AddOutputFlag(cmd *cobra.Command, formats ...string) *OutputFormat {
	f := OutputFormat(formats[0])
	cmd.Flags().VarP(&outputValue{&f, formats}, "output", "o", fmt.Sprintf("output format, one of %v", formats))
	return &f
}

type outputValue struct {
	to    *OutputFormat
	known []string
}

func (v *outputValue) String() string { return string(*v.to) }

func (v *outputValue) Type() string { return "format" }

// Set accepts a known format.
func (v *outputValue) Set(s string) error {
	if !slices.Contains(v.known, s) {
		return fmt.Errorf("want one of %v", v.known)
	}
	*v.to = OutputFormat(s)
	return nil
}
