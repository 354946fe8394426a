package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/sipa"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/program"
)

// chainReport is the JSON of assay eventlog chain.
type chainReport struct {
	Chained bool              `json:"chained"`
	Boots   []chainBoot       `json:"boots"`
	Reasons []evidence.Reason `json:"reasons"`
	program.Outcome
}

// chainBoot is one boot as its log counts it; null is what was not measured.
type chainBoot struct {
	File        string         `json:"file"`
	BootCounter *uint64        `json:"bootCounter"`
	Resumed     evidence.Value `json:"resumed"`
}

func newEventlogChainCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "chain COLD RESUMED…",
		Short: "Say whether logs of Windows are one cold boot and the resumes that followed it",
		Long: `A machine that wakes from hibernation measures little: what its kernel may load is
in the log of the cold boot before. COLD is that log, RESUMED those of the resumes
since, oldest first. They follow one another when the boot counter counts up by one
and the TPM's own counter rises. Registers are computed from the logs themselves, so
the output is for reading and proves nothing: each log needs a quote of its own.

Exit status: 0 they follow one another, 1 they do not, 2 unusable input.`,
		Args: cobra.MinimumNArgs(1),
	}
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		r, err := readChain(env, args)
		if err != nil {
			return program.Unusable(&chainReport{Boots: []chainBoot{}, Reasons: []evidence.Reason{}}, err)
		}
		if *format == "json" {
			err = program.PrintJSON(env, r)
		} else {
			err = r.print(env.Stdout)
		}
		if err == nil && !r.Chained {
			err = program.Refused()
		}
		return err
	}
	return cmd
}

func readChain(env *program.Env, names []string) (*chainReport, error) {
	r := &chainReport{Reasons: []evidence.Reason{}}
	var boots []sipa.Counters
	for _, name := range names {
		data, err := readInput(env, name)
		if err != nil {
			return nil, err
		}
		c, err := countersOf(data)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
		b := chainBoot{File: name, Resumed: c.Resumed}
		if c.Known {
			b.BootCounter = &c.Boot
		}
		boots, r.Boots = append(boots, c), append(r.Boots, b)
	}
	err := sipa.Chain(boots)
	r.Reasons = append(r.Reasons, evidence.Reasons(err)...)
	r.Chained = err == nil
	return r, nil
}

func countersOf(data []byte) (sipa.Counters, error) {
	l, err := logOf(data)
	if err != nil {
		return sipa.Counters{}, err
	}
	if l.Format() != eventlog.FormatWBCL {
		return sipa.Counters{}, errors.New("not a log of Windows; others count no boots")
	}
	b, err := inspect(l, "")
	if err != nil {
		return sipa.Counters{}, err
	}
	return b.WindowsCounters(), nil
}

func (r *chainReport) print(w io.Writer) error {
	for _, b := range r.Boots {
		counter := "boot counter unknown"
		if b.BootCounter != nil {
			counter = fmt.Sprintf("boot %d", *b.BootCounter)
		}
		how := "cold"
		switch {
		case b.Resumed.IsTrue():
			how = "resumed from hibernation"
		case !b.Resumed.Known():
			how = "cold or resumed: unknown"
		}
		if _, err := fmt.Fprintf(w, "%s: %s, %s\n", b.File, counter, how); err != nil {
			return err
		}
	}
	for _, reason := range r.Reasons {
		if _, err := fmt.Fprintln(w, reason.Message); err != nil {
			return err
		}
	}
	if !r.Chained {
		return nil
	}
	_, err := fmt.Fprintln(w, "They follow one another.")
	return err
}
