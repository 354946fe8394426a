package machine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/vtpm"
	"github.com/assay-project/assay/tpm2/engine"
)

func (h *host) event(kind string) *integrity.Notice {
	h.Helper()
	events, err := h.root.Events(h.Context(), "web-1")
	if err != nil {
		h.Fatal(err)
	}
	i := slices.IndexFunc(events, func(n integrity.Notice) bool { return n.Type == kind })
	if i < 0 {
		h.Fatalf("no %s among %q", kind, h.types())
	}
	return &events[i]
}

// split cuts a boot before its last n measurements.
func split(script string, n int) (head, tail string) {
	lines := strings.SplitAfter(script, "\n")
	i := len(lines) - 1 - n
	return strings.Join(lines[:i], ""), strings.Join(lines[i:], "")
}

func flood(pcr, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d %064x\n", pcr, i+1)
	}
	return b.String()
}

// However much a guest measures, its boot gets a late report that failed, and that is in
// the log.
func TestAGuestCannotFloodItsReportAway(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1500, 2500} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create(func(d *fleet.Definition) { d.StopOnFailure = true })
			good := boot(t, "good-uki")
			h.run(good)
			head, tail := split(good, 6)
			if err := h.start(head + flood(9, n) + tail).wait(); err != nil {
				t.Error(err)
			}
			if got := h.types(); !slices.Contains(got, "2 lateBootReportEvent fail") || slices.Contains(got, "2 lateBootReportEvent pass") {
				t.Errorf("events %q", got)
			}
		})
	}
}

// Words before the hand-over change nothing when the boot goes on.
func TestWordsAloneDecideNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	head, tail := split(boot(t, "good-uki"), 6)
	h.run(head + "print BdsDxe: No bootable option or device was found.\n" + tail)
	h.want("1 startupEvent", "1 earlyBootReportEvent pass", "1 lateBootReportEvent pass", "1 shutdownEvent")
}

func TestABootThatIsNotJudgedIsFollowed(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) { d.Shielded.IntegrityMonitoring, d.BootDeadline = false, 1 })
	s := h.start(boot(t, "good-uki") + "print BdsDxe: No bootable option or device was found.\n")
	for end := time.Now().Add(time.Minute); ; {
		if got := h.state(); got.Boot != nil && got.Boot.Phase == PhaseSystem {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("Status = %+v", h.state().Boot)
		}
	}
	h.stop(s)
	h.want("1 startupEvent", "1 shutdownEvent")
}

// A machine whose first baseline waits for a person gets a boot to approve.
func TestAStrictMachineStarts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create(func(d *fleet.Definition) {
		p, err := fleet.PresetNamed("strict")
		if err != nil {
			t.Fatal(err)
		}
		p.Apply(d)
	})
	s := h.start(boot(t, "good-uki"))
	h.await(integrity.EventLateReport, 1)
	r, err := h.root.Review(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.root.Approve(t.Context(), "bob", "web-1", r.Seen, ""); err != nil {
		t.Fatal(err)
	}
	h.stop(s)
	h.run(boot(t, "good-uki"))
	if err := h.start(boot(t, "bad-uki-cmdline")).wait(); err != nil {
		t.Error(err)
	}
	if n := h.event(integrity.EventShutdown); n.Actor != "alice" {
		t.Errorf("the first end was by %q", n.Actor)
	}
}

func TestWhoEndedAMachineIsKept(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.stop(h.start(""))
	if n := h.event(integrity.EventShutdown); n.Actor != "alice" || len(n.Reasons) != 1 || n.Reasons[0].Code != codeStopped {
		t.Errorf("%+v", n)
	}
}

func TestTheFailureOfAHypervisorIsKept(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	if err := h.start("crash\n").wait(); err == nil {
		t.Error("no error")
	}
	if n := h.event(integrity.EventShutdown); len(n.Reasons) != 1 || n.Reasons[0].Code != codeHypervisor {
		t.Errorf("%+v", n)
	}
}

func TestARunWhoseEndNobodySawIsTold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.left(running{1 << 30, 1, "another", time.Now()})
	h.run(boot(t, "good-uki"))
	h.want("0 machineLostEvent", "1 startupEvent", "1 earlyBootReportEvent pass", "1 lateBootReportEvent pass", "1 shutdownEvent")
}

// A hypervisor that does not answer is ended all the same, and holds nobody up meanwhile.
func TestAHungHypervisorIsEnded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	s := h.start("")
	if err := syscall.Kill(h.state().PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	go h.root.Reset(t.Context(), "alice", "web-1") //nolint:errcheck // it does not get through
	if got := h.state(); got.State != StateRunning {
		t.Errorf("Status = %+v", got)
	}
	if err := h.root.Stop(t.Context(), "alice", "web-1", true); err != nil {
		t.Error(err)
	}
	s.wait() //nolint:errcheck // killed
}

// A baseline that cannot be kept is not acknowledged, and not judged by.
func TestAnApprovalThatIsNotKeptIsUndone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	s := h.start(boot(t, "good-uki-update"))
	h.await(integrity.EventLateReport, 2)
	// A folder in its place cannot be replaced by a file.
	name := filepath.Join(h.dir, "vms", "web-1", integrityFile)
	text, err := os.ReadFile(name)
	if err == nil {
		err = errors.Join(os.Remove(name), os.Mkdir(name, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.approve("web-1", ""); err == nil || errors.Is(err, integrity.ErrNotSeen) {
		t.Error("an approval that was not kept was acknowledged")
	}
	d, err := h.root.Describe(t.Context(), "web-1")
	if err != nil || len(d.Baselines) != 1 {
		t.Errorf("%d baselines, %v", len(d.Baselines), err)
	}
	if err := errors.Join(os.Remove(name), os.WriteFile(name, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	h.stop(s)
}

func TestATPMThatEndsUnderItsMachineIsTold(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	s := h.start(boot(t, "good-uki") + "notpm\n")
	h.await(integrity.EventTPMLost, 1)
	if got := h.state(); !strings.Contains(got.Problem, "TPM") {
		t.Errorf("Status = %+v", got)
	}
	h.stop(s)
}

// The status of a machine that goes on in a snapshot is that of the snapshot.
func TestASnapshotHasItsOwnVerdict(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	home, err := h.root.Open(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	s := newSupervisor(h.root, home)
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.close() //nolint:errcheck // a test
	good, bad := records(t, boot(t, "good-uki")), records(t, boot(t, "bad-uki-cmdline"))
	take := func(list []engine.JournalRecord, restored bool) {
		s.journal.put(vtpm.Measured{Records: list, Restored: restored})
		s.measured()
	}
	take(good, false)
	if s.boot.Late == nil || !*s.boot.Late {
		t.Fatalf("%+v", s.boot)
	}
	take(good, true)
	if s.boot.Late == nil || !*s.boot.Late {
		t.Errorf("a snapshot of the same boot: %+v", s.boot)
	}
	take(good[:4], true)
	if s.boot.Early != nil || s.boot.Late != nil || s.boot.Phase != PhaseFirmware {
		t.Errorf("a snapshot of the firmware: %+v", s.boot)
	}
	take(bad, true)
	if s.boot.Late == nil || *s.boot.Late {
		t.Errorf("a snapshot of another boot: %+v", s.boot)
	}
}
