package machine

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// journal is what a TPM records of a boot.
func journal(t testing.TB, scenario string) []engine.JournalRecord {
	t.Helper()
	l, err := eventlog.Parse(evidencetest.File(t, scenario+"/eventlog.bin"))
	if err != nil {
		t.Fatal(err)
	}
	out := []engine.JournalRecord{{Kind: engine.JournalInit}, {Kind: engine.JournalStartup, Digests: []tpm2.HA{{HashAlg: integrity.Bank}}}}
	for e := range l.All() {
		if e.Measured() {
			out = append(out, engine.JournalRecord{Kind: engine.JournalExtend, PCR: uint8(e.PCR), Digests: []tpm2.HA{{HashAlg: integrity.Bank, Digest: e.Digest(integrity.Bank)}}})
		}
	}
	return out
}

// planFor is an approval of a boot before it.
func planFor(t testing.TB, scenario string, now time.Time) *integrity.Plan {
	t.Helper()
	p := &integrity.Plan{Made: now, Expires: now.Add(time.Hour), Actor: "bob", Reason: "update", Baseline: 1, Registers: map[int][]map[tpm2.Alg][]byte{}}
	for _, r := range journal(t, scenario) {
		if pcr := int(r.PCR); r.Kind == engine.JournalExtend && (pcr == 4 || pcr == 11) {
			p.Registers[pcr] = append(p.Registers[pcr], map[tpm2.Alg][]byte{integrity.Bank: r.Digests[0].Digest})
		}
	}
	return p
}

// A spiedLog has something done before each event is written.
type spiedLog struct {
	logFile
	before func()
}

func (l *spiedLog) WriteAt(b []byte, at int64) (int, error) {
	l.before()
	return l.logFile.WriteAt(b, at)
}

// files are those of web-1's home as a loss of power leaves them now.
func (h *host) files() map[string][]byte {
	h.Helper()
	out := map[string][]byte{}
	for _, name := range []string{integrityFile, eventsFile, pendingFile} {
		if b, err := os.ReadFile(h.file(name)); err == nil {
			out[name] = b
		}
	}
	return out
}

func (h *host) putFiles(files map[string][]byte) {
	h.Helper()
	os.Remove(h.file(pendingFile))
	for name, b := range files {
		h.writeFile(name, b)
	}
}

