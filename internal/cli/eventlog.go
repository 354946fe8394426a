package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/tpm2"
)

// maxInput bounds a log that is read: IMA lists of long uptimes have megabytes.
const maxInput = 64 << 20

// logReport is the JSON of assay eventlog.
type logReport struct {
	Format *string    `json:"format"` // nil when the input is no log
	Banks  []string   `json:"banks"`
	Bank   string     `json:"bank"` // that claims and findings rest on
	Events []logEvent `json:"events"`
	// PCRs are the registers that the log extends: bank, register, value in hex.
	PCRs     map[string]map[string]string `json:"pcrs"`
	Early    map[string]string            `json:"early,omitempty"` // at the hand-over to the boot loader
	Claims   evidence.Claims              `json:"claims"`
	Findings []eventlog.Finding           `json:"findings"`
	program.Outcome
}

// logEvent is one event in words.
type logEvent struct {
	Index       int               `json:"index"`
	PCR         uint32            `json:"pcr"`
	Type        string            `json:"type"`
	Digests     map[string]string `json:"digests"`
	Proven      bool              `json:"proven"` // the description follows from what was hashed
	Kind        string            `json:"kind,omitempty"`
	Description string            `json:"description"`
	Signer      string            `json:"signer,omitempty"`
	Late        bool              `json:"late,omitempty"`
	Modules     []logModule       `json:"modules,omitempty"` // that an event of Windows lists
	measured    bool
}

// logModule is one module that Windows loaded.
type logModule struct {
	Name   string `json:"name"`
	Path   string `json:"path,omitempty"`
	Digest string `json:"digest,omitempty"`
	Signer string `json:"signer,omitempty"`
}

// errInconsistent marks a log that was printed and contradicts itself.
var errInconsistent = program.Refused()

func newEventlogCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "eventlog FILE",
		Short: "Say what a boot event log or IMA list holds, and which register proves what",
		Long: `Reads a boot event log (TCG, Windows, confidential machine) or an IMA list; "-" is
standard input. Registers are computed from the log itself, so the output proves
nothing: it says what a quote over the same registers would prove.

Exit status: 0 read, 1 read but inconsistent, 2 not a log.`,
		Args: cobra.ExactArgs(1),
	}
	format := program.AddOutputFlag(cmd, "table", "json")
	bank := cmd.Flags().String("bank", "", "bank to rest on, as sha256 (default: the strongest that replays)")
	base := addBaselineFlags(cmd)
	cmd.AddCommand(newEventlogDiffCmd(env), newEventlogChainCmd(env))
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		data, err := readInput(env, args[0])
		if err != nil {
			return program.Unusable(newLogReport(), err)
		}
		if base.write {
			return base.print(env, data, *bank)
		}
		r, err := reportLog(data, *bank)
		if err != nil {
			return program.Unusable(newLogReport(), fmt.Errorf("read %q: %w", args[0], err))
		}
		if *format == "json" {
			err = program.PrintJSON(env, r)
		} else {
			err = printLog(env.Stdout, r)
		}
		if err != nil {
			return err
		}
		for _, f := range r.Findings {
			if f.Inconsistent() {
				return errInconsistent
			}
		}
		return nil
	}
	return cmd
}

// readInput reads a file, or standard input for "-", up to maxInput.
func readInput(env *program.Env, name string) ([]byte, error) {
	in := env.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", name, err)
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("read %q: more than %d bytes", name, maxInput)
	}
	return data, nil
}

// newLogReport is the report of what is no log: every member is there and empty.
func newLogReport() *logReport {
	return &logReport{
		Banks: []string{}, Events: []logEvent{}, PCRs: map[string]map[string]string{},
		Claims: evidence.Claims{}, Findings: []eventlog.Finding{},
	}
}

// reportLog tells the kinds of log apart and analyses one.
func reportLog(data []byte, bank string) (*logReport, error) {
	if isIMA(data) {
		return reportIMA(data, bank)
	}
	l, err := eventlog.Parse(data)
	if err != nil {
		return nil, err
	}
	b, err := inspect(l, bank)
	if err != nil {
		return nil, err
	}
	return reportBoot(l, b), nil
}

// inspect analyses a log in the bank asked for, or in the strongest that replays.
func inspect(l *eventlog.Log, bank string) (*eventlog.Inspected, error) {
	if bank != "" {
		a, ok := tpm2.AlgOfBank(bank)
		if !ok {
			return nil, fmt.Errorf("bank %q is not known", bank)
		}
		return l.Inspect(a)
	}
	var first error
	for _, a := range eventlog.Replayable() {
		b, err := l.Inspect(a)
		if err == nil {
			return b, nil
		}
		if first == nil || errors.Is(first, eventlog.ErrNoBank) {
			first = err
		}
	}
	return nil, first
}

func reportBoot(l *eventlog.Log, b *eventlog.Inspected) *logReport {
	r := newLogReport()
	r.Format = new(l.Format().String())
	r.Bank, r.Claims, r.Early = b.Bank().BankName(), b.Claims(), hexValues(b.Early())
	r.Findings = append(r.Findings, b.Findings()...)
	for _, a := range l.Banks() {
		r.Banks = append(r.Banks, a.BankName())
		if regs, err := l.Replay(a); err == nil {
			r.PCRs[a.BankName()] = hexRegisters(&regs)
		}
	}
	words := b.Components()
	for e := range l.All() {
		out := logEvent{
			Index: e.Index, PCR: e.PCR, Type: e.Type.String(), Digests: digestsOf(l, e),
			Description: eventlog.DescribeUnmeasured(e), measured: e.Measured(),
		}
		for len(words) > 0 && words[0].Event == e.Index {
			out.add(words[0])
			words = words[1:]
		}
		r.Events = append(r.Events, out)
	}
	return r
}

// add puts the words of a component to its event.
func (e *logEvent) add(c eventlog.Component) {
	if c.Kind == eventlog.KindModule {
		e.Modules = append(e.Modules, logModule{c.Name, c.Detail, hex.EncodeToString(c.Digest), c.Signer})
		return
	}
	e.Kind, e.Proven, e.Signer, e.Late, e.Description = c.Kind, c.Proven, c.Signer, c.Late, c.Name
	if c.Detail != "" {
		e.Description += ": " + c.Detail
	}
}

func digestsOf(l *eventlog.Log, e eventlog.Event) map[string]string {
	out := map[string]string{}
	for _, a := range l.Banks() {
		if d := e.Digest(a); d != nil {
			out[a.BankName()] = hex.EncodeToString(d)
		}
	}
	return out
}

func hexValues(values map[int][]byte) map[string]string {
	out := map[string]string{}
	for pcr, v := range values {
		out[strconv.Itoa(pcr)] = hex.EncodeToString(v)
	}
	return out
}

func hexRegisters(r *eventlog.Registers) map[string]string {
	out := map[string]string{}
	for pcr := range 24 {
		if r.Extended(pcr) {
			out[strconv.Itoa(pcr)] = hex.EncodeToString(r.Value(pcr))
		}
	}
	return out
}
