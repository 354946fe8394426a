package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/program"
)

// serveOptions are what the command line and the environment say.
type serveOptions struct {
	wiring
	listen, metricsListen string
	tlsMode               string
	tlsCert, tlsKey       string
	tlsHosts              []string
	policyFile            string
	logFormat, logLevel   string
	rate                  float64
	certificates          *certificates // of the service's own making; nil for none
	// ready, when not nil, is told the URL once the service answers.
	ready func(url string)
}

const (
	tlsSelfSigned = "self-signed"
	tlsOff        = "off"
)

func newServeCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the attestation service",
		Long: `Run the attestation service until SIGTERM or SIGINT, which let requests under way
finish; a second signal ends the program at once.

Every flag can also be set in the environment: --key-file is ASSAY_KEY_FILE. Without a
certificate the service makes a certificate authority of its own in the data folder.
The first start makes an administrator's API token, in the file admin-token there.`,
		Args: cobra.NoArgs,
	}
	o := addServeFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(cmd.Flags(), env.Getenv); err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		context.AfterFunc(ctx, stop) // the second signal has its usual effect
		return serve(ctx, env, o)
	}
	return cmd
}

func addServeFlags(cmd *cobra.Command) *serveOptions {
	o := &serveOptions{}
	f := cmd.Flags()
	f.StringVar(&o.Data, "data", "assay-data", "`DIR` for the database, keys and certificates")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8750", "`ADDR` to listen on")
	f.StringVar(&o.Database, "database", "", "`URL` of a PostgreSQL database (postgres://…), in place of SQLite in --data")
	f.BoolVar(&o.WithoutSync, "database-without-fsync", false, "take a PostgreSQL server with fsync or full_page_writes off: a crash of its machine can lose what was acknowledged")
	f.StringVar(&o.Issuer, "issuer", "", "`URL` that tokens are issued under; the service's own when empty")
	f.StringVar(&o.tlsCert, "tls-cert", "", "certificate chain, PEM `FILE`")
	f.StringVar(&o.tlsKey, "tls-key", "", "private key of --tls-cert, PEM `FILE`")
	f.StringVar(&o.tlsMode, "tls", tlsSelfSigned, "without --tls-cert: self-signed, or off for plain HTTP on a loopback address")
	f.StringSliceVar(&o.tlsHosts, "tls-host", nil, "`NAME` or address that the self-made certificate is for, beside this machine's (repeatable)")
	f.StringVar(&o.Keys.File, "key-file", "", "`FILE` of key-encryption keys; service.key in --data when empty")
	f.StringVar(&o.Keys.Credential, "key-credential", "", "`NAME` of a systemd credential that is a key file")
	f.StringVar(&o.Keys.Passphrase, "passphrase-file", "", "`FILE` whose first line opens the key file")
	f.BoolVar(&o.OpenAttestation, "open-attestation", false, "let callers without a credential attest")
	f.StringVar(&o.policyFile, "policy", "", "`FILE` that becomes the default policy of a service that has none yet")
	f.Float64Var(&o.rate, "rate", 0, "requests a second of one principal (default 1000)")
	f.StringVar(&o.metricsListen, "metrics-listen", "", "loopback `ADDR` where metrics need no credential")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	o.Machines.addFlags(f)
	cmd.MarkFlagsRequiredTogether("tls-cert", "tls-key")
	cmd.MarkFlagsMutuallyExclusive("key-file", "key-credential")
	return o
}

// fromEnvironment sets each flag that the command line does not from ASSAY_NAME.
func fromEnvironment(flags *pflag.FlagSet, getenv func(string) string) error {
	var errs []error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "ASSAY_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v := getenv(name); v != "" && !f.Changed {
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	})
	return errors.Join(errs...)
}

func newLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	default:
		return nil, fmt.Errorf("--log-format: %q is neither text nor json", format)
	}
}

// collectAt is the share of garbage to live memory, in per cent, at which the
// collector runs. The service holds a few megabytes and makes some 100 KB of garbage
// an appraisal, so that the usual 100 would have it run all the time.
const collectAt = 400

// serve runs the service until ctx ends.
func serve(ctx context.Context, env *program.Env, o *serveOptions) (err error) {
	if o.Log, err = newLogger(env.Stderr, o.logFormat, o.logLevel); err != nil {
		return err
	}
	if env.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	ln, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer ln.Close() // the server closes it too; this is for errors before
	o.Issuer = strings.TrimSuffix(o.Issuer, "/")
	if o.Issuer == "" {
		o.Issuer = o.url(ln.Addr())
	}
	o.Limits.Rate, o.Limits.Burst = o.rate, int(2*o.rate)
	w, err := wire(ctx, env, o.wiring)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	greeting, tlsConfig, err := o.prepare(ctx, env, w, ln.Addr())
	if err != nil {
		return err
	}
	return o.run(ctx, env, w, ln, tlsConfig, greeting)
}

