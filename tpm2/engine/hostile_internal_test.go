package engine

import (
	"bytes"
	"errors"
	"testing"
)

// CVE-2022-23645, and swtpm issues 1171 and 1179: lengths and offsets of a state
// were used before they were checked. Of swtpm's own files package internal/vtpm/libtpms
// has the tests; this is our own. Bytes of both blobs are changed, and both
// blobs cut, with digests that are right all the same.
func TestCVE2022x23645LengthsOfAStateThatLie(t *testing.T) {
	permanent, volatile := body(readState(t, "permanent")), body(readState(t, "volatile"))
	for name, b := range map[string][]byte{"permanent": permanent, "volatile": volatile} {
		restore := func(b []byte) error {
			p, v := sealed(b), []byte(nil)
			if name == "volatile" {
				p, v = sealed(permanent), sealed(b)
			}
			_, err := Restore(testConfig(t), p, v)
			if err != nil && !errors.Is(err, ErrState) && !errors.Is(err, ErrProfile) {
				t.Errorf("%s: %v", name, err)
			}
			return err
		}
		if err := restore(b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		step := 1
		for i := 0; i < len(b); i += step {
			if i >= 512 {
				step = 5 // in turn the first and last byte of lengths
			}
			changed := bytes.Clone(b)
			for _, v := range []byte{0xff, b[i] + 1} {
				changed[i] = v
				_ = restore(changed) // refused, or another state; no panic
			}
			if restore(b[:i]) == nil {
				t.Errorf("%s of %d bytes is restored, %d is all", name, i, len(b))
			}
		}
	}
}
