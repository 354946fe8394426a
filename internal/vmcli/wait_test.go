package vmcli

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/program/programtest"
)

// A play is a machine that is in each state once, and then stays in the last.
type play struct {
	states []*machine.Status
	events []integrity.Notice
}

func (p *play) Status(context.Context, string) (*machine.Status, error) {
	s := p.states[0]
	if len(p.states) > 1 {
		p.states = p.states[1:]
	}
	return s, nil
}

func (p *play) Events(context.Context, string) ([]integrity.Notice, error) { return p.events, nil }

var (
	yes, no = new(true), new(false)
	learned = []evidence.Reason{{Code: codeLearned, Message: "learned"}}
)

func running(b machine.BootStatus) *machine.Status {
	if b.Counter == 0 {
		b.Counter = 7
	}
	return &machine.Status{State: machine.StateRunning, Boot: &b, Shield: &fleet.Shielded{VTPM: true, IntegrityMonitoring: true}}
}

func stopped() *machine.Status { return &machine.Status{State: machine.StateStopped} }

func because(words string) []evidence.Reason { return []evidence.Reason{{Code: "x", Message: words}} }

func report(kind string, boot uint64, passed bool, reasons []evidence.Reason) integrity.Notice {
	return integrity.Notice{Type: kind, BootCounter: boot, Report: &baseline.Report{PolicyEvaluationPassed: passed}, Reasons: reasons}
}

// wait waits a minute for boot 7, and returns how the command ends.
func wait(t *testing.T, p *play) (status int, stdout, stderr string, took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		var out, errs programtest.Buffer
		env := programtest.Env(&out, &errs)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun := time.Now()
		err := (&waiting{env: env, machines: p, name: "web-1", boot: 7}).run(ctx)
		took, stdout, stderr = time.Since(begun), out.String(), errs.String()
		status = ends(err)
		if err != nil {
			stderr += err.Error()
		}
	})
	return status, stdout, stderr, took
}

// ends is the exit status of a command that ends with err.
func ends(err error) int {
	return program.Run(programtest.Env(io.Discard, io.Discard), []string{}, func(*program.Env) *cobra.Command {
		return &cobra.Command{Use: "assay", SilenceUsage: true, SilenceErrors: true, RunE: func(*cobra.Command, []string) error { return err }}
	}, nil)
}

func TestABootIsGoodOnlyWhenBothPartsAre(t *testing.T) {
	const goodWords = "booted as its baseline says"
	for name, tc := range map[string]struct {
		boot           machine.BootStatus
		events         []integrity.Notice
		status         int
		stdout, stderr string
	}{
		"both passed": {boot: machine.BootStatus{Phase: machine.PhaseSystem, Early: yes, Late: yes}, stdout: goodWords},
		"late failed": {
			boot: machine.BootStatus{Phase: machine.PhaseSystem, Early: yes, Late: no, Reasons: because("kernel")}, status: 1,
			stderr: "boot 7 failed (early part passed, late part FAILED): kernel",
		},
		"early failed, whose reasons the status has no more": {
			boot:   machine.BootStatus{Phase: machine.PhaseSystem, Early: no, Late: yes},
			events: []integrity.Notice{report(integrity.EventEarlyReport, 6, false, because("older")), report(integrity.EventEarlyReport, 7, false, because("firmware")), report(integrity.EventLateReport, 7, true, nil)},
			status: 1, stderr: "boot 7 failed (early part FAILED, late part passed): firmware",
		},
		"early not seen": {boot: machine.BootStatus{Phase: machine.PhaseSystem, Late: yes}, status: 1, stderr: "boot 7 failed (early part -, late part passed)"},
		"the first": {
			boot:   machine.BootStatus{Phase: machine.PhaseSystem, Early: yes, Late: yes, Reasons: learned},
			stdout: "it is the first boot, was compared with nothing, and became the baseline",
		},
		"stuck":  {boot: machine.BootStatus{Phase: machine.PhaseStuck, Refused: because("no disk")}, status: 1, stderr: "in time: no disk"},
		"unseen": {boot: machine.BootStatus{Phase: machine.PhaseUnseen}, stdout: "without a TPM its boot is not seen"},
		"what the guest named": {
			boot: machine.BootStatus{Phase: machine.PhaseSystem, Early: yes, Late: no, Reasons: because("\u009b2Jx\n")}, status: 1, stderr: "\uFFFD2Jx\uFFFD",
		},
		"system, and monitored": {boot: machine.BootStatus{Phase: machine.PhaseSystem, Early: yes}, status: 1, stderr: "not judged yet"},
		"early failed, and no more comes": {
			boot: machine.BootStatus{Phase: machine.PhaseLoader, Early: no, Reasons: because("firmware")}, status: 1, stderr: "the early part of boot 7 failed: firmware",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := &play{states: []*machine.Status{running(machine.BootStatus{Phase: machine.PhaseFirmware}), running(tc.boot)}, events: tc.events}
			status, stdout, stderr, _ := wait(t, p)
			if status != tc.status || !strings.Contains(stdout, tc.stdout) || !strings.Contains(stderr, tc.stderr) {
				t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
			}
			if tc.stdout != goodWords && strings.Contains(stdout, goodWords) {
				t.Errorf("stdout %q", stdout)
			}
		})
	}
}

