package engine_test

import (
	"math"
	"testing"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// clock returns what TPM2_ReadClock tells.
func (m *machine) clock() tpm2.TimeInfo {
	m.Helper()
	var out command.ReadClockOut
	m.do(tpm2.CCReadClock, nil, nil, nil, &out)
	return out.CurrentTime
}

func (m *machine) setClock(by tpm2.Handle, to uint64) tpm2.RC {
	m.Helper()
	return m.run(tpm2.CCClockSet, handles(by), password(""), &command.ClockSetIn{NewTime: to}, nil)
}

func TestTimeAndClockGoOn(t *testing.T) {
	m := newMachine(t)
	first := m.clock()
	m.now += 1500*time.Millisecond + 900*time.Microsecond
	m.now += 100 * time.Microsecond
	second := m.clock()
	if second.Time-first.Time != 1501 || second.ClockInfo.Clock-first.ClockInfo.Clock != 1501 {
		t.Errorf("after 1.501 s: %+v, was %+v", second, first)
	}
	m.now -= time.Second
	if got := m.clock(); got != second {
		t.Errorf("time went back: %+v, was %+v", got, second)
	}
}

func TestTimeStartsAtPowerOnAndTheClockGoesOn(t *testing.T) {
	clearing := tpm2.StartupClear
	m := newMachine(t)
	m.now += time.Hour
	m.restart(&clearing, clearing)
	m.now += time.Second
	got := m.clock()
	if got.Time != 1000 || got.ClockInfo.Clock != 3601*1000 {
		t.Errorf("time is %d and clock %d ms, want 1000 and 3601000", got.Time, got.ClockInfo.Clock)
	}
}

func TestTheClockCountsFromPowerOn(t *testing.T) {
	m := manufacture(t, "default")
	m.now += 3 * time.Second
	m.startup(tpm2.StartupClear)
	if got := m.clock().ClockInfo.Clock; got != 3000 {
		t.Errorf("clock is %d ms, want 3000", got)
	}
}

func TestResetAndRestartCounts(t *testing.T) {
	const clearing, state = tpm2.StartupClear, tpm2.StartupState
	m := newMachine(t)
	for _, tc := range []struct {
		down           tpm2.StartupType
		up             tpm2.StartupType
		reset, restart uint32
	}{{state, state, 1, 1}, {state, clearing, 1, 2}, {clearing, clearing, 2, 0}, {state, state, 2, 1}} {
		m.restart(&tc.down, tc.up)
		if got := m.clock().ClockInfo; got.ResetCount != tc.reset || got.RestartCount != tc.restart {
			t.Errorf("after shutdown %v and startup %v: %d resets, %d restarts, want %d and %d", tc.down, tc.up, got.ResetCount, got.RestartCount, tc.reset, tc.restart)
		}
	}
}

// A clock that may have told a value twice is not safe until it has passed the
// interval at which it is written down (Part 1, 36.3.2).
func TestTheClockIsSafe(t *testing.T) {
	const clearing = tpm2.StartupClear
	interval := time.Duration(1<<22) * time.Millisecond
	down := clearing
	for name, tc := range map[string]struct {
		do   func(m *machine)
		want bool
	}{
		"when new":                      {func(*machine) {}, true},
		"after an orderly shutdown":     {func(m *machine) { m.restart(&down, clearing) }, true},
		"not after a loss of power":     {func(m *machine) { m.restart(nil, clearing) }, false},
		"nor within the interval":       {func(m *machine) { m.restart(nil, clearing); m.now += interval - time.Second }, false},
		"but beyond it":                 {func(m *machine) { m.restart(nil, clearing); m.now += interval }, true},
		"nor by an orderly shutdown":    {func(m *machine) { m.restart(nil, clearing); m.restart(&down, clearing) }, false},
		"when it was set beyond it":     {func(m *machine) { m.restart(nil, clearing); m.setClock(owner, 1<<23) }, true},
		"not when it was set within it": {func(m *machine) { m.restart(nil, clearing); m.setClock(owner, 1000) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			tc.do(m)
			if got := m.clock().ClockInfo.Safe; got != tc.want {
				t.Errorf("safe is %v, want %v", got, tc.want)
			}
		})
	}
}

func TestTheClockIsSetForwardOnly(t *testing.T) {
	m := newMachine(t)
	m.now += time.Minute
	for _, tc := range []struct {
		by   tpm2.Handle
		to   uint64
		want tpm2.RC
	}{
		{owner, 59_999, parameterRC(tpm2.RCValue, 1)},
		{owner, 60_000, 0},
		{platform, 70_000, 0},
		{owner, 69_999, parameterRC(tpm2.RCValue, 1)},
		{lockout, 80_000, handleRC(tpm2.RCValue, 1)},
		{owner, 0xffff_0000_0000_0001, parameterRC(tpm2.RCValue, 1)},
		{owner, math.MaxUint64, parameterRC(tpm2.RCValue, 1)},
		{owner, 0xffff_0000_0000_0000, 0},
	} {
		before := m.clock().ClockInfo.Clock
		if got := m.setClock(tc.by, tc.to); got != tc.want {
			t.Errorf("ClockSet(%v, %#x) = %v, want %v", tc.by, tc.to, got, tc.want)
		}
		want := tc.to
		if tc.want != 0 {
			want = before
		}
		if got := m.clock(); got.ClockInfo.Clock != want || got.Time != 60_000 {
			t.Errorf("after ClockSet(%v, %#x) clock is %#x and time %d, want %#x and 60000", tc.by, tc.to, got.ClockInfo.Clock, got.Time, want)
		}
	}
}

// The rate is that of time and clock (Part 3, 29.4), and exact whatever the steps
// in which time passes.
func TestTheRateOfTheClock(t *testing.T) {
	for name, tc := range map[string]struct {
		adjust []int8
		want   uint64 // milliseconds in 1000 s
	}{
		"as it is":             {nil, 1_000_000},
		"no change":            {[]int8{0}, 1_000_000},
		"coarse, faster":       {[]int8{3}, 1_010_000},
		"coarse, slower":       {[]int8{-3}, 990_000},
		"medium, faster":       {[]int8{2}, 1_001_000},
		"medium, slower":       {[]int8{-2}, 999_000},
		"fine, faster":         {[]int8{1}, 1_000_033},
		"fine, slower":         {[]int8{-1}, 999_967},
		"there and back":       {[]int8{3, -3, 2}, 1_001_000},
		"no faster than 15 %":  {[]int8{3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3}, 1_150_000},
		"no slower than -15 %": {[]int8{-3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3, -3}, 850_000},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			for _, a := range tc.adjust {
				in := &command.ClockRateAdjustIn{RateAdjust: tpm2.ClockAdjust(a)}
				m.do(tpm2.CCClockRateAdjust, handles(owner), password(""), in, nil)
			}
			for range 1000 {
				m.now += time.Second / 3
				m.clock()
				m.now += 2 * time.Second / 3
				m.clock()
			}
			m.now += time.Microsecond
			if got := m.clock(); got.Time != tc.want || got.ClockInfo.Clock != tc.want {
				t.Errorf("time is %d and clock %d ms, want %d", got.Time, got.ClockInfo.Clock, tc.want)
			}
		})
	}
}

