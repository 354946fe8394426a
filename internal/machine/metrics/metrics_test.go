package metrics_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/machine/metrics"
	"github.com/assay-project/assay/uefi/keyset"
)

// A fleetOf is machines that answer with what is here. One that has nil is silent until
// its question ends.
type fleetOf map[string]func() (*machine.Observation, error)

func (f fleetOf) Names() ([]string, error) { return slices.Sorted(maps.Keys(f)), nil }

func (f fleetOf) Observe(ctx context.Context, name string, _ *machine.Observation) (*machine.Observation, error) {
	if f[name] == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return f[name]()
}

func says(o *machine.Observation) func() (*machine.Observation, error) {
	return func() (*machine.Observation, error) { return o, nil }
}

func start() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }

// good is a machine that runs, booted as its baseline says, and attests.
func good(change ...func(*machine.Observation)) *machine.Observation {
	yes := true
	o := &machine.Observation{
		Status: machine.Status{
			Name: "web", State: machine.StateRunning, Boot: &machine.BootStatus{Counter: 3, Phase: machine.PhaseSystem, Early: &yes, Late: &yes},
			Shield: &fleet.Shielded{SecureBoot: true, VTPM: true, IntegrityMonitoring: true},
			Health: &machine.HealthStatus{Assessment: health.Assessment{Time: start(), State: health.Healthy}},
		},
		Records: machine.Records{
			Agent: true, Startups: 3, Judged: &machine.BootSummary{Counter: 3, Early: integrity.Passed, Late: integrity.Passed},
			Baseline: &machine.VersionSummary{Number: 1, Made: start().Add(-time.Hour)},
		},
		TPM: machine.TPMServing, Generation: 7, TPMID: "8d2f",
	}
	for _, c := range change {
		c(o)
	}
	return o
}

// off is the same machine after its end.
func off(change ...func(*machine.Observation)) *machine.Observation {
	return good(append([]func(*machine.Observation){func(o *machine.Observation) {
		o.State, o.Boot, o.Health, o.TPM, o.Generation, o.TPMID = machine.StateStopped, nil, nil, "", 0, ""
	}}, change...)...)
}

// collect returns the values by metric and labels, as the text format has them.
func collect(t *testing.T, cfg metrics.Config) map[string]float64 {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = start
	}
	c, err := metrics.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return gather(t, c)
}

func gather(t *testing.T, c *metrics.Collector) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(c); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := make([]string, 0, len(m.GetLabel()))
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			out[fmt.Sprintf("%s{%s}", f.GetName(), strings.Join(labels, ","))] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// is returns the one label value that has a 1 among the values of a metric of a machine.
func is(t *testing.T, all map[string]float64, metric, name, label string) string {
	t.Helper()
	var out []string
	for series, v := range all {
		rest, ok := strings.CutPrefix(series, fmt.Sprintf("assay_%s{machine=%q,%s=", metric, name, label))
		if ok && v == 1 {
			out = append(out, strings.Trim(rest, `"}`))
		}
	}
	if len(out) != 1 {
		t.Errorf("%s of %s is %q, want one", metric, name, out)
		return ""
	}
	return out[0]
}

