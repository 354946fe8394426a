package sipa_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/assay-project/assay/eventlog"
	"github.com/assay-project/assay/eventlog/sipa"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// TestPackageEventlogSelectsTheSameEvents compares what package eventlog claims,
// which checks digests and separators in earnest, with what the small reader of
// these tests finds.
func TestPackageEventlogSelectsTheSameEvents(t *testing.T) {
	entries, logs := sipa.WindowsSamples(t)
	compared := 0
	for _, e := range entries {
		l, err := eventlog.Parse(logs[e.File])
		if err != nil {
			t.Errorf("%s: Parse = %v", e.File, err)
			continue
		}
		if !l.HasBank(tpm2.AlgSHA256) {
			continue // a bank of SHA-1 supports no claim
		}
		boot, err := l.Inspect(tpm2.AlgSHA256)
		if err != nil {
			t.Errorf("%s: Inspect = %v", e.File, err)
			continue
		}
		got := boot.Claims()
		for name, want := range sipa.Appraise(sipa.Tagged(t, logs[e.File])).Claims {
			// Samples without Windows' own separators are no Windows boots to it.
			if c, ok := got[name]; ok && strings.HasPrefix(e.File, "bios/") {
				compared++
				if diff := cmp.Diff(want, c, cmp.AllowUnexported(evidence.Value{})); diff != "" {
					t.Errorf("%s: claim %s (-Appraise +eventlog):\n%s", e.File, name, diff)
				}
			}
		}
	}
	if compared < 20*len(sipa.ClaimNames()) {
		t.Errorf("only %d claims were compared", compared)
	}
}
