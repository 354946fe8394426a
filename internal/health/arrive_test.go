package health

import (
	"strings"
	"testing"
	"time"
)

// A machine that came from another host attests at once, in the memory that it had.
func TestAMachineThatArrivesIsAskedAtOnce(t *testing.T) {
	inBubble(t, nil, func(f *fixture) {
		f.start(f.guest.Agent())
		f.wait(time.Second)
		f.is(1, Healthy, "")
		if left := f.monitor.Left(); left != 0 {
			t.Errorf("an agent of which nothing is waited for has %v", left)
		}
		f.monitor.Arrived(0)
		f.wait(time.Second)
		f.is(2, Healthy, "")
	})
}

// What an agent has left of its time is all that it has on another host, but for what it
// needs to answer.
func TestAMoveGivesASilentAgentNoMoreTime(t *testing.T) {
	for name, tc := range map[string]struct{ left, gets time.Duration }{
		"some of a boot's":           {4 * time.Minute, 4 * time.Minute},
		"next to nothing":            {1, gap},
		"nothing was waited for":     {0, time.Minute},
		"a host that says too much":  {240 * time.Hour, 5 * time.Minute},
		"a host that says nonsense":  {-time.Hour, time.Minute},
		"less than a pause of guest": {gap / 2, gap},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(f *fixture) {
				f.monitor.Pause() // it waits for its memory
				f.wait(time.Hour)
				f.monitor.Arrived(tc.left)
				f.monitor.Resume()
				f.wait(tc.gets - time.Second)
				f.last(0)
				if left := f.monitor.Left(); left != time.Second {
					t.Errorf("a second before its end %v are left", left)
				}
				f.wait(2 * time.Second)
				a := f.is(1, Silent, codeSilent)
				if want := "in the " + tc.gets.String() + " that it had left when the machine came from another host"; !strings.Contains(a.Reasons[0].Message, want) {
					t.Errorf("reasons %+v, want %q", a.Reasons, want)
				}
				if left := f.monitor.Left(); left != 0 {
					t.Errorf("after it %v are left", left)
				}
				// The next boot has its whole time.
				f.monitor.Booted()
				f.wait(5*time.Minute - time.Second)
				f.last(1)
				f.wait(2 * time.Second)
				if a := f.is(2, Silent, codeSilent); !strings.Contains(a.Reasons[0].Message, "since the machine started") {
					t.Errorf("reasons %+v", a.Reasons)
				}
			})
		})
	}
}
