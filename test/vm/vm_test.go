package vm_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/test/vm"
	"github.com/assay-project/assay/uefi/launch"
)

var all = flag.Bool("all", false, "every case, not only a good and a refused boot (make test-vm)")

// media are made once for all tests.
var media = sync.OnceValues(func() (*vm.Media, error) {
	if err := vm.Tools(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program, err := vm.BuildAgent(dir)
	if err != nil {
		return nil, err
	}
	parts, err := vm.Parts(program)
	if err != nil {
		return nil, err
	}
	return vm.NewMedia(parts)
})

// A bench is a host of one test with one machine.
type bench struct {
	*testing.T
	*vm.Media
	host  *vm.Host
	chain vm.Chain
	boots uint64
	good  *baseline.Report // late, of the baseline
}

const name = "m"

// bootOption is the disk's.
const bootOption = `Boot0001 "UEFI Misc Device"`

// newBench skips a test on a machine without QEMU, unless it must not be skipped.
func newBench(t *testing.T, c vm.Chain) *bench {
	t.Helper()
	m, err := media()
	if errors.Is(err, vm.ErrMissing) && os.Getenv("ASSAY_REQUIRE_QEMU") == "" {
		t.Skipf("no real machine is booted: %v (make setup installs it)", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "v")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h, err := vm.NewHost(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range m.Sets {
		h.AddKeys(s)
	}
	b := &bench{T: t, Media: m, host: h, chain: c}
	b.must(h.Create(t.Context(), name, c.Keys))
	return b
}

// needAll skips what make test leaves out.
func needAll(t *testing.T) {
	t.Helper()
	if !*all {
		t.Skip("-all runs it: make test-vm")
	}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// chain returns one of all by its name.
func chain(name string) vm.Chain {
	all := vm.Chains()
	return all[slices.IndexFunc(all, func(c vm.Chain) bool { return c.Name == name })]
}

// last reports whether the newest notice is of a type.
func last(typ string) func([]integrity.Notice) bool {
	return func(n []integrity.Notice) bool { return len(n) > 0 && n[len(n)-1].Type == typ }
}

// write makes the disk of a case.
func (b *bench) write(c *vm.Case) {
	b.Helper()
	files, err := c.Disk(b.Media)
	b.must(err)
	b.must(demovm.WriteFiles(b.host.Disk(name), files))
}

// start starts the machine.
func (b *bench) start() *vm.Boot {
	b.Helper()
	boot, err := b.host.Boot(b.Context(), name)
	b.must(err)
	b.Cleanup(func() {
		if err := boot.Close(); err != nil {
			b.Logf("the machine's end: %v", err)
		}
	})
	b.boots++
	return boot
}

// seen is what there is to look at of a boot.
type seen struct {
	predicted *launch.Prediction
	notices   []integrity.Notice
	status    *machine.BootStatus
	console   string
}

// boot boots the disk of a case until it is over, one way or the other.
func (b *bench) boot(c *vm.Case) (s seen) {
	b.Helper()
	b.write(c)
	s.predicted = b.predict()
	running := b.start()
	end := integrity.EventAttestation // by the agent in the guest
	if c.Refused() {
		end = integrity.EventRefused
	}
	_, err := running.Await(last(end))
	if err != nil {
		b.Errorf("%s: %v", c.Name, err)
	}
	status, err := b.host.Root.Status(b.Context(), name)
	if err != nil || status.Boot == nil {
		b.Fatalf("%s: Status = %+v, %v", c.Name, status, err)
	}
	s.status = status.Boot
	s.console, err = b.host.Root.ConsoleText(b.Context(), name)
	b.must(err)
	s.notices, err = running.Stop(b.Context())
	if b.must(err); b.Failed() {
		b.Logf("%s: the console: %s", c.Name, s.console)
	}
	return s
}

// checkHealth holds what came of the agent's attestation against the case.
func (b *bench) checkHealth(c *vm.Case, n *integrity.Notice) {
	b.Helper()
	want := health.Departed // the quote is genuine
	if c.Late != integrity.Failed {
		want = health.Healthy
	}
	if n.Health != string(want) || (want == health.Healthy) != (len(n.Reasons) == 0) {
		b.Errorf("%s: the agent's attestation is %s, want %s: %v", c.Name, n.Health, want, n.Reasons)
	}
	if noLog := slices.ContainsFunc(n.Reasons, func(r evidence.Reason) bool { return r.Code == "eventlog.absent" }); noLog != c.Off {
		b.Errorf("%s: there is no boot log: %v, want %v", c.Name, noLog, c.Off)
	}
}

// learn boots the good disk, which becomes the baseline.
func (b *bench) learn() {
	b.Helper()
	good := vm.Case{Name: "the good disk", Disk: b.chain.Good, Early: integrity.Learned, Late: integrity.Learned}
	s := b.boot(&good)
	b.check(&good, s)
	if b.Failed() {
		b.FailNow()
	}
	b.good = s.notices[2].Report
}

// types are the events of a boot, in order.
func types(c *vm.Case) []string {
	switch {
	case !c.Refused():
		return []string{integrity.EventStartup, integrity.EventEarlyReport, integrity.EventLateReport, integrity.EventAttestation, integrity.EventShutdown}
	case c.Early == integrity.Passed: // a boot loader that was given nothing it takes
		return []string{integrity.EventStartup, integrity.EventEarlyReport, integrity.EventRefused, integrity.EventShutdown}
	default: // the firmware's own shell is what it starts then, and is denied that
		return []string{integrity.EventStartup, integrity.EventAttemptFailed, integrity.EventEarlyReport, integrity.EventRefused, integrity.EventShutdown}
	}
}

// check holds a boot against its case.
func (b *bench) check(c *vm.Case, s seen) {
	b.Helper()
	var got []string
	for i, n := range s.notices {
		got = append(got, n.Type)
		if n.Instance != name || n.BootCounter != b.boots || n.Time.IsZero() || i > 0 && n.Time.Before(s.notices[i-1].Time) {
			b.Errorf("%s: event %d is of machine %q, boot %d (want %d), time %v", c.Name, i, n.Instance, n.BootCounter, b.boots, n.Time)
		}
		if n.Report != nil {
			b.checkReport(c, &n)
		}
		if n.Type == integrity.EventAttestation {
			b.checkHealth(c, &n)
		}
	}
	if d := cmp.Diff(types(c), got); d != "" {
		b.Errorf("%s: events (-want +got):\n%s", c.Name, d)
	}
	h, err := b.host.Root.History(b.Context(), name)
	b.must(err)
	if r, err := h.Boot(b.boots); err != nil || r.Early != c.Early || r.Late != c.Late {
		b.Errorf("%s: the record is %+v, %v, want early %q and late %q", c.Name, r, err, c.Early, c.Late)
	}
	b.checkConsole(c, s)
	b.checkPrediction(c, s.predicted)
}

// checkReport holds the contents of a report against SPEC G9: what is listed, in which
// order, and what is said of it.
func (b *bench) checkReport(c *vm.Case, n *integrity.Notice) {
	b.Helper()
	outcome, isLate := c.Early, n.Type == integrity.EventLateReport
	if isLate {
		outcome = c.Late
	}
	if want := outcome == integrity.Passed || outcome == integrity.Learned; n.Passed() != want || n.Profile != "default" {
		b.Errorf("%s: %s passed %v under profile %q, want %v", c.Name, n.Type, n.Passed(), n.Profile, want)
	}
	b.measured(n, n.Report.ActualMeasurements, "PCR_0", "PCR_4", "PCR_5", "PCR_7")
	b.measured(n, n.Report.PolicyMeasurements, "PCR_0", "PCR_4", "PCR_7")
	if b.good != nil && isLate {
		if d := cmp.Diff(b.good.PolicyMeasurements, n.Report.PolicyMeasurements); d != "" {
			b.Errorf("%s: the policy is not the baseline's (-baseline +policy):\n%s", c.Name, d)
		}
	}
	if gce, ok := n.GCE(); !ok || gce[n.Type] == nil {
		b.Errorf("%s: Google's form of %s: %v", c.Name, n.Type, gce)
	}
	final := isLate || c.Late == integrity.NotReached
	if !final {
		return
	}
	var pcrs []int
	kinds := map[string]bool{}
	for _, d := range n.Differences {
		if d.Judged {
			pcrs = append(pcrs, d.PCR)
			kinds[d.Kind] = true
		}
	}
	if pcrs = slices.Compact(pcrs); !slices.Equal(pcrs, c.PCRs) || c.Kind != "" && !kinds[c.Kind] {
		b.Errorf("%s: differences that decide are in PCRs %v, of %v, want %v with %q", c.Name, pcrs, kinds, c.PCRs, c.Kind)
	}
	if len(c.PCRs) > 0 && !slices.ContainsFunc(n.Reasons, func(r evidence.Reason) bool {
		return strings.HasPrefix(string(r.Code), "integrity.") && r.Component != ""
	}) {
		b.Errorf("%s: no reason names a component: %v", c.Name, n.Reasons)
	}
}

// measured holds a list of a report against the order of its registers.
func (b *bench) measured(n *integrity.Notice, list []baseline.Measurement, want ...string) {
	b.Helper()
	var got []string
	for _, m := range list {
		got = append(got, m.PCRNum)
		if v, err := hex.DecodeString(m.Value); err != nil || len(v) != 32 || m.HashAlg != "sha256" {
			b.Errorf("%s: %+v is no value of a register", n.Type, m)
		}
	}
	if !slices.Equal(got, want) {
		b.Errorf("%s lists %v, want %v", n.Type, got, want)
	}
}

// checkConsole holds what is said of the console's lines against the case.
func (b *bench) checkConsole(c *vm.Case, s seen) {
	b.Helper()
	words := s.status.Refused
	if c.Refused() && len(words) > 0 { // what the disk and the variables say comes first
		if words[0].Code != c.Refusal || !strings.HasSuffix(words[0].Component, c.File) {
			b.Errorf("%s: the refusal is %+v, want %s of %s", c.Name, words[0], c.Refusal, c.File)
		}
		words = slices.DeleteFunc(slices.Clone(words), func(r evidence.Reason) bool { return !strings.HasPrefix(string(r.Code), "serial.") })
	}
	var codes []string
	for _, r := range words {
		codes = append(codes, string(r.Code))
	}
	if d := cmp.Diff(c.Codes, codes); d != "" {
		b.Errorf("%s: the console says (-want +got):\n%s", c.Name, d)
	}
	if !c.Refused() {
		if s.status.Phase != machine.PhaseSystem || s.status.Late == nil {
			b.Errorf("%s: the status of the boot is %+v", c.Name, s.status)
		}
		return
	}
	if s.status.Late != nil || s.status.Phase != machine.PhaseRefused {
		b.Errorf("%s: the status of a refused boot is %+v", c.Name, s.status)
	}
	if !slices.Contains(codes, "serial.secure-boot-refused") {
		return
	}
	// SPEC G2: the boot option that failed, and the lines that users look for.
	if r := words[0]; r.Component != bootOption || !strings.Contains(s.console, "\nUEFI: Failed to load image\nStatus: Security Violation\n") {
		b.Errorf("%s: refused is %+v, and the console has: %s", c.Name, r, s.console)
	}
	// The journal and the console come by two ways: the words may be late for the first
	// of the events. The second comes of them.
	for _, n := range s.notices {
		switch n.Type {
		case integrity.EventAttemptFailed:
			if n.Attempt != 1 || len(n.Reasons) == 0 || n.Reasons[0].Code != "integrity.attempt-refused" {
				b.Errorf("%s: the event of the attempt is %+v", c.Name, n)
			}
		case integrity.EventRefused:
			if len(n.Reasons) == 0 || n.Reasons[0].Code != c.Refusal || !slices.ContainsFunc(n.Reasons, func(r evidence.Reason) bool { return r.Component == bootOption }) {
				b.Errorf("%s: the event of the refusal is %+v", c.Name, n)
			}
		}
	}
}

// A machine boots and learns its baseline, boots again and passes, and does not start
// what nobody signed. This is what make test shows.
func TestAGoodBootPassesAndAnUnsignedImageIsRefused(t *testing.T) {
	b := newBench(t, chain("uki"))
	b.learn()
	unsigned := b.chain.Cases[slices.IndexFunc(b.chain.Cases, func(c vm.Case) bool { return c.Name == vm.Unsigned })]
	b.check(&unsigned, b.boot(&unsigned))
}

// The cases of the negative matrix, one boot each.
func TestEveryCaseEndsAsItMust(t *testing.T) {
	needAll(t)
	for _, c := range vm.Chains() {
		t.Run(c.Name, func(t *testing.T) {
			b := newBench(t, c)
			b.learn()
			again := vm.Case{Name: "the good disk again", Disk: c.Good, Early: integrity.Passed, Late: integrity.Passed}
			b.check(&again, b.boot(&again))
			for _, row := range c.Cases {
				effects := b.rekey(row.Keys, row.Off)
				b.check(&row, b.boot(&row))
				b.foretold(&row, effects)
				b.rekey("", false)
			}
		})
	}
}

// rekey gives the machine a key set, and turns secure boot on or off.
func (b *bench) rekey(keys string, off bool) []fleet.Effect {
	b.Helper()
	if keys == "" {
		keys = b.chain.Keys
	}
	effects, err := b.host.Root.Update(b.Context(), "test", name, machine.UpdateOptions{Change: func(d *fleet.Definition) error {
		d.Keyset, d.Shielded.SecureBoot = keys, !off
		return nil
	}})
	b.must(err)
	return effects
}

// foretold holds the registers of the firmware that changed against those that the
// change of the machine was said to change.
func (b *bench) foretold(c *vm.Case, effects []fleet.Effect) {
	b.Helper()
	if len(effects) == 0 {
		return
	}
	var said []int
	for _, e := range effects {
		said = append(said, e.PCRs...)
	}
	for _, pcr := range c.PCRs {
		if !c.Refused() && !slices.Contains(said, pcr) {
			b.Errorf("%s: PCR %d changed, and %v was foretold", c.Name, pcr, said)
		}
	}
}

// An update fails, is reviewed and approved, and passes: the sequence of SPEC G10.
func TestAnApprovedUpdatePasses(t *testing.T) {
	needAll(t)
	b := newBench(t, chain("uki"))
	b.learn()
	update := b.chain.Cases[slices.IndexFunc(b.chain.Cases, func(c vm.Case) bool { return c.Name == vm.Update })]
	b.write(&update)
	running := b.start()
	_, err := running.Await(last(integrity.EventLateReport))
	b.must(err)
	review, err := b.host.Root.Review(t.Context(), name)
	b.must(err)
	if review.Boot != b.boots || len(review.Changes) == 0 {
		t.Fatalf("the review is of boot %d with %d changes", review.Boot, len(review.Changes))
	}
	if _, err := b.host.Root.Approve(t.Context(), "somebody", name, integrity.Seen{Boot: review.Boot - 1, Digest: review.Digest}, "the boot before"); err == nil {
		t.Error("a boot that was not reviewed is approved")
	}
	_, err = b.host.Root.Approve(t.Context(), "somebody", name, review.Seen, "version 2")
	b.must(err)
	notices, err := running.Stop(t.Context())
	b.must(err)
	var said []string
	for _, n := range notices {
		if n.Type == integrity.EventAttestation {
			continue // whenever the guest is ready
		}
		word := n.Type
		if n.Report != nil {
			word = map[bool]string{true: "+", false: "-"}[n.Passed()] + word
		}
		said = append(said, word)
		if n.BootCounter != b.boots || n.Type == integrity.EventSetPolicy && (n.Actor != "somebody" || n.Baseline != 2) {
			t.Errorf("event %+v of boot %d", n, b.boots)
		}
	}
	want := []string{
		integrity.EventStartup, "-" + integrity.EventEarlyReport, "-" + integrity.EventLateReport,
		integrity.EventSetPolicy, "+" + integrity.EventEarlyReport, "+" + integrity.EventLateReport, integrity.EventShutdown,
	}
	if d := cmp.Diff(want, said); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	b.good = nil
	update.Early, update.Late, update.PCRs, update.Kind = integrity.Passed, integrity.Passed, nil, ""
	b.check(&update, b.boot(&update))
}

// A machine without anything to start gets nowhere, and that is an event.
func TestABootThatGetsNowhereIsAnEvent(t *testing.T) {
	needAll(t)
	b := newBench(t, chain("uki"))
	_, err := b.host.Root.Update(t.Context(), "test", name, machine.UpdateOptions{Change: func(d *fleet.Definition) error {
		d.BootDeadline = 6 // after the TPM's start, on a loaded machine too
		return nil
	}})
	b.must(err)
	empty := vm.Case{Name: "an empty disk", Disk: func(*vm.Media) ([]vm.File, error) { return nil, nil }}
	b.write(&empty)
	running := b.start()
	_, err = running.Await(last(integrity.EventStuck))
	b.must(err)
	status, err := b.host.Root.Status(t.Context(), name)
	b.must(err)
	if status.Boot.Phase != machine.PhaseStuck {
		t.Errorf("the phase is %q", status.Boot.Phase)
	}
	notices, err := running.Stop(t.Context())
	b.must(err)
	stuck := notices[slices.IndexFunc(notices, func(n integrity.Notice) bool { return n.Type == integrity.EventStuck })]
	if len(stuck.Reasons) == 0 || stuck.Reasons[0].Code != "integrity.boot-deadline" || stuck.BootCounter != 1 {
		t.Errorf("the event is %+v", stuck)
	}
	if i := slices.IndexFunc(notices, func(n integrity.Notice) bool { return n.Type == integrity.EventLateReport }); i >= 0 {
		t.Errorf("there is a late report: %+v", notices[i])
	}
}
