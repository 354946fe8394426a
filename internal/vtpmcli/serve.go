package vtpmcli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/tpm2/engine"
)

// vtpmOptions are what the command line of assay vtpm serve says.
type vtpmOptions struct {
	ephemeral bool
	state     string
	provider  string // key provider of state; empty for keys
	keys      program.KeySource
	create    bool // make a TPM although the key file is older
	profile   string

	mssim, swtpmTCP, swtpmUnix string
	qemu                       string
	terminate                  bool

	ledger ledgerFlags // of state
	root   *rootFlags
	name   string // of a TPM in root
}

// NewVTPMCmd is "vtpm".
func NewVTPMCmd(env *program.Env) *cobra.Command {
	group := &cobra.Command{Use: "vtpm", Short: "Virtual TPMs"}
	group.AddCommand(vtpmCommands(env)...)
	return group
}

// vtpmCommands are the commands of assay vtpm.
func vtpmCommands(env *program.Env) []*cobra.Command {
	return slices.Concat([]*cobra.Command{newVTPMServeCmd(env)}, vtpmManagers(env), vtpmBackups(env), vtpmIdentities(env), []*cobra.Command{newVTPMLedgerCmd(env)})
}

func newVTPMServeCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a TPM 2.0 for tests and other programs on this machine",
		Long: `Run one TPM 2.0 until SIGTERM or SIGINT. It has power from the start; TPM2_Startup
is its client's to send. "ready" on standard output says that it answers.

With --qemu-socket, QEMU is the client: it gives the TPM its power, passes the data
channel, moves the state when the guest migrates, and ends this program when it quits:

  qemu-system-x86_64 ... -chardev socket,id=tpm,path=PATH \
    -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0

Whoever reaches the port commands the TPM, so ports are on loopback addresses.`,
		Args: cobra.NoArgs,
	}
	o := &vtpmOptions{}
	f := cmd.Flags()
	o.root = addRootFlag(cmd)
	f.StringVar(&o.name, "name", "", "`NAME` of a TPM in --root: one process of its own for it, in place of the daemon")
	f.BoolVar(&o.ephemeral, "ephemeral", false, "a new TPM that ends with this process")
	f.StringVar(&o.state, "state", "", "`DIR` that keeps the TPM, encrypted; made at the first start")
	f.StringVar(&o.provider, "key-provider", "", "`SPEC` of who keeps the key that --state is encrypted under: a name in --root, or a URI")
	f.StringVar(&o.keys.File, "key-file", "", "`FILE` of keys in place of a key provider; made with the state")
	f.StringVar(&o.keys.Passphrase, "passphrase-file", "", "`FILE` whose first line opens the key file")
	o.ledger.add(f)
	f.BoolVar(&o.create, "new", false, "make a TPM in --state although there may have been one")
	f.StringVar(&o.profile, "profile", "", profileUsage("a new TPM's profile"))
	f.StringVar(&o.mssim, "mssim", "", "`HOST:PORT` for commands by the simulator protocol; the platform port is the next")
	f.StringVar(&o.swtpmTCP, "swtpm-tcp", "", "`HOST:PORT` for raw commands")
	f.StringVar(&o.swtpmUnix, "swtpm-unix", "", "`PATH` of a socket for raw commands")
	f.StringVar(&o.qemu, "qemu-socket", "", "`PATH` of a socket for QEMU (and libvirt's external backend)")
	f.BoolVar(&o.terminate, "terminate", false, "with --qemu-socket: end when QEMU is gone, however it went")
	cmd.MarkFlagsOneRequired("ephemeral", "state", "name")
	cmd.MarkFlagsMutuallyExclusive("ephemeral", "state", "name")
	cmd.MarkFlagsMutuallyExclusive("name", "profile")
	cmd.MarkFlagsMutuallyExclusive("key-provider", "key-file")
	cmd.MarkFlagsOneRequired("mssim", "swtpm-tcp", "swtpm-unix", "qemu-socket")
	cmd.MarkFlagsMutuallyExclusive("mssim", "swtpm-tcp", "swtpm-unix", "qemu-socket")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return untilSignal(cmd.Context(), func(ctx context.Context) error { return o.serve(ctx, env) })
	}
	return cmd
}

