package vmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/move"
	"github.com/assay-project/assay/internal/program"
)

func newMigrateCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate NAME --ticket FILE",
		Short: "Give a machine that runs to another host",
		Long: `Give a machine that runs to the host that awaits it: assay vm receive there makes the
ticket. It goes on there in the same boot, with its TPM, baselines, events, findings and
what its console printed; nothing of it is left here. Both hosts must have its disks under the
same path; or --copy-disks, here and there, copies them while it runs. Files of disks that
Assay did not make stay here then, as they were when it left.

Until the other host has all of it, whatever fails leaves it running here, and --cancel calls
the move off. From then on it is the other host's. When that does not confirm, the machine
stands still here and is not started again: --settle asks that host once more, and removes what
is left of it here where it has the machine. Where it cannot answer any more, your word decides:
--take-back says that the machine does not run there and never will, --give-up that it is that
host's, and removes what is left of it here.`,
		Args: cobra.ExactArgs(1),
	}
	m := migrating{h: addHostFlags(env, cmd), format: program.AddOutputFlag(cmd, "table", "json")}
	f := cmd.Flags()
	f.StringVar(&m.ticket, "ticket", "", "`FILE` with the other host's ticket")
	f.BoolVar(&m.copies, "copy-disks", false, "copy the disks to the other host, which awaits them")
	f.BoolVar(&m.dry, "dry-run", false, "only ask the other host whether it would take the machine")
	f.BoolVar(&m.cancel, "cancel", false, "call off a move that has begun")
	f.BoolVar(&m.settle, "settle", false, "ask the host that the machine was given to whether it has it, and remove what is left of it here then")
	f.BoolVar(&m.back, "take-back", false, "the machine that was given away does not run there, and never will")
	f.BoolVar(&m.up, "give-up", false, "the machine that was given away is there: remove what is left of it here")
	f.BoolVar(&m.yes, "yes", false, "do not ask: two machines that both run destroy their disks, and one that is on no host is lost")
	ways := []string{"ticket", "cancel", "settle", "take-back", "give-up"}
	cmd.MarkFlagsOneRequired(ways...)
	cmd.MarkFlagsMutuallyExclusive(ways...)
	for _, way := range ways[1:] {
		cmd.MarkFlagsMutuallyExclusive("copy-disks", way)
		cmd.MarkFlagsMutuallyExclusive("dry-run", way)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return m.h.with(cmd.Context(), func(r *machine.Root) error { return m.run(cmd.Context(), r, args[0]) })
	}
	return cmd
}

// A migrating is one run of assay vm migrate.
type migrating struct {
	h      *hostFlags
	format *program.OutputFormat
	ticket string

	copies, dry, cancel, settle, back, up, yes bool
}

func (m *migrating) run(ctx context.Context, r *machine.Root, name string) error {
	var words string
	var err error
	switch {
	case m.back && !m.yes:
		return program.RefusedBy(fmt.Errorf("migrate %s: if it runs on the other host, both destroy their disks; --yes says that it does not", name))
	case m.up && !m.yes:
		return program.RefusedBy(fmt.Errorf("migrate %s: if it is not on the other host, it is lost with its TPM; --yes says that it is there", name))
	case m.settle:
		var there bool
		if there, err = r.Settle(ctx, actor(), name); there {
			words = "%s is on the other host\n"
		} else {
			words = "%s is not on the other host, and can be started here\n"
		}
	case m.cancel:
		words, err = "%s runs on here\n", r.CallOff(ctx, actor(), name)
	case m.up:
		words, err = "%s is on the other host\n", r.GiveUp(ctx, actor(), name)
	case m.back:
		words, err = "%s is this host's again, and is off\n", r.TakeBack(ctx, actor(), name)
	default:
		return m.move(ctx, r, name)
	}
	if err == nil {
		_, err = fmt.Fprintf(m.h.env.Stdout, words, name)
	}
	return err
}

// move gives a machine away, or asks whether that could be.
func (m *migrating) move(ctx context.Context, r *machine.Root, name string) error {
	text, err := readTicket(m.ticket)
	if err != nil {
		return err
	}
	if m.copies && !m.dry {
		watching, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.watch(watching, r, name)
		}()
		defer func() {
			stop()
			<-done
		}()
	}
	out, err := r.Migrate(ctx, actor(), name, machine.MigrateOptions{Ticket: text, CopyDisks: m.copies, DryRun: m.dry})
	if err != nil {
		return err
	}
	return emit(m.h.env, *m.format, out, func(w io.Writer) error { return printMigration(w, name, out) })
}

// watchEvery is how often the copy of disks is looked at.
const watchEvery = 2 * time.Second

// watch shows how far the copy of a machine's disks is.
func (m *migrating) watch(ctx context.Context, r *machine.Root, name string) {
	show := progress(m.h.env.Stderr)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		now, err := r.Moving(ctx, name)
		if err != nil || now == nil {
			continue // the command's own end says it
		}
		done, total := now.Bytes()
		show("copying", done, total)
	}
}

