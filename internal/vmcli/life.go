package vmcli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/instances"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program"
)

// readyLine is what a supervisor prints once its machine runs. One in the background whose
// machine does not start prints failedLine with what may be told to anybody of why.
const (
	readyLine  = "ready"
	failedLine = "failed "
)

func newRunCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Run a machine in the foreground, until it ends",
		Long: `Run a machine and supervise it in this process, until the guest, assay vm stop or a
signal ends it. Once the machine runs it prints "ready" on standard output and tells
systemd READY=1; each event is a line of JSON on standard error. --no-events leaves these
out, where standard error is kept by somebody who may not read them. The unit
assay-vm@NAME.service runs it.`,
		Args: cobra.ExactArgs(1),
	}
	h, service := addHostFlags(env, cmd), addServiceFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&h.quiet, "no-events", false, "print no events")
	background := f.Bool("background", false, "")
	asked := f.String("actor", "", "")
	for _, name := range []string{"background", "actor"} { // for who starts this in the background
		f.Lookup(name).Hidden = true
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if *background { // what spawn starts
			h.quiet = true
			if log, ok := env.Stderr.(*os.File); ok {
				env.Stderr = &boundedLog{file: log}
			}
		}
		if h.issuer, err = service.issuer(); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		forget, err := h.KeepTokens(ctx, env)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, forget()) }()
		ready := false
		defer func() {
			if *background && !ready && err != nil {
				fmt.Fprintln(env.Stdout, failedLine+strings.ReplaceAll(instances.Told(err), "\n", " "))
			}
		}()
		return h.with(ctx, func(r *machine.Root) error {
			// The guest may have written its keys.
			defer func() { h.lag(context.WithoutCancel(ctx), r, "", args[0]) }()
			return r.Run(ctx, cmp.Or(*asked, actor()), args[0], machine.RunOptions{Ready: func() error {
				ready = true
				if _, err := fmt.Fprintln(env.Stdout, readyLine); err != nil || *background {
					return err
				}
				return program.NotifySystemd(env, "READY=1\nSTATUS=runs")
			}})
		})
	}
	return cmd
}

func newStartCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start NAME",
		Short: "Start a machine in the background",
		Long: `Start a machine. Its supervisor goes on in the background and writes its own messages to
supervisor.log in the machine's run folder; events are in the machine's home, encrypted.

--wait waits for the judgement of the boot: status 1 when its early or its late part fails,
when it starts nothing, or when the judgement does not come in time. The console's words
alone decide nothing.`,
		Args: cobra.ExactArgs(1),
	}
	h, service := addHostFlags(env, cmd), addServiceFlags(cmd)
	var wait, attested bool
	var patience time.Duration
	f := cmd.Flags()
	f.BoolVar(&wait, "wait", false, "wait until the boot is judged")
	f.BoolVar(&attested, "wait-attested", false, "wait until the agent has attested, too")
	f.DurationVar(&patience, "timeout", 5*time.Minute, "how long --wait waits")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := service.issuer(); err != nil { // before anything is started
			return err
		}
		return h.with(cmd.Context(), func(r *machine.Root) error {
			s := starting{env: env, host: h, root: r, cmd: cmd, name: args[0], wait: wait, attested: attested, patience: patience}
			return s.run(cmd.Context())
		})
	}
	return cmd
}

// A starting is one run of assay vm start.
type starting struct {
	env            *program.Env
	host           *hostFlags
	root           *machine.Root
	cmd            *cobra.Command
	name           string
	wait, attested bool
	patience       time.Duration
}

func (s *starting) run(ctx context.Context) error {
	if _, err := s.root.Card(s.name); err != nil {
		return err
	}
	if now, err := s.root.Status(ctx, s.name); err != nil {
		return err
	} else if now.State == machine.StateRunning {
		return fmt.Errorf("start %s: it runs already", s.name)
	}
	dir, err := s.host.MachinesDir(s.env)
	if err != nil {
		return err
	}
	wait := s.wait || s.attested
	w := waiting{env: s.env, machines: s.root, name: s.name}
	if wait {
		if w.boot, err = s.root.NextBoot(ctx, s.name); err != nil {
			return err
		}
	}
	if err := spawn(s.cmd, filepath.Join(dir, s.name, "run", "supervisor.log")); err != nil {
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	if !wait {
		_, err := fmt.Fprintf(s.env.Stdout, "%s runs\n", s.name)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	if err := w.run(ctx); err != nil || !s.attested {
		return err
	}
	return awaitAgent(ctx, s.env, s.root, s.name)
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
		Short: "Remove a machine that is off, with its TPM; disks that it was given stay",
		Long: `Remove a machine that is off, with its TPM, baselines and events, and end its findings.
Its disks stay, but for those that were made with it, of an image or a backup, and lie
in its home.

A folder of that name without a card is no machine: it is what is left where the making
of one was cut short, or its card was taken away. Nobody can open what is in it without
that card. --leftovers removes such a folder, with the TPM that was made for it, and
never a machine.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	yes := cmd.Flags().Bool("yes", false, "do not ask: what the TPM protects is lost")
	leftovers := cmd.Flags().Bool("leftovers", false, "remove a folder that is no machine")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			remove := r.Delete
			if *leftovers {
				remove = r.DeleteLeftovers
			}
			if err := mayDelete(r, args[0], *leftovers, *yes); err != nil {
				if errors.Is(err, machine.ErrUnknown) && !errors.Is(err, machine.ErrLeftover) {
					h.forget(cmd.Context(), args[0]) // a delete may have been cut short before this
				}
				return err
			}
			if err := remove(cmd.Context(), actor(), args[0]); err != nil {
				return err
			}
			h.forget(cmd.Context(), args[0])
			_, err := fmt.Fprintf(env.Stdout, "%s is deleted\n", args[0])
			return err
		})
	}
	return cmd
}

// mayDelete says what a folder is, and asks for the yes.
func mayDelete(r *machine.Root, name string, leftovers, yes bool) error {
	_, err := r.Card(name)
	switch left := errors.Is(err, machine.ErrLeftover); {
	case left && !leftovers:
		return program.RefusedBy(fmt.Errorf("delete %s: %w; --leftovers removes it", name, err))
	case !left && leftovers && (err == nil || errors.Is(err, machine.ErrDamaged)):
		return program.RefusedBy(fmt.Errorf("delete %s: it has a card, and so is a machine: --leftovers removes none", name))
	case err != nil && !left && !errors.Is(err, machine.ErrDamaged):
		return err
	case left && !yes:
		return program.RefusedBy(fmt.Errorf("delete %s: what is in the folder, and the TPM that was made for it, are lost; --yes does it", name))
	case !yes:
		return program.RefusedBy(fmt.Errorf("delete %s: its TPM and all that it protects are lost, with its baselines and events; --yes does it", name))
	}
	return nil
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
				return h.consoleText(cmd.Context(), r, args[0])
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

// consoleText prints what a machine printed in its last boot.
func (h *hostFlags) consoleText(ctx context.Context, r *machine.Root, name string) error {
	text, err := r.ConsoleText(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		if _, unknown := r.Card(name); unknown == nil {
			return fmt.Errorf("%s: there is no text of its console: it has not run yet", name)
		}
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(h.env.Stdout, program.PrintableLines(text))
	return err
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