// untilSignal runs f with a context that SIGTERM or SIGINT ends; the second
// signal has its usual effect.
func untilSignal(ctx context.Context, f func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	return f(ctx)
}

// serve runs the TPM until ctx ends.
func (o *vtpmOptions) serve(ctx context.Context, env *program.Env) (err error) {
	if err := o.checkAddresses(); err != nil {
		return err
	}
	m, closeState, err := o.open(ctx, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Shutdown(), closeState()) }()
	if o.qemu == "" {
		m.PowerOn()
	}
	return o.front(ctx, env, m)
}

func (o *vtpmOptions) checkAddresses() error {
	for flag, addr := range map[string]string{"--mssim": o.mssim, "--swtpm-tcp": o.swtpmTCP} {
		if addr == "" {
			continue
		}
		if err := program.MustBeLoopback(flag, addr); err != nil {
			return err
		}
	}
	return nil
}

// open makes or restores the TPM.
func (o *vtpmOptions) open(ctx context.Context, env *program.Env) (*frontend.Machine, func() error, error) {
	if o.name != "" {
		return o.root.machine(ctx, env, o.name, o.qemu == "")
	}
	if o.ephemeral {
		t, err := manufacture(env, o.profile)
		return frontend.NewMachine(t, frontend.MachineConfig{Restore: restorer(env)}), func() error { return nil }, err
	}
	if o.provider == "" && o.keys.File == "" {
		return nil, nil, errors.New("the state of a TPM is always encrypted: give --key-provider SPEC, or --key-file FILE")
	}
	s, err := openVTPMState(ctx, env, o.state, o.provider, o.keys)
	if err != nil {
		return nil, nil, err
	}
	o.ledger.choose(env, func() (string, error) { return o.root.path(env) })
	s.ledger = o.ledger.open()
	t, err := s.load(ctx, o.profile, o.create)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return frontend.NewMachine(t, frontend.MachineConfig{Save: s.save, Restore: restorer(env), ExportBlob: s.export, ImportBlob: s.imported}), s.Close, nil
}

// vtpmThreads is how many connections of one TPM may have a thread of their own, where
// it is not alone.
const vtpmThreads = 4

// front serves m where the command line says.
func (o *vtpmOptions) front(ctx context.Context, env *program.Env, m *frontend.Machine) error {
	p := fewProcessors(env)
	cfg := frontend.Config{Now: env.Now, Log: vtpmLog(env), Alone: p != nil, Threads: frontend.NewThreads(vtpmThreads), Before: p.before}
	switch {
	case o.mssim != "":
		return serveMSSIM(ctx, env, m, o.mssim, cfg)
	case o.swtpmTCP != "":
		l, err := listen(ctx, "tcp", o.swtpmTCP)
		if err != nil {
			return err
		}
		return serveSWTPM(ctx, env, m, l, frontend.SWTPMConfig{}, cfg)
	case o.qemu != "":
		return o.serveQEMU(ctx, env, m, cfg)
	}
	l, err := listenUnix(ctx, o.swtpmUnix)
	if err != nil {
		return err
	}
	return serveSWTPM(ctx, env, m, l, frontend.SWTPMConfig{}, cfg)
}

func vtpmLog(env *program.Env) *slog.Logger { return slog.New(slog.NewTextHandler(env.Stderr, nil)) }

// readyLine is what a program says on standard output once it answers.
const readyLine = "ready\n"

