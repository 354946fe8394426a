package program

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// PrintJSON writes v as the one JSON value on standard output.
func PrintJSON(env *Env, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := env.Stdout.Write(PrintableJSON(text.Bytes()))
	return err
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