// What the record says of boots and baselines is in the log, once, wherever the power was
// lost between the two: the first baseline, a planned one, and each boot.
func TestWhatTheRecordSaysIsInTheLogOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	var states []map[string][]byte
	s := h.supervisor()
	first := s.home.log.next
	spy := &spiedLog{s.home.log.file, func() { states = append(states, h.files()) }}
	s.home.log.file = spy
	feed := func(scenario string) {
		for _, r := range journal(t, scenario) {
			before := h.files()
			notices := s.monitor.Take(r)
			if err := s.tell(notices); err != nil {
				t.Fatal(err)
			}
			if len(notices) > 0 { // what is to be logged is there, and what it belongs to is not
				cut := h.files()
				cut[integrityFile], cut[eventsFile] = before[integrityFile], before[eventsFile]
				states = append(states, cut, h.files())
			}
		}
	}
	feed("good-uki")
	s.history.Plan = planFor(t, "good-uki-update", time.Now())
	feed("good-uki-update")
	whole := h.files()
	if len(states) != 3*6+1 {
		t.Fatalf("%d states, want three of each of six steps, and one more of the planned boot's two events", len(states))
	}
	var all []string
	for i, files := range append(states, whole) {
		h.putFiles(files)
		home := &Home{dir: s.home.dir, card: s.home.card, key: s.home.key, random: s.home.random}
		for range 2 { // and is told once
			if err := home.openLog(); err != nil {
				t.Fatal(err)
			}
			if err := h.root.settle(t.Context(), home); err != nil {
				t.Fatalf("state %d: %v", i, err)
			}
			all = h.recordAndLogAgree(fmt.Sprintf("state %d", i), home, first)
			if err := home.log.close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{
		"1 startupEvent", "1 earlyBootReportEvent", "1 lateBootReportEvent of 1",
		"2 startupEvent", "2 earlyBootReportEvent of 1", "2 setShieldedVmIntegrityPolicy of 2", "2 lateBootReportEvent of 2",
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

// recordAndLogAgree compares what a home's record and its log say, and returns the log.
func (h *host) recordAndLogAgree(what string, home *Home, first int) []string {
	h.Helper()
	history, err := home.History()
	if err != nil {
		h.Fatal(err)
	}
	events, err := home.Events()
	if err != nil {
		h.Fatal(err)
	}
	var text []string
	logged := map[string]int{}
	for _, n := range events[first:] {
		line := fmt.Sprintf("%d %s", n.BootCounter, n.Type)
		if n.Baseline > 0 {
			line += fmt.Sprintf(" of %d", n.Baseline)
		}
		text = append(text, line)
		logged[fmt.Sprintf("%d %s", n.BootCounter, n.Type)]++
	}
	want := map[string]int{}
	for i := range history.Boots {
		b := &history.Boots[i]
		want[fmt.Sprintf("%d %s", b.Counter, integrity.EventStartup)] = 1
		if b.Early != integrity.NotReached {
			want[fmt.Sprintf("%d %s", b.Counter, integrity.EventEarlyReport)] = 1
		}
		if b.Late != integrity.NotReached {
			want[fmt.Sprintf("%d %s", b.Counter, integrity.EventLateReport)] = 1
		}
	}
	for i := range history.Versions {
		if v := &history.Versions[i]; v.Actor == "bob" {
			want[fmt.Sprintf("%d %s", v.Boot, integrity.EventSetPolicy)] = 1
		}
	}
	if !maps.Equal(want, logged) {
		h.Errorf("%s: the record has %v, the log %v", what, slices.Sorted(maps.Keys(want)), logged)
	}
	return text
}

// An approval of a next boot, and its end, are in force with the event that says whose they
// are, wherever the power was lost; and an event without them is not.
func TestAPlanIsInForceWithItsEvent(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	first := len(h.types())
	for i, p := range []*integrity.Plan{planFor(t, "good-uki-update", time.Now()), nil} {
		home := h.home()
		history, err := home.History()
		if err != nil {
			t.Fatal(err)
		}
		history.Plan = p
		states := []map[string][]byte{h.files()}
		home.log.file = &spiedLog{home.log.file, func() { states = append(states, h.files()) }}
		if err := h.root.keepPlan(home, history, "bob", "it was said"); err != nil {
			t.Fatal(err)
		}
		h.close(home)
		states = append(states, h.files())
		if len(states) != 3 {
			t.Fatalf("%d states, want three", len(states))
		}
		cut := maps.Clone(states[1]) // the event is to be logged, and the record is not written
		cut[integrityFile] = states[0][integrityFile]
		for n, tc := range []struct {
			files map[string][]byte
			took  bool
		}{{states[0], false}, {cut, false}, {states[1], true}, {states[2], true}} {
			h.putFiles(tc.files)
			h.close(h.home())
			want := first + i
			if tc.took {
				want++
			}
			events, err := h.root.Events(t.Context(), "web-1")
			if err != nil {
				t.Fatal(err)
			}
			if is := (h.plan() == nil) == (p == nil); len(events) != want || is != tc.took {
				t.Errorf("state %d of step %d: the plan is as it was said: %v, want %v; %d events, want %d", n, i, is, tc.took, len(events), want)
			}
			if last := events[len(events)-1]; tc.took && (last.Actor != "bob" || last.Type != integrity.EventConfig) {
				t.Errorf("state %d of step %d: the event is %+v", n, i, last)
			}
		}
	}
}

// What an older version left of an approval that was cut short is understood.
func TestAnApprovalThatAnOlderVersionBeganIsLogged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	home := h.home()
	n := &integrity.Notice{Type: integrity.EventSetPolicy, Instance: "web-1", BootCounter: 1, Baseline: 1, Actor: "bob"}
	h.begins(home, map[string]any{"baseline": 1, "number": home.log.next, "notice": n})
	h.close(home)
	h.close(h.home())
	if last := h.types(); last[len(last)-1] != "1 "+integrity.EventSetPolicy {
		t.Errorf("the log: %q", last)
	}
	if _, err := os.Stat(filepath.Join(h.dir, "vms", "web-1", pendingFile)); err == nil {
		t.Error("it would be logged again")
	}
}
