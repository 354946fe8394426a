package finding_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/integrity"
)

// short writes signals as +kind and -kind.
func short(signals []finding.Signal) (out []string) {
	for _, s := range signals {
		sign := "+"
		if s.Ends {
			sign = "-"
		}
		out = append(out, sign+string(s.Kind)[len("finding."):])
	}
	return out
}

func because(codes ...evidence.Code) (out []evidence.Reason) {
	for _, c := range codes {
		out = append(out, evidence.Reason{Code: c, Message: "words"})
	}
	return out
}

func TestEachNoticeHasItsFindings(t *testing.T) {
	pass, fail := &baseline.Report{PolicyEvaluationPassed: true}, &baseline.Report{}
	early, late, attempt := integrity.EventEarlyReport, integrity.EventLateReport, integrity.EventAttemptFailed
	stuck := integrity.EventStuck
	for name, tc := range map[string]struct {
		kind    string
		report  *baseline.Report
		reasons []evidence.Reason
		want    []string
	}{
		"startup":                               {integrity.EventStartup, nil, nil, []string{"-tpm-lost", "-record-full"}},
		"the record is full":                    {integrity.EventRecordFull, nil, because("integrity.record-full"), []string{"+record-full"}},
		"the TPM ends":                          {integrity.EventTPMLost, nil, because("machine.tpm-lost"), []string{"+tpm-lost"}},
		"refused for good":                      {integrity.EventRefused, nil, because("serial.shim-refused", "serial.no-boot-option"), []string{"+boot-refused", "-boot-deadline"}},
		"nothing to boot from":                  {integrity.EventRefused, nil, because("serial.not-loaded", "serial.no-boot-option"), []string{"+boot-deadline"}},
		"shutdown":                              {kind: integrity.EventShutdown},
		"early passes":                          {early, pass, nil, []string{"-early-boot-failed"}},
		"early fails":                           {early, fail, because("integrity.early-boot-mismatch"), []string{"+early-boot-failed"}},
		"early without a report":                {early, nil, nil, []string{"+early-boot-failed"}},
		"late passes":                           {late, pass, nil, []string{"-boot-refused", "-boot-deadline", "-late-boot-failed", "-boot-not-judged", "-baseline-unapproved"}},
		"late fails":                            {late, fail, because("integrity.late-boot-mismatch"), []string{"-boot-refused", "-boot-deadline", "+late-boot-failed", "-boot-not-judged"}},
		"learned ends no failure":               {late, pass, because("integrity.baseline-learned"), []string{"-boot-refused", "-boot-deadline"}},
		"record is not whole":                   {late, fail, because("integrity.record-incomplete"), []string{"+boot-not-judged"}},
		"early record is not whole":             {early, fail, because("integrity.record-incomplete"), []string{"+boot-not-judged"}},
		"waits for a person":                    {late, fail, because("integrity.baseline-unapproved"), []string{"-boot-refused", "-boot-deadline", "+baseline-unapproved"}},
		"baseline is set":                       {integrity.EventSetPolicy, nil, nil, []string{"-baseline-unapproved"}},
		"empty drive before the disk":           {attempt, nil, because("integrity.attempt-refused"), nil},
		"boot menu was left":                    {attempt, nil, because("integrity.attempt-failed"), nil},
		"firmware says that it refused":         {attempt, nil, because("integrity.attempt-refused", "serial.secure-boot-refused"), []string{"+boot-refused"}},
		"GRUB says that it refused":             {attempt, nil, because("integrity.attempt-failed", "serial.grub-refused"), []string{"+boot-refused"}},
		"stuck":                                 {stuck, nil, because("integrity.boot-deadline"), []string{"+boot-deadline"}},
		"only the firmware's shell was refused": {integrity.EventRefused, nil, because("serial.shell-refused", "serial.no-boot-option"), []string{"+boot-deadline"}},
		"stuck after a refusal":                 {stuck, nil, because("integrity.boot-deadline", "serial.secure-boot-refused"), []string{"+boot-refused", "-boot-deadline"}},
		"stuck after a silent refusal":          {stuck, nil, because("integrity.boot-deadline", "integrity.attempt-refused"), []string{"+boot-refused", "-boot-deadline"}},
		"stuck with nothing to boot":            {stuck, nil, because("integrity.boot-deadline", "integrity.attempt-refused", "serial.not-loaded"), []string{"+boot-deadline"}},
		"register of the firmware":              {integrity.EventAppended, nil, because("integrity.firmware-register-changed"), []string{"+register-changed"}},
		"TPM cleared":                           {integrity.EventClearTPM, nil, nil, []string{"+tpm-cleared"}},
		"configuration changed":                 {kind: integrity.EventConfig},
		"monitoring is off":                     {integrity.EventConfig, nil, because("machine.configuration-changed", "machine.monitoring-off"), []string{"-early-boot-failed", "-late-boot-failed", "-boot-not-judged", "-baseline-unapproved"}},
		"the vTPM is gone":                      {integrity.EventConfig, nil, because("machine.tpm-removed"), []string{"-boot-refused", "-boot-deadline", "-tpm-lost", "-record-full", "-register-changed", "-tpm-cleared"}},
		"a resume":                              {kind: integrity.EventResumed},
		"an event that nobody knows here":       {kind: "somethingNew"},
	} {
		t.Run(name, func(t *testing.T) {
			n := &integrity.Notice{Type: tc.kind, Instance: "web-1", BootCounter: 7, Report: tc.report, Reasons: tc.reasons}
			got := finding.FromNotice(n)
			if diff := cmp.Diff(tc.want, short(got)); diff != "" {
				t.Errorf("signals (-want +got):\n%s", diff)
			}
			for _, s := range got {
				if s.Machine != "web-1" || !s.Ends && s.Boot != 7 {
					t.Errorf("signal of machine %q, boot %d", s.Machine, s.Boot)
				}
			}
		})
	}
}

