package metrics

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/uefi/keyset"
)

// Machines are those of a host; *machine.Root has them.
type Machines interface {
	Names() ([]string, error)
	Observe(ctx context.Context, name string, known *machine.Observation) (*machine.Observation, error)
}

// Findings are those of a host; *finding.Store has them.
type Findings interface {
	Load() (*finding.Book, error)
}

// Config says what is told. Machines and Now are required.
type Config struct {
	Machines Machines
	Findings Findings                      // nil tells of none
	Keysets  func() ([]*keyset.Set, error) // nil tells of none
	// Providers asks the key providers of the host; nil tells of none.
	Providers func() ([]Probe, error)
	Now       func() time.Time
	// Patience is how long one collection may take; 0 means 5 seconds. Who has not
	// answered by then is unknown.
	Patience time.Duration
	// Limit is how many machines are told of; 0 means 2,000. How many are not is a metric.
	Limit int
}

// A Probe is how a key provider wrapped a key and gave it back.
type Probe struct {
	Provider string
	Took     time.Duration
	Err      error
}

// A Collector is a [prometheus.Collector] for a registry of any process. It is safe for
// concurrent use.
type Collector struct {
	cfg Config

	one sync.Mutex // held by the collection under way

	mu    sync.Mutex // guards what follows
	known map[string]*machine.Observation
	asked map[string]bool // machines that have not answered yet
	slow  map[string]bool // machines that did not answer in time the last time
}

// New makes a collector.
func New(cfg Config) (*Collector, error) {
	if cfg.Machines == nil || cfg.Now == nil {
		return nil, errors.New("metrics of machines need machines and a clock")
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 5 * time.Second
	}
	if cfg.Limit <= 0 {
		cfg.Limit = 2000
	}
	return &Collector{cfg: cfg, known: map[string]*machine.Observation{}, asked: map[string]bool{}, slow: map[string]bool{}}, nil
}

// Describe is of [prometheus.Collector].
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range descs {
		out <- d.desc
	}
}

// Collect is of [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	c.one.Lock()
	defer c.one.Unlock()
	w := &writer{out: out, now: c.cfg.Now()}
	names := c.machines(w)
	if c.cfg.Findings != nil {
		c.findings(w, names)
	}
	if c.cfg.Keysets != nil {
		c.certificates(w)
	}
	if c.cfg.Providers != nil {
		c.providers(w)
	}
	w.put(collectedTime, seconds(w.now))
	w.put(collectionSeconds, c.cfg.Now().Sub(w.now).Seconds())
}