func printMigration(w io.Writer, name string, m *machine.Migration) error {
	lines := []string{fmt.Sprintf("%s runs on the other host", name)}
	if m.DryRun {
		lines[0] = fmt.Sprintf("%s would take %s", m.Address, name)
	}
	for _, d := range m.Disks {
		switch {
		case m.DryRun:
			lines = append(lines, fmt.Sprintf("disk %s, %d MiB, would be copied", d.File, d.Size>>20))
		case d.Stays:
			lines = append(lines, fmt.Sprintf("disk %s was copied; what it held when the machine left is still here: keep it from being used, or remove it", d.File))
		}
	}
	for i := range lines {
		lines[i] = program.Printable(lines[i])
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// maxTicketFile is more than a ticket has.
const maxTicketFile = 64 << 10

// readTicket reads a file, and says early what is no ticket.
func readTicket(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTicketFile))
	if err != nil {
		return nil, err
	}
	if _, err := move.ParseTicket(text); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}

func newReceiveCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receive NAME --listen HOST:PORT --ticket FILE",
		Short: "Await a machine that another host gives away, and run it here",
		Long: `Await one machine, write the ticket by which another host may give it, and print "ready".
Whoever has the ticket can give a machine of that name, with the disks of this host that
its definition names, until it expires: it is a secret. Nobody else gets as far as a word.

With --copy-disks the machine comes with a copy of its disks, made in its home here, where
all of their size must be free beside what the disks of the machines here may still grow to;
with --overcommit that is not counted. Of the files of this host it gets those of --with-disk
alone, to read.

When the machine has come, this process supervises it until it ends, as assay vm run does;
a service manager may run it (systemd-run assay vm receive …).`,
		Args: cobra.ExactArgs(1),
	}
	h, service := addHostFlags(env, cmd), addServiceFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&h.quiet, "no-events", false, "print no events")
	w := receiving{h: h}
	f.StringVar(&w.listen, "listen", "", "`HOST:PORT` to listen at")
	f.StringVar(&w.address, "address", "", "`HOST:PORT` at which the other host reaches this one, when it is another")
	f.StringVar(&w.ticket, "ticket", "", "`FILE` to write, which must not be there")
	f.BoolVar(&w.copies, "copy-disks", false, "make disks for the machine, and take what is in its own")
	f.StringArrayVar(&w.known, "with-disk", nil, "`FILE` of a disk that the machine reads, and may have here (with --copy-disks; again for each)")
	f.BoolVar(&w.overcommit, "overcommit", false, "take disks that fit into what is free, though the disks of the machines here may then grow to more than there is (with --copy-disks)")
	f.StringVar(&w.provider, "key-provider", "", "`NAME` of the key provider of its home here; the default when empty")
	f.DurationVar(&w.patience, "for", 10*time.Minute, "how long the machine is awaited")
	for _, name := range []string{"listen", "ticket"} {
		cmd.MarkFlagRequired(name) //nolint:errcheck // they are there
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if len(w.known) > 0 && !w.copies {
			return errors.New("--with-disk is for --copy-disks: without it the machine has the disks that its definition names")
		}
		if w.overcommit && !w.copies {
			return errors.New("--overcommit is for --copy-disks: without it no disk is made here")
		}
		if h.issuer, err = service.issuer(); err != nil {
			return err
		}
		return w.run(cmd, args[0])
	}
	return cmd
}

// A receiving is one run of assay vm receive.
type receiving struct {
	h                                 *hostFlags
	listen, address, ticket, provider string
	patience                          time.Duration
	copies, overcommit                bool
	known                             []string
}

func (w *receiving) run(cmd *cobra.Command, name string) (err error) {
	env := w.h.env
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	forget, err := w.h.KeepTokens(ctx, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, forget()) }()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", w.listen)
	if err != nil {
		return err
	}
	defer l.Close()
	address := w.address
	if address == "" {
		address = l.Addr().String()
	}
	now := env.Now()
	t, cfg, err := move.NewTicket(move.Terms{Machine: name, Address: address, Now: now, Expires: now.Add(w.patience), Random: env.Rand})
	if err != nil {
		return err
	}
	text, err := t.Text()
	if err != nil {
		return err
	}
	return w.h.with(ctx, func(r *machine.Root) error {
		return r.Receive(ctx, actor(), machine.ReceiveOptions{
			Name: name, Provider: w.provider, Listener: l, TLS: cfg, Expires: t.Expires, CopyDisks: w.copies, Known: w.known, Overcommit: w.overcommit,
			Ready: func() error {
				if err := durable.CreateFile(w.ticket, text, 0o600); err != nil {
					return fmt.Errorf("write the ticket: %w", err)
				}
				_, err := fmt.Fprintln(env.Stdout, readyLine)
				return err
			},
		})
	})
}
