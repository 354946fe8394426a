package engine

import (
	"fmt"

	"github.com/assay-project/assay/tpm2"
)

// An Imported is the permanent state of a TPM of another make, secrets included:
// what [Import] makes a TPM of. Slices are copied.
type Imported struct {
	Owner, Endorsement, Platform ImportedHierarchy
	Lockout                      ImportedHierarchy // without Seed and Proof

	DisableClear    bool
	TotalResetCount uint64
	ResetCount      uint32
	TimeEpoch       uint32
	Dictionary      ImportedDictionary

	AuditAlg     tpm2.Alg // of command audit; 0 for that of manufacture
	AuditCounter uint64

	// Orderly says that the TPM was shut down in good order (Part 1, 12.2.4); DAUsed,
	// of one that was not, that a protected authValue had been tried (Part 1, 19.8.6).
	Orderly, DAUsed bool

	Clock     uint64 // milliseconds
	ClockSafe bool

	Banks     []tpm2.PCRSelection // allocated PCRs; nil for those of the profile
	PCRPolicy ImportedPolicy      // of the group of PCRs that has one

	Indices    []ImportedIndex
	Objects    []ImportedObject
	MaxCounter uint64 // highest value that any counter had
}

// An ImportedHierarchy is a hierarchy's secrets and authorizations.
type ImportedHierarchy struct {
	Seed, Proof []byte // 64 bytes each
	Auth        []byte
	Policy      ImportedPolicy
	// Original marks seeds of which the first libtpms made RSA keys; see
	// tpmcrypto.SeedOriginal. Only profile libtpms heeds it.
	Original bool
}

// An ImportedPolicy is a policy; its zero value is none.
type ImportedPolicy struct {
	Alg    tpm2.Alg
	Digest []byte
}

// ImportedDictionary is the protection against guessing; times are in seconds.
type ImportedDictionary struct {
	FailedTries, MaxTries, RecoveryTime, LockoutRecovery uint32
	LockoutEnabled                                       bool
}

// An ImportedIndex is an NV index with its content.
type ImportedIndex struct {
	Public     tpm2.NVPublic
	Auth, Data []byte
}

// An ImportedObject is a persistent object.
type ImportedObject struct {
	Handle        tpm2.Handle
	Public        tpm2.Public
	Sensitive     *tpm2.Sensitive // nil for a public key alone
	QualifiedName []byte
	Hierarchy     tpm2.Handle // TPM_RH_OWNER, _ENDORSEMENT or _PLATFORM
	Primary       bool
	STClear       bool
}

// Import makes a TPM of profile p that goes on where another one stopped. It has no
// power; its random numbers, the seed of its null hierarchy and all that a restart
// ends are new. An error wraps [ErrState] and names what the profile cannot have.
func Import(p *Profile, cfg Config, from *Imported) (*TPM, error) {
	t, err := Manufacture(p, cfg)
	if err != nil {
		return nil, err
	}
	if err := from.check(p); err != nil {
		return nil, err
	}
	from.fill(t)
	blob, err := t.Permanent()
	if err != nil {
		return nil, err
	}
	// What a restored TPM is checked for, this one is: nothing gets in by here that
	// could not by a state of our own.
	t, err = Restore(cfg, blob, nil)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	t.touch()
	return t, nil
}

// check names what the profile has no place for.
func (from *Imported) check(p *Profile) error {
	l := &p.Limits
	switch {
	case len(from.Indices) > l.NVIndices:
		return fmt.Errorf("%d NV indices, room for %d: %w", len(from.Indices), l.NVIndices, ErrState)
	case len(from.Objects) > l.Persistent:
		return fmt.Errorf("%d persistent objects, room for %d: %w", len(from.Objects), l.Persistent, ErrState)
	case from.AuditAlg != 0 && (!p.OffersAlg(from.AuditAlg) || from.AuditAlg.DigestSize() == 0):
		return fmt.Errorf("command audit by %v: %w", from.AuditAlg, ErrState)
	}
	if err := from.checkHandles(); err != nil {
		return err
	}
	if err := from.checkHierarchies(p); err != nil {
		return err
	}
	size := 0
	for i := range from.Indices {
		x := &from.Indices[i]
		size += len(x.Data)
		if err := x.check(p); err != nil {
			return fmt.Errorf("NV index %08x: %w", uint32(x.Public.NVIndex), err)
		}
	}
	if size > l.NVBytes {
		return fmt.Errorf("%d bytes in NV indices, room for %d: %w", size, l.NVBytes, ErrState)
	}
	for i := range from.Objects {
		if err := from.Objects[i].check(p); err != nil {
			return fmt.Errorf("persistent object %08x: %w", uint32(from.Objects[i].Handle), err)
		}
	}
	return nil
}

