package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/tpm2"
)

// diffReport is the JSON of assay eventlog diff.
type diffReport struct {
	Bank string `json:"bank"`
	*baseline.Comparison
	EarlyReport baseline.Report `json:"earlyBootReport"`
	LateReport  baseline.Report `json:"lateBootReport"`
}

// emptyDiff is what -o json prints of what cannot be compared: nothing passed.
type emptyDiff struct {
	EarlyPassed bool                  `json:"earlyPassed"`
	LatePassed  bool                  `json:"latePassed"`
	Differences []baseline.Difference `json:"differences"`
	program.Outcome
}

func newEventlogDiffCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say what boot B measured otherwise than A, by component",
		Long: `Compares two boots. A is a boot event log, a baseline file or an evidence bundle, B
a log or a bundle; one of them may be "-", standard input. Registers are computed
from the logs themselves, so the output is for reading and proves nothing; use
assay appraise --baseline for a verdict.

Exit status: 0 nothing that the profile judges differs, 1 something does, 2 unusable input.`,
		Args: cobra.ExactArgs(2),
	}
	format := program.AddOutputFlag(cmd, "table", "json")
	bank := cmd.Flags().String("bank", "", "bank to compare, as sha256 (default: that of the baseline, or the strongest of both logs)")
	profile := cmd.Flags().String("profile", "default", fmt.Sprintf("which registers decide, one of %v", baseline.ProfileNames()))
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		p, err := baseline.ProfileNamed(*profile)
		if err != nil {
			return err
		}
		base, boot, err := readDiff(env, args[0], args[1], *bank)
		if err != nil {
			return program.Unusable(&emptyDiff{Differences: []baseline.Difference{}}, err)
		}
		r := diffReport{Bank: base.Bank().BankName(), Comparison: base.Compare(boot, p)}
		r.EarlyReport, r.LateReport = base.Reports(boot, r.Comparison)
		if *format == "json" {
			err = program.PrintJSON(env, r)
		} else {
			err = printDiff(env.Stdout, r)
		}
		if err == nil && !r.Passed() {
			err = program.Refused()
		}
		return err
	}
	return cmd
}

// readDiff reads both sides and chooses the bank.
func readDiff(env *program.Env, nameA, nameB, bank string) (*baseline.Baseline, baseline.Boot, error) {
	if nameA == "-" && nameB == "-" {
		return nil, nil, errors.New("standard input can be only one of the two")
	}
	textB, err := readInput(env, nameB)
	if err != nil {
		return nil, nil, err
	}
	b, err := logOf(textB)
	if err != nil {
		return nil, nil, fmt.Errorf("read %q: %w", nameB, err)
	}
	textA, err := readInput(env, nameA)
	if err != nil {
		return nil, nil, err
	}
	base, a, err := baseOf(textA)
	if err != nil {
		return nil, nil, fmt.Errorf("read %q: %w", nameA, err)
	}
	banks, err := diffBanks(bank, base)
	if err != nil {
		return nil, nil, err
	}
	for _, alg := range banks {
		boot, errB := b.Inspect(alg)
		if errB != nil {
			err = fmt.Errorf("read %q: %w", nameB, errB)
			continue
		}
		if base != nil {
			return base, boot, nil
		}
		before, errA := a.Inspect(alg)
		if errA != nil {
			err = fmt.Errorf("read %q: %w", nameA, errA)
			continue
		}
		return baseline.From(before, baseline.Shape{}), boot, nil
	}
	return nil, nil, err
}

// diffBanks returns the banks to try, in order.
func diffBanks(bank string, base *baseline.Baseline) ([]tpm2.Alg, error) {
	if base != nil {
		if bank != "" && bank != base.Bank().BankName() {
			return nil, fmt.Errorf("baseline is of bank %s, not %s", base.Bank().BankName(), bank)
		}
		return []tpm2.Alg{base.Bank()}, nil
	}
	if bank == "" {
		return eventlog.Replayable(), nil
	}
	a, ok := tpm2.AlgOfBank(bank)
	if !ok {
		return nil, fmt.Errorf("bank %q is not known", bank)
	}
	return []tpm2.Alg{a}, nil
}

// baseOf reads what a boot is compared with: a baseline file, or else a log.
func baseOf(text []byte) (*baseline.Baseline, *eventlog.Log, error) {
	if isJSON(text) && !isBundle(text) {
		b, err := baseline.Parse(text)
		return b, nil, err
	}
	l, err := logOf(text)
	return nil, l, err
}