// TestWhatIsNotKnownIsNeverGood has every way of not knowing how a machine is.
func TestWhatIsNotKnownIsNeverGood(t *testing.T) {
	t.Parallel()
	no, yes := false, true
	type observation = machine.Observation
	state := func(s string) func(*observation) { return func(o *observation) { o.State = s } }
	for name, tc := range map[string]struct {
		seen                         *observation
		err                          error
		state, early, late, attested string
		tpm                          string
	}{
		"as it should be":     {seen: good(), state: "running", early: "passed", late: "passed", attested: "healthy", tpm: "serving"},
		"off, booted well":    {seen: off(), state: "stopped", early: "passed", late: "passed", attested: "unknown", tpm: "off"},
		"does not answer":     {err: errors.New("away"), state: "unknown", early: "unknown", late: "unknown", attested: "unknown", tpm: "unknown"},
		"unsupervised":        {seen: off(state(machine.StateUnsupervised)), state: "unsupervised", early: "unknown", late: "unknown", attested: "unknown", tpm: "unknown"},
		"lost":                {seen: off(state(machine.StateLost)), state: "lost", early: "unknown", late: "unknown", attested: "unknown", tpm: "unknown"},
		"damaged":             {seen: off(state(machine.StateDamaged)), state: "damaged", early: "unknown", late: "unknown", attested: "unknown", tpm: "unknown"},
		"a state of tomorrow": {seen: off(state("reticulating")), state: "unknown", early: "unknown", late: "unknown", attested: "unknown", tpm: "unknown"},
		"home not read": {
			seen:  off(func(o *observation) { o.Unread = errors.New("no key") }),
			state: "stopped", early: "unknown", late: "unknown", attested: "unknown", tpm: "off",
		},
		"monitoring off": {
			seen:  good(func(o *observation) { o.Shield.IntegrityMonitoring = false }),
			state: "running", early: "off", late: "off", attested: "healthy", tpm: "serving",
		},
		"monitoring off since the last boot passed": {
			seen:  off(func(o *observation) { o.Shield.IntegrityMonitoring = false }),
			state: "stopped", early: "off", late: "off", attested: "unknown", tpm: "off",
		},
		"no options known": {seen: off(func(o *observation) { o.Shield = nil }), state: "stopped", early: "unknown", late: "unknown", attested: "unknown", tpm: "off"},
		"its TPM has ended": {
			seen:  good(func(o *observation) { o.TPM = machine.TPMLost }),
			state: "running", early: "unknown", late: "unknown", attested: "unknown", tpm: "lost",
		},
		"a TPM of tomorrow": {
			seen:  good(func(o *observation) { o.TPM = "well" }),
			state: "running", early: "unknown", late: "unknown", attested: "unknown", tpm: "unknown",
		},
		"first boot": {
			seen:  good(func(o *observation) { o.Judged.Early, o.Judged.Late = integrity.Learned, integrity.Learned }),
			state: "running", early: "learned", late: "learned", attested: "healthy", tpm: "serving",
		},
		"waits for its first baseline": {
			seen: good(func(o *observation) {
				o.Boot.Early, o.Boot.Late = &no, &no
				o.Judged.Early, o.Judged.Late = integrity.Unknown, integrity.Unknown
			}),
			state: "running", early: "unknown", late: "unknown", attested: "healthy", tpm: "serving",
		},
		"record not whole": {
			seen:  good(func(o *observation) { o.Boot.Late, o.Judged.Late = &no, integrity.Unknown }),
			state: "running", early: "passed", late: "unknown", attested: "healthy", tpm: "serving",
		},
		"boots": {
			seen:  good(func(o *observation) { o.Boot.Late, o.Judged.Late = nil, integrity.NotReached }),
			state: "running", early: "passed", late: "pending", attested: "healthy", tpm: "serving",
		},
		"boots anew after a boot that passed": {
			seen: good(func(o *observation) {
				o.Boot = &machine.BootStatus{Counter: 4, Phase: machine.PhaseFirmware}
				o.Health = new(machine.HealthStatus)
			}),
			state: "running", early: "pending", late: "pending", attested: "unknown", tpm: "serving",
		},
		"record is of another boot": {
			seen:  good(func(o *observation) { o.Boot.Counter = 4 }),
			state: "running", early: "unknown", late: "unknown", attested: "healthy", tpm: "serving",
		},
		"failed, record is of another boot": {
			seen:  good(func(o *observation) { o.Boot.Counter, o.Boot.Early, o.Boot.Late = 4, &no, &no }),
			state: "running", early: "failed", late: "failed", attested: "healthy", tpm: "serving",
		},
		"supervisor says failed, record passed": {
			seen:  good(func(o *observation) { o.Boot.Early, o.Boot.Late = &no, &no }),
			state: "running", early: "failed", late: "failed", attested: "healthy", tpm: "serving",
		},
		"supervisor says passed, record failed": {
			seen: good(func(o *observation) {
				o.Boot.Early, o.Boot.Late = &yes, &yes
				o.Judged.Early, o.Judged.Late = integrity.Failed, integrity.Failed
			}),
			state: "running", early: "failed", late: "failed", attested: "healthy", tpm: "serving",
		},
		"kept, and never judged": {
			seen:  good(func(o *observation) { o.Judged.Early, o.Judged.Late = integrity.NotReached, integrity.NotReached }),
			state: "running", early: "unknown", late: "unknown", attested: "healthy", tpm: "serving",
		},
		"restored and not watched": {
			seen:  good(func(o *observation) { o.Boot.Phase = machine.PhaseUnseen }),
			state: "running", early: "unknown", late: "unknown", attested: "healthy", tpm: "serving",
		},
		"never ran":              {seen: off(func(o *observation) { o.Judged = nil }), state: "stopped", early: "unknown", late: "unknown", attested: "unknown", tpm: "off"},
		"ended in the loader":    {seen: off(func(o *observation) { o.Judged.Late = integrity.NotReached }), state: "stopped", early: "passed", late: "unknown", attested: "unknown", tpm: "off"},
		"an outcome of tomorrow": {seen: off(func(o *observation) { o.Judged.Late = "splendid" }), state: "stopped", early: "passed", late: "unknown", attested: "unknown", tpm: "off"},
		"no agent":               {seen: good(func(o *observation) { o.Agent, o.Health = false, nil }), state: "running", early: "passed", late: "passed", attested: "off", tpm: "serving"},
		"agent not heard of":     {seen: good(func(o *observation) { o.Health = nil }), state: "running", early: "passed", late: "passed", attested: "unknown", tpm: "serving"},
		"departs":                {seen: good(func(o *observation) { o.Health.State = health.Departed }), state: "running", early: "passed", late: "passed", attested: "departed", tpm: "serving"},
		"unverified":             {seen: good(func(o *observation) { o.Health.State = health.Unverified }), state: "running", early: "passed", late: "passed", attested: "unverified", tpm: "serving"},
		"silent":                 {seen: good(func(o *observation) { o.Health.State = health.Silent }), state: "running", early: "passed", late: "passed", attested: "silent", tpm: "serving"},
		"healthy long ago": {
			seen:  good(func(o *observation) { o.Health.Time = start().Add(-metrics.Stale - time.Second) }),
			state: "running", early: "passed", late: "passed", attested: "unknown", tpm: "serving",
		},
		"silent for long": {
			seen: good(func(o *observation) {
				o.Health.State, o.Health.Time = health.Silent, start().Add(-metrics.Stale-time.Second)
			}),
			state: "running", early: "passed", late: "passed", attested: "silent", tpm: "serving",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := collect(t, metrics.Config{Machines: fleetOf{"web": func() (*machine.Observation, error) { return tc.seen, tc.err }}})
			got := []string{
				is(t, all, "machine_state", "web", "state"), is(t, all, "machine_early_boot_validation_status", "web", "status"),
				is(t, all, "machine_late_boot_validation_status", "web", "status"), is(t, all, "machine_attestation_status", "web", "status"),
				is(t, all, "machine_tpm_state", "web", "state"),
			}
			if diff := cmp.Diff([]string{tc.state, tc.early, tc.late, tc.attested, tc.tpm}, got); diff != "" {
				t.Errorf("state, early, late, attestation, TPM (-want +got):\n%s", diff)
			}
			if n := all[fmt.Sprintf("assay_machines{state=%q}", tc.state)]; n != 1 {
				t.Errorf("%v machines are %s, want 1", n, tc.state)
			}
		})
	}
}

