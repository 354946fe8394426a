package vm_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/demovm"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/test/vm"
)

// A first boot option whose program comes back in every boot is no alarm; another program
// in its place is one, from its own attempt on.
func TestAnOptionThatComesBackEachTimeIsNoAlarm(t *testing.T) {
	needAll(t)
	b := newBench(t, chain("uki"))
	b.write(&vm.Case{Disk: b.chain.Good})
	first := filepath.Join(filepath.Dir(b.host.Disk(name)), "first.raw")
	_, err := b.host.Root.Update(t.Context(), "test", name, machine.UpdateOptions{Change: func(d *fleet.Definition) error {
		d.Disks = append([]fleet.Disk{{File: first, Format: "raw", Boot: true}}, d.Disks...)
		return nil
	}})
	b.must(err)
	boot := func(version byte) []string {
		files, err := b.Returning(version)
		b.must(err)
		b.must(demovm.WriteFiles(first, files))
		running := b.start()
		_, err = running.Await(func(n []integrity.Notice) bool {
			return slices.ContainsFunc(n, func(n integrity.Notice) bool { return n.Type == integrity.EventLateReport })
		})
		b.must(err)
		notices, err := running.Stop(t.Context())
		b.must(err)
		var said []string
		for _, n := range notices {
			word := n.Type
			if n.Type == integrity.EventAttestation {
				continue // whenever the guest is ready
			}
			if n.Report != nil {
				word = map[bool]string{true: "+", false: "-"}[n.Passed()] + word
				named := slices.ContainsFunc(n.Differences, func(d baseline.Difference) bool { return d.Judged && d.PCR == 4 })
				if named == n.Passed() {
					t.Errorf("%s of attempt %d: %+v", word, n.Attempt, n.Differences)
				}
			}
			said = append(said, word)
		}
		return said
	}
	good := []string{
		integrity.EventStartup, "+" + integrity.EventEarlyReport, integrity.EventAttemptFailed,
		"+" + integrity.EventEarlyReport, "+" + integrity.EventLateReport, integrity.EventShutdown,
	}
	for _, what := range []string{"the first boot", "the same again"} {
		if d := cmp.Diff(good, boot(1)); d != "" {
			t.Fatalf("%s: events (-want +got):\n%s", what, d)
		}
	}
	bad := slices.Clone(good)
	bad[1], bad[3], bad[4] = "-"+integrity.EventEarlyReport, "-"+integrity.EventEarlyReport, "-"+integrity.EventLateReport
	if d := cmp.Diff(bad, boot(2)); d != "" {
		t.Errorf("another program that comes back: events (-want +got):\n%s", d)
	}
	h, err := b.host.Root.History(t.Context(), name)
	b.must(err)
	if r, err := h.Boot(3); err != nil || r.Early != integrity.Failed || r.Late != integrity.Failed || r.Boot.Attempts() != 2 {
		t.Errorf("the last boot: %+v, %v", r, err)
	}
}
