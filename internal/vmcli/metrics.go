package vmcli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/assay-project/assay/internal/apiserver"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/machine/metrics"
	"github.com/assay-project/assay/internal/program"
	"github.com/assay-project/assay/internal/vtpm/backup"
	"github.com/assay-project/assay/uefi/keyset"
)

func newMetricsCmd(env *program.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "How the machines of this host are, for Prometheus",
		Long: `Print metrics of all machines, in Prometheus' text format. Supervisors are asked, and
the homes of machines that are off are read again when they have changed. A machine that
does not answer within seconds is told of as unknown, and holds up no other.

--file writes them to a file, which is replaced whole: for the textfile collector of
node_exporter, whose name must end with .prom. --listen serves them at /metrics until a
signal ends it. docs/metrics.md has every metric, the alert rules and the dashboard.`,
		Example: `  assay vm metrics --listen 127.0.0.1:9465
  assay vm metrics --file /var/lib/prometheus/node-exporter/assay.prom`,
		Args: cobra.NoArgs,
	}
	h := addHostFlags(env, cmd)
	var listen, file string
	f := cmd.Flags()
	f.StringVar(&listen, "listen", "", "loopback `ADDR` where they are served")
	f.StringVar(&file, "file", "", "`FILE` that they are written to, once")
	cmd.MarkFlagsMutuallyExclusive("listen", "file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if listen != "" {
			if err := program.MustBeLoopback("--listen", listen); err != nil {
				return err
			}
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		forget, err := h.KeepTokens(ctx, env)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, forget()) }()
		return h.with(ctx, func(r *machine.Root) error {
			registry, err := h.metrics(r)
			switch {
			case err != nil:
				return err
			case listen != "":
				return serveMetrics(ctx, env, registry, listen)
			case file != "":
				return prometheus.WriteToTextfile(file, registry)
			}
			return printMetrics(env.Stdout, registry)
		})
	}
	return cmd
}

// metrics are those of the host's machines.
func (h *hostFlags) metrics(r *machine.Root) (*prometheus.Registry, error) {
	c, err := h.collector(r)
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	return registry, registry.Register(c)
}

func (h *hostFlags) collector(r *machine.Root) (*metrics.Collector, error) {
	findings, err := h.Findings(h.env)
	if err != nil {
		return nil, err
	}
	return metrics.New(metrics.Config{Machines: r, Findings: findings, Keysets: h.keysets(), Providers: h.probes(), Now: h.env.Now})
}

// keysetsEvery is how often key sets are read: they change once in years.
const keysetsEvery = 10 * time.Minute

// keysets reads all key sets of the host, at most every so often. It is called by one at
// a time.
func (h *hostFlags) keysets() func() ([]*keyset.Set, error) {
	var sets []*keyset.Set
	var read time.Time
	return func() ([]*keyset.Set, error) {
		now := h.env.Now()
		if sets != nil && now.Sub(read) < keysetsEvery {
			return sets, nil
		}
		all, err := h.Keysets(h.env)
		if err == nil {
			sets, read = all, now
		}
		return all, err
	}
}

// How often key providers are asked, whoever collects how often, and how long they have.
const (
	probeEvery = time.Minute
	probeTime  = 3 * time.Second
)

// probes has each key provider of the host that may be asked so wrap a key and give it back, all at once. It is
// called by one at a time.
func (h *hostFlags) probes() func() ([]metrics.Probe, error) {
	var last []metrics.Probe
	var asked time.Time
	return func() ([]metrics.Probe, error) {
		now := h.env.Now()
		if last != nil && now.Sub(asked) < probeEvery {
			return last, nil
		}
		names, err := h.Unattended(h.env)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), probeTime)
		defer cancel()
		last, asked = make([]metrics.Probe, len(names)), now
		var all sync.WaitGroup
		for i, name := range names {
			all.Go(func() {
				begun := h.env.Now()
				err := h.probeProvider(ctx, name)
				last[i] = metrics.Probe{Provider: name, Took: h.env.Now().Sub(begun), Err: err}
			})
		}
		all.Wait()
		return last, nil
	}
}

// probeProvider has a key provider wrap a key and give it back.
func (h *hostFlags) probeProvider(ctx context.Context, name string) error {
	p, err := h.provider(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(backup.CheckProvider(ctx, p, h.env.Rand), p.Close())
}

// printMetrics writes the text that a scrape would get.
func printMetrics(w io.Writer, registry *prometheus.Registry) error {
	r, err := http.NewRequest(http.MethodGet, "/", http.NoBody)
	if err != nil {
		return err
	}
	to := &printed{Writer: w, header: http.Header{}, status: http.StatusOK}
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(to, r)
	if to.status != http.StatusOK {
		return fmt.Errorf("collect metrics: status %d", to.status)
	}
	return nil
}

// printed is a response that is printed.
type printed struct {
	io.Writer
	header http.Header
	status int
}

func (p *printed) Header() http.Header    { return p.header }
func (p *printed) WriteHeader(status int) { p.status = status }

// serveMetrics serves until ctx ends.
func serveMetrics(ctx context.Context, env *program.Env, registry *prometheus.Registry, listen string) error {
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	// One value that cannot be told hides no other.
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	}))
	s := apiserver.NewServer(mux, apiserver.Timeouts{}, nil, nil)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	if _, err := fmt.Fprintf(env.Stdout, "metrics are at http://%s/metrics\n", ln.Addr()); err != nil {
		return errors.Join(err, s.Close())
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), serviceTime)
	defer cancel()
	return s.Shutdown(late)
}