// TestWhatIsToldOfAMachine holds the rest of the values of one.
func TestWhatIsToldOfAMachine(t *testing.T) {
	t.Parallel()
	o := good(func(o *machine.Observation) {
		o.Unkept = true
		o.Events = []machine.EventCount{{Type: integrity.EventLateReport, Outcome: "passed", Count: 2}, {Type: "danceEvent", Count: 5}, {Type: integrity.EventStartup, Outcome: "odd", Count: 1}}
	})
	all := collect(t, metrics.Config{Machines: fleetOf{"web": says(o)}})
	for series, want := range map[string]float64{
		`assay_machine_startups_total{machine="web"}`:                                           3,
		`assay_machine_baseline_age_seconds{machine="web"}`:                                     3600,
		`assay_machine_attestation_timestamp_seconds{machine="web"}`:                            float64(start().Unix()),
		`assay_machine_option_enabled{machine="web",option="secure_boot"}`:                      1,
		`assay_machine_option_enabled{machine="web",option="agent"}`:                            1,
		`assay_vtpm_state_generation{machine="web",tpm="8d2f"}`:                                 7,
		`assay_machine_events_kept{machine="web"}`:                                              0,
		`assay_machine_home_readable{machine="web"}`:                                            1,
		`assay_machine_boot_phase{machine="web",phase="operatingSystem"}`:                       1,
		`assay_machine_boot_phase{machine="web",phase="stuck"}`:                                 0,
		`assay_machine_events_total{machine="web",outcome="passed",type="lateBootReportEvent"}`: 2,
		`assay_machine_events_total{machine="web",outcome="failed",type="lateBootReportEvent"}`: 0,
		`assay_machine_events_total{machine="web",outcome="",type="other"}`:                     6,
		`assay_collected_timestamp_seconds{}`:                                                   float64(start().Unix()),
		`assay_machines{state="lost"}`:                                                          0,
		`assay_machines_listed{}`:                                                               1,
		`assay_machines_omitted{}`:                                                              0,
	} {
		if got, there := all[series]; !there || got != want {
			t.Errorf("%s is %v (%v), want %v", series, got, there, want)
		}
	}
}

