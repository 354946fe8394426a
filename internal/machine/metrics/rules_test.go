package metrics_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/internal/machine/metrics"
	"github.com/assay-project/assay/uefi/keyset"
)

// The files that are tested here.
const (
	rulesFile     = "../../../packaging/prometheus/assay.rules.yml"
	dashboardFile = "../../../packaging/grafana/assay-machines.json"
	guideFile     = "../../../docs/metrics.md"
)

// promtool is Prometheus' own judge of rules.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("ASSAY_REQUIRE_PROMETHEUS") == "1" {
		t.Fatal("promtool is not installed: make setup does")
	}
	if err != nil {
		t.Skip("promtool is not installed")
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A sight is the host at one time.
type sight struct {
	machine  *machine.Observation // web; nil does not answer
	signals  []finding.Signal
	suppress []finding.Suppression
	broken   bool // neither findings nor key sets can be read
	unlisted bool
	limit    int
	keys     *keyset.Set
	later    time.Duration // that the keys are good for longer
	old      bool          // the values were collected at the beginning
	probe    metrics.Probe // of the only key provider; nil error and no time when it is well
	unlist   bool          // the list of key providers cannot be read
}

// series are what the collector says of a sight.
func (s *sight) series(t *testing.T, at time.Time) map[string]float64 {
	t.Helper()
	b, err := finding.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, sup := range s.suppress {
		if err := b.Suppress(sup); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Apply(start(), s.signals...); err != nil {
		t.Fatal(err)
	}
	cfg := metrics.Config{
		Machines: fleetOf{"web": func() (*machine.Observation, error) {
			if s.machine == nil {
				return nil, errors.New("away")
			}
			o := *s.machine
			if h := o.Health; h != nil && h.State != health.Unknown {
				now := *h
				now.Time = at
				o.Health = &now
			}
			return &o, nil
		}},
		Findings: book(func() (*finding.Book, error) { return b, nil }), Keysets: func() ([]*keyset.Set, error) { return nil, nil },
		Now: func() time.Time { return at }, Limit: s.limit,
	}
	cfg.Providers = func() ([]metrics.Probe, error) {
		if s.unlist {
			return nil, errors.New("damaged")
		}
		return []metrics.Probe{{Provider: "main", Took: s.probe.Took + time.Millisecond, Err: s.probe.Err}}, nil
	}
	if s.limit > 0 {
		cfg.Machines = fleetOf{"web": says(s.machine), "zulu": says(s.machine)}
	}
	if s.unlisted {
		cfg.Machines = noMachines{}
	}
	if s.keys != nil {
		cfg.Keysets = func() ([]*keyset.Set, error) { return []*keyset.Set{s.keys}, nil }
	}
	if s.broken {
		cfg.Findings, cfg.Keysets = book(func() (*finding.Book, error) { return nil, errors.New("damaged") }), func() ([]*keyset.Set, error) { return nil, errors.New("damaged") }
	}
	return collect(t, cfg)
}

// A scenario is a host that is as Before for ten minutes, and as Then from then on.
// Exactly the alerts Fires fire At minutes after that.
type scenario struct {
	before, then *sight // nil before: as then; nil then: nobody collects
	other        *sight // another host, with a machine of the same name; nil for none
	at           int
	fires        []string
}

const minutesBefore = 10

var kindLabel = regexp.MustCompile(`kind="([^"]+)"`)

// input is the scenario as values a minute, by series.
func (s *scenario) input(t *testing.T, name string) map[string]string {
	t.Helper()
	out, total, rules := map[string][]string{}, minutesBefore+s.at+1, read(t, rulesFile)
	add := func(from, to int, now *sight, host string) {
		if now == nil {
			return
		}
		values := now.series(t, start())
		for minute := from; minute < to; minute++ {
			for series, v := range values {
				metric, labels, _ := strings.Cut(series, "{")
				if !strings.Contains(rules, metric) {
					continue
				}
				if k := kindLabel.FindStringSubmatch(labels); k != nil && !strings.Contains(rules, k[1]) {
					continue
				}
				series = strings.Replace(series, "{", fmt.Sprintf("{scenario=%q,instance=%q,", name, host), 1)
				switch {
				case strings.HasPrefix(series, "assay_collected_timestamp_seconds"):
					if v = float64(60 * minute); now.old {
						v = float64(60 * from)
					}
				case strings.HasPrefix(series, "assay_secure_boot_cert"):
					v += now.later.Seconds() - float64(start().Unix()) // promtool's time begins at zero
				case strings.HasPrefix(series, "assay_machine_startups_total") && slices.Contains(s.fires, "AssayRestartLoop"):
					v += float64(minute)
				}
				for len(out[series]) < minute {
					out[series] = append(out[series], "_")
				}
				out[series] = append(out[series], strconv.FormatFloat(v, 'f', -1, 64))
			}
		}
	}
	before := s.before
	if before == nil {
		before = s.then
	}
	add(0, minutesBefore, before, "a")
	add(minutesBefore, total, s.then, "a")
	add(0, total, s.other, "b")
	text := map[string]string{}
	for name, values := range out {
		for len(values) < total {
			values = append(values, "stale")
		}
		text[name] = strings.Join(values, " ")
	}
	return text
}

// alertNames are those of the rules file.
func alertNames(t *testing.T) (out []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, rulesFile), -1) {
		out = append(out, m[1])
	}
	return out
}

