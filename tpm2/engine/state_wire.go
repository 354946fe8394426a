package engine

import (
	"slices"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// The layouts of permanent state. Their order is that of docs/formats/tpm-state.md;
// a change of any is a new version there. What only a snapshot keeps is in
// volatile_wire.go, objects and sessions have files of their own.

// Wire lays out a policy.
func (p *authPolicy) Wire(c *wire.Codec) {
	wire.U16(c, &p.alg)
	c.Sized16(&p.digest, tpm2.MaxDigest)
	// Before TPM2_Startup some policies are not even AlgNull.
	if len(p.digest) == 0 && (p.alg == tpm2.AlgNull || p.alg == 0) {
		return
	}
	c.Check(len(p.digest) == p.alg.DigestSize() && offers(c, p.alg), wire.ErrSelector)
}

// offers reports whether the profile for which c decodes has the algorithm.
func offers(c *wire.Codec, a tpm2.Alg) bool {
	o, ok := c.Context().(tpm2.Offer)
	return !ok || o.OffersAlg(a)
}

// Wire lays out a hierarchy. TPM_RH_LOCKOUT has neither seed nor proof.
func (h *hierarchy) Wire(c *wire.Codec) {
	c.Sized16(&h.seed, seedSize)
	c.Sized16(&h.proof, seedSize)
	c.Sized16(&h.auth, tpm2.MaxDigest)
	h.policy.Wire(c)
	n := len(h.seed)
	c.Check(len(h.proof) == n && (n == 0 || n == seedSize), wire.ErrSize)
}

// Wire lays out the state of guessing protection.
func (d *dictionary) Wire(c *wire.Codec) {
	wire.U32(c, &d.failedTries)
	wire.U32(c, &d.maxTries)
	wire.U32(c, &d.recoveryTime)
	wire.U32(c, &d.lockoutRecovery)
	c.Bool(&d.lockoutEnabled)
}

// Wire lays out the set as its words.
func (s *commandSet) Wire(c *wire.Codec) {
	for i := range s {
		wire.U64(c, &s[i])
	}
}

// Wire lays out the set as its words.
func (s *commitSet) Wire(c *wire.Codec) {
	for i := range s {
		wire.U64(c, &s[i])
	}
}

// Wire lays out an index with its data. Its Name is computed.
func (x *nvIndex) Wire(c *wire.Codec) {
	x.public.Wire(c)
	c.Sized16(&x.auth, tpm2.MaxDigest)
	c.Sized16(&x.data, tpm2.MaxNVIndex)
	c.Check(x.sizeOfType() && len(x.data) == int(x.public.DataSize), wire.ErrSize)
	if c.Decoding() && c.Err() == nil {
		x.rename()
	}
}

// sizeOfType reports whether the data have the size of the type of the index.
func (x *nvIndex) sizeOfType() bool {
	switch x.public.Attributes.Type() {
	case tpm2.NVOrdinary:
		return true
	case tpm2.NVExtend:
		return len(x.data) == x.public.NameAlg.DigestSize()
	case tpm2.NVCounter, tpm2.NVBits, tpm2.NVPinFail, tpm2.NVPinPass:
		return len(x.data) == 8
	}
	return false
}

// maxKept bounds the lists of a blob; profiles have far less.
const maxKept = 4096

// Wire lays out the indices by handle, so that equal states are equal bytes.
func (s *nvStore) Wire(c *wire.Codec) {
	wire.U64(c, &s.maxCounter)
	mapped(c, &s.indices, func(x *nvIndex) tpm2.Handle { return x.public.NVIndex })
}

// mapped lays out a map as the list of its values in the order of their handles.
func mapped[T any, P wire.LayoutOf[T]](c *wire.Codec, m *map[tpm2.Handle]*T, handle func(*T) tpm2.Handle) {
	var list []T
	for _, h := range sortedKeys(*m) {
		list = append(list, *(*m)[h])
	}
	wire.List32[T, P](c, &list, maxKept)
	if !c.Decoding() {
		return
	}
	*m = make(map[tpm2.Handle]*T, len(list))
	for i := range list {
		h := handle(&list[i])
		c.Check(i == 0 || handle(&list[i-1]) < h, wire.ErrRange)
		(*m)[h] = &list[i]
	}
}

func sortedKeys[V any](m map[tpm2.Handle]V) []tpm2.Handle {
	keys := make([]tpm2.Handle, 0, len(m))
	for h := range m {
		keys = append(keys, h)
	}
	slices.Sort(keys)
	return keys
}

// Wire lays out the permanent state.
func (p *permanent) Wire(c *wire.Codec) {
	for _, h := range []*hierarchy{&p.owner, &p.endorsement, &p.platform} {
		h.Wire(c)
		c.Check(len(h.seed) != 0, wire.ErrSize)
	}
	p.lockout.Wire(c)
	c.Bool(&p.disableClear)
	p.dictionary.Wire(c)
	wire.U64(c, &p.totalResetCount)
	wire.U32(c, &p.resetCount)
	wire.U64(c, &p.auditCounter)
	wire.U16(c, &p.auditAlg)
	c.Check(p.auditAlg.DigestSize() != 0 && offers(c, p.auditAlg), wire.ErrSelector)
	p.auditCommands.Wire(c)
	p.presence.Wire(c)
	wire.U32(c, &p.algorithmSet)
	wire.U32(c, &p.timeEpoch)
	p.orderlyState.Wire(c)
	wire.List32(c, &p.banks, tpm2.MaxPCRSelections)
	for i := range p.pcrPolicy {
		p.pcrPolicy[i].Wire(c)
	}
	p.nv.Wire(c)
	mapped(c, &p.objects, func(o *object) tpm2.Handle { return o.evict })
	for h, o := range p.objects {
		c.Check(h.Kind() == tpm2.KindPersistent && o.sequence == nil, wire.ErrRange)
	}
	optional(c, &p.saved)
}

// Wire lays out how a TPM was shut down.
func (s *shutdown) Wire(c *wire.Codec) {
	wire.U8(c, s)
	c.Check(*s <= shutdownState, wire.ErrRange)
}

// optional lays out a byte that says whether v is there, and v.
func optional[T any, P wire.LayoutOf[T]](c *wire.Codec, v **T) {
	there := *v != nil
	c.Bool(&there)
	if !there || c.Err() != nil {
		return
	}
	if c.Decoding() {
		*v = new(T)
	}
	P(*v).Wire(c)
}

// Wire lays out the clock.
func (o *orderly) Wire(c *wire.Codec) {
	wire.U64(c, &o.clock)
	c.Bool(&o.clockSafe)
}

// Wire lays out the state that TPM Resume keeps.
func (s *stateClear) Wire(c *wire.Codec) {
	c.Bool(&s.ownerEnabled)
	c.Bool(&s.endorsementEnabled)
	c.Bool(&s.platformNVEnabled)
	c.Sized16(&s.platformAuth, tpm2.MaxDigest)
	s.platformPolicy.Wire(c)
	for i := range s.pcrAuth {
		c.Sized16(&s.pcrAuth[i], tpm2.MaxDigest)
	}
	c.Bool(&s.readOnly)
}

// Wire lays out the state that TPM Resume and TPM Restart keep.
func (s *stateReset) Wire(c *wire.Codec) {
	s.null.Wire(c)
	wire.U32(c, &s.clearCount)
	wire.U32(c, &s.restartCount)
	wire.U64(c, &s.contextID)
	for i := range s.contexts {
		wire.U64(c, &s.contexts[i])
	}
	wire.U64(c, &s.contextCounter)
	c.Sized16(&s.auditDigest, tpm2.MaxDigest)
	wire.U32(c, &s.pcrCounter)
	wire.U64(c, &s.commitCounter)
	c.Sized16(&s.commitNonce, seedSize)
	s.commits.Wire(c)
}

// Wire lays out what TPM2_Shutdown(STATE) kept.
func (s *savedState) Wire(c *wire.Codec) {
	s.clear.Wire(c)
	s.reset.Wire(c)
	c.Check(len(s.reset.null.seed) != 0, wire.ErrSize)
	s.pcrs.Wire(c)
	wire.U8(c, &s.locality)
	c.Check(s.locality <= 4, wire.ErrRange)
}

// Wire lays out the banks.
func (b *pcrBanks) Wire(c *wire.Codec) {
	wire.List32(c, (*[]pcrBank)(b), tpm2.MaxPCRSelections)
}

// Wire lays out a bank: the values of all PCRs, allocated or not.
func (b *pcrBank) Wire(c *wire.Codec) {
	wire.U16(c, &b.alg)
	c.Bytes(b.selected[:])
	size := b.alg.DigestSize()
	c.Check(size != 0 && offers(c, b.alg), wire.ErrSelector)
	if c.Err() != nil {
		return
	}
	for i := range b.values {
		c.Bytes(b.values[i][:size])
	}
}
