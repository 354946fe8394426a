package vtpmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm"
)

func newVTPMDaemonCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run all TPMs of a root, each at a control socket of its own",
		Long: `Run the TPMs of a root until SIGTERM or SIGINT. Each has a control socket
NAME.ctrl in --socket-dir, for QEMU's tpm-emulator; it is open while a hypervisor
is connected. "ready" on standard output, and READY=1 to systemd, say that all can
be reached; systemd's watchdog is answered. The other subcommands of assay vtpm ask the daemon while it runs.

SIGHUP, and "assay vtpm daemon reload", have it forget the keys of its key providers,
and ask for them again at their next use. TPMs that run go on.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newVTPMReloadCmd(env))
	root := addRootFlag(cmd)
	var dir, mode, group string
	var admins []string
	f := cmd.Flags()
	f.StringVar(&dir, "socket-dir", "", "`DIR` of the control sockets (default the folder run of the root)")
	f.StringVar(&mode, "socket-mode", "0600", "`MODE` of the control sockets: who reaches one is that TPM's hypervisor")
	f.StringVar(&group, "socket-group", "", "`GROUP` of the control sockets, by name or number")
	f.StringSliceVar(&admins, "admin", nil, "`USER` who may administer, beside root and the daemon's own (repeatable)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg := vtpm.DaemonConfig{SocketDir: dir}
		bits, err := strconv.ParseUint(mode, 8, 9)
		if err != nil {
			return fmt.Errorf("--socket-mode %q: want permissions in octal, as 0660", mode)
		}
		cfg.SocketMode = fs.FileMode(bits)
		if cfg.SocketGID, err = groupID(group); err != nil {
			return err
		}
		if cfg.Admins, err = userIDs(admins); err != nil {
			return err
		}
		return untilSignal(cmd.Context(), func(ctx context.Context) error { return runVTPMDaemon(ctx, env, root, cfg) })
	}
	return cmd
}

func runVTPMDaemon(ctx context.Context, env *program.Env, f *rootFlags, cfg vtpm.DaemonConfig) error {
	if err := hardenProcess(); err != nil {
		return fmt.Errorf("keep secrets out of core files: %w", err)
	}
	stopTokens, err := f.keepTokens(ctx, env)
	if err != nil {
		return err
	}
	root, err := f.open(ctx, env)
	if err != nil {
		return errors.Join(err, stopTokens())
	}
	defer onHangup(func() { root.Reload(ctx, "SIGHUP") })()
	tell := systemdTeller(env)
	defer context.AfterFunc(ctx, func() { tell("STOPPING=1") })()
	beats, stop := watchdog(env)
	defer stop()
	cfg.Beats, cfg.Alive = beats, func(tpms int) { tell(fmt.Sprintf("WATCHDOG=1\nSTATUS=%d TPMs", tpms)) }
	err = vtpm.RunDaemon(ctx, root, cfg, func() error {
		if _, err := io.WriteString(env.Stdout, readyLine); err != nil {
			return err
		}
		return program.NotifySystemd(env, "READY=1")
	})
	return errors.Join(err, root.Close(), stopTokens())
}

// onHangup calls f for each SIGHUP until stop is called, which waits for f.
func onHangup(f func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range hangups {
			f()
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
		<-done
	}
}

func newVTPMReloadCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the daemon forget the keys of its key providers, and open them again",
		Long: `Have the daemon of a root forget the keys that its key providers hold in its memory, as
after keys were removed or rotated; each provider is opened again at its next use. TPMs
that run go on: each has the key of its own state.`,
		Args: cobra.NoArgs,
	}
	root := addRootFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, err := root.ask(cmd.Context(), env, &vtpm.Request{Verb: vtpm.VerbReload})
		return err
	}
	return cmd
}

// groupID finds a group; 0 for none.
func groupID(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil // of 31 bits
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("--socket-group: %w", err)
	}
	return strconv.Atoi(g.Gid)
}

func userIDs(names []string) ([]uint32, error) {
	var out []uint32
	for _, name := range names {
		id := name
		if _, err := strconv.ParseUint(name, 10, 32); err != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return nil, fmt.Errorf("--admin: %w", err)
			}
			id = u.Uid
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("--admin %q: %w", name, err)
		}
		out = append(out, uint32(n)) // parsed with 32 bits
	}
	return out, nil
}

func newVTPMAuditCmd(env *program.Env) *cobra.Command {
	group := &cobra.Command{Use: "audit", Short: "Prove the audit trail of a root whole, and read it"}
	group.AddCommand(newVTPMAuditVerifyCmd(env), newVTPMAuditListCmd(env))
	return group
}

func newVTPMAuditVerifyCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove the audit trail whole, or name the first altered or missing entry",
		Args:  cobra.NoArgs,
	}
	f := addRootFlag(cmd)
	var noted []string
	cmd.Flags().StringArrayVar(&noted, "head", nil, "`SEQ:HASH` noted earlier, which the trail must still hold (repeatable)")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		heads, err := program.ReadHeads(noted)
		if err != nil {
			return program.Unusable(new(program.UnknownChain), err)
		}
		dir, err := f.path(env)
		if err != nil {
			return program.Unusable(new(program.UnknownChain), err)
		}
		report := program.ChainReport{Whole: true}
		report.Head, err = vtpm.TrailOf(dir).Check(cmd.Context(), heads, func(uint64) {})
		var broken *audit.BreakError
		switch {
		case errors.As(err, &broken):
			report.Whole, report.Break = false, &program.ChainBreak{Seq: broken.Seq, Why: broken.Why}
		case err != nil:
			return program.Unusable(new(program.UnknownChain), err)
		}
		if *format == "json" {
			err = program.PrintJSON(env, report)
		} else {
			err = program.PrintChain(env.Stdout, report)
		}
		if err == nil && !report.Whole {
			err = program.Refused()
		}
		return err
	}
	return cmd
}

func newVTPMAuditListCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print entries of the audit trail, oldest first, without checking them",
		Args:  cobra.NoArgs,
	}
	f := addRootFlag(cmd)
	after := cmd.Flags().Uint64("after", 0, "start behind this entry")
	limit := cmd.Flags().Int("limit", 100, "print at most this many, up to 10000")
	format := program.AddOutputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := f.path(env)
		if err != nil {
			return err
		}
		entries, err := vtpm.TrailOf(dir).AuditEntries(cmd.Context(), *after, min(*limit, 10000))
		if err != nil {
			return err
		}
		if *format == "json" {
			return program.PrintJSON(env, append([]audit.Entry{}, entries...))
		}
		if err := program.PrintEntries(env.Stdout, entries); err != nil || len(entries) < *limit || len(entries) == 0 {
			return err
		}
		_, err = fmt.Fprintf(env.Stderr, "at most %d entries are shown; go on with --after %d\n", len(entries), entries[len(entries)-1].Seq)
		return err
	}
	return cmd
}
