package vmcli

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/fleet"
	"github.com/assay-project/assay/internal/health"
	"github.com/assay-project/assay/internal/integrity"
	"github.com/assay-project/assay/internal/machine"
)

func TestWhatAGuestNamesMovesNoTerminal(t *testing.T) {
	const evil = "a\x1b[2J\u009b2J\u202eb\nweb-2\tc\xff"
	reasons := because(evil)
	boot := &machine.BootStatus{Refused: reasons, Reasons: reasons}
	side := &baseline.Side{Digest: "00", Detail: evil}
	differences := []baseline.Difference{{Judged: true, Words: evil, Cause: evil, Action: evil, Old: side, New: side}, {Words: evil}}
	status := machine.Status{Name: "web-1", State: machine.StateDamaged, Problem: evil, Detail: evil, Boot: boot, Health: new(machine.HealthStatus)}
	status.Health.State, status.Health.Reasons = health.Departed, reasons
	for name, tc := range map[string]struct {
		print func(io.Writer) error
		lines int
	}{
		"list":        {func(w io.Writer) error { return printList(w, []*machine.Status{&status}) }, 2},
		"events":      {func(w io.Writer) error { return printEvents(w, []integrity.Notice{{Reasons: reasons, Actor: evil}}) }, 1},
		"differences": {func(w io.Writer) error { return printDifferences(w, differences) }, 6},
		"why":         {func(w io.Writer) error { return printWhy(w, &machine.Reasoned{Note: evil}) }, 2},
		"describe": {func(w io.Writer) error {
			return printDescription(w, &machine.Description{Status: status, Definition: &fleet.Definition{Disks: []fleet.Disk{{File: evil}}}, Baselines: []machine.VersionSummary{{Reason: evil, Actor: evil}}}, &machine.Migration{Address: evil})
		}, 14},
	} {
		var out bytes.Buffer
		if err := tc.print(&out); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%s: %q", name, out.String())
		}
		if got := strings.Count(out.String(), "\n"); got != tc.lines {
			t.Errorf("%s has %d lines, want %d:\n%s", name, got, tc.lines, out.String())
		}
	}
}

func TestAListSaysWhatWasLastKnown(t *testing.T) {
	seen := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	err := printList(&out, []*machine.Status{{
		Name: "web-1", State: machine.StateUnknown, Problem: "its supervisor does not answer", LastKnown: &machine.LastKnown{State: machine.StateRunning, Seen: seen},
	}})
	if want := "its supervisor does not answer; it was running at 2026-11-23T03:00:00Z\n"; err != nil || !strings.HasSuffix(out.String(), want) {
		t.Errorf("%q, %v; want %q", &out, err, want)
	}
}