// TestEachAlertFiresAtWhatItIsAboutAndAtNothingElse has promtool play each scenario: all
// series come from the collector itself.
func TestEachAlertFiresAtWhatItIsAboutAndAtNothingElse(t *testing.T) {
	t.Parallel()
	all, fired := scenarios(t), map[string]bool{}
	// Those in which somebody collects are played at once, told apart by a label: only
	// absence is the same for all.
	together, b := new(playing), new(bytes.Buffer)
	fmt.Fprint(b, "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		s := all[name]
		p := together
		if s.then == nil {
			p = new(playing)
		}
		p.add(t, name, &s)
		if p != together {
			p.write(b)
		}
		for _, alert := range s.fires {
			fired[alert] = true
		}
	}
	together.write(b)
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.yml": read(t, rulesFile), "test.yml": b.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool(t, "check", "rules", filepath.Join(dir, "rules.yml"))
	promtool(t, "test", "rules", filepath.Join(dir, "test.yml"))
	for _, alert := range alertNames(t) {
		if !fired[alert] {
			t.Errorf("no scenario has %s fire", alert)
		}
	}
}

// A playing is one test of promtool.
type playing struct{ series, checks bytes.Buffer }

func (p *playing) add(t *testing.T, name string, s *scenario) {
	t.Helper()
	for series, values := range s.input(t, name) {
		fmt.Fprintf(&p.series, "  - {series: '%s', values: '%s'}\n", series, values)
	}
	// ALERTS is what fires, at any machine and with any label.
	label := fmt.Sprintf("scenario=%q", name)
	if s.then == nil {
		label = ""
	}
	fmt.Fprintf(&p.checks, "  - expr: 'group by (alertname) (ALERTS{alertstate=\"firing\",%s})'\n    eval_time: %dm\n    exp_samples:\n", label, minutesBefore+s.at)
	for _, alert := range s.fires {
		fmt.Fprintf(&p.checks, "    - {labels: '{alertname=%q}', value: 1}\n", alert)
	}
}

func (p *playing) write(to *bytes.Buffer) {
	fmt.Fprintf(to, "- interval: 1m\n  input_series:\n%s  promql_expr_test:\n%s", p.series.Bytes(), p.checks.Bytes())
}

func suppressed(code finding.Signal) finding.Suppression {
	return finding.Suppression{Kind: code.Kind, Machine: "web", Reason: "known", Author: "alice", Made: start(), Until: start().Add(24 * time.Hour)}
}

// about is a scenario in which a finding is open, and one in which it is suppressed.
func about(o *machine.Observation, code finding.Signal, alert string) (open, silent scenario) {
	code.Machine = "web"
	return scenario{then: &sight{machine: o, signals: []finding.Signal{code}}, at: 1, fires: []string{alert}},
		scenario{then: &sight{machine: o, signals: []finding.Signal{code}, suppress: []finding.Suppression{suppressed(code)}}, at: 1}
}

