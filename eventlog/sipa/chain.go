package sipa

import (
	"errors"

	"github.com/assay-project/assay/evidence"
)

// Chain checks that boots are one cold boot and the resumes that followed it,
// in order and without a gap: the first is cold, the others woke from
// hibernation, BOOTCOUNTER counts up by one, and the TPM's counter, where
// measured, is the same one and rises. Only then do the claims of the first
// hold for the last.
func Chain(boots []Counters) error {
	if len(boots) == 0 {
		return evidence.Refuse(codeChain, "chain of boots is empty")
	}
	var errs []error
	refuse := func(i int, what string) {
		errs = append(errs, evidence.Refuse(codeChain, "boot %d of %d: %s", i+1, len(boots), what))
	}
	for i, b := range boots {
		switch {
		case !b.Known:
			refuse(i, "boot counter was not measured")
		case i == 0:
			if !b.Resumed.IsFalse() {
				refuse(i, "chain does not begin with a cold boot")
			}
		default:
			if why := follows(boots[i-1], b); why != "" {
				refuse(i, why)
			}
		}
	}
	return errors.Join(errs...)
}

func follows(before, b Counters) (why string) {
	switch {
	case !b.Resumed.IsTrue():
		return "is not a resume from hibernation"
	case b.Boot != before.Boot+1:
		return "boot counter does not follow the one before"
	case b.ID != before.ID:
		return "counter is that of another TPM"
	case b.ID != 0 && b.Event <= before.Event:
		return "event counter does not rise"
	default:
		return ""
	}
}
