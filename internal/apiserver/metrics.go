package apiserver

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/assay-project/assay/evidence"
)

// Metrics are what a server counts of its requests, in a registry of their own, which
// others may join. Labels come from fixed sets only (routes, statuses), so that no
// caller can make series.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec   // route, status
	seconds  *prometheus.HistogramVec // route
	inFlight prometheus.Gauge
	limited  *prometheus.CounterVec // by
	panics   prometheus.Counter
}

// NewMetrics makes metrics that have counted nothing.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "assay", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: counter("http_requests_total", "Requests answered, by route and status.", "route", "status"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "assay", Name: "http_request_seconds", Help: "Time from the head of a request to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "assay", Name: "http_in_flight", Help: "Requests under way, waiting ones included."}),
		limited:  counter("http_limited_total", "Requests turned away, by the limit they met.", "by"),
		panics:   prometheus.NewCounter(prometheus.CounterOpts{Namespace: "assay", Name: "http_panics_total", Help: "Requests that met a bug of the service."}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.inFlight, m.limited, m.panics,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registry is where others register what they count beside it.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Handler serves the metrics to whoever reaches it: for a listener of its own. One value
// that cannot be told hides no other.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4,
	})
}

// route returns what counts the answers of one route. The pattern and the status
// are the only labels; a status outside 100 to 599 is counted as 0.
func (m *Metrics) route(pattern string) func(status int, took time.Duration) {
	seconds := m.seconds.WithLabelValues(pattern)
	ok := m.requests.WithLabelValues(pattern, "200")
	return func(status int, took time.Duration) {
		seconds.Observe(took.Seconds())
		if status == http.StatusOK {
			ok.Inc()
			return
		}
		if status < 100 || status > 599 {
			status = 0
		}
		m.requests.WithLabelValues(pattern, strconv.Itoa(status)).Inc()
	}
}

// Bounded returns a code that is in the table, as a label.
func Bounded(c evidence.Code) string {
	if _, ok := codeInfo(c); !ok {
		c = CodeOther
	}
	return string(c)
}

func codeInfo(c evidence.Code) (evidence.CodeInfo, bool) {
	codes := evidence.Codes() // sorted
	i, ok := slices.BinarySearchFunc(codes, c, func(info evidence.CodeInfo, c evidence.Code) int {
		return strings.Compare(string(info.Code), string(c))
	})
	if !ok {
		return evidence.CodeInfo{}, false
	}
	return codes[i], true
}