func TestRatesThatAreNone(t *testing.T) {
	m := newMachine(t)
	for _, b := range []byte{4, 0x7f, 0x80, 0xfc} {
		in := raw{b}
		m.fails(parameterRC(tpm2.RCValue, 1), tpm2.CCClockRateAdjust, handles(owner), password(""), &in)
	}
	m.fails(handleRC(tpm2.RCValue, 1), tpm2.CCClockRateAdjust, handles(endorsement), password(""), &command.ClockRateAdjustIn{})
}

// Time that stood still while there was power ends what was to expire at a time: sessions of
// before, and tickets. The time itself goes on.
func TestTimeThatStoodStillEndsWhatWasToExpire(t *testing.T) {
	m := newMachine(t)
	m.now = time.Minute
	timed := assertion{tpm2.CCPolicySecret, handles(tpm2.HandlePlatform), &command.PolicySecretIn{Expiration: 100}}
	m.ownerPolicy(timed)
	use, ticket := setClock(anHour), m.secretTicket()
	before, other := m.satisfied(timed), m.satisfied()
	m.tpm.MustPermanent()
	m.tpm.TimeStopped()
	if !m.tpm.Changed() {
		t.Error("it need not be written down")
	}
	m.fails(sessionRC(tpm2.RCExpired, 1), use.cc, handles(tpm2.HandleOwner), before.with(""), use.in)
	if rc := m.asserts(other, timed); rc != parameterRC(tpm2.RCExpired, 4) {
		t.Errorf("PolicySecret in a session of before = %v", rc)
	}
	m.flush(other.handle)
	late := m.satisfied()
	if rc := m.asserts(late, assertion{cc: tpm2.CCPolicyTicket, in: &ticket.in}); rc != parameterRC(tpm2.RCTicket, 5) {
		t.Errorf("PolicyTicket by a ticket of before = %v", rc)
	}
	m.flush(late.handle)
	if now := m.clock().Time; now != 60_000 {
		t.Errorf("the time is %d ms, want 60000", now)
	}
	m.do(use.cc, handles(tpm2.HandleOwner), m.satisfied(timed).with(""), use.in, nil)
}

// Until TPM2_Startup there is nothing that could expire, and that begins an epoch anyway.
func TestTimeThatStoodStillBeforeStartup(t *testing.T) {
	m := newMachine(t)
	epoch := m.tpm.TimeEpoch()
	m.tpm.PowerOn()
	m.tpm.TimeStopped()
	if m.startup(tpm2.StartupClear); m.tpm.TimeEpoch() != epoch+1 {
		t.Errorf("epoch %d after %d, want the next", m.tpm.TimeEpoch(), epoch)
	}
}
