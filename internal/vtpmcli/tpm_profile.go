package vtpmcli

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/engine"
)

// NewTPMCmd is "tpm".
func NewTPMCmd(env *program.Env) *cobra.Command {
	group := &cobra.Command{Use: "tpm", Short: "The TPM 2.0 of this program"}
	profile := &cobra.Command{Use: "profile", Short: "What a TPM offers: commands, algorithms and limits, fixed when it is made"}
	profile.AddCommand(newProfileListCmd(env), newProfileShowCmd(env))
	group.AddCommand(profile)
	return group
}

// profileJSON is a profile in the JSON of assay tpm profile.
type profileJSON struct {
	Name       string         `json:"name"`
	Version    int            `json:"version"`
	Summary    string         `json:"summary"`
	FIPS       bool           `json:"fips"`
	Algorithms []string       `json:"algorithms,omitempty"`
	Curves     []string       `json:"curves,omitempty"`
	RSABits    []uint16       `json:"rsaBits,omitempty"`
	SymBits    []uint16       `json:"symmetricBits,omitempty"`
	Banks      []string       `json:"pcrBanks,omitempty"`
	Allocated  []string       `json:"pcrBanksAllocated,omitempty"`
	Commands   []string       `json:"commands,omitempty"`
	Limits     map[string]int `json:"limits,omitempty"`
}

func profileSummary(p *engine.Profile) profileJSON {
	return profileJSON{Name: p.Name, Version: p.Version, Summary: p.Summary, FIPS: p.FIPS}
}

func profileDetails(p *engine.Profile) profileJSON {
	j := profileSummary(p)
	for _, a := range p.Algorithms {
		j.Algorithms = append(j.Algorithms, algNames[a])
	}
	for _, c := range p.Curves {
		j.Curves = append(j.Curves, c.String())
	}
	j.RSABits, j.SymBits = p.RSABits, p.SymBits
	for _, a := range p.Banks {
		j.Banks = append(j.Banks, a.BankName())
	}
	for _, a := range p.Allocated {
		j.Allocated = append(j.Allocated, a.BankName())
	}
	for _, info := range command.All() {
		if p.Has(info.Code) {
			j.Commands = append(j.Commands, info.Name)
		}
	}
	l := p.Limits
	j.Limits = map[string]int{
		"transientObjects": l.Transient, "loadedSessions": l.Sessions, "persistentObjects": l.Persistent,
		"nvIndices": l.NVIndices, "nvBytes": l.NVBytes, "nvIndexBytes": l.NVIndex, "nvBufferBytes": l.NVBuffer, "commandBytes": l.Command,
	}
	return j
}

func newProfileListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the profiles", Args: cobra.NoArgs}
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		if *format == "json" {
			list := []profileJSON{}
			for _, p := range engine.Profiles() {
				list = append(list, profileSummary(p))
			}
			return program.PrintJSON(env, list)
		}
		w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tVERSION\tSUMMARY")
		for _, p := range engine.Profiles() {
			fmt.Fprintf(w, "%s\t%d\t%s\n", p.Name, p.Version, p.Summary)
		}
		return w.Flush()
	}
	return cmd
}

func newProfileShowCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME[:VERSION]",
		Short: "Show what a profile offers; without a version, the newest",
		Args:  cobra.ExactArgs(1),
	}
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		name, text, versioned := strings.Cut(args[0], ":")
		version := 0
		if versioned {
			var err error
			if version, err = strconv.Atoi(text); err != nil || version < 1 {
				return fmt.Errorf("version %q is no number from 1", text)
			}
		}
		p, err := engine.FindProfile(name, version)
		if err != nil {
			return err
		}
		j := profileDetails(p)
		if *format == "json" {
			return program.PrintJSON(env, j)
		}
		return printProfile(env, &j)
	}
	return cmd
}

func printProfile(env *program.Env, j *profileJSON) error {
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "profile\t%s, version %d: %s\n", j.Name, j.Version, j.Summary)
	for _, row := range []struct {
		name   string
		values any
	}{
		{"algorithms", j.Algorithms},
		{"curves", j.Curves},
		{"RSA key bits", j.RSABits},
		{"symmetric key bits", j.SymBits},
		{"PCR banks", j.Banks},
		{"PCR banks at first", j.Allocated},
	} {
		fmt.Fprintf(w, "%s\t%s\n", row.name, strings.Trim(fmt.Sprint(row.values), "[]"))
	}
	for _, name := range []string{"transientObjects", "loadedSessions", "persistentObjects", "nvIndices", "nvBytes", "nvIndexBytes", "nvBufferBytes", "commandBytes"} {
		fmt.Fprintf(w, "%s\t%d\n", name, j.Limits[name])
	}
	fmt.Fprintf(w, "commands\t%d\n", len(j.Commands))
	if err := w.Flush(); err != nil {
		return err
	}
	for _, name := range j.Commands {
		fmt.Fprintf(env.Stdout, "  %s\n", name)
	}
	return nil
}
