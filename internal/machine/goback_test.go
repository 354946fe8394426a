package machine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
)

// What would refuse a way back is known while the machine runs, which goes on.
func TestAMachineThatRunsIsAskedWhetherItmayGoBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.caught()
	s := h.start(boot(t, "good-uki") + "await off\noff\n")
	may := func(snapshot string, want error) {
		t.Helper()
		err := h.root.mayGoBack(t.Context(), "web-1", snapshot, true)
		if !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("mayGoBack(%q) = %v, want %v", snapshot, err, want)
		}
	}
	may("good", nil)
	may("other", ErrNoSnapshot)
	tag, err := filepath.Glob(h.disks()[1] + ".assay-*")
	if err != nil || len(tag) != 1 {
		t.Fatalf("%q, %v", tag, err)
	}
	if err := os.Rename(tag[0], tag[0]+".away"); err != nil {
		t.Fatal(err)
	}
	var state *StateError
	if err := h.root.mayGoBack(t.Context(), "web-1", "good", true); !errors.As(err, &state) {
		t.Errorf("without the snapshot of a disk: %v", err)
	}
	if err := os.Rename(tag[0]+".away", tag[0]); err != nil {
		t.Fatal(err)
	}
	if status := h.status(); status.State != StateRunning {
		t.Errorf("the machine is %s", status.State)
	}
	h.put(h.inRun("off"), "")
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.root.Update(t.Context(), "bob", "web-1", UpdateOptions{Change: func(d *fleet.Definition) error { d.MemoryMiB = 1024; return nil }}); err != nil {
		t.Fatal(err)
	}
	may("good", ErrHardware)
}

// A snapshot that is deleted after the machine was asked whether it may go back leaves it
// running; once its way back has begun nobody deletes the snapshot.
func TestAWayBackBeginsBeforeThePowerIsLost(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.caught()
	s := h.start(boot(t, "good-uki") + "await off\noff\n")
	h.awaitEvent(integrity.EventLateReport, 2)
	if err := h.root.mayGoBack(t.Context(), "web-1", "good", true); err != nil {
		t.Fatal(err)
	}
	begin := func(snapshot string) error {
		_, _, err := h.root.call(t.Context(), "web-1", request{Verb: verbGoBack, Actor: "carol", Snapshot: snapshot, Memory: true}, nil)
		return err
	}
	if err := begin("gone"); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("back to a snapshot that is gone: %v", err)
	}
	if status := h.status(); status.State != StateRunning {
		t.Fatalf("the machine is %s", status.State)
	}
	if err := begin("good"); err != nil {
		t.Fatal(err)
	}
	// Whoever asked is killed here.
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	var state *StateError
	if err := h.root.DropSnapshot(t.Context(), "bob", "web-1", "good"); !errors.As(err, &state) {
		t.Errorf("DropSnapshot on the way back = %v", err)
	}
	s = h.back("await off\noff\n")
	h.put(h.inRun("off"), "")
	if err := s.wait(); err != nil {
		t.Fatal(err)
	}
	n := h.awaitEvent(integrity.EventWentBack, 1)
	if n.Actor != "carol" || !strings.Contains(n.Reasons[len(n.Reasons)-1].Message, "is back at") {
		t.Errorf("event %+v", n)
	}
}

// A machine that runs is set back in one call, and so is one that is off.
func TestAMachineIsSetBack(t *testing.T) {
	t.Parallel()
	for name, runs := range map[string]bool{"it runs": true, "it is off": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.caught()
			if runs {
				s := h.start(boot(t, "good-uki") + "await off\noff\n")
				defer func() {
					if err := s.wait(); err != nil {
						t.Error(err)
					}
				}()
				h.awaitEvent(integrity.EventLateReport, 2)
			}
			if err := h.root.SetBack(t.Context(), "carol", "web-1", "other", true); !errors.Is(err, ErrNoSnapshot) {
				t.Errorf("SetBack to nothing = %v", err)
			}
			if err := h.root.SetBack(t.Context(), "carol", "web-1", "good", false); err != nil {
				t.Fatal(err)
			}
			h.wrote("old")
			if status := h.state(); status.State != StateStopped || h.variable() != '1' {
				t.Errorf("the machine is %s, its variable %q", status.State, h.variable())
			}
			last := h.types()
			want := []string{"2 shutdownEvent", "2 snapshotRestoredEvent"}
			if !runs {
				want = []string{"1 shutdownEvent", "1 snapshotRestoredEvent"}
			}
			if !slices.Equal(last[len(last)-2:], want) {
				t.Errorf("the last events are %q, want %q", last, want)
			}
		})
	}
}
