package engine

import (
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 16 of Part 3: the random number generator.

// getRandom is TPM2_GetRandom (Part 3, 16.1): never more than the largest digest.
func getRandom(c *call, in *command.GetRandomIn, out *command.GetRandomOut) error {
	out.RandomBytes = c.t.newBytes(min(int(in.BytesRequested), c.t.profile.maxDigest()))
	return nil
}

// stirRandom is TPM2_StirRandom (Part 3, 16.2).
func stirRandom(c *call, in *command.StirRandomIn, _ *command.None) error {
	if err := c.t.random.Reseed(in.InData); err != nil {
		panic(err) // without entropy there is no TPM: failure mode
	}
	return nil
}
