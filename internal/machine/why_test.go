package machine

import (
	"slices"
	"testing"

	"github.com/assay-project/assay/eventlog/baseline"
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/integrity"
)

// What is missing because nothing was started is no answer to why.
func TestWhyOfARefusedBootBeginsWithTheRefusal(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.create()
	h.run(boot(t, "good-uki"))
	s := h.start(boot(t, "bad-uki-unsigned") + refusal + "print BdsDxe: No bootable option or device was found.\n")
	h.await(integrity.EventRefused, 1)
	h.stop(s)
	why, err := h.root.Reason(t.Context(), "web-1", 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(why.Refused, func(r evidence.Reason) bool { return r.Code == "serial.secure-boot-refused" }) {
		t.Errorf("refused %v", why.Refused)
	}
	if c := why.Comparison; c.Passed() || len(c.Differences) == 0 || slices.ContainsFunc(c.Differences, func(d baseline.Difference) bool { return d.Phase != "early" }) {
		t.Errorf("comparison %+v", c)
	}
	if why, err = h.root.Reason(t.Context(), "web-1", 1); err != nil || len(why.Refused) > 0 {
		t.Errorf("of a boot that was not refused: %+v, %v", why, err)
	}
}