// scenarios are all that is played, by name.
func scenarios(t *testing.T) map[string]scenario {
	t.Helper()
	type observation = machine.Observation
	no, own := false, ownKeys(t)
	state := func(s string) *observation { return off(func(o *observation) { o.State, o.Problem = s, "why" }) }
	phase := func(p string) *observation {
		return good(func(o *observation) {
			o.Boot.Phase, o.Boot.Early, o.Boot.Late, o.Judged.Early, o.Judged.Late = p, nil, nil, integrity.NotReached, integrity.NotReached
		})
	}
	attests := func(s health.State) *observation { return good(func(o *observation) { o.Health.State = s }) }
	option := func(f func(*observation)) *sight { return &sight{machine: good(f)} }
	well := &sight{machine: good()}
	unjudged := &sight{machine: good(func(o *observation) { o.Boot.Late, o.Judged.Late = &no, integrity.Unknown })}
	noKey := &sight{machine: off(func(o *observation) { o.Unread, o.Shield, o.Records = errors.New("away"), nil, machine.Records{} })}
	insecure := func(secure bool, kinds ...evidence.Code) *sight {
		out := &sight{
			machine:  good(func(o *observation) { o.Shield.SecureBoot, o.Health.State = secure, health.Departed }),
			suppress: []finding.Suppression{suppressed(finding.Signal{Kind: finding.AttestationUnhealthy})},
		}
		for _, k := range kinds {
			out.signals = append(out.signals, finding.Signal{Kind: k, Machine: "web"})
		}
		return out
	}
	stateOf := func(tpm string, generation, startups uint64) *sight {
		return &sight{machine: good(func(o *observation) { o.TPMID, o.Generation, o.Startups = tpm, generation, startups })}
	}
	departs := []string{"AssayAttestationDeparts"}
	out := map[string]scenario{
		"no secure boot by definition, suppressed": {then: insecure(false, finding.AttestationUnhealthy), at: 1},
		"no secure boot, and another boot":         {then: insecure(false, finding.AttestationUnhealthy, finding.AttestationDeparts), at: 1, fires: departs},
		"no secure boot against the definition":    {then: insecure(true, finding.AttestationUnhealthy), at: 1, fires: departs},
		"all well":                                 {then: well, at: 22},
		"off after a good boot":                    {before: well, then: &sight{machine: off()}, at: 22},
		"first boot, compared with nothing":        {then: &sight{machine: good(func(o *observation) { o.Judged.Early, o.Judged.Late = integrity.Learned, integrity.Learned })}, at: 22},
		"boots":                                    {before: well, then: &sight{machine: phase(machine.PhaseFirmware)}, at: 22},
		"monitoring was never on":                  {then: option(func(o *observation) { o.Shield = &fleet.Shielded{} }), at: 22},
		"monitoring switched off":                  {before: well, then: option(func(o *observation) { o.Shield = &fleet.Shielded{SecureBoot: true, VTPM: true} }), at: 1, fires: []string{"AssayProtectionSwitchedOff"}},
		"secure boot switched off":                 {before: well, then: option(func(o *observation) { o.Shield = &fleet.Shielded{VTPM: true, IntegrityMonitoring: true} }), at: 1, fires: []string{"AssayProtectionSwitchedOff"}},
		"the agent is no longer wanted":            {before: well, then: option(func(o *observation) { o.Agent, o.Health = false, nil }), at: 22},
		"not judged, at first":                     {before: well, then: unjudged, at: 4},
		"not judged":                               {before: well, then: unjudged, at: 6, fires: []string{"AssayBootNotJudged"}},
		"a boot each minute":                       {then: well, at: 10, fires: []string{"AssayRestartLoop"}},
		"not attested for a while":                 {before: well, then: &sight{machine: attests(health.Unknown)}, at: 19},
		"not attested":                             {before: well, then: &sight{machine: attests(health.Unknown)}, at: 21, fires: []string{"AssayAttestationUnknown"}},
		"TPM ended":                                {before: well, then: &sight{machine: good(func(o *observation) { o.TPM = machine.TPMLost })}, at: 22, fires: []string{"AssayTPMLost"}},
		"unsupervised":                             {before: well, then: &sight{machine: state(machine.StateUnsupervised)}, at: 22, fires: []string{"AssayMachineUnsupervised"}},
		"lost":                                     {before: well, then: &sight{machine: state(machine.StateLost)}, at: 22, fires: []string{"AssayMachineLost"}},
		"damaged":                                  {before: well, then: &sight{machine: state(machine.StateDamaged)}, at: 22, fires: []string{"AssayMachineDamaged"}},
		"no answer, for moments":                   {before: well, then: &sight{}, at: 4},
		"no answer":                                {before: well, then: &sight{}, at: 22, fires: []string{"AssayMachineDoesNotAnswer"}},
		"no key for a home, for moments":           {then: noKey, before: well, at: 9},
		"no key for a home":                        {then: noKey, at: 22, fires: []string{"AssayHomeUnreadable"}},
		"events not kept":                          {before: well, then: &sight{machine: good(func(o *observation) { o.Unkept = true })}, at: 1, fires: []string{"AssayEventsNotKept"}},
		"findings and key sets, for moments":       {before: well, then: &sight{machine: good(), broken: true}, at: 4},
		"findings and key sets not read":           {before: well, then: &sight{machine: good(), broken: true}, at: 11, fires: []string{"AssayFindingsUnreadable", "AssayKeysetsUnreadable"}},
		"machines not listed, for moments":         {before: well, then: &sight{unlisted: true}, at: 4},
		"machines not listed":                      {before: well, then: &sight{unlisted: true}, at: 6, fires: []string{"AssayMachinesUnlisted"}},
		"too many machines":                        {then: &sight{machine: good(), limit: 1}, at: 1, fires: []string{"AssayMachinesOmitted"}},
		"nobody collects, for moments":             {before: well, at: 4},
		"nobody collects":                          {before: well, at: 6, fires: []string{"AssayMetricsMissing"}},
		"an old file of metrics":                   {before: well, then: &sight{machine: good(), old: true}, at: 11, fires: []string{"AssayMetricsStale"}},
		"a file of five minutes":                   {before: well, then: &sight{machine: good(), old: true}, at: 5},
		"no attestation, and one of that name is off elsewhere": {
			then: &sight{machine: off()}, other: &sight{machine: attests(health.Unknown)}, at: 22, fires: []string{"AssayAttestationUnknown"},
		},
		"no attestation of one that is off, and one of that name is well": {then: &sight{machine: off()}, other: well, at: 22},
		"the state of the TPM goes back":                                  {before: well, then: stateOf("8d2f", 4, 3), at: 2, fires: []string{"AssayVTPMStateWentBack"}},
		"the state of the TPM goes on":                                    {before: well, then: stateOf("8d2f", 9, 3), at: 22},
		"the state of the TPM goes back with the whole host":              {before: well, then: stateOf("8d2f", 4, 2), at: 2, fires: []string{"AssayVTPMStateWentBack"}},
		"another machine of the name":                                     {before: well, then: stateOf("77aa", 1, 1), at: 22},
		"another TPM of the machine":                                      {before: well, then: stateOf("77aa", 1, 3), at: 22},
		"a key provider that fails for moments":                           {before: well, then: &sight{machine: good(), probe: metrics.Probe{Err: errors.New("away")}}, at: 4},
		"a key provider that fails":                                       {before: well, then: &sight{machine: good(), probe: metrics.Probe{Err: errors.New("away"), Took: 3 * time.Second}}, at: 11, fires: []string{"AssayKeyProviderDown"}},
		"a key provider that is slow for moments":                         {before: well, then: &sight{machine: good(), probe: metrics.Probe{Took: 3 * time.Second}}, at: 9},
		"a key provider that is slow":                                     {before: well, then: &sight{machine: good(), probe: metrics.Probe{Took: 3 * time.Second}}, at: 11, fires: []string{"AssayKeyProviderSlow"}},
		"key providers not read":                                          {before: well, then: &sight{machine: good(), unlist: true}, at: 11, fires: []string{"AssayKeyProvidersUnreadable"}},
		"keys of a year":                                                  {then: &sight{machine: good(), keys: own, later: 365 * 24 * time.Hour}, at: 11},
		"own keys that end":                                               {then: &sight{machine: good(), keys: own}, at: 11, fires: []string{"AssayCertificateEnds"}},
	}
	for alert, of := range map[string]struct {
		machine *observation
		code    finding.Signal
	}{
		"AssayEarlyBootFailed":         {good(func(o *observation) { o.Boot.Early, o.Judged.Early = &no, integrity.Failed }), finding.Signal{Kind: finding.EarlyBootFailed}},
		"AssayLateBootFailed":          {good(func(o *observation) { o.Boot.Late, o.Judged.Late = &no, integrity.Failed }), finding.Signal{Kind: finding.LateBootFailed}},
		"AssayBootDeadlineMissed":      {phase(machine.PhaseStuck), finding.Signal{Kind: finding.BootDeadline}},
		"AssayBootRefused":             {phase(machine.PhaseRefused), finding.Signal{Kind: finding.BootRefused}},
		"AssayAttestationDeparts":      {attests(health.Departed), finding.Signal{Kind: finding.AttestationDeparts}},
		"AssayAttestationUnverified":   {attests(health.Unverified), finding.Signal{Kind: finding.AttestationUnverified}},
		"AssayAttestationSilent":       {attests(health.Silent), finding.Signal{Kind: finding.AttestationSilent}},
		"AssayFirmwareRegisterChanged": {good(), finding.Signal{Kind: finding.RegisterChanged}},
		"AssayVTPMCleared":             {good(), finding.Signal{Kind: finding.TPMCleared}},
		"AssayUntrustedModule":         {good(), finding.Signal{Kind: finding.ModuleUntrusted, Component: "evil"}},
		"AssayFindingsUndelivered":     {good(), finding.Signal{Kind: finding.DeliveryFailed}},
	} {
		out[alert], out[alert+", suppressed"] = about(of.machine, of.code, alert)
		// The suppression of another kind silences nothing.
		other := out[alert].then
		out[alert+", another suppressed"] = scenario{then: &sight{
			machine: other.machine, signals: append(slices.Clone(other.signals), finding.Signal{Kind: finding.SecureBootOff, Machine: "web"}),
			suppress: []finding.Suppression{suppressed(finding.Signal{Kind: finding.SecureBootOff})},
		}, at: 1, fires: []string{alert}}
	}
	return out
}

// ownKeys is a key set whose keys end in a month.
func ownKeys(t *testing.T) *keyset.Set {
	t.Helper()
	const years = 20 // that they last
	set, _, err := keyset.New("own", keyset.Options{Kind: keyset.Own, Now: start().AddDate(-years, 1, 0), Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
