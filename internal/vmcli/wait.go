package vmcli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

// A watched is what says how a machine is: a [machine.Root].
type watched interface {
	Status(ctx context.Context, name string) (*machine.Status, error)
	Events(ctx context.Context, name string) ([]integrity.Notice, error)
}

// A waiting is for the judgement of one boot.
type waiting struct {
	env      *program.Env
	machines watched
	name     string
	boot     uint64 // the one that is waited for
	shown    string // the phase that was shown last
	refused  time.Time
}

// how often a machine is asked.
const askEvery = 100 * time.Millisecond

// refusalPatience is how long a boot may still get on after its console said that
// nothing will be started: the words are the guest's to print.
const refusalPatience = 5 * time.Second

// run waits, and shows each step.
func (w *waiting) run(ctx context.Context) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	var last *machine.BootStatus
	for {
		s, err := w.machines.Status(ctx, w.name)
		if err != nil {
			return w.late(ctx, last, err)
		}
		over, err := w.look(ctx, s)
		if over || err != nil {
			return err
		}
		if s.Boot != nil {
			last = s.Boot
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return w.late(ctx, last, ctx.Err())
		}
	}
}

// late is an end of the wait before the judgement's.
func (w *waiting) late(ctx context.Context, b *machine.BootStatus, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case b != nil && failed(b.Early):
		// The rest of the boot cannot make it a good one.
		return program.RefusedBy(fmt.Errorf("%s: the early part of boot %d failed: %s", w.name, b.Counter, words(b.Reasons)))
	}
	return program.RefusedBy(fmt.Errorf("%s: the boot is not judged yet: %w", w.name, ctx.Err()))
}

// look looks at a machine once, and reports whether there is no more to wait for.
func (w *waiting) look(ctx context.Context, s *machine.Status) (over bool, err error) {
	b := s.Boot
	if s.State != machine.StateRunning || b == nil {
		return w.ended(ctx, s)
	}
	if b.Counter > w.boot && b.Phase != machine.PhaseUnseen {
		// The boot that was waited for ended between two looks.
		recorded, over, err := w.recorded(ctx)
		if err != nil {
			return true, err
		}
		if over {
			return true, w.verdict(ctx, recorded)
		}
		fmt.Fprintf(w.env.Stderr, "%s: boot %d ended before it was judged\n", w.name, w.boot)
		w.boot, w.shown, w.refused = b.Counter, "", time.Time{}
	}
	if b.Phase != w.shown {
		w.shown = b.Phase
		fmt.Fprintf(w.env.Stderr, "%s: boot %d: %s\n", w.name, max(b.Counter, w.boot), phaseWords(b.Phase))
	}
	return w.judged(ctx, s)
}

// judged says what is known of a boot that goes on, and whether that is all.
func (w *waiting) judged(ctx context.Context, s *machine.Status) (over bool, err error) {
	b := s.Boot
	if b.Phase != machine.PhaseRefused {
		w.refused = time.Time{}
	}
	switch {
	case b.Phase == machine.PhaseUnseen:
		_, err := fmt.Fprintf(w.env.Stdout, "%s runs; without a TPM its boot is not seen\n", w.name)
		return true, err
	case b.Late != nil && b.Counter >= w.boot:
		return true, w.verdict(ctx, b)
	case b.Phase == machine.PhaseRefused:
		if w.refused.IsZero() {
			w.refused = w.env.Now()
		}
		if w.env.Now().Sub(w.refused) < refusalPatience {
			return false, nil
		}
		return true, program.RefusedBy(w.words(b))
	case b.Phase == machine.PhaseStuck:
		return true, program.RefusedBy(fmt.Errorf("%s: boot %d did not get to its operating system in time: %s", w.name, b.Counter, words(b.Refused)))
	case b.Phase == machine.PhaseSystem && s.Shield != nil && !s.Shield.IntegrityMonitoring:
		_, err := fmt.Fprintf(w.env.Stdout, "%s booted; its boots are not judged\n", w.name)
		return true, err
	}
	return false, nil
}

// words are what is said of a boot that started nothing.
func (w *waiting) words(b *machine.BootStatus) error {
	what := "nothing was started"
	if b.Early != nil {
		what = "no operating system was started"
	}
	return fmt.Errorf("%s: boot %d: as far as the TPM shows, %s%s", w.name, b.Counter, what, said(b.Refused))
}

// said tells what the host read on the machine's disk from what the console says.
func said(reasons []evidence.Reason) string {
	var disk, console []evidence.Reason
	for _, r := range reasons {
		if strings.HasPrefix(string(r.Code), "serial.") {
			console = append(console, r)
		} else {
			disk = append(disk, r)
		}
	}
	text := ""
	if len(disk) > 0 {
		text = "; of its disk the host finds: " + words(disk)
	}
	if len(console) > 0 {
		text += "; the console's words are: " + words(console)
	}
	return text
}

