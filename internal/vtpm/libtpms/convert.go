package libtpms

import (
	"bytes"
	"fmt"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/engine"
)

// Profile names the profile of TPMs that came from swtpm: their primary keys, made
// again from the seeds, are the ones that libtpms made.
const Profile = "libtpms"

// A Loss is something of the old TPM that the new one does not have.
type Loss struct {
	What string // "persistent object 81000005", "PCR bank sm3_256"
	Why  string
}

// Convert says what a TPM of this project is made of to go on where s stopped, and
// what it will not have. The losses are for the operator to accept before the result
// is used; without any, the guest finds the TPM that it knows.
func (s *State) Convert(p *engine.Profile) (*engine.Imported, []Loss) {
	c := converter{state: s, profile: p}
	out := &engine.Imported{
		Owner: hierarchy(&s.Owner), Endorsement: hierarchy(&s.Endorsement), Platform: hierarchy(&s.Platform), Lockout: hierarchy(&s.Lockout),
		DisableClear: s.DisableClear, TotalResetCount: s.TotalResetCount, ResetCount: s.ResetCount,
		Dictionary: engine.ImportedDictionary(s.Dictionary),
		Orderly:    s.Shutdown&suStateMask <= suState, DAUsed: s.Shutdown == suDAUsed,
		// A ticket that expired there must not be one that did not here: the epoch goes on.
		TimeEpoch: uint32(s.TimeEpoch), AuditCounter: s.AuditCounter, // the epoch's high half is a nonce's
		Clock: s.Clock, ClockSafe: s.ClockSafe,
		Banks: s.Banks, MaxCounter: s.MaxCounter,
	}
	if len(s.PCRPolicies) > 0 {
		out.PCRPolicy = engine.ImportedPolicy(s.PCRPolicies[0])
	}
	c.losses()
	c.audit(out)
	c.policies(out)
	c.indices(out)
	c.objects(out)
	return out, c.lost
}

func hierarchy(h *Hierarchy) engine.ImportedHierarchy {
	return engine.ImportedHierarchy{
		Seed: h.Seed, Proof: h.Proof, Auth: h.Auth, Policy: engine.ImportedPolicy(h.Policy),
		Original: h.Level == tpmcrypto.SeedOriginal,
	}
}

type converter struct {
	state   *State
	profile *engine.Profile
	lost    []Loss
}

// LostResume is the loss of a TPM that was shut down for TPM Resume. A machine that
// starts anew has no use for it.
const LostResume = "what TPM Resume would have kept, PCRs included"

func (c *converter) lose(why, what string, args ...any) {
	c.lost = append(c.lost, Loss{What: fmt.Sprintf(what, args...), Why: why})
}

// manufacturedSets are the commands that ask for physical presence (TPM2_PP_Commands)
// and that are audited (TPM2_SetCommandCodeAuditStatus) from manufacture on, here as
// there.
func (s *State) manufacturedSets() (presence, audit []byte) {
	if s.compressed {
		return []byte{13 / 8: 1 << (13 % 8)}, []byte{31 / 8: 1 << (31 % 8)}
	}
	bit := func(cc tpm2.CC) []byte {
		n := int(cc - tpm2.CCNVUndefineSpaceSpecial) // the first command
		return append(make([]byte, n/8), 1<<(n%8))
	}
	return bit(tpm2.CCPPCommands), bit(tpm2.CCSetCommandCodeAuditStatus)
}

