package vmcli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

// readyLine is what a supervisor prints once its machine runs.
const readyLine = "ready"

func newRunCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Run a machine in the foreground, until it ends",
		Long: `Run a machine and supervise it in this process, until the guest, assay vm stop or a
signal ends it. It prints "ready" on standard output once the machine runs, and each
event as a line of JSON on standard error: what a service manager needs.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		forget, err := h.KeepTokens(ctx, env)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, forget()) }()
		return h.with(ctx, func(r *machine.Root) error {
			return r.Run(ctx, actor(), args[0], machine.RunOptions{Ready: func() error {
				_, err := fmt.Fprintln(env.Stdout, readyLine)
				return err
			}})
		})
	}
	return cmd
}

func newStartCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start NAME",
		Short: "Start a machine in the background",
		Long: `Start a machine. Its supervisor goes on in the background and writes what it has to say
to supervisor.log in the machine's run folder.

--wait waits for the judgement of the boot: status 1 when it fails, is refused or does not
come in time.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	var wait, attested bool
	var patience time.Duration
	f := cmd.Flags()
	f.BoolVar(&wait, "wait", false, "wait until the boot is judged")
	f.BoolVar(&attested, "wait-attested", false, "wait until the agent has attested, too")
	f.DurationVar(&patience, "timeout", 5*time.Minute, "how long --wait waits")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if _, err := r.Card(args[0]); err != nil {
				return err
			}
			dir, err := h.MachinesDir(env)
			if err != nil {
				return err
			}
			if err := spawn(cmd, filepath.Join(dir, args[0], "run", "supervisor.log")); err != nil {
				return fmt.Errorf("start %s: %w", args[0], err)
			}
			if !wait && !attested {
				_, err := fmt.Fprintf(env.Stdout, "%s runs\n", args[0])
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			if err := await(ctx, env, r, args[0]); err != nil || !attested {
				return err
			}
			return awaitAgent(ctx, env, r, args[0])
		})
	}
	return cmd
}

// spawn starts the supervisor: this program with "run" in the place of "start". It
// returns when the machine runs, or has failed to.
func spawn(start *cobra.Command, logName string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(logName), 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	child := exec.Command(self, "vm", "run", start.Flags().Arg(0))
	child.Args[0] = os.Args[0]
	for _, name := range []string{"root", "accelerator", "firmware", "firmware-secure", "firmware-variables"} {
		if f := start.Flags().Lookup(name); f.Changed {
			child.Args = append(child.Args, "--"+name, f.Value.String())
		}
	}
	child.Stderr, child.SysProcAttr = log, &syscall.SysProcAttr{Setsid: true}
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if strings.TrimSpace(line) == readyLine {
		return child.Process.Release()
	}
	if werr := child.Wait(); werr == nil {
		return errors.Join(errors.New("it ended at once"), err)
	}
	return lastWords(log)
}

// lastWords is what a supervisor said before it failed.
func lastWords(log *os.File) error {
	const enough = 16 << 10
	text, err := io.ReadAll(io.NewSectionReader(log, 0, enough))
	if err != nil {
		return err
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "{") {
			lines = append(lines, strings.TrimPrefix(strings.TrimSpace(line), "assay: "))
		}
	}
	return errors.New(strings.Join(lines, "; "))
}

// await waits for the judgement of a boot, and shows each step.
func await(ctx context.Context, env *program.Env, r *machine.Root, name string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	phase := ""
	for {
		s, err := r.Status(ctx, name)
		if err != nil {
			return err
		}
		if s.State != machine.StateRunning {
			return program.RefusedBy(fmt.Errorf("%s is %s: %s", name, s.State, s.Problem))
		}
		if s.Boot.Phase != phase {
			phase = s.Boot.Phase
			fmt.Fprintf(env.Stderr, "%s: boot %d: %s\n", name, s.Boot.Counter, phaseWords(phase))
		}
		if over, err := judged(env, name, s); over {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return program.RefusedBy(fmt.Errorf("%s: the boot is not judged yet: %w", name, ctx.Err()))
		}
	}
}