// Two kernels can have the same name; an acknowledgement of one is none of the other.
func TestDigestsTellFailuresApart(t *testing.T) {
	mark := func(digest string, informs string) string {
		n := &integrity.Notice{
			Type: integrity.EventLateReport, Instance: "web-1", Report: &baseline.Report{}, Reasons: because("integrity.late-boot-mismatch"),
			Differences: []baseline.Difference{
				{PCR: 12, New: &baseline.Side{Digest: informs}},
				{PCR: 4, Judged: true, Words: "kernel changed", New: &baseline.Side{Digest: digest}},
			},
		}
		for _, s := range finding.FromNotice(n) {
			if s.Kind == finding.LateBootFailed {
				return s.Mark
			}
		}
		t.Fatal("no failure")
		return ""
	}
	if mark("aa", "1") == mark("bb", "1") {
		t.Error("two digests look the same")
	}
	if mark("aa", "1") != mark("aa", "2") {
		t.Error("what only informs makes a failure another")
	}
}

func TestCausesOfAFailedAttestationAreKeptApart(t *testing.T) {
	for health, want := range map[finding.Health][]string{
		finding.HealthUnknown:    nil,
		finding.HealthGood:       {"-attestation-unhealthy", "-attestation-departs", "-attestation-unverified", "-attestation-silent"},
		finding.HealthDeparted:   {"+attestation-unhealthy", "+attestation-departs", "-attestation-unverified", "-attestation-silent"},
		finding.HealthUnverified: {"+attestation-unhealthy", "+attestation-unverified", "-attestation-silent"},
		finding.HealthSilent:     {"+attestation-unhealthy", "+attestation-silent"},
		"something new":          nil,
	} {
		if diff := cmp.Diff(want, short(finding.FromAttestation("web-1", health, 7, because("quote.signature")))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", health, diff)
		}
	}
}

