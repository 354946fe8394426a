package machine

import (
	"crypto/rand"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	book "github.com/assay-project/assay/internal/finding"
	"github.com/assay-project/assay/internal/integrity"
)

// A fullLog takes no more.
type fullLog struct{ logFile }

func (fullLog) WriteAt([]byte, int64) (int, error) { return 0, syscall.ENOSPC }

// A fullDisk lets nothing be sealed any more, so that nothing is written.
type fullDisk struct{}

func (fullDisk) Read([]byte) (int, error) { return 0, syscall.ENOSPC }

// lateReport is that of a boot.
func lateReport(boot uint64, passed bool) integrity.Notice {
	n := integrity.Notice{
		Type: integrity.EventLateReport, Instance: "web-1", BootCounter: boot, Time: time.Now(), Report: &baseline.Report{PolicyEvaluationPassed: passed},
	}
	if !passed {
		n.Reasons = []evidence.Reason{reason("integrity.late-boot-mismatch", "PCR 4 is another")}
	}
	return n
}

// The disk is full: of a boot that passed only what is under way is kept, and of what comes
// after it nothing. After a kill the next opening finds the boot that passed, and what was
// found since stands.
func TestWhatIsFoundLaterEndsNoFindingThatCameAfterIt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before, pending, after []integrity.Notice
		want                   []evidence.Code
	}{
		"a later boot failed": {
			pending: []integrity.Notice{lateReport(1, true)}, after: []integrity.Notice{lateReport(2, false)},
			want: []evidence.Code{book.LateBootFailed},
		},
		"an earlier boot failed": {
			before: []integrity.Notice{lateReport(1, false)}, pending: []integrity.Notice{lateReport(2, true)},
		},
		"the TPM was lost in a boot that began": {
			pending: []integrity.Notice{{Type: integrity.EventStartup, Instance: "web-1", BootCounter: 3}},
			after:   []integrity.Notice{{Type: integrity.EventTPMLost, Instance: "web-1", BootCounter: 3}},
			want:    []evidence.Code{book.TPMLost},
		},
		"the TPM was lost before": {
			before:  []integrity.Notice{{Type: integrity.EventTPMLost, Instance: "web-1", BootCounter: 2}},
			pending: []integrity.Notice{{Type: integrity.EventStartup, Instance: "web-1", BootCounter: 3}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			found, err := book.New(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			h.root.cfg.Event = func(n integrity.Notice) {
				if err := found.Apply(time.Now(), book.FromNotice(&n)...); err != nil {
					t.Error(err)
				}
			}
			s := h.supervisor()
			defer s.home.log.close()
			if err := s.tell(tc.before); err != nil {
				t.Fatal(err)
			}
			s.home.log.file = fullLog{s.home.log.file}
			if err := s.tell(tc.pending); err == nil {
				t.Fatal("the log is not full")
			}
			random := s.home.random
			s.home.random = fullDisk{}
			s.tell(tc.after) //nolint:errcheck // the disk is full
			again := &Home{dir: s.home.dir, card: s.home.card, key: s.home.key, random: random}
			if err := errors.Join(again.openLog(), h.root.settle(t.Context(), again), again.log.close()); err != nil {
				t.Fatal(err)
			}
			var open []evidence.Code
			for _, f := range found.Findings(time.Now()) {
				if f.Ended == nil {
					open = append(open, f.Kind)
				}
			}
			if diff := cmp.Diff(tc.want, open); diff != "" {
				t.Errorf("open findings (-want +got):\n%s", diff)
			}
		})
	}
}
