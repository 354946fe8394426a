package machine

import (
	"errors"
	"fmt"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/internal/integrity"
)

// Compare says what boot b of a history measured otherwise than boot a, under a policy.
func Compare(h *integrity.History, a, b uint64, policy string) (*baseline.Comparison, error) {
	profile, err := baseline.ProfileNamed(policy)
	if err != nil {
		return nil, err
	}
	before, err := h.Boot(a)
	if err != nil {
		return nil, err
	}
	after, err := h.Boot(b)
	if err != nil {
		return nil, err
	}
	profile.Shape = after.Shape
	return baseline.From(before.Boot, before.Shape).Compare(after.Boot, profile), nil
}

// ErrNotJudged is a boot that was compared with no baseline.
var ErrNotJudged = errors.New("was compared with no baseline")

// Why compares a boot with the baseline that it was judged by, 0 for the last boot.
func Why(h *integrity.History, boot uint64, policy string) (*integrity.BootRecord, *baseline.Comparison, error) {
	if boot == 0 {
		boot = h.BootCounter
	}
	r, err := h.Boot(boot)
	if err != nil {
		return nil, nil, err
	}
	if r.Baseline == 0 {
		return r, nil, fmt.Errorf("boot %d: %w", boot, ErrNotJudged)
	}
	v, err := h.Version(r.Baseline)
	if err != nil {
		return r, nil, err
	}
	profile, err := baseline.ProfileNamed(policy)
	if err != nil {
		return r, nil, err
	}
	profile.Shape = r.Shape
	return r, v.Baseline.Compare(r.Boot, profile), nil
}
