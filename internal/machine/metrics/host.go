package metrics

import (
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/finding"
)

// findings tells how many there are of each kind, and of each machine that is told of.
func (c *Collector) findings(w *writer, names []string) {
	book, err := c.cfg.Findings.Load()
	w.put(findingsReadable, number(err == nil))
	if err != nil {
		return
	}
	type host struct {
		kind     string
		severity finding.Severity
		state    finding.State
	}
	type own struct {
		machine  string
		severity finding.Severity
		state    finding.State
	}
	all, each := map[host]int{}, map[own]int{}
	for _, k := range finding.Kinds() {
		for _, s := range lastingLabels {
			all[host{string(k), finding.SeverityOf(k), s}] = 0
		}
	}
	for _, name := range names {
		for _, severity := range severityLabels {
			for _, s := range lastingLabels {
				each[own{name, severity, s}] = 0
			}
		}
	}
	for _, f := range book.Findings(w.now) {
		if !slices.Contains(lastingLabels, f.State) {
			continue
		}
		all[host{string(f.Kind), f.Severity, f.State}]++
		if _, told := each[own{f.Machine, f.Severity, f.State}]; told {
			each[own{f.Machine, f.Severity, f.State}]++
		}
	}
	for k, n := range all {
		w.put(findings, float64(n), k.kind, k.severity.String(), string(k.state))
	}
	for k, n := range each {
		w.put(machineAlerts, float64(n), k.machine, k.severity.String(), string(k.state))
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

// maxLabel bounds a text that somebody chose, in bytes.
const maxLabel = 128

func label(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxLabel)], "") }