// awaitAgent waits for the first word about a machine's attestation.
func awaitAgent(ctx context.Context, env *program.Env, r *machine.Root, name string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := r.Status(ctx, name)
		switch {
		case err != nil:
			return err
		case s.Health == nil:
			return fmt.Errorf("%s has no agent: assay vm update --agent gives it a port", name)
		case s.Health.State == health.Healthy:
			_, err := fmt.Fprintf(env.Stdout, "%s attests: its TPM proves the boot that the host saw\n", name)
			return err
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

// judged reports whether there is no more to wait for.
func judged(env *program.Env, name string, s *machine.Status) (over bool, err error) {
	b := s.Boot
	switch {
	case b.Phase == machine.PhaseUnseen:
		_, err := fmt.Fprintf(env.Stdout, "%s runs; without a TPM its boot is not seen\n", name)
		return true, err
	case b.Late != nil && *b.Late:
		_, err := fmt.Fprintf(env.Stdout, "%s booted as its baseline says\n", name)
		return true, err
	case b.Late != nil:
		return true, program.RefusedBy(fmt.Errorf("%s: boot %d failed: %s", name, b.Counter, words(b.Reasons)))
	case b.Phase == machine.PhaseRefused || b.Phase == machine.PhaseStuck:
		return true, program.RefusedBy(fmt.Errorf("%s: boot %d did not get to its operating system: %s", name, b.Counter, words(b.Refused)))
	case b.Phase == machine.PhaseSystem:
		_, err := fmt.Fprintf(env.Stdout, "%s booted; its boots are not judged\n", name)
		return true, err
	}
	return false, nil
}

func phaseWords(phase string) string {
	return map[string]string{
		machine.PhaseFirmware: "the firmware runs", machine.PhaseLoader: "the boot loader runs", machine.PhaseSystem: "the operating system runs",
		machine.PhaseRefused: "the firmware gave a boot option up", machine.PhaseStuck: "the boot does not get on", machine.PhaseUnseen: "not seen: there is no TPM",
		"": "power is on",
	}[phase]
}

func newStopCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop NAME",
		Short: "Shut a machine down, and wait for its end",
		Long: `Press the power button of a machine; a guest that does not end within 20 seconds loses
its power. --force takes the power at once, and ends a hypervisor whose supervisor died.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	force := cmd.Flags().Bool("force", false, "take the power at once")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if err := r.Stop(cmd.Context(), actor(), args[0], *force); err != nil {
				return err
			}
			_, err := fmt.Fprintf(env.Stdout, "%s is off\n", args[0])
			return err
		})
	}
	return cmd
}

func newResetCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "reset NAME", Short: "Press the reset button of a machine", Args: cobra.ExactArgs(1)}
	h := addHostFlags(env, cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error { return r.Reset(cmd.Context(), actor(), args[0]) })
	}
	return cmd
}

func newDeleteCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Remove a machine that is off, with its TPM; its disks stay",
		Args:  cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	yes := cmd.Flags().Bool("yes", false, "do not ask: what the TPM protects is lost")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if _, err := r.Card(args[0]); err != nil && !errors.Is(err, machine.ErrDamaged) {
				return err
			}
			if !*yes {
				return program.RefusedBy(fmt.Errorf("delete %s: its TPM and all that it protects are lost, with its baselines and events; --yes does it", args[0]))
			}
			if err := r.Delete(cmd.Context(), actor(), args[0]); err != nil {
				return err
			}
			h.forget(cmd.Context(), args[0])
			_, err := fmt.Fprintf(env.Stdout, "%s is deleted\n", args[0])
			return err
		})
	}
	return cmd
}

func newClearCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clear-tpm NAME",
		Short: "Make the TPM of a machine that is off anew; all that it protects is lost",
		Args:  cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if !*yes {
				return program.RefusedBy(fmt.Errorf("clear-tpm %s: all that its TPM protects is lost; --yes does it", args[0]))
			}
			return r.ClearTPM(cmd.Context(), actor(), args[0])
		})
	}
	return cmd
}

func newConsoleCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "console NAME",
		Short: "Attach to a machine's serial console, or show what it printed",
		Long: `Attach to the first serial port of a machine that runs; Ctrl-] leaves. --text prints what
it printed in its last boot, without control characters. A console proves nothing: a
guest prints what it likes.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	text := cmd.Flags().Bool("text", false, "print what was printed, and end")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			if *text {
				t, err := r.ConsoleText(cmd.Context(), args[0])
				if err == nil {
					_, err = io.WriteString(env.Stdout, t)
				}
				return err
			}
			c, err := r.Console(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return attach(cmd.Context(), env, c)
		})
	}
	return cmd
}

// leave ends an attachment, as in telnet.
const leave = 0x1d

// attach passes the terminal's bytes to a console and the console's to it.
func attach(ctx context.Context, env *program.Env, c io.ReadWriteCloser) error {
	restore, err := raw(env.Stdin)
	if err != nil {
		return errors.Join(err, c.Close())
	}
	defer restore()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	go func() {
		defer c.Close()
		buf := make([]byte, 1024)
		for {
			n, err := env.Stdin.Read(buf)
			piece, _, left := bytes.Cut(buf[:n], []byte{leave})
			if _, werr := c.Write(piece); left || err != nil || werr != nil {
				return
			}
		}
	}()
	if _, err = io.Copy(env.Stdout, c); errors.Is(err, os.ErrClosed) || isClosed(err) {
		return nil
	}
	return err
}