// checkHandles holds that no handle is there twice.
func (from *Imported) checkHandles() error {
	seen := map[tpm2.Handle]bool{}
	for i := range from.Indices {
		seen[from.Indices[i].Public.NVIndex] = true
	}
	for i := range from.Objects {
		seen[from.Objects[i].Handle] = true
	}
	if n := len(from.Indices) + len(from.Objects); len(seen) != n {
		return fmt.Errorf("%d NV indices and persistent objects have %d handles: %w", n, len(seen), ErrState)
	}
	return nil
}

func (from *Imported) checkHierarchies(p *Profile) error {
	for _, x := range []struct {
		name string
		h    *ImportedHierarchy
		size int // of seed and proof
	}{
		{"owner", &from.Owner, seedSize},
		{"endorsement", &from.Endorsement, seedSize},
		{"platform", &from.Platform, seedSize},
		{"lockout", &from.Lockout, 0},
	} {
		switch {
		case len(x.h.Seed) != x.size || len(x.h.Proof) != x.size:
			return fmt.Errorf("%s hierarchy: seed of %d and proof of %d bytes, want %d: %w", x.name, len(x.h.Seed), len(x.h.Proof), x.size, ErrState)
		case len(trimAuth(x.h.Auth)) > p.maxDigest():
			return fmt.Errorf("%s hierarchy: authValue of %d bytes: %w", x.name, len(x.h.Auth), ErrState)
		case !x.h.Policy.possible(p):
			return fmt.Errorf("%s hierarchy: policy of %d bytes by %v: %w", x.name, len(x.h.Policy.Digest), x.h.Policy.Alg, ErrState)
		}
	}
	if !from.PCRPolicy.possible(p) {
		return fmt.Errorf("policy of PCRs of %d bytes by %v: %w", len(from.PCRPolicy.Digest), from.PCRPolicy.Alg, ErrState)
	}
	return nil
}

// possible reports whether there is no policy, or one of an algorithm of the profile.
func (p ImportedPolicy) possible(offer *Profile) bool {
	return len(p.Digest) == 0 || offer.OffersAlg(p.Alg) && len(p.Digest) == p.Alg.DigestSize()
}

// check holds that the index is one that could have been defined and written here.
func (x *ImportedIndex) check(p *Profile) error {
	a := x.Public.NameAlg
	i := nvIndex{public: x.Public, data: x.Data}
	switch {
	case x.Public.NVIndex.Kind() != tpm2.KindNVIndex:
		return fmt.Errorf("not the handle of an NV index: %w", ErrState)
	case !p.OffersAlg(a) || a.DigestSize() == 0:
		return fmt.Errorf("algorithm %v is not offered: %w", a, ErrState)
	case len(x.Data) > p.Limits.NVIndex:
		return fmt.Errorf("%d bytes, at most %d: %w", len(x.Data), p.Limits.NVIndex, ErrState)
	case len(x.Data) != int(x.Public.DataSize) || !i.sizeOfType():
		return fmt.Errorf("%d bytes, which is not its size: %w", len(x.Data), ErrState)
	case len(trimAuth(x.Auth)) > a.DigestSize():
		return fmt.Errorf("authValue of %d bytes: %w", len(x.Auth), ErrState)
	}
	return nil
}

