package engine

import (
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// selfTest is what has been tested since power on (Part 1, 12.3).
type selfTest struct {
	done []tpm2.Alg
}

// tested reports whether the algorithm has been tested.
func (s *selfTest) tested(a tpm2.Alg) bool { return slices.Contains(s.done, a) }

// add notes that the algorithm has been tested.
func (s *selfTest) add(a tpm2.Alg) {
	if !s.tested(a) {
		s.done = append(s.done, a)
	}
}

// Wire lays out the algorithms.
func (s *selfTest) Wire(c *wire.Codec) { wire.List32(c, &s.done, tpm2.MaxAlgs) }