func TestABootThatIsNotMonitoredIsNotWaitedFor(t *testing.T) {
	s := running(machine.BootStatus{Phase: machine.PhaseSystem})
	s.Shield.IntegrityMonitoring = false
	status, stdout, _, took := wait(t, &play{states: []*machine.Status{s}})
	if status != 0 || stdout != "web-1 booted; its boots are not judged\n" || took > time.Second {
		t.Errorf("status %d, stdout %q after %v", status, stdout, took)
	}
}

func TestTheConsolesWordsAloneEndNoWait(t *testing.T) {
	refused := running(machine.BootStatus{Phase: machine.PhaseRefused, Refused: []evidence.Reason{
		{Code: "launch.refused", Message: "no signature"}, {Code: "serial.no-boot-option", Message: "No bootable option"},
	}})
	good := running(machine.BootStatus{Phase: machine.PhaseSystem, Early: yes, Late: yes})
	status, stdout, stderr, _ := wait(t, &play{states: []*machine.Status{refused, refused, refused, good}})
	if status != 0 || !strings.Contains(stdout, "as its baseline says") {
		t.Errorf("one that goes on: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	// Each time its console says so it has the whole time to get on.
	again := []*machine.Status{refused}
	for range 2 * refusalPatience / askEvery {
		again = append(again, running(machine.BootStatus{Phase: machine.PhaseLoader}))
	}
	status, stdout, stderr, _ = wait(t, &play{states: append(again, refused, good)})
	if status != 0 || !strings.Contains(stdout, "as its baseline says") {
		t.Errorf("one that goes on twice: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	status, _, stderr, took := wait(t, &play{states: []*machine.Status{refused}})
	const want = "web-1: boot 7: as far as the TPM shows, nothing was started; of its disk the host finds: no signature; the console's words are: No bootable option"
	if status != 1 || !strings.HasSuffix(stderr, want) || took < refusalPatience || took > 2*refusalPatience {
		t.Errorf("one that does not: status %d, stderr %q after %v", status, stderr, took)
	}
}

func TestAnEndIsExplainedByTheRecord(t *testing.T) {
	firmware := running(machine.BootStatus{Phase: machine.PhaseFirmware})
	next := running(machine.BootStatus{Counter: 8, Phase: machine.PhaseSystem, Early: yes, Late: yes})
	good := []integrity.Notice{report(integrity.EventEarlyReport, 7, true, nil), report(integrity.EventLateReport, 7, true, nil)}
	bad := []integrity.Notice{good[0], report(integrity.EventLateReport, 7, false, because("kernel"))}
	for name, tc := range map[string]struct {
		play   play
		status int
		words  string
	}{
		"stopped for its failure":             {play{[]*machine.Status{firmware, stopped()}, bad}, 1, "boot 7 failed (early part passed, late part FAILED): kernel"},
		"stopped before it was seen to run":   {play{[]*machine.Status{stopped()}, bad}, 1, "kernel"},
		"stopped after a good boot":           {play{[]*machine.Status{firmware, stopped()}, good}, 0, "web-1 is stopped\n"},
		"stopped after the early part":        {play{[]*machine.Status{firmware, stopped()}, []integrity.Notice{report(integrity.EventEarlyReport, 7, false, because("firmware"))}}, 1, "firmware"},
		"stopped without a judgement":         {play{[]*machine.Status{firmware, stopped()}, nil}, 1, "web-1 is stopped, and boot 7 was not judged"},
		"stopped after the console's words":   {play{[]*machine.Status{firmware, stopped()}, []integrity.Notice{{Type: integrity.EventRefused, BootCounter: 7, Reasons: because("no disk")}}}, 1, "boot 7 was not judged; of its disk the host finds: no disk"},
		"a judgement of another boot":         {play{[]*machine.Status{firmware, stopped()}, []integrity.Notice{report(integrity.EventLateReport, 6, true, nil)}}, 1, "boot 7 was not judged"},
		"restarted after a failure":           {play{[]*machine.Status{firmware, next}, bad}, 1, "boot 7 failed"},
		"restarted before a judgement":        {play{[]*machine.Status{firmware, next}, nil}, 0, "boot 7 ended before it was judged"},
		"restarted after the console's words": {play{[]*machine.Status{firmware, next}, []integrity.Notice{{Type: integrity.EventRefused, BootCounter: 7}}}, 0, "boot 7 ended before it was judged"},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, stderr, _ := wait(t, &tc.play)
			if status != tc.status || !strings.Contains(stderr, tc.words) {
				t.Errorf("status %d, stderr %q", status, stderr)
			}
		})
	}
}

func TestAMachineThatEndsDoesNotAttest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out, errs programtest.Buffer
		silent := running(machine.BootStatus{})
		silent.Health = new(machine.HealthStatus)
		silent.Health.State = health.Unknown
		err := awaitAgent(t.Context(), programtest.Env(&out, &errs), &play{states: []*machine.Status{silent, stopped()}}, "web-1")
		if ends(err) != program.StatusRefused || !strings.Contains(err.Error(), "is stopped") {
			t.Errorf("it ends with %v", err)
		}
	})
}

func TestCodeLearnedIsInTheTable(t *testing.T) {
	if _, ok := evidence.Describe(codeLearned); !ok {
		t.Error("not in the table of reason codes")
	}
}
