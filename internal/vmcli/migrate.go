package vmcli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
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
what its console printed; nothing of it is left here. Both hosts must have its disks under the same path.

Until the other host has all of it, whatever fails leaves it running here. From then on it
is the other host's. When that does not confirm, the machine stands still here and is not
started again: --settle asks that host once more. Where it cannot answer any more, your word
decides: --take-back says that the machine does not run there and never will, --give-up that
it is that host's, and removes what is left of it here.`,
		Args: cobra.ExactArgs(1),
	}
	h := addHostFlags(env, cmd)
	f := cmd.Flags()
	ticket := f.String("ticket", "", "`FILE` with the other host's ticket")
	settle := f.Bool("settle", false, "ask the host that the machine was given to whether it has it")
	back := f.Bool("take-back", false, "the machine that was given away does not run there, and never will")
	up := f.Bool("give-up", false, "the machine that was given away is there: remove what is left of it here")
	yes := f.Bool("yes", false, "do not ask: two machines that both run destroy their disks, and one that is on no host is lost")
	cmd.MarkFlagsOneRequired("ticket", "settle", "take-back", "give-up")
	cmd.MarkFlagsMutuallyExclusive("ticket", "settle", "take-back", "give-up")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return h.with(cmd.Context(), func(r *machine.Root) error {
			switch {
			case *settle:
				return h.settle(cmd, r, args[0])
			case *back && !*yes:
				return program.RefusedBy(fmt.Errorf("migrate %s: if it runs on the other host, both destroy their disks; --yes says that it does not", args[0]))
			case *up && !*yes:
				return program.RefusedBy(fmt.Errorf("migrate %s: if it is not on the other host, it is lost with its TPM; --yes says that it is there", args[0]))
			case *up:
				if err := r.GiveUp(cmd.Context(), actor(), args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintf(env.Stdout, "%s is on the other host\n", args[0])
				return err
			case *back:
				if err := r.TakeBack(cmd.Context(), actor(), args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintf(env.Stdout, "%s is this host's again, and is off\n", args[0])
				return err
			}
			text, err := readTicket(*ticket)
			if err != nil {
				return err
			}
			if err := r.Migrate(cmd.Context(), actor(), args[0], text); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "%s runs on the other host\n", args[0])
			return err
		})
	}
	return cmd
}

// settle asks the host that a machine was given to.
func (h *hostFlags) settle(cmd *cobra.Command, r *machine.Root, name string) error {
	there, err := r.Settle(cmd.Context(), actor(), name)
	if err != nil {
		return err
	}
	words := "%s is not on the other host, and can be started here\n"
	if there {
		words = "%s is on the other host\n"
	}
	_, err = fmt.Fprintf(h.env.Stdout, words, name)
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
	f.StringVar(&w.provider, "key-provider", "", "`NAME` of the key provider of its home here; the default when empty")
	f.DurationVar(&w.patience, "for", 10*time.Minute, "how long the machine is awaited")
	for _, name := range []string{"listen", "ticket"} {
		cmd.MarkFlagRequired(name) //nolint:errcheck // they are there
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
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
			Name: name, Provider: w.provider, Listener: l, TLS: cfg, Expires: t.Expires,
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