// losses are those of the TPM as a whole.
func (c *converter) losses() {
	s := c.state
	if s.Suspended() {
		c.lose("the machine was suspended to memory when its TPM stopped: shut it down first", LostResume)
	}
	presence, audit := s.manufacturedSets()
	if !sameSet(s.Presence, presence) {
		c.lose("libtpms numbers commands in its own way; say it anew", "which commands need physical presence (TPM2_PP_Commands)")
	}
	if !sameSet(s.AuditCommands, audit) {
		c.lose("libtpms numbers commands in its own way; say it anew", "which commands are audited (TPM2_SetCommandCodeAuditStatus)")
	}
	if s.AlgorithmSet != 0 {
		c.lose("there is one algorithm set", "algorithm set %d (TPM2_SetAlgorithmSet)", s.AlgorithmSet)
	}
	for _, b := range s.Banks {
		if b.Select != (tpm2.PCRSelect{}) && !c.profile.OffersAlg(b.Hash) {
			c.lose("the algorithm is not offered", "PCR bank %v", b.Hash)
		}
	}
	for i, p := range s.PCRPolicies {
		if i > 0 && len(p.Digest) > 0 {
			c.lose("there is one group of PCRs with a policy", "policy %d of PCRs", i)
		}
	}
}

// audit takes over the hash of command audit.
func (c *converter) audit(out *engine.Imported) {
	if a := c.state.AuditAlg; c.profile.OffersAlg(a) && a.DigestSize() != 0 {
		out.AuditAlg = a
	} else {
		c.lose("it is not offered", "hash %v of command audit", a)
	}
}

// policies drops those that the profile cannot have: they authorize nothing then.
func (c *converter) policies(out *engine.Imported) {
	for _, p := range []struct {
		name   string
		policy *engine.ImportedPolicy
	}{
		{"the owner hierarchy", &out.Owner.Policy},
		{"the endorsement hierarchy", &out.Endorsement.Policy},
		{"lockout", &out.Lockout.Policy},
		{"PCRs", &out.PCRPolicy},
	} {
		if len(p.policy.Digest) > 0 && !c.profile.OffersAlg(p.policy.Alg) {
			c.lose(fmt.Sprintf("its algorithm %v is not offered", p.policy.Alg), "policy of %s", p.name)
			*p.policy = engine.ImportedPolicy{}
		}
	}
}

// sameSet compares sets without regard to zeros at their end.
func sameSet(a, b []byte) bool {
	return bytes.Equal(bytes.TrimRight(a, "\x00"), bytes.TrimRight(b, "\x00"))
}

func (c *converter) indices(out *engine.Imported) {
	for _, x := range c.state.Indices {
		if !c.profile.OffersAlg(x.Public.NameAlg) {
			c.lose(fmt.Sprintf("its algorithm %v is not offered", x.Public.NameAlg), "NV index %08x", uint32(x.Public.NVIndex))
			continue
		}
		out.Indices = append(out.Indices, engine.ImportedIndex{Public: x.Public, Auth: x.Auth, Data: x.Data})
	}
}

func (c *converter) objects(out *engine.Imported) {
	for _, o := range c.state.Objects {
		if why := c.refused(&o); why != "" {
			c.lose(why, "persistent object %08x", uint32(o.Handle))
			continue
		}
		x := engine.ImportedObject{
			Handle: o.Handle, Public: o.Public, QualifiedName: o.QualifiedName, Hierarchy: o.Hierarchy,
			Primary: o.Primary, STClear: o.STClear,
		}
		if !o.PublicOnly {
			sensitive := o.Sensitive
			x.Sensitive = &sensitive
		}
		out.Objects = append(out.Objects, x)
	}
}

// refused says why an object cannot be had; "" when it can.
func (c *converter) refused(o *Object) string {
	p := &o.Public
	switch p.Type {
	case tpm2.AlgRSA:
		if bits := p.Parameters.RSA.KeyBits; !c.profile.OffersKeyBits(tpm2.AlgRSA, bits) {
			return fmt.Sprintf("RSA keys of %d bits are not offered", bits)
		}
	case tpm2.AlgECC:
		if curve := p.Parameters.ECC.CurveID; !c.profile.OffersCurve(curve) {
			return fmt.Sprintf("curve %v is not offered", curve)
		}
	case tpm2.AlgSymCipher:
		if sym := p.Parameters.SymCipher; !c.profile.OffersAlg(sym.Algorithm) {
			return fmt.Sprintf("algorithm %v is not offered", sym.Algorithm)
		}
	case tpm2.AlgKeyedHash:
	default:
		return fmt.Sprintf("objects of type %v are not offered", p.Type)
	}
	return ""
}