// A machine that has secure boot off by its definition departs from nothing, so that what is
// suppressed of it hides no departure.
func TestSecureBootThatIsOffByDefinitionIsNoDeparture(t *testing.T) {
	for name, tc := range map[string]struct {
		reasons []evidence.Reason
		departs string
	}{
		"by definition":       {because("machine.secure-boot-off"), "-attestation-departs"},
		"against it":          {because("secureboot.off"), "+attestation-departs"},
		"and another boot":    {because("machine.secure-boot-off", "baseline.mismatch"), "+attestation-departs"},
		"for no known reason": {nil, "+attestation-departs"},
	} {
		want := []string{"+attestation-unhealthy", tc.departs, "-attestation-unverified", "-attestation-silent"}
		if diff := cmp.Diff(want, short(finding.FromAttestation("web-1", finding.HealthDeparted, 7, tc.reasons))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestModulesAreRefusedOrRunning(t *testing.T) {
	b, boot := newBook(t), uint64(7)
	module := func(code evidence.Code, name, words string) evidence.Reason {
		return evidence.Reason{Code: code, Component: name, Message: words}
	}
	stand := func(minute int, modules ...evidence.Reason) (out []string) {
		t.Helper()
		if err := b.Apply(later(minute), finding.FromModules("web-1", boot, modules)...); err != nil {
			t.Fatal(err)
		}
		for _, f := range b.Findings(later(minute)) {
			out = append(out, string(f.Kind)+" "+f.Component+" "+string(f.State))
		}
		return out
	}
	refused, loaded := module("agent.module-rejected", "evil", "tried by 12"), module("agent.module-untrusted", "nvidia", "loaded")
	want := []string{"finding.module-refused evil open", "finding.module-untrusted nvidia open"}
	if diff := cmp.Diff(want, stand(0, refused, loaded)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Other words about the same module are nothing new.
	if err := ack(b, later(1)); err != nil {
		t.Fatal(err)
	}
	refused.Message = "tried by 13"
	want = []string{"finding.module-untrusted nvidia open", "finding.module-refused evil acknowledged"}
	if diff := cmp.Diff(want, stand(2, refused, loaded)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// What a boot refused it has refused: a guest does not begin and end findings at will.
	if diff := cmp.Diff(want, stand(3, loaded)); diff != "" {
		t.Errorf("in the same boot (-want +got):\n%s", diff)
	}
	boot++
	want = []string{"finding.module-untrusted nvidia open", "finding.module-refused evil resolved"}
	if diff := cmp.Diff(want, stand(4, loaded)); diff != "" {
		t.Errorf("in the next boot (-want +got):\n%s", diff)
	}
}

func TestMachinePushesNoFindingOfAnotherOut(t *testing.T) {
	b := newBook(t)
	victim := finding.Signal{Kind: finding.EarlyBootFailed, Machine: "victim", Reasons: because("integrity.early-boot-mismatch")}
	if err := b.Apply(t0, victim, finding.Signal{Kind: victim.Kind, Machine: "victim", Ends: true}); err != nil {
		t.Fatal(err)
	}
	for boot := range 40 {
		var modules []evidence.Reason
		for n := range 32 {
			modules = append(modules, evidence.Reason{Code: "agent.module-rejected", Component: fmt.Sprintf("m%d-%d", boot, n)})
		}
		if err := b.Apply(later(boot+1), finding.FromModules("evil", uint64(boot), modules)...); err != nil {
			t.Fatal(err)
		}
	}
	all := b.Findings(later(100))
	if !slices.ContainsFunc(all, func(f finding.Finding) bool { return f.Machine == "victim" }) {
		t.Error("the failed boot of the other machine is forgotten")
	}
	if len(all) > 1100 {
		t.Errorf("%d findings are kept", len(all))
	}
}

// A failure has more differences than an event shows: what is behind them is another
// failure all the same.
func TestAcknowledgementIsOfAllDifferences(t *testing.T) {
	failure := func(last string) *integrity.Notice {
		n := &integrity.Notice{Type: integrity.EventLateReport, Instance: "m", Report: &baseline.Report{}}
		for i := range 60 {
			d := baseline.Difference{PCR: 8, Phase: "late", Change: "changed", Judged: true, Component: fmt.Sprint("command ", i), New: &baseline.Side{Digest: "aa"}}
			if i == 59 {
				d.New = &baseline.Side{Digest: last}
			}
			n.Differences = append(n.Differences, d)
			n.Reasons = append(n.Reasons, evidence.Reason{Code: "integrity.late-boot-mismatch", Component: d.Component})
		}
		n.Bound()
		n.Bound() // once where it is made, once where reasons are added
		return n
	}
	b := newBook(t)
	for i, tc := range []struct {
		last string
		want finding.State
	}{{"01", finding.Open}, {"01", finding.Acknowledged}, {"02", finding.Open}} {
		if err := b.Apply(later(2*i), finding.FromNotice(failure(tc.last))...); err != nil {
			t.Fatal(err)
		}
		f := b.Findings(later(2 * i))[0]
		if f.State != tc.want {
			t.Errorf("failure %d is %s, want %s", i+1, f.State, tc.want)
		}
		if i == 0 {
			if err := b.Acknowledge(f.ID, finding.Note{Author: "alice", Time: later(1)}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Who takes the agent out of a machine waits for no answer any more; what was answered
// before stands.
func TestAMachineWithoutAgentIsNotSilent(t *testing.T) {
	on := finding.Option{On: true, Supported: true}
	b := newBook(t)
	for _, h := range []finding.Health{finding.HealthDeparted, finding.HealthSilent} {
		if err := b.Apply(t0, finding.FromAttestation("web-1", h, 7, nil)...); err != nil {
			t.Fatal(err)
		}
	}
	stands := func(f finding.Facts) (out []bool) {
		t.Helper()
		f.Machine = "web-1"
		if err := b.Apply(t0, finding.Recommend(f)...); err != nil {
			t.Fatal(err)
		}
		for _, code := range []evidence.Code{finding.AttestationSilent, finding.AttestationDeparts, finding.AttestationUnhealthy} {
			out = append(out, b.Lasts(finding.Signal{Kind: code, Machine: "web-1"}))
		}
		return out
	}
	if diff := cmp.Diff([]bool{true, true, true}, stands(finding.Facts{SecureBoot: on, VTPM: on, Agent: on})); diff != "" {
		t.Errorf("with the agent: %s", diff)
	}
	if diff := cmp.Diff([]bool{false, true, false}, stands(finding.Facts{SecureBoot: on, VTPM: on})); diff != "" {
		t.Errorf("without: %s", diff)
	}
}

func TestRecommendationsAreForMachinesThatSupportThem(t *testing.T) {
	on, off, never := finding.Option{On: true, Supported: true}, finding.Option{Supported: true}, finding.Option{}
	good, bad := evidence.Bool(true), evidence.Bool(false)
	for name, tc := range map[string]struct {
		f    finding.Facts
		want []string // of those that begin; with a ~ nothing is said about health
	}{
		"no facts":                   {finding.Facts{}, nil},
		"all well":                   {finding.Facts{SecureBoot: on, VTPM: on, Agent: on, Healthy: good}, nil},
		"secure boot off":            {finding.Facts{SecureBoot: off, VTPM: on, Agent: on, Healthy: good}, []string{"+secure-boot-off"}},
		"secure boot impossible":     {finding.Facts{SecureBoot: never, VTPM: on, Agent: on, Healthy: good}, nil},
		"vTPM off":                   {finding.Facts{SecureBoot: on, VTPM: off, Agent: off}, []string{"+vtpm-off"}},
		"vTPM impossible":            {finding.Facts{SecureBoot: on, VTPM: never, Agent: off}, nil},
		"agent missing":              {finding.Facts{SecureBoot: on, VTPM: on, Agent: off}, []string{"+agent-missing"}},
		"no agent for this guest":    {finding.Facts{SecureBoot: on, VTPM: on, Agent: never}, nil},
		"unhealthy":                  {finding.Facts{SecureBoot: on, VTPM: on, Agent: on, Healthy: bad}, []string{"+attestation-unhealthy"}},
		"unhealthy, secure boot off": {finding.Facts{SecureBoot: off, VTPM: on, Agent: on, Healthy: bad}, []string{"+secure-boot-off", "+attestation-unhealthy"}},
		"unhealthy as a text":        {finding.Facts{SecureBoot: on, VTPM: on, Agent: on, Healthy: evidence.Text("yes")}, []string{"+attestation-unhealthy"}},
		"health not known":           {finding.Facts{SecureBoot: on, VTPM: on, Agent: on}, []string{"~"}},
		"health of a removed TPM":    {finding.Facts{SecureBoot: on, VTPM: off, Agent: on, Healthy: bad}, []string{"+vtpm-off"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.f.Machine = "web-1"
			var got []string
			health := false
			for i, s := range finding.Recommend(tc.f) {
				if health = health || s.Kind == finding.AttestationUnhealthy; !s.Ends {
					got = append(got, short(finding.Recommend(tc.f))[i])
				}
			}
			if !health {
				got = append(got, "~")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("recommendations (-want +got):\n%s", diff)
			}
		})
	}
}
