package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 26 of Part 3: miscellaneous management functions.

// ppCommands is TPM2_PP_Commands (Part 3, 26.2). Codes of commands that never
// need physical presence, or that the TPM has not, are passed over.
func ppCommands(c *call, in *command.PPCommandsIn, _ *command.None) error {
	for _, cc := range in.SetList {
		c.setPresence(cc, true)
	}
	for _, cc := range in.ClearList {
		c.setPresence(cc, false)
	}
	c.t.touch()
	return nil
}

func (c *call) setPresence(cc tpm2.CC, needed bool) {
	if i, ok := command.Lookup(cc); ok && i.Presence == command.PPSettable && c.t.profile.Has(cc) {
		c.t.permanent.presence.set(cc, needed)
	}
}

// setAlgorithmSet is TPM2_SetAlgorithmSet (Part 3, 26.3). The number is kept and
// told; this TPM has one set of algorithms, that of its profile.
func setAlgorithmSet(c *call, in *command.SetAlgorithmSetIn, _ *command.None) error {
	c.t.permanent.algorithmSet = in.AlgorithmSet
	c.t.touch()
	return nil
}
