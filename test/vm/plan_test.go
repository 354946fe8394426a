package vm_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
	"github.com/assay-project/assay/test/vm"
)

// An update that was approved before its boot passes at once, and only once: nobody gets
// an alarm.
func TestAPlannedUpdatePasses(t *testing.T) {
	needAll(t)
	b := newBench(t, chain("uki"))
	b.learn()
	root := b.host.Root
	_, seen, err := root.Foresee(t.Context(), name)
	b.must(err)
	if seen.Changes() {
		t.Errorf("before the update %+v is foreseen", seen)
	}
	if err := root.PlanNext(t.Context(), "somebody", name, machine.PlanOptions{For: time.Hour, Seen: seen}); !errors.Is(err, machine.ErrNothingToPlan) {
		t.Errorf("PlanNext without a change = %v", err)
	}
	update := b.chain.Cases[slices.IndexFunc(b.chain.Cases, func(c vm.Case) bool { return c.Name == vm.Update })]
	b.write(&update)
	if err := root.PlanNext(t.Context(), "somebody", name, machine.PlanOptions{For: time.Hour, Seen: seen}); !errors.Is(err, machine.ErrNotAsSeen) {
		t.Errorf("PlanNext of what was not seen = %v", err)
	}
	_, seen, err = root.Foresee(t.Context(), name)
	b.must(err)
	var changes []int
	for _, r := range seen.Registers {
		if r.State == machine.ForeseenChanges {
			changes = append(changes, r.PCR)
		}
	}
	if d := cmp.Diff(update.PCRs, changes); d != "" {
		t.Errorf("registers that are foreseen to change (-want +got):\n%s", d)
	}
	b.must(root.PlanNext(t.Context(), "somebody", name, machine.PlanOptions{For: time.Hour, Seen: seen, Reason: "version 2"}))
	running := b.start()
	_, err = running.Await(last(integrity.EventLateReport))
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
		}
		said = append(said, word)
	}
	want := []string{
		integrity.EventStartup, "+" + integrity.EventEarlyReport, integrity.EventSetPolicy, "+" + integrity.EventLateReport, integrity.EventShutdown,
	}
	if d := cmp.Diff(want, said); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
	h, err := root.History(t.Context(), name)
	b.must(err)
	if h.Plan != nil || len(h.Versions) != 2 || h.Versions[1].Actor != "somebody" || h.Versions[1].Reason != "planned update: version 2" {
		t.Errorf("plan %v, baselines %+v", h.Plan, h.Versions)
	}
}