// open listens, and refuses what would send credentials over a network in the clear.
func (o *serveOptions) open(ctx context.Context) (net.Listener, error) {
	if o.tlsMode != tlsSelfSigned && o.tlsMode != tlsOff {
		return nil, fmt.Errorf("--tls: %q is neither %s nor %s", o.tlsMode, tlsSelfSigned, tlsOff)
	}
	if o.plain() {
		if err := program.MustBeLoopback("--tls off", o.listen); err != nil {
			return nil, err
		}
	}
	if o.metricsListen != "" {
		if err := program.MustBeLoopback("--metrics-listen", o.metricsListen); err != nil {
			return nil, err
		}
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
}

func (o *serveOptions) plain() bool { return o.tlsMode == tlsOff && o.tlsCert == "" }

// url is where the service is reached from this machine.
func (o *serveOptions) url(addr net.Addr) string {
	scheme := "https"
	if o.plain() {
		scheme = "http"
	}
	host, _, _ := net.SplitHostPort(o.listen) // o.open has read it
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	_, port, _ := net.SplitHostPort(addr.String()) // a listener's address always splits
	return scheme + "://" + net.JoinHostPort(host, port)
}

// prepare makes what a first start lacks, and says how to log in.
func (o *serveOptions) prepare(ctx context.Context, env *program.Env, w *wired, addr net.Addr) (string, *tls.Config, error) {
	if err := o.firstPolicy(ctx, w.Service); err != nil {
		return "", nil, err
	}
	tokenFile, err := firstAdministrator(ctx, env, w, o.Data)
	if err != nil {
		return "", nil, err
	}
	config, made, err := o.tlsConfig(ctx, env, w)
	if err != nil {
		return "", nil, err
	}
	o.certificates = made
	var b strings.Builder
	url, curl := o.url(addr), "curl"
	fmt.Fprintf(&b, "assay serves %s\n", url)
	if made != nil {
		fmt.Fprintf(&b, "certificate authority: %s (SHA-256 %s)\n", made.file, made.fingerprint())
		curl += " --cacert " + made.file
		if warning := made.ending(); warning != "" {
			fmt.Fprintf(&b, "warning: %s\n", warning)
		}
	}
	if tokenFile == "" {
		tokenFile = "TOKEN-FILE"
	} else {
		fmt.Fprintf(&b, "API token of principal %q: %s\n", firstAdmin, tokenFile)
	}
	fmt.Fprintf(&b, "log in: %s -H \"Authorization: Bearer $(cat %s)\" %s/v1/whoami\n", curl, tokenFile, url)
	return b.String(), config, nil
}

// The times of the work that a running service does by itself.
const (
	refreshEvery  = 30 * time.Second // another process may have changed the configuration
	maintainEvery = 10 * time.Minute // keys that end, challenges that expired
	certifyEvery  = 6 * time.Hour    // the server certificate, a warning that the authority ends
	stopTime      = 30 * time.Second // for requests under way
)

// run serves until ctx ends, then lets requests under way finish.
func (o *serveOptions) run(ctx context.Context, env *program.Env, w *wired, ln net.Listener, tlsConfig *tls.Config, greeting string) error {
	servers := []*http.Server{apiserver.NewServer(w.API, apiserver.Timeouts{}, tlsConfig, o.Log)}
	failed := make(chan error, 2)
	go func() {
		if tlsConfig != nil {
			failed <- servers[0].ServeTLS(ln, "", "")
		} else {
			failed <- servers[0].Serve(ln)
		}
	}()
	if o.metricsListen != "" {
		m := apiserver.NewServer(w.Metrics.Handler(), apiserver.Timeouts{}, nil, o.Log)
		m.Addr = o.metricsListen
		servers = append(servers, m)
		go func() { failed <- m.ListenAndServe() }()
	}
	if _, err := io.WriteString(env.Stdout, greeting); err != nil {
		return err
	}
	if o.ready != nil {
		o.ready(o.url(ln.Addr()))
	}
	background := o.maintain(ctx, w.Service)
	defer background.Wait()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		o.Log.InfoContext(ctx, "stopping: requests under way may finish")
	}
	return errors.Join(err, stop(servers))
}

// stop lets requests under way finish, for stopTime, and ends the rest.
func stop(servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	var errs []error
	for _, s := range servers {
		if err := s.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop: %w", err), s.Close())
		}
	}
	return errors.Join(errs...)
}

// maintain does what must be done now and then, until ctx ends.
func (o *serveOptions) maintain(ctx context.Context, s *attest.Service) *sync.WaitGroup {
	var wg sync.WaitGroup
	every := func(d time.Duration, what string, do func(context.Context) error) {
		wg.Go(func() {
			t := time.NewTicker(d)
			defer t.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
					if err := do(ctx); err != nil && ctx.Err() == nil {
						o.Log.ErrorContext(ctx, "maintenance failed", slog.String("what", what), slog.Any("error", err))
					}
				}
			}
		})
	}
	every(refreshEvery, "refresh", s.Refresh)
	every(maintainEvery, "prune", s.Prune)
	every(maintainEvery, "keys", s.MaintainKeys)
	if c := o.certificates; c != nil {
		every(certifyEvery, "certificate", func(ctx context.Context) error { return c.maintain(ctx, o.Log) })
	}
	return &wg
}
