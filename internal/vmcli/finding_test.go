package vmcli

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/program/programtest"
	"github.com/assay-project/assay/internal/vtpmcli"
)

// Findings that come into the book long after their machine: what its events have ended is
// over.
func TestFindingsThatComeLateKnowWhatEnded(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := start
	host := func() *hostFlags {
		var out, errs programtest.Buffer
		env := programtest.Env(&out, &errs)
		env.Now = func() time.Time { return now }
		h := &hostFlags{Host: vtpmcli.HostAt(filepath.Join(t.TempDir(), "vtpm")), env: env}
		stop, err := h.record()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		return h
	}
	a, b := host(), host()
	failed := []evidence.Reason{{Code: "integrity.late-boot-mismatch", Message: "kernel"}}
	a.signal([]finding.Signal{
		{Kind: finding.LateBootFailed, Machine: "web-1", Boot: 1, Reasons: failed},
		{Kind: finding.AttestationDeparts, Machine: "web-1", Boot: 1, Reasons: failed},
		{Kind: finding.TPMCleared, Machine: "web-1"},
	})
	parcel, err := carried{a}.Pack(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	now = start.Add(time.Hour)
	since := machine.Stay{Began: start.Add(time.Minute), Events: []integrity.Notice{
		{Type: integrity.EventSetPolicy, Instance: "web-1", Time: start.Add(2 * time.Minute), BootCounter: 1},
		{Type: integrity.EventConfig, Instance: "web-1", Time: start.Add(2 * time.Minute), Reasons: []evidence.Reason{{Code: "machine.monitoring-off", Message: "it is off"}}},
		{Type: integrity.EventAttestation, Instance: "web-1", Time: start.Add(3 * time.Minute), BootCounter: 1, Health: string(health.Healthy)},
	}}
	if err := (carried{b}).Unpack(t.Context(), "web-1", parcel, since); err != nil {
		t.Fatal(err)
	}
	s, err := b.Findings(b.env)
	if err != nil {
		t.Fatal(err)
	}
	book, err := s.Load()
	if err != nil {
		t.Fatal(err)
	}
	ended := map[evidence.Code]string{}
	for _, f := range book.Findings(now) {
		ended[f.Kind] = "lasts"
		if f.Ended != nil {
			ended[f.Kind] = f.Ended.Sub(start).String()
		}
	}
	want := map[evidence.Code]string{finding.LateBootFailed: "2m0s", finding.AttestationDeparts: "3m0s", finding.TPMCleared: "lasts"}
	for kind, when := range want {
		if ended[kind] != when {
			t.Errorf("%s: %s, want %s", kind, ended[kind], when)
		}
	}
}
