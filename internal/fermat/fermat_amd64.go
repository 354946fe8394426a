//go:build !purego

package fermat

import "golang.org/x/sys/cpu"

// available reports whether the processor has the instructions and the operating
// system keeps the registers.
func available() bool { return cpu.X86.HasAVX512F && cpu.X86.HasAVX512IFMA }

// multiply makes x of each lane xy/R modulo m, below the bound that [batch.set] argues,
// and twice that when the highest bit of doubled is set, which moves on. It does so steps
// times; y may be x. The limbs, n of them, are even in count and below 2^52.
func multiply(b *batch, y *[maxLimbs]limb, n, steps int)
