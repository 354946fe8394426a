package metrics

import (
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
)

// A heap is findings that are counted together.
type heap struct {
	machine  string // empty where those of all are
	kind     evidence.Code
	severity finding.Severity
	state    finding.State
}

// findings tells how many there are of each kind, and of each machine that is told of
// those that it has.
func (c *Collector) findings(w *writer, names []string) {
	book, err := c.cfg.Findings.Load()
	w.put(findingsReadable, number(err == nil))
	if err != nil {
		return
	}
	told := map[string]bool{}
	for _, name := range names {
		told[name] = true
	}
	all, each := map[heap]int{}, map[heap]int{}
	for _, k := range finding.Kinds() {
		for _, s := range lastingLabels {
			all[heap{"", k, finding.SeverityOf(k), s}] = 0
		}
	}
	for _, f := range book.Findings(w.now) {
		if !slices.Contains(lastingLabels, f.State) {
			continue
		}
		all[heap{"", f.Kind, f.Severity, f.State}]++
		if told[f.Machine] {
			each[heap{f.Machine, f.Kind, f.Severity, f.State}]++
		}
	}
	for h, n := range all {
		w.put(findings, float64(n), string(h.kind), h.severity.String(), string(h.state))
	}
	for h, n := range each {
		w.put(machineFindings, float64(n), h.machine, string(h.kind), h.severity.String(), string(h.state))
	}
}

// maxCertificates bounds the certificates that are told of.
const maxCertificates = 1000

// certificates tells when the certificates of key sets end.
func (c *Collector) certificates(w *writer) {
	sets, err := c.cfg.Keysets()
	w.put(keysetsReadable, number(err == nil))
	type key struct{ set, role, sha256 string }
	told := map[key]bool{}
	for _, s := range sets {
		for _, cert := range s.Status(w.now) {
			k := key{s.Name, cert.Role, cert.SHA256}
			if told[k] || cert.NotAfter.IsZero() || len(told) >= maxCertificates {
				continue
			}
			told[k] = true
			w.put(certNotAfter, seconds(cert.NotAfter), s.Name, cert.Role, label(cert.Subject), cert.SHA256[:16], strconv.FormatBool(cert.Own))
		}
	}
}

// maxProviders bounds the key providers that are told of.
const maxProviders = 100

// providers tells how the key providers answer: without theirs no machine starts.
func (c *Collector) providers(w *writer) {
	probes, err := c.cfg.Providers()
	w.put(providersReadable, number(err == nil))
	for _, p := range probes[:min(len(probes), maxProviders)] {
		w.put(providerUp, number(p.Err == nil), label(p.Provider))
		w.put(providerSeconds, p.Took.Seconds(), label(p.Provider))
	}
}

// maxLabel bounds a text that somebody chose, in bytes.
const maxLabel = 128

func label(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxLabel)], "") }