// fill puts what is imported into a TPM that is new otherwise.
func (from *Imported) fill(t *TPM) {
	p := &t.permanent
	p.owner, p.endorsement, p.lockout = from.Owner.hierarchy(), from.Endorsement.hierarchy(), from.Lockout.hierarchy()
	p.platform = from.Platform.hierarchy()
	p.platform.auth, p.platform.policy = nil, authPolicy{alg: tpm2.AlgNull} // new at each start
	p.disableClear = from.DisableClear
	p.totalResetCount, p.resetCount, p.timeEpoch = from.TotalResetCount, from.ResetCount, from.TimeEpoch
	p.auditCounter = from.AuditCounter
	if from.AuditAlg != 0 {
		p.auditAlg = from.AuditAlg
	}
	d := from.Dictionary
	p.dictionary.failedTries, p.dictionary.maxTries = d.FailedTries, d.MaxTries
	p.dictionary.recoveryTime, p.dictionary.lockoutRecovery = d.RecoveryTime, d.LockoutRecovery
	p.dictionary.lockoutEnabled = d.LockoutEnabled
	p.orderlyState = shutdownClear
	if !from.Orderly {
		p.orderlyState = shutdownNone
		if from.DAUsed {
			p.orderlyState = shutdownDAUsed
		}
	}
	t.orderly = orderly{clock: from.Clock, clockSafe: from.ClockSafe}
	from.fillBanks(p)
	p.pcrPolicy[0] = from.PCRPolicy.policy()
	p.nv.maxCounter = from.MaxCounter
	for i := range from.Indices {
		x := &from.Indices[i]
		p.nv.indices[x.Public.NVIndex] = &nvIndex{public: x.Public, auth: clone(trimAuth(x.Auth)), data: clone(x.Data)}
	}
	for i := range from.Objects {
		p.objects[from.Objects[i].Handle] = from.Objects[i].object()
	}
}

// fillBanks takes over the allocation of the banks that the profile has; what it
// says nothing of has no PCRs.
func (from *Imported) fillBanks(p *permanent) {
	if from.Banks == nil {
		return
	}
	for i := range p.banks {
		p.banks[i].Select = tpm2.PCRSelect{}
		for _, b := range from.Banks {
			if b.Hash == p.banks[i].Hash {
				p.banks[i].Select = b.Select
			}
		}
	}
}

func (h *ImportedHierarchy) hierarchy() hierarchy {
	return hierarchy{seed: clone(h.Seed), proof: clone(h.Proof), auth: clone(trimAuth(h.Auth)), policy: h.Policy.policy(), originalSeed: h.Original}
}

func (p ImportedPolicy) policy() authPolicy {
	if len(p.Digest) == 0 {
		return authPolicy{alg: tpm2.AlgNull}
	}
	return authPolicy{alg: p.Alg, digest: clone(p.Digest)}
}

// check holds that the object is one that could have been made persistent here.
func (x *ImportedObject) check(p *Profile) error {
	o := x.object()
	switch {
	case x.Handle.Kind() != tpm2.KindPersistent:
		return fmt.Errorf("not a persistent handle: %w", ErrState)
	case x.Hierarchy != tpm2.HandleOwner && x.Hierarchy != tpm2.HandleEndorsement && x.Hierarchy != tpm2.HandlePlatform:
		return fmt.Errorf("hierarchy %08x: %w", uint32(x.Hierarchy), ErrState)
	case !p.OffersAlg(x.Public.Type) || !p.OffersAlg(x.Public.NameAlg):
		return fmt.Errorf("algorithm %v with %v is not offered: %w", x.Public.Type, x.Public.NameAlg, ErrState)
	}
	// The rest of what the profile offers is asked where the state is read.
	if err := o.validate(blame{1, 2}); err != nil {
		return fmt.Errorf("its keys are not sound (%w): %w", err, ErrState)
	}
	return nil
}

func (x *ImportedObject) object() *object {
	o := &object{
		public: clonePublic(&x.Public), qualified: clone(x.QualifiedName), hierarchy: x.Hierarchy, evict: x.Handle,
		publicOnly: x.Sensitive == nil, primary: x.Primary, stClear: x.STClear,
	}
	o.name, _ = o.public.Name() // check has refused one without
	if x.Sensitive != nil {
		s := *x.Sensitive
		s.AuthValue, s.SeedValue, s.Bits = clone(trimAuth(s.AuthValue)), clone(s.SeedValue), clone(s.Bits)
		o.sensitive = s
		o.setParent()
	}
	return o
}
