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
	n := integrity.Notice{Type: integrity.EventLateReport, Instance: "web-1", BootCounter: boot, Report: &baseline.Report{PolicyEvaluationPassed: passed}}
	if !passed {
		n.Reasons = []evidence.Reason{reason("integrity.late-boot-mismatch", "PCR 4 is another")}
	}
	return n
}

// The disk is full: of what happens first only what is under way is kept, and of what comes
// after it nothing. After a kill the next opening finds the first; what was found since
// stands as it was.
func TestWhatIsFoundLaterChangesNoFindingThatCameAfterIt(t *testing.T) {
	t.Parallel()
	of := func(boot uint64, kind string, reasons ...evidence.Reason) integrity.Notice {
		return integrity.Notice{Type: kind, Instance: "web-1", BootCounter: boot, Reasons: reasons}
	}
	attestation := func(health string, reasons ...evidence.Reason) integrity.Notice {
		n := of(1, integrity.EventAttestation, reasons...)
		n.Health = health
		return n
	}
	refused := reason("serial.secure-boot-refused", "Access Denied")
	type notices = []integrity.Notice
	for name, tc := range map[string]struct {
		before, pending, after notices
		untold                 bool // what was under way, before the kill
		want                   []evidence.Code
	}{
		"a later boot failed":              {pending: notices{lateReport(1, true)}, after: notices{lateReport(2, false)}, want: []evidence.Code{book.LateBootFailed}},
		"an earlier boot failed":           {before: notices{lateReport(1, false)}, pending: notices{lateReport(2, true)}, untold: true},
		"an earlier boot of snapshots":     {pending: notices{lateReport(7, true)}, after: notices{lateReport(3, false)}, want: []evidence.Code{book.LateBootFailed}},
		"a later boot passed":              {pending: notices{lateReport(1, false)}, after: notices{lateReport(2, true)}},
		"a boot failed, and none was told": {pending: notices{lateReport(1, false)}, untold: true, want: []evidence.Code{book.LateBootFailed}},
		"it hung before its TPM started":   {pending: notices{lateReport(1, true)}, after: notices{of(0, integrity.EventStuck)}, want: []evidence.Code{book.BootDeadline}},
		"the TPM was lost after a startup": {pending: notices{of(3, integrity.EventStartup)}, after: notices{of(3, integrity.EventTPMLost)}, want: []evidence.Code{book.TPMLost}},
		"the TPM was lost before one":      {before: notices{of(2, integrity.EventTPMLost)}, pending: notices{of(3, integrity.EventStartup)}, untold: true},
		"refused, passed, refused": {
			pending: notices{of(1, integrity.EventAttemptFailed, refused), lateReport(1, true)},
			after:   notices{of(2, integrity.EventAttemptFailed, refused)}, want: []evidence.Code{book.BootRefused},
		},
		"an attestation failed later": {
			pending: notices{attestation("healthy")}, after: notices{attestation("departed", reason("integrity.late-boot-mismatch", "PCR 4 is another"))},
			want: []evidence.Code{book.AttestationUnhealthy, book.AttestationDeparts},
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
			told := func(n integrity.Notice) {
				if err := found.Apply(time.Now(), book.FromNotice(&n)...); err != nil {
					t.Error(err)
				}
			}
			s := h.supervisor()
			defer s.home.log.close()
			tell := func(list notices, heard bool) error {
				for i := range list {
					list[i].Time = time.Now()
				}
				if h.root.cfg.Event = nil; heard {
					h.root.cfg.Event = told
				}
				return s.tell(list)
			}
			if err := tell(tc.before, true); err != nil {
				t.Fatal(err)
			}
			s.home.log.file = fullLog{s.home.log.file}
			if err := tell(tc.pending, !tc.untold); err == nil {
				t.Fatal("the log is not full")
			}
			random := s.home.random
			s.home.random = fullDisk{}
			tell(tc.after, true) //nolint:errcheck // the disk is full
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

// Nothing of a machine comes after what somebody changed in it while it was off: that ends
// all that nobody looks at any more, whenever it is found.
func TestWhatSomebodyChangedIsNotSaidLate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	for what, late := range map[string]bool{"the definition": false, "the record": true} {
		home := h.home()
		p := pending{Number: home.log.next, Notices: []integrity.Notice{{Type: integrity.EventConfig, Instance: "web-1"}}}
		if late {
			p.Record = digestOf(h.plain(home, integrityFile))
		} else {
			d, err := home.Definition()
			if err != nil {
				t.Fatal(err)
			}
			p.After = d
		}
		h.begins(home, p)
		h.close(home)
		h.close(h.home())
		if n := h.events[len(h.events)-1]; n.Type != integrity.EventConfig || n.Found != late {
			t.Errorf("%s changed: %s, found later: %v", what, n.Type, n.Found)
		}
	}
}
