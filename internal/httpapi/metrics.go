package httpapi

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-project/assay/internal/apiserver"
)

// Metrics are what the service counts, those of its requests among them. Labels come
// from fixed sets only (routes, registered codes, verdicts, kinds of evidence), so
// that no caller can make series.
type Metrics struct {
	*apiserver.Metrics
	challenges *prometheus.CounterVec // outcome
	appraisals *prometheus.CounterVec // type, verdict
	reasons    *prometheus.CounterVec // code
	group      prometheus.Histogram
}

// NewMetrics makes metrics that have counted nothing.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "assay", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		Metrics:    apiserver.NewMetrics(),
		challenges: counter("challenges_total", "Challenges issued, used, and refused by reason code.", "outcome"),
		appraisals: counter("appraisals_total", "Decisions, by kind of evidence and verdict.", "type", "verdict"),
		reasons:    counter("appraisal_reasons_total", "Reasons given in decisions, by code.", "code"),
		group: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "assay", Name: "store_group_size", Help: "Decisions made durable by one commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 8),
		}),
	}
	m.Registry().MustRegister(m.challenges, m.appraisals, m.reasons, m.group)
	return m
}

// ObserveGroup counts a commit that made n decisions durable.
func (m *Metrics) ObserveGroup(n int) { m.group.Observe(float64(n)) }
