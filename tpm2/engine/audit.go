package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 21 of Part 3: command audit. How commands are audited is in audit_state.go.

// setCommandCodeAuditStatus is TPM2_SetCommandCodeAuditStatus (Part 3, 21.2). It
// changes the hash or the list, not both, and a change of the hash is not itself
// audited: the digest starts anew.
func setCommandCodeAuditStatus(c *call, in *command.SetCommandCodeAuditStatusIn, _ *command.None) error {
	p := &c.t.permanent
	if in.AuditAlg != tpm2.AlgNull && in.AuditAlg != p.auditAlg {
		if len(in.SetList) != 0 || len(in.ClearList) != 0 {
			return parameter(tpm2.RCValue, 1)
		}
		p.auditAlg = in.AuditAlg
		c.t.reset.auditDigest = nil
		c.unaudited = true
		c.t.touch()
		return nil
	}
	for _, cc := range in.SetList {
		c.setAudited(cc, true)
	}
	for _, cc := range in.ClearList {
		c.setAudited(cc, false)
	}
	c.t.touch()
	return nil
}

// setAudited changes whether a command is audited. This command always is,
// TPM2_Shutdown never, and codes of commands that the TPM has not are passed over.
func (c *call) setAudited(cc tpm2.CC, audited bool) {
	if cc == tpm2.CCSetCommandCodeAuditStatus || cc == tpm2.CCShutdown || !c.t.profile.Has(cc) {
		return
	}
	c.t.permanent.auditCommands.set(cc, audited)
}