// TestAMachineThatHangsHidesNoOther has more of them than are asked at once.
func TestAMachineThatHangsHidesNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := fleetOf{}
		for n := range 200 {
			f[fmt.Sprintf("hung-%d", n)] = nil
		}
		for n := range 10 { // after all that hang, by name
			f[fmt.Sprintf("well-%d", n)] = says(good())
		}
		c, err := metrics.New(metrics.Config{Machines: f, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // those that hang come last the second time
			begun := time.Now()
			last := gather(t, c)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("a collection took %v, want at most 5 s", took)
			}
			if last[`assay_machines{state="unknown"}`] < 200 || len(last) < 210*10 {
				t.Errorf("%v machines are unknown, of %d series", last[`assay_machines{state="unknown"}`], len(last))
			}
			if last[`assay_machines{state="running"}`] == 10 {
				return
			}
			time.Sleep(10 * time.Second)
		}
		t.Error("those that answer are not told of after one collection")
	})
}

// stuckDisk is a machine whose question does not end with its time.
type stuckDisk struct {
	fleetOf
	asked chan struct{}
	until chan struct{}
}

func (s stuckDisk) Observe(ctx context.Context, name string, known *machine.Observation) (*machine.Observation, error) {
	if name == "stuck" {
		s.asked <- struct{}{}
		<-s.until
	}
	return s.fleetOf.Observe(ctx, name, known)
}

// TestAQuestionThatDoesNotEndIsNotAskedAgain is a home on a disk that hangs.
func TestAQuestionThatDoesNotEndIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := stuckDisk{fleetOf{"stuck": says(good()), "web": says(good())}, make(chan struct{}, 9), make(chan struct{})}
		c, err := metrics.New(metrics.Config{Machines: s, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			all := gather(t, c)
			if is(t, all, "machine_state", "stuck", "state") != "unknown" || is(t, all, "machine_state", "web", "state") != "running" {
				t.Error("the disk that hangs is not unknown, or the other is")
			}
		}
		if len(s.asked) != 1 {
			t.Errorf("asked %d times, want once", len(s.asked))
		}
		close(s.until)
		synctest.Wait()
		if all := gather(t, c); is(t, all, "machine_state", "stuck", "state") != "running" {
			t.Error("the machine is not asked any more")
		}
	})
}

// TestAMachineThatIsGoneIsNotTold deletes one between its name and its question.
func TestAMachineThatIsGoneIsNotTold(t *testing.T) {
	t.Parallel()
	all := collect(t, metrics.Config{Machines: fleetOf{
		"gone": func() (*machine.Observation, error) { return nil, fmt.Errorf("gone: %w", machine.ErrUnknown) }, "web": says(good()),
	}})
	for series := range all {
		if strings.Contains(series, "gone") {
			t.Errorf("%s is told", series)
		}
	}
}