// verdict is the judgement of a boot of which both parts are over. Only both make it a
// good one: some registers are judged in the early part alone.
func (w *waiting) verdict(ctx context.Context, b *machine.BootStatus) error {
	if !passedAll(b) {
		why := b.Reasons
		if notices, err := w.machines.Events(ctx, w.name); err == nil {
			if of := bootOf(notices, b.Counter).Reasons; len(of) > 0 {
				why = of // of both parts
			}
		}
		return program.RefusedBy(fmt.Errorf("%s: boot %d failed (early part %s, late part %s): %s", w.name, b.Counter, passed(b.Early), passed(b.Late), words(why)))
	}
	text := "%s booted as its baseline says\n"
	if slices.ContainsFunc(b.Reasons, func(r evidence.Reason) bool { return r.Code == codeLearned }) {
		text = "%s booted; it is the first boot, was compared with nothing, and became the baseline\n"
	}
	_, err := fmt.Fprintf(w.env.Stdout, text, w.name)
	return err
}

// codeLearned is package integrity's reason of a boot that was compared with nothing.
const codeLearned = "integrity.baseline-learned"

func passedAll(b *machine.BootStatus) bool {
	return b.Early != nil && *b.Early && b.Late != nil && *b.Late
}

func failed(b *bool) bool { return b != nil && !*b }

// ended says what became of the boot of a machine that runs no more.
func (w *waiting) ended(ctx context.Context, s *machine.Status) (bool, error) {
	b, over, err := w.recorded(ctx)
	if err != nil {
		return true, err
	}
	if over {
		fmt.Fprintf(w.env.Stderr, "%s is %s\n", w.name, s.State)
		return true, w.verdict(ctx, b)
	}
	text := fmt.Sprintf("%s is %s, and boot %d was not judged", w.name, s.State, w.boot)
	if s.Problem != "" {
		text += ": " + program.Printable(s.Problem)
	}
	return true, program.RefusedBy(errors.New(text + said(b.Refused)))
}

// recorded is what the events of the machine tell of the boot that was waited for; over
// is false when that is no judgement.
func (w *waiting) recorded(ctx context.Context) (b *machine.BootStatus, over bool, err error) {
	notices, err := w.machines.Events(ctx, w.name)
	if err != nil {
		return nil, false, err
	}
	b = bootOf(notices, w.boot)
	return b, b.Late != nil || failed(b.Early), nil
}

// bootOf is what events tell of one boot. The reasons are those of the parts that failed;
// where none did, of the last.
func bootOf(notices []integrity.Notice, counter uint64) *machine.BootStatus {
	b := &machine.BootStatus{Counter: counter, Phase: machine.PhaseFirmware}
	var early, late []evidence.Reason
	for i := range notices {
		n := &notices[i]
		if n.BootCounter != counter {
			continue
		}
		ok := n.Passed()
		switch n.Type {
		case integrity.EventEarlyReport:
			b.Early, b.Phase, early = &ok, machine.PhaseLoader, n.Reasons
		case integrity.EventLateReport:
			b.Late, b.Phase, late = &ok, machine.PhaseSystem, n.Reasons
		case integrity.EventRefused:
			b.Phase, b.Refused = machine.PhaseRefused, n.Reasons
		case integrity.EventStuck:
			b.Phase = machine.PhaseStuck
		}
	}
	switch {
	case failed(b.Early) && failed(b.Late):
		b.Reasons = distinct(slices.Concat(early, late))
	case failed(b.Early) || b.Late == nil:
		b.Reasons = early
	default:
		b.Reasons = late
	}
	return b
}

// distinct drops reasons whose words stand there already.
func distinct(all []evidence.Reason) (out []evidence.Reason) {
	for _, r := range all {
		if !slices.ContainsFunc(out, func(o evidence.Reason) bool { return o.Message == r.Message }) {
			out = append(out, r)
		}
	}
	return out
}

// awaitAgent waits for the first word about a machine's attestation.
func awaitAgent(ctx context.Context, env *program.Env, r watched, name string) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		s, err := r.Status(ctx, name)
		switch {
		case err != nil:
			return err
		case s.State != machine.StateRunning:
			return program.RefusedBy(fmt.Errorf("%s is %s, and has not attested", name, s.State))
		case s.Health == nil:
			return fmt.Errorf("%s has no agent: assay vm update --agent gives it a port", name)
		case s.Health.State == health.Healthy:
			return printAttested(env, name, s.Health)
		case s.Health.State != health.Unknown:
			return program.RefusedBy(fmt.Errorf("%s does not attest: %s: %s", name, s.Health.State, words(s.Health.Reasons)))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return program.RefusedBy(fmt.Errorf("%s: no word from its agent: %w", name, ctx.Err()))
		}
	}
}

func phaseWords(phase string) string {
	known := map[string]string{
		machine.PhaseFirmware: "the firmware runs", machine.PhaseLoader: "the boot loader runs", machine.PhaseSystem: "the operating system runs",
		machine.PhaseRefused: "the console says that nothing will be started", machine.PhaseStuck: "the boot does not get on", machine.PhaseUnseen: "not seen: there is no TPM",
		"": "power is on",
	}
	if text, ok := known[phase]; ok {
		return text
	}
	return strings.TrimSpace("phase " + phase)
}

// printAttested says what an agent has proved, with the token for others.
func printAttested(env *program.Env, name string, h *machine.HealthStatus) error {
	if _, err := fmt.Fprintf(env.Stdout, "%s attests: its TPM proves the boot that the host saw\n", name); err != nil {
		return err
	}
	var err error
	switch {
	case h.Token != "":
		_, err = fmt.Fprintf(env.Stdout, "token %s\n", h.Token)
	case h.TokenProblem != "":
		_, err = fmt.Fprintf(env.Stdout, "no token: %s\n", program.Printable(h.TokenProblem))
	}
	return err
}
