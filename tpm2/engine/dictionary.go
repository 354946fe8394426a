package engine

import "github.com/assay-project/assay/tpm2/command"

// Chapter 25 of Part 3: dictionary attack functions. How failures are counted is
// in dictionary_state.go.

// newDictionary has the limits of a new or cleared TPM.
func newDictionary() dictionary {
	return dictionary{maxTries: 3, recoveryTime: 1000, lockoutRecovery: 1000, lockoutEnabled: true}
}

// dictionaryAttackLockReset is TPM2_DictionaryAttackLockReset (Part 3, 25.2).
func dictionaryAttackLockReset(c *call, _, _ *command.None) error {
	c.t.permanent.dictionary.failedTries = 0
	c.t.touch()
	return nil
}

// dictionaryAttackParameters is TPM2_DictionaryAttackParameters (Part 3, 25.3).
// The failures counted so far stay.
func dictionaryAttackParameters(c *call, in *command.DictionaryAttackParametersIn, _ *command.None) error {
	d := &c.t.permanent.dictionary
	d.maxTries, d.recoveryTime, d.lockoutRecovery = in.NewMaxTries, in.NewRecoveryTime, in.LockoutRecovery
	c.t.touch()
	return nil
}