// TestMachinesBeyondTheLimitAreCounted has no more series than the limit allows.
func TestMachinesBeyondTheLimitAreCounted(t *testing.T) {
	t.Parallel()
	all := collect(t, metrics.Config{Machines: fleetOf{"a": says(good()), "b": says(good()), "c": says(good())}, Limit: 2})
	if _, told := all[`assay_machine_startups_total{machine="c"}`]; told || all["assay_machines_omitted{}"] != 1 {
		t.Errorf("c is told: %v; omitted: %v, want 1", told, all["assay_machines_omitted{}"])
	}
}

type noMachines struct{ fleetOf }

func (noMachines) Names() ([]string, error) { return nil, errors.New("no folder") }

type book func() (*finding.Book, error)

func (b book) Load() (*finding.Book, error) { return b() }

// TestWhatCannotBeReadIsSaid has nothing to read.
func TestWhatCannotBeReadIsSaid(t *testing.T) {
	t.Parallel()
	all := collect(t, metrics.Config{
		Machines: noMachines{}, Findings: book(func() (*finding.Book, error) { return nil, errors.New("damaged") }),
		Keysets: func() ([]*keyset.Set, error) { return nil, errors.New("damaged") },
	})
	for _, series := range []string{"assay_machines_listed{}", "assay_findings_readable{}", "assay_keysets_readable{}"} {
		if v, there := all[series]; !there || v != 0 {
			t.Errorf("%s is %v (%v), want 0", series, v, there)
		}
	}
	for series := range all {
		if strings.HasPrefix(series, "assay_findings{") {
			t.Errorf("%s is told of findings that could not be read", series)
		}
	}
}

// TestFindingsAreCounted has one of a machine that is told of, and one of another.
func TestFindingsAreCounted(t *testing.T) {
	t.Parallel()
	b, err := finding.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signals := append(finding.FromAttestation("web", finding.HealthSilent, 1, nil), finding.Signal{Kind: finding.TPMLost, Machine: "elsewhere"})
	if err := b.Apply(start(), signals...); err != nil {
		t.Fatal(err)
	}
	all := collect(t, metrics.Config{Machines: fleetOf{"web": says(good())}, Findings: book(func() (*finding.Book, error) { return b, nil })})
	for series, want := range map[string]float64{
		`assay_findings{kind="finding.attestation-silent",severity="medium",state="open"}`:                       1,
		`assay_findings{kind="finding.attestation-departs",severity="medium",state="open"}`:                      0,
		`assay_findings{kind="finding.tpm-lost",severity="high",state="open"}`:                                   1,
		`assay_machine_findings{kind="finding.attestation-silent",machine="web",severity="medium",state="open"}`: 1,
		`assay_findings_readable{}`: 1,
	} {
		if got, there := all[series]; !there || got != want {
			t.Errorf("%s is %v (%v), want %v", series, got, there, want)
		}
	}
	for series := range all {
		if strings.Contains(series, "elsewhere") {
			t.Errorf("%s is told of a machine that is not there", series)
		}
	}
}

// TestCertificatesOfKeySetsAreToldOnce has one set twice.
func TestCertificatesOfKeySetsAreToldOnce(t *testing.T) {
	t.Parallel()
	set, _, err := keyset.New("plain", keyset.Options{Kind: keyset.Microsoft, Now: start(), Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	all := collect(t, metrics.Config{Machines: fleetOf{}, Keysets: func() ([]*keyset.Set, error) { return []*keyset.Set{set, set}, nil }})
	n := 0
	for series, v := range all {
		if strings.HasPrefix(series, "assay_secure_boot_cert_not_after_seconds{") {
			if n++; v < float64(start().AddDate(-1, 0, 0).Unix()) {
				t.Errorf("%s is %v", series, v)
			}
		}
	}
	if n != len(set.Status(start())) {
		t.Errorf("%d certificates are told of, want %d", n, len(set.Status(start())))
	}
}