func serveMSSIM(ctx context.Context, env *program.Env, m *frontend.Machine, addr string, cfg frontend.Config) error {
	commands, err := listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer commands.Close()
	host, port, err := net.SplitHostPort(commands.Addr().String())
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	platform, err := listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(n+1)))
	if err != nil {
		return err
	}
	defer platform.Close()
	if _, err := io.WriteString(env.Stdout, readyLine); err != nil {
		return err
	}
	return frontend.ServeMSSIM(ctx, m, commands, platform, cfg)
}

func serveSWTPM(ctx context.Context, env *program.Env, m *frontend.Machine, data net.Listener, sw frontend.SWTPMConfig, cfg frontend.Config) error {
	defer data.Close()
	if _, err := io.WriteString(env.Stdout, readyLine); err != nil {
		return err
	}
	return frontend.ServeSWTPM(ctx, m, data, sw, cfg)
}

// serveQEMU serves the control channel. Its data channel comes through it.
func (o *vtpmOptions) serveQEMU(ctx context.Context, env *program.Env, m *frontend.Machine, cfg frontend.Config) error {
	l, err := listenUnix(ctx, o.qemu)
	if err != nil {
		return err
	}
	defer l.Close()
	if _, err := io.WriteString(env.Stdout, readyLine); err != nil {
		return err
	}
	kept := !o.ephemeral
	return frontend.ServeSWTPM(ctx, m, nil, frontend.SWTPMConfig{Control: l, Terminate: o.terminate, FileKey: kept, MigrationKey: kept}, cfg)
}

func listen(ctx context.Context, network, addr string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, network, addr)
}

// listenUnix makes a socket that only this user reaches. A socket that nobody
// serves any more is replaced.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if err := removeStale(ctx, path, info); err != nil {
			return nil, err
		}
	}
	defer syscall.Umask(syscall.Umask(0o177))
	return listen(ctx, "unix", path)
}

// removeStale removes a socket that nobody serves. A connection to a file that is no
// socket is refused, too, and such a file is nobody's to remove.
func removeStale(ctx context.Context, path string, info fs.FileInfo) error {
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("listen on %q: it is no socket", path)
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("listen on %q: somebody else does", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil // the socket that is made now says what is wrong
	}
	if err := syscall.Unlink(path); err != nil {
		return fmt.Errorf("remove stale socket %q: %w", path, err)
	}
	return nil
}

// engineConfig gives a TPM this machine's randomness and clock.
func engineConfig(env *program.Env) engine.Config {
	start := env.Now()
	log := vtpmLog(env)
	return engine.Config{
		Random: env.Rand,
		Now:    func() time.Duration { return env.Elapsed(start) },
		Panic: func(value any, stack []byte) {
			log.Error("the TPM is in failure mode by a fault of this program", slog.Any("panic", value), slog.String("stack", string(stack)))
		},
	}
}

// profileUsage describes the flag --profile.
func profileUsage(of string) string {
	return fmt.Sprintf("`NAME` of %s: see assay tpm profile list (default %q)", of, engine.DefaultProfile())
}

// manufacture makes a TPM of the profile of that name; empty is the default one.
func manufacture(env *program.Env, profile string) (*engine.TPM, error) {
	p, err := engine.FindProfile(cmp.Or(profile, engine.DefaultProfile()), 0)
	if err != nil {
		return nil, err
	}
	return newTPM(env, p)
}

// newTPM makes a TPM, and says where FIPS 140-3 does not approve all that it offers.
func newTPM(env *program.Env, p *engine.Profile) (*engine.TPM, error) {
	if p.Unapproved() {
		vtpmLog(env).Warn("the TPM's profile has what FIPS 140-3 does not approve, and the profile \"fips\" nothing of it", slog.String("profile", p.Name))
	}
	return engine.Manufacture(p, engineConfig(env))
}

// restorer restores a TPM to where its volatile state was taken.
func restorer(env *program.Env) func(permanent, volatile []byte) (frontend.TPM, error) {
	return func(permanent, volatile []byte) (frontend.TPM, error) {
		return engine.Restore(engineConfig(env), permanent, volatile)
	}
}
