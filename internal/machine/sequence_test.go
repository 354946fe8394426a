package machine

import (
	"crypto/sha1" //nolint:gosec // a bank of PCRs
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// measures is the line of a script that measures a text in all banks.
func measures(pcr int, text string) string {
	b := []byte(text)
	return fmt.Sprintf("%d %x %x %x %x\n", pcr, sha256.Sum256(b), sha1.Sum(b), sha512.Sum384(b), sha512.Sum512(b))
}

// The parts of a boot, as the firmware measures them (PC Client Platform Firmware Profile,
// 3.3.4.5 and 10.4.1).
var (
	callsOption = measures(4, "Calling EFI Application from Boot Option")
	comesBack   = measures(4, "Returning from EFI Application from Boot Option")
	leaves      = measures(5, "Exit Boot Services Invocation") + measures(5, "Exit Boot Services Returned with Success")
)

// firmwarePart is all before the first boot option.
func firmwarePart() string {
	var b strings.Builder
	b.WriteString(measures(0, "firmware") + measures(7, "SecureBoot") + callsOption)
	for pcr := range 8 {
		b.WriteString(measures(pcr, "\x00\x00\x00\x00"))
	}
	return b.String()
}

// Whatever a machine does between its starts, each event is told once, in its boot.
func TestEachWayToStartHasItsEventsInOneBoot(t *testing.T) {
	t.Parallel()
	loader := measures(4, "loader")
	cold := firmwarePart() + loader + leaves
	passes := func(boot int) []string {
		return []string{
			fmt.Sprintf("%d startupEvent", boot), fmt.Sprintf("%d earlyBootReportEvent pass", boot), fmt.Sprintf("%d lateBootReportEvent pass", boot),
		}
	}
	end := func(boot int) []string { return []string{fmt.Sprintf("%d shutdownEvent", boot)} }
	for name, tc := range map[string]struct {
		runs []string // after a first boot that became the baseline
		want []string
	}{
		"sleep, and go on": {[]string{cold + "suspend\nwake\n"}, slices.Concat(passes(2), []string{"2 resumeEvent"}, end(2))},
		"sleep twice":      {[]string{cold + "suspend\nwake\nsuspend\nwake\n"}, slices.Concat(passes(2), []string{"2 resumeEvent", "2 resumeEvent"}, end(2))},
		"sleep, and start again": {
			[]string{cold + "suspend\nwake\nreset\n" + cold}, slices.Concat(passes(2), []string{"2 resumeEvent"}, passes(3), end(3)),
		},
		// A machine that hibernates loses its power; what wakes it is a boot like any other.
		"hibernate, and wake":            {[]string{cold + "suspend\n", cold}, slices.Concat(passes(2), end(2), passes(3), end(3))},
		"hibernate, and wake by a reset": {[]string{cold + "suspend\nreset\n" + cold}, slices.Concat(passes(2), passes(3), end(3))},
		"hibernate, and wake another system": {
			[]string{cold + "suspend\n", firmwarePart() + measures(4, "another loader") + leaves},
			slices.Concat(passes(2), end(2), []string{"3 startupEvent", "3 earlyBootReportEvent fail", "3 lateBootReportEvent fail"}, end(3)),
		},
		// The set-up of the firmware is an application of its own, which comes back.
		"a visit to the set-up": {
			[]string{firmwarePart() + comesBack + callsOption + loader + leaves},
			slices.Concat([]string{"2 startupEvent", "2 bootAttemptFailedEvent", "2 earlyBootReportEvent fail", "2 lateBootReportEvent fail"}, end(2)),
		},
		"a visit to the set-up that ends with a reset": {
			[]string{firmwarePart() + "reset\n" + cold}, slices.Concat([]string{"2 startupEvent"}, passes(3), end(3)),
		},
		"an option that comes back, and another": {
			[]string{firmwarePart() + measures(4, "network") + comesBack + callsOption + loader + leaves},
			slices.Concat([]string{
				"2 startupEvent", "2 earlyBootReportEvent fail", "2 bootAttemptFailedEvent", "2 earlyBootReportEvent fail", "2 lateBootReportEvent fail",
			}, end(2)),
		},
		"restarts within the firmware": {
			[]string{"reset\nreset\n" + cold}, slices.Concat([]string{"2 startupEvent", "3 startupEvent"}, passes(4), end(4)),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.create()
			h.run(cold)
			for _, script := range tc.runs {
				h.run(script)
			}
			want := slices.Concat(passes(1), end(1), tc.want)
			if diff := cmp.Diff(want, h.types()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			boots, err := h.root.History(t.Context(), "web-1")
			if err != nil {
				t.Fatal(err)
			}
			last := strings.Fields(want[len(want)-1])[0]
			if fmt.Sprint(boots.BootCounter) != last {
				t.Errorf("the counter is at %d, want %s", boots.BootCounter, last)
			}
		})
	}
}
