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
	h := newHost(t)
	h.create()
	loader := measures(4, "loader")
	cold := firmwarePart() + loader + leaves
	h.run(cold) // becomes the baseline
	passes := []string{"startupEvent", "earlyBootReportEvent pass", "lateBootReportEvent pass"}
	end := []string{"shutdownEvent"}
	for _, tc := range []struct {
		name string
		runs []string
		want [][]string // of each boot
	}{
		{"sleep, and go on", []string{cold + "suspend\nwake\n"}, [][]string{slices.Concat(passes, []string{"resumeEvent"}, end)}},
		{"sleep twice", []string{cold + "suspend\nwake\nsuspend\nwake\n"}, [][]string{slices.Concat(passes, []string{"resumeEvent", "resumeEvent"}, end)}},
		{"sleep, and start again", []string{cold + "suspend\nwake\nreset\n" + cold}, [][]string{slices.Concat(passes, []string{"resumeEvent"}), slices.Concat(passes, end)}},
		// A machine that hibernates loses its power; what wakes it is a boot like any other.
		{"hibernate, and wake", []string{cold + "suspend\n", cold}, [][]string{slices.Concat(passes, end), slices.Concat(passes, end)}},
		{"hibernate, and wake by a reset", []string{cold + "suspend\nreset\n" + cold}, [][]string{passes, slices.Concat(passes, end)}},
		{"hibernate, and wake another system", []string{cold + "suspend\n", firmwarePart() + measures(4, "another loader") + leaves}, [][]string{
			slices.Concat(passes, end), slices.Concat([]string{"startupEvent", "earlyBootReportEvent fail", "lateBootReportEvent fail"}, end),
		}},
		// The set-up of the firmware is an application of its own, which comes back.
		{"a visit to the set-up", []string{firmwarePart() + comesBack + callsOption + loader + leaves}, [][]string{
			slices.Concat([]string{"startupEvent", "bootAttemptFailedEvent", "earlyBootReportEvent fail", "lateBootReportEvent fail"}, end),
		}},
		{"a visit to the set-up that ends with a reset", []string{firmwarePart() + "reset\n" + cold}, [][]string{{"startupEvent"}, slices.Concat(passes, end)}},
		{"an option that comes back, and another", []string{firmwarePart() + measures(4, "network") + comesBack + callsOption + loader + leaves}, [][]string{
			slices.Concat([]string{"startupEvent", "earlyBootReportEvent fail", "bootAttemptFailedEvent", "earlyBootReportEvent fail", "lateBootReportEvent fail"}, end),
		}},
		{"restarts within the firmware", []string{"reset\nreset\n" + cold}, [][]string{{"startupEvent"}, {"startupEvent"}, slices.Concat(passes, end)}},
	} {
		history, err := h.root.History(t.Context(), "web-1")
		if err != nil {
			t.Fatal(err)
		}
		counter, before := history.BootCounter, len(h.types())
		for _, script := range tc.runs {
			h.run(script)
		}
		var want []string
		for _, events := range tc.want {
			counter++
			for _, e := range events {
				want = append(want, fmt.Sprint(counter, " ", e))
			}
		}
		if diff := cmp.Diff(want, h.types()[before:]); diff != "" {
			t.Errorf("%s: events (-want +got):\n%s", tc.name, diff)
		}
		if history, err = h.root.History(t.Context(), "web-1"); err != nil || history.BootCounter != counter {
			t.Errorf("%s: the counter is at %+v, %v, want %d", tc.name, history, err, counter)
		}
	}
}
