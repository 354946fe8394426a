package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 24 of Part 3: hierarchy commands, but for TPM2_CreatePrimary.

// hierarchyControl is TPM2_HierarchyControl (Part 3, 24.2).
func hierarchyControl(c *call, in *command.HierarchyControlIn, _ *command.None) error {
	auth := c.handles[0]
	var enabled *bool
	switch in.Enable {
	case tpm2.HandleOwner:
		enabled = &c.t.clear.ownerEnabled
	case tpm2.HandleEndorsement:
		enabled = &c.t.clear.endorsementEnabled
	case tpm2.HandlePlatformNV:
		enabled = &c.t.clear.platformNVEnabled
	default:
		enabled = &c.t.vol.platformEnabled
	}
	// Each hierarchy may disable itself, and say that it is enabled: one that is not
	// authorizes nothing. The platform may do all.
	if auth != tpm2.HandlePlatform && auth != in.Enable {
		return tpm2.RCAuthType
	}
	if *enabled == in.State {
		return nil
	}
	*enabled = in.State
	if !in.State && in.Enable != tpm2.HandlePlatformNV {
		c.t.flushHierarchy(in.Enable)
	}
	return nil
}

// setPrimaryPolicy is TPM2_SetPrimaryPolicy (Part 3, 24.3).
func setPrimaryPolicy(c *call, in *command.SetPrimaryPolicyIn, _ *command.None) error {
	if len(in.AuthPolicy) != in.HashAlg.DigestSize() {
		return parameter(tpm2.RCSize, 1)
	}
	p := authPolicy{alg: in.HashAlg, digest: clone(in.AuthPolicy)}
	switch h := c.handles[0]; h {
	case tpm2.HandlePlatform:
		c.t.clear.platformPolicy = p
	default:
		s := c.t.hierarchyOf(h)
		if s == nil { // a countdown timer, of which there are none
			return handleError(tpm2.RCValue, 1)
		}
		s.policy = p
		c.t.touch()
	}
	return nil
}

// changePPS is TPM2_ChangePPS (Part 3, 24.4).
func changePPS(c *call, _, _ *command.None) error {
	t := c.t
	t.permanent.platform.seed, t.permanent.platform.proof = t.newBytes(seedSize), t.newBytes(seedSize)
	t.permanent.platform.originalSeed = false
	t.clear.platformPolicy = authPolicy{alg: tpm2.AlgNull}
	for i := range t.permanent.pcrPolicy {
		t.permanent.pcrPolicy[i] = authPolicy{alg: tpm2.AlgNull}
	}
	t.dropHierarchy(tpm2.HandlePlatform)
	return nil
}

// changeEPS is TPM2_ChangeEPS (Part 3, 24.5). It enables the hierarchy, too.
func changeEPS(c *call, _, _ *command.None) error {
	t := c.t
	t.permanent.endorsement = hierarchy{
		seed: t.newBytes(seedSize), proof: t.newBytes(seedSize), policy: authPolicy{alg: tpm2.AlgNull},
	}
	t.clear.endorsementEnabled = true
	t.dropHierarchy(tpm2.HandleEndorsement)
	return nil
}

// dropHierarchy removes the loaded and persistent objects of a hierarchy.
func (t *TPM) dropHierarchy(h tpm2.Handle) {
	t.flushHierarchy(h)
	t.macs.forget()
	for handle, o := range t.permanent.objects {
		if o.hierarchy == h {
			delete(t.permanent.objects, handle)
		}
	}
	t.touch()
}

// clearCommand is TPM2_Clear (Part 3, 24.6): the owner's part of the TPM is new,
// the endorsement keys stay and their proof does not.
func clearCommand(c *call, _, _ *command.None) error {
	t := c.t
	if t.permanent.disableClear {
		return tpm2.RCDisabled
	}
	none := authPolicy{alg: tpm2.AlgNull}
	p := &t.permanent
	p.owner = hierarchy{seed: t.newBytes(seedSize), proof: t.newBytes(seedSize), policy: none}
	p.endorsement = hierarchy{seed: p.endorsement.seed, originalSeed: p.endorsement.originalSeed, proof: t.newBytes(seedSize), policy: none}
	p.lockout = hierarchy{policy: none}
	t.clear.ownerEnabled, t.clear.endorsementEnabled = true, true
	t.dropHierarchy(tpm2.HandleOwner)
	t.dropHierarchy(tpm2.HandleEndorsement)
	p.nv.dropOwner()
	p.dictionary = newDictionary()
	t.orderly = orderly{clockSafe: true}
	p.resetCount, p.auditCounter = 0, 0
	// The reference sets clearCount to zero, too, with which saved contexts of stClear
	// objects of the platform could come back after a restart; nobody sees it here.
	t.reset.restartCount = 0
	t.clear.pcrAuth = [pcrAuthGroups][]byte{}
	t.pcrChanged(0)
	t.touch()
	return nil
}

// clearControl is TPM2_ClearControl (Part 3, 24.7): only the platform may allow
// TPM2_Clear again.
func clearControl(c *call, in *command.ClearControlIn, _ *command.None) error {
	if c.handles[0] == tpm2.HandleLockout && !in.Disable {
		return tpm2.RCAuthFail
	}
	c.t.permanent.disableClear = in.Disable
	c.t.touch()
	return nil
}

// hierarchyChangeAuth is TPM2_HierarchyChangeAuth (Part 3, 24.8).
func hierarchyChangeAuth(c *call, in *command.HierarchyChangeAuthIn, _ *command.None) error {
	if len(trimAuth(in.NewAuth)) > c.t.profile.maxDigest() {
		return parameter(tpm2.RCSize, 1)
	}
	c.t.setHierarchyAuth(c.handles[0], in.NewAuth)
	return nil
}

// readOnlyControl is TPM2_ReadOnlyControl (Part 3, 24.9).
func readOnlyControl(c *call, in *command.ReadOnlyControlIn, _ *command.None) error {
	c.t.clear.readOnly = in.State
	return nil
}
