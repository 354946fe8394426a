package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// serveFlags are those of an agent that its host drives.
type serveFlags struct {
	keyFlags
	port     string
	interval time.Duration
}

func (s *serveFlags) add(cmd *cobra.Command) {
	s.keyFlags.add(cmd)
	cmd.Flags().StringVar(&s.port, "serial", "/dev/ttyS1", "serial port at whose other end the host listens")
	cmd.Flags().DurationVar(&s.interval, "interval", time.Minute, "from one heartbeat to the next")
}

func (p Process) serveCmd() *cobra.Command {
	var flags serveFlags
	cmd := &cobra.Command{
		Use: "serve", Short: "Answer the host over a serial port, without a network", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.keepServing(cmd.Context(), p.server(&flags), flags.port)
		},
	}
	flags.add(cmd)
	return cmd
}

func (p Process) initCmd() *cobra.Command {
	var flags serveFlags
	cmd := &cobra.Command{
		Use: "init", Short: "Be the init of a machine that does nothing else: mount, serve, power off when the host says so", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// An init that ends is a kernel panic: every way from here leads to power off.
			err := p.beInit(cmd.Context(), &flags)
			if err != nil {
				fmt.Fprintf(p.Stderr, "assay-agent: %v\n", err)
			}
			return errors.Join(err, p.Machine.PowerOff())
		},
	}
	flags.add(cmd)
	// The kernel gives its init what it does not understand of its command line.
	cmd.FParseErrWhitelist.UnknownFlags = true
	return cmd
}

func (p Process) beInit(ctx context.Context, flags *serveFlags) error {
	if err := p.Machine.Mount(); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "assay-agent %s: serving the host on %s\n", version(), flags.port)
	s := p.server(flags)
	s.PowerOff = true
	err := p.keepServing(ctx, s, flags.port)
	if errors.Is(err, ErrPowerOff) {
		fmt.Fprintln(p.Stdout, "assay-agent: powering off, as the host asked")
		return nil
	}
	return err
}

func (p Process) server(flags *serveFlags) *Server {
	s := &Server{
		Root: p.Root, Version: version(), Interval: flags.interval,
		Prover: func() (*TPM, error) { return p.openTPM(&flags.keyFlags) },
	}
	if p.Machine.KernelLog != nil {
		s.KernelLog = p.Machine.KernelLog()
	}
	return s
}

// keepServing opens the port again when it breaks, as when the other end is not there.
// A port that cannot be opened at first is an error.
func (p Process) keepServing(ctx context.Context, s *Server, name string) error {
	const pause = time.Second
	for opened := false; ; opened = true {
		port, err := p.Machine.Serial(name)
		if err != nil && !opened {
			return err
		}
		if err == nil {
			err = s.Serve(ctx, port)
		}
		if errors.Is(err, ErrPowerOff) || ctx.Err() != nil {
			return err
		}
		fmt.Fprintf(p.Stderr, "assay-agent: serial port %s: %v\n", name, err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}
