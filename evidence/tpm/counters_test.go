package tpm_test

import (
	"testing"
	"time"

	"github.com/assay-project/assay/evidence/evidencetest"
	"github.com/assay-project/assay/evidence/tpm"
	"github.com/assay-project/assay/tpm2"
)

// TestCountersOnlyGoForward holds what a quote's counters may be after the last
// ones seen: 1,000,000 ms, reset 5, restart 3, safe.
func TestCountersOnlyGoForward(t *testing.T) {
	const hour = 3_600_000
	m := evidencetest.NewTPM(t, evidencetest.P256, evidencetest.Recorded(t, "good-uki", "ecc"))
	base := tpm2.ClockInfo{Clock: 10_000_000, ResetCount: 5, RestartCount: 3, Safe: true}
	clock := func(change func(c *tpm2.ClockInfo)) tpm2.ClockInfo { c := base; change(&c); return c }
	for name, tc := range map[string]struct {
		last, now tpm2.ClockInfo
		window    time.Duration
		rolled    bool
	}{
		"the same again":                      {base, base, 0, false},
		"later":                               {base, clock(func(c *tpm2.ClockInfo) { c.Clock++ }), 0, false},
		"one millisecond earlier":             {base, clock(func(c *tpm2.ClockInfo) { c.Clock-- }), 0, true},
		"earlier within the window":           {base, clock(func(c *tpm2.ClockInfo) { c.Clock -= 5000 }), 5 * time.Second, false},
		"earlier beyond the window":           {base, clock(func(c *tpm2.ClockInfo) { c.Clock -= 5001 }), 5 * time.Second, true},
		"a negative window":                   {base, clock(func(c *tpm2.ClockInfo) { c.Clock-- }), -time.Hour, true},
		"next boot":                           {base, clock(func(c *tpm2.ClockInfo) { c.ResetCount++; c.RestartCount = 0; c.Clock++ }), 0, false},
		"next boot with an earlier clock":     {base, clock(func(c *tpm2.ClockInfo) { c.ResetCount++; c.Clock -= 1000 }), time.Hour, true},
		"next boot after a crash":             {base, clock(func(c *tpm2.ClockInfo) { c.ResetCount++; c.Clock -= hour; c.Safe = false }), 0, false},
		"next boot long before":               {base, clock(func(c *tpm2.ClockInfo) { c.ResetCount++; c.Clock -= 2 * hour; c.Safe = false }), 0, true},
		"an earlier boot":                     {base, clock(func(c *tpm2.ClockInfo) { c.ResetCount--; c.Clock++ }), time.Hour, true},
		"resumed":                             {base, clock(func(c *tpm2.ClockInfo) { c.RestartCount++ }), 0, false},
		"before a resume":                     {base, clock(func(c *tpm2.ClockInfo) { c.RestartCount-- }), time.Hour, true},
		"unsafe without a boot":               {base, clock(func(c *tpm2.ClockInfo) { c.Safe = false; c.Clock++ }), time.Hour, true},
		"safe again":                          {clock(func(c *tpm2.ClockInfo) { c.Safe = false }), clock(func(c *tpm2.ClockInfo) { c.Clock++ }), 0, false},
		"cleared":                             {base, tpm2.ClockInfo{Clock: 1, Safe: true}, time.Hour, true},
		"resets wrap":                         {clock(func(c *tpm2.ClockInfo) { c.ResetCount = 0xffffffff }), clock(func(c *tpm2.ClockInfo) { c.ResetCount = 0; c.Clock++ }), 0, false},
		"resets wrap back":                    {clock(func(c *tpm2.ClockInfo) { c.ResetCount = 0 }), clock(func(c *tpm2.ClockInfo) { c.ResetCount = 0xffffffff; c.Clock++ }), 0, true},
		"restarts wrap":                       {clock(func(c *tpm2.ClockInfo) { c.RestartCount = 0xffffffff }), clock(func(c *tpm2.ClockInfo) { c.RestartCount = 1; c.Clock++ }), 0, false},
		"obfuscated counters of an owner key": {clock(func(c *tpm2.ClockInfo) { c.ResetCount = 0xfffffff0; c.RestartCount = 0x80000000 }), clock(func(c *tpm2.ClockInfo) { c.ResetCount = 2; c.RestartCount = 1 }), 0, false},
		"half the range back":                 {base, clock(func(c *tpm2.ClockInfo) { c.ResetCount += 0x80000000; c.Clock++ }), 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := fresh(m)
			o := trusting(t, m)
			m.Clock = tc.last
			first := trusts(t, m.Bundle(nonce).JSON(t), o)
			seen := first.Verified.Counters()
			o.Last, o.ClockWindow = &seen, tc.window
			m.Clock = tc.now
			if tc.rolled {
				refuses(t, m.Bundle(nonce).JSON(t), o, "quote.counters-rolled-back")
				return
			}
			now := trusts(t, m.Bundle(nonce).JSON(t), o).Verified.Counters()
			if latest := seen.Latest(now); tc.now.Clock >= tc.last.Clock && latest != now {
				t.Errorf("Latest = %+v, want %+v", latest, now)
			}
		})
	}
}

func TestLatestCountersAreThoseOfTheNewestBoot(t *testing.T) {
	base := tpm.Counters{Clock: 1000, Reset: 5, Restart: 3, Safe: true}
	for name, later := range map[string]tpm.Counters{
		"a later clock":       {Clock: 1001, Reset: 5, Restart: 3},
		"a resume":            {Clock: 999, Reset: 5, Restart: 4},
		"a boot":              {Clock: 1, Reset: 6},
		"a boot past the end": {Clock: 1, Reset: 5 + 0x7fffffff},
	} {
		if got := base.Latest(later); got != later {
			t.Errorf("%s: Latest = %+v, want %+v", name, got, later)
		}
		if got := later.Latest(base); got != later {
			t.Errorf("%s, the other way: Latest = %+v, want %+v", name, got, later)
		}
	}
}
