package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 31 of Part 3, first part: defining and removing NV indices.

// nvDefineSpace is TPM2_NV_DefineSpace (Part 3, 31.3).
func nvDefineSpace(c *call, in *command.NVDefineSpaceIn, _ *command.None) error {
	return c.defineIndex(in.Auth, &in.PublicInfo)
}

// nvDefineSpace2 is TPM2_NV_DefineSpace2: of the kinds of NV it
// can name, this TPM has the ordinary one.
func nvDefineSpace2(c *call, in *command.NVDefineSpace2In, _ *command.None) error {
	if in.PublicInfo.HandleType != tpm2.KindNVIndex {
		return parameter(tpm2.RCHandleValue, 2)
	}
	return c.defineIndex(in.Auth, &in.PublicInfo.Public)
}

// defineIndex checks an index and adds it. The parameters are those of both commands.
func (c *call) defineIndex(auth []byte, p *tpm2.NVPublic) error {
	t := c.t
	if len(p.AuthPolicy) != 0 && len(p.AuthPolicy) != p.NameAlg.DigestSize() {
		return parameter(tpm2.RCSize, 2)
	}
	if auth = trimAuth(auth); len(auth) > p.NameAlg.DigestSize() {
		return parameter(tpm2.RCSize, 1)
	}
	if c.handles[0] == tpm2.HandlePlatform && !t.clear.platformNVEnabled {
		return handleError(tpm2.RCHierarchy, 1)
	}
	if rc := c.checkIndexSize(p); rc != tpm2.RCSuccess {
		return parameter(rc, 2)
	}
	if err := c.checkIndexAttributes(p); err != nil {
		return err
	}
	if p.Attributes.Has(tpm2.NVWriteAll) && int(p.DataSize) > t.limits.NVBuffer {
		return parameter(tpm2.RCSize, 2)
	}
	nv := &t.permanent.nv
	if nv.index(p.NVIndex) != nil {
		return tpm2.RCNVDefined
	}
	if len(nv.indices) >= t.limits.NVIndices || nv.bytes()+int(p.DataSize) > t.limits.NVBytes {
		return tpm2.RCNVSpace
	}
	x := &nvIndex{public: *p, auth: clone(auth), data: make([]byte, p.DataSize)}
	x.public.AuthPolicy = clone(p.AuthPolicy)
	x.rename()
	nv.indices[p.NVIndex] = x
	t.touch()
	return nil
}

// checkIndexSize checks the type and that the size is the type's.
func (c *call) checkIndexSize(p *tpm2.NVPublic) tpm2.RC {
	want := 8
	switch p.Attributes.Type() {
	case tpm2.NVOrdinary:
		if int(p.DataSize) > c.t.limits.NVIndex {
			return tpm2.RCSize
		}
		return tpm2.RCSuccess
	case tpm2.NVExtend:
		want = p.NameAlg.DigestSize()
	case tpm2.NVCounter, tpm2.NVBits, tpm2.NVPinFail, tpm2.NVPinPass:
	default:
		return tpm2.RCAttributes
	}
	if int(p.DataSize) != want {
		return tpm2.RCSize
	}
	return tpm2.RCSuccess
}

// The attributes that give ways to read and to write, and those that only the
// TPM sets.
const (
	nvReads  = tpm2.NVPPRead | tpm2.NVOwnerRead | tpm2.NVAuthRead | tpm2.NVPolicyRead
	nvWrites = tpm2.NVPPWrite | tpm2.NVOwnerWrite | tpm2.NVAuthWrite | tpm2.NVPolicyWrite
	nvStates = tpm2.NVWritten | tpm2.NVWriteLocked | tpm2.NVReadLocked
)

// checkIndexAttributes checks that the attributes go together (Part 3, 31.3).
func (c *call) checkIndexAttributes(p *tpm2.NVPublic) error {
	a := p.Attributes
	bad := a&nvStates != 0 || a&nvReads == 0 || a&nvWrites == 0 || a.Has(tpm2.NVClearSTClear|tpm2.NVWriteDefine)
	switch a.Type() {
	case tpm2.NVCounter:
		bad = bad || a.Has(tpm2.NVClearSTClear)
	case tpm2.NVPinFail:
		bad = bad || !a.Has(tpm2.NVNoDA)
		fallthrough
	case tpm2.NVPinPass:
		// The authValue of a PIN index works only once the index is written.
		bad = bad || a&(tpm2.NVAuthWrite|tpm2.NVGlobalLock|tpm2.NVWriteDefine) != 0
	}
	if bad {
		return parameter(tpm2.RCAttributes, 2)
	}
	platform := c.handles[0] == tpm2.HandlePlatform
	if a.Has(tpm2.NVPlatformCreate) != platform {
		return handleError(tpm2.RCAttributes, 1)
	}
	if a.Has(tpm2.NVPolicyDelete) && !platform {
		return parameter(tpm2.RCAttributes, 2)
	}
	return nil
}

// nvUndefineSpace is TPM2_NV_UndefineSpace (Part 3, 31.4).
func nvUndefineSpace(c *call, _, _ *command.None) error {
	x := c.t.permanent.nv.index(c.handles[1])
	if x.public.Attributes.Has(tpm2.NVPolicyDelete) {
		return handleError(tpm2.RCAttributes, 2)
	}
	if c.handles[0] == tpm2.HandleOwner && x.public.Attributes.Has(tpm2.NVPlatformCreate) {
		return tpm2.RCNVAuthorization
	}
	c.t.undefine(x)
	return nil
}

// nvUndefineSpaceSpecial is TPM2_NV_UndefineSpaceSpecial (Part 3, 31.5).
func nvUndefineSpaceSpecial(c *call, _, _ *command.None) error {
	x := c.t.permanent.nv.index(c.handles[0])
	if !x.public.Attributes.Has(tpm2.NVPolicyDelete) {
		return handleError(tpm2.RCAttributes, 1)
	}
	c.t.undefine(x) // its authValue is gone, too, when the response is authenticated
	return nil
}

// undefine removes an index. A counter leaves its value behind: none that is
// defined later may start lower.
func (t *TPM) undefine(x *nvIndex) {
	t.permanent.nv.keepCount(x)
	delete(t.permanent.nv.indices, x.public.NVIndex)
	t.touch()
}

// nvReadPublic is TPM2_NV_ReadPublic (Part 3, 31.6).
func nvReadPublic(c *call, _ *command.None, out *command.NVReadPublicOut) error {
	x := c.t.permanent.nv.index(c.handles[0])
	out.NVPublic, out.NVName = x.public, x.named
	return nil
}

// nvReadPublic2 is TPM2_NV_ReadPublic2.
func nvReadPublic2(c *call, _ *command.None, out *command.NVReadPublic2Out) error {
	x := c.t.permanent.nv.index(c.handles[0])
	out.NVPublic = tpm2.NVPublic2{HandleType: tpm2.KindNVIndex, Public: x.public}
	out.NVName = x.named
	return nil
}

// nvChangeAuth is TPM2_NV_ChangeAuth (Part 3, 31.15).
func nvChangeAuth(c *call, in *command.NVChangeAuthIn, _ *command.None) error {
	x := c.t.permanent.nv.index(c.handles[0])
	auth := trimAuth(in.NewAuth)
	if len(auth) > x.public.NameAlg.DigestSize() {
		return parameter(tpm2.RCSize, 1)
	}
	x.auth = clone(auth)
	c.t.touch()
	return nil
}