// logOf reads a log, or the log inside of a bundle.
func logOf(text []byte) (*eventlog.Log, error) {
	if isIMA(text) {
		return nil, errors.New("an IMA list has no components to compare; only boot event logs have")
	}
	if !isJSON(text) {
		return parseTPMLog(text)
	}
	if !isBundle(text) {
		return nil, errors.New("neither a boot event log nor an evidence bundle")
	}
	var bundle struct {
		EventLog []byte `json:"eventLog"`
	}
	if err := json.Unmarshal(text, &bundle); err != nil {
		return nil, err
	}
	if len(bundle.EventLog) == 0 {
		return nil, errors.New("bundle has no event log")
	}
	return parseTPMLog(bundle.EventLog)
}

// parseTPMLog refuses the log of a confidential machine: its registers are others
// than those that a baseline is about.
func parseTPMLog(data []byte) (*eventlog.Log, error) {
	l, err := eventlog.Parse(data)
	if err == nil && l.Format() == eventlog.FormatCC {
		return nil, errors.New("log of a confidential machine's own registers; only TPM logs can be compared")
	}
	return l, err
}

func isJSON(text []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) }

func isBundle(text []byte) bool {
	_, err := evidence.ParseBundle(text)
	return err == nil
}

// printDiff prints a comparison for a person.
func printDiff(w io.Writer, r diffReport) error {
	var b strings.Builder
	for _, phase := range []struct {
		name   string
		passed bool
	}{{"early boot", r.EarlyPassed}, {"late boot", r.LatePassed}} {
		result := "as before"
		if !phase.passed {
			result = "DIFFERS"
		}
		fmt.Fprintf(&b, "%-11s %s\n", phase.name+":", result)
	}
	fmt.Fprintf(&b, "profile %s, bank %s\n", r.Profile, r.Bank)
	for _, judged := range []bool{true, false} {
		printDifferences(&b, r.Differences, judged)
	}
	if len(r.Differences) == 0 {
		b.WriteString("\nNothing differs.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printDifferences(b *strings.Builder, ds []baseline.Difference, judged bool) {
	title := "\nWhat decides:\n"
	if !judged {
		title = "\nFor information, not judged by this profile:\n"
	}
	for _, d := range ds {
		if d.Judged != judged {
			continue
		}
		fmt.Fprintf(b, "%s  %s\n", title, d.Words)
		title = ""
		if judged {
			fmt.Fprintf(b, "      %s boot; likely cause: %s\n      %s\n", d.Phase, d.Cause, d.Action)
		}
	}
}

// baselineFlags are the flags of assay eventlog that make a baseline file.
type baselineFlags struct {
	write bool
	shape baseline.Shape
}

func addBaselineFlags(cmd *cobra.Command) *baselineFlags {
	f := new(baselineFlags)
	cmd.Flags().BoolVar(&f.write, "baseline", false, "write a baseline file of this boot instead (docs/formats/baseline.md)")
	cmd.Flags().StringVar(&f.shape.Machine, "machine", "", "with --baseline: kind of machine, in your words")
	cmd.Flags().StringVar(&f.shape.Firmware, "firmware", "", "with --baseline: build of the firmware")
	cmd.Flags().IntVar(&f.shape.VCPUs, "vcpus", 0, "with --baseline: number of virtual processors")
	cmd.Flags().IntVar(&f.shape.MemoryMiB, "memory", 0, "with --baseline: memory in MiB")
	cmd.Flags().StringVar(&f.shape.MemoryTypeInformation, "memory-type-information", "", "with --baseline: content of that firmware variable, in hex")
	return f
}

// print writes the baseline file of a log. A log that nothing may be believed of
// makes none.
func (f *baselineFlags) print(env *program.Env, text []byte, bank string) error {
	l, err := logOf(text)
	if err != nil {
		return err
	}
	boot, err := inspect(l, bank)
	if err != nil {
		return err
	}
	for _, finding := range boot.Findings() {
		if finding.Refuses() {
			return program.RefusedBy(fmt.Errorf("no baseline of an inconsistent log: %s", finding.Message))
		}
	}
	return program.PrintJSON(env, baseline.From(boot, f.shape))
}
