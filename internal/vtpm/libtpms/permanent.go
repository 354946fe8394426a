package libtpms

import (
	"fmt"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Magic numbers of the structures, and the newest version that is read here.
const (
	allMagic         = 0xab364723
	allVersion       = 4
	constantsMagic   = 0xc9ea6431
	constantsVersion = 3
	dataMagic        = 0x12213443
	dataVersion      = 5
	policyMagic      = 0x176be626
	orderlyMagic     = 0x56657887
	drbgMagic        = 0x6fe83ea1
	otherVersion     = 2 // of structures that had two versions
)

const (
	seedSize     = 64 // of primary seeds and of proofs, at most
	maxConstants = 1024
	maxProfile   = 1<<16 - 1
	maxCommands  = 1 << 10 // bytes of a set of commands
)

// parse reads PERSISTENT_ALL.
func parse(blob []byte) (*State, error) {
	s := new(State)
	if err := wire.Decode(blob, s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := s.complete(); err != nil {
		return nil, err
	}
	return s, nil
}

// Wire reads PERSISTENT_ALL; it does not write.
func (s *State) Wire(c *wire.Codec) {
	var h header
	h.wire(c, "PERSISTENT_ALL", allMagic, allVersion)
	if h.version >= 4 {
		s.wireProfile(c)
	}
	wireConstants(c)
	s.wireData(c)
	s.wireOrderly(c)
	// Before version 3 the state of a suspended TPM was always there.
	if h.version < 3 || s.Suspended() {
		wireStateReset(c)
		wireStateClear(c)
	}
	ram := wireOrderlyRAM(c)
	s.wireNVRAM(c, ram)
	if h.version >= 2 {
		skip(c, "PERSISTENT_ALL")
	}
	end := uint32(allMagic)
	wire.U32(c, &end)
	check(c, end == allMagic, ErrFormat, "PERSISTENT_ALL: ends in %08x, want %08x", end, allMagic)
}

// wireProfile reads a string with the zero behind it.
func (s *State) wireProfile(c *wire.Codec) {
	var b []byte
	c.Sized16(&b, maxProfile)
	if n := len(b); n > 0 {
		check(c, b[n-1] == 0, ErrFormat, "profile: no zero at its end")
		s.Profile = string(b[:n-1])
	}
}

// wireConstants reads with what limits libtpms was built. They bind its own
// structures; here each has limits of its own.
func wireConstants(c *wire.Codec) {
	var h header
	h.wire(c, "PA_COMPILE_CONSTANTS", constantsMagic, constantsVersion)
	var n uint32
	wire.U32(c, &n)
	check(c, n <= maxConstants, ErrFormat, "PA_COMPILE_CONSTANTS: %d of them", n)
	var b []byte
	if c.Err() == nil {
		c.Raw(&b, 4*int(n))
	}
	if h.version >= 2 {
		skip(c, "PA_COMPILE_CONSTANTS")
	}
}

// wireData reads PERSISTENT_DATA.
func (s *State) wireData(c *wire.Codec) {
	var h header
	h.wire(c, "PERSISTENT_DATA", dataMagic, dataVersion)
	s.compressed = h.version <= 4
	wireBool(c, &s.DisableClear)
	withPolicy := []*Hierarchy{&s.Owner, &s.Endorsement, &s.Lockout}
	withSeed := []*Hierarchy{&s.Endorsement, &s.Owner, &s.Platform}
	for _, x := range withPolicy {
		wire.U16(c, &x.Policy.Alg)
	}
	for _, x := range withPolicy {
		c.Sized16(&x.Policy.Digest, tpm2.MaxDigest)
	}
	for _, x := range withPolicy {
		c.Sized16(&x.Auth, tpm2.MaxDigest)
	}
	for _, x := range withSeed {
		c.Sized16(&x.Seed, seedSize)
	}
	for _, x := range []*Hierarchy{&s.Platform, &s.Owner, &s.Endorsement} {
		c.Sized16(&x.Proof, seedSize)
	}
	wire.U64(c, &s.TotalResetCount)
	wire.U32(c, &s.ResetCount)
	block(c, "pcrPolicies", s.wirePCRPolicies)
	wire.List32(c, &s.Banks, tpm2.MaxPCRSelections)
	c.Sized16(&s.Presence, maxCommands)
	s.Dictionary.wire(c)
	wire.U16(c, &s.Shutdown)
	c.Sized16(&s.AuditCommands, maxCommands)
	wire.U16(c, &s.AuditAlg)
	wire.U64(c, &s.AuditCounter)
	wire.U32(c, &s.AlgorithmSet)
	var firmware [8]byte
	c.Bytes(firmware[:])
	s.wireEpoch(c)
	s.wireSince(c, h.version, withSeed)
}

func (d *Dictionary) wire(c *wire.Codec) {
	wire.U32(c, &d.FailedTries)
	wire.U32(c, &d.MaxTries)
	wire.U32(c, &d.RecoveryTime)
	wire.U32(c, &d.LockoutRecovery)
	wireBool(c, &d.LockoutEnabled)
}

// wireEpoch reads timeEpoch, whose size stands before it.
func (s *State) wireEpoch(c *wire.Codec) {
	var size uint8
	wire.U8(c, &size)
	switch size {
	case 4:
		var v uint32
		wire.U32(c, &v)
		s.TimeEpoch = uint64(v)
	case 8:
		wire.U64(c, &s.TimeEpoch)
	default:
		check(c, false, ErrFormat, "timeEpoch of %d bytes", size)
	}
}

// wireSince reads what versions 3 and 4 of PERSISTENT_DATA added: the allocation of
// PCRs that the next start uses, and how old the seeds are.
func (s *State) wireSince(c *wire.Codec, version uint16, withSeed []*Hierarchy) {
	if version < 2 {
		return
	}
	block(c, "PERSISTENT_DATA", func(c *wire.Codec) {
		if version < 3 {
			return
		}
		s.Banks = nil
		wire.List32(c, &s.Banks, tpm2.MaxPCRSelections)
		block(c, "seedCompatLevel", func(c *wire.Codec) {
			if version < 4 {
				return
			}
			for _, x := range withSeed {
				wire.U8(c, &x.Level)
				check(c, x.Level <= tpmcrypto.SeedPrimeFix, ErrVersion, "seeds of level %d", x.Level)
			}
		})
	})
}

// wirePCRPolicies reads PCR_POLICY.
func (s *State) wirePCRPolicies(c *wire.Codec) {
	var h header
	h.wire(c, "PCR_POLICY", policyMagic, otherVersion)
	var n uint16
	wire.U16(c, &n)
	check(c, n <= tpm2.NumPCR, ErrFormat, "PCR_POLICY: %d of them", n)
	for i := 0; i < int(n) && c.Err() == nil; i++ {
		var p Policy
		wire.U16(c, &p.Alg)
		c.Sized16(&p.Digest, tpm2.MaxDigest)
		s.PCRPolicies = append(s.PCRPolicies, p)
	}
}

// wireOrderly reads ORDERLY_DATA: the clock, and the random bit generator, which is
// not taken over.
func (s *State) wireOrderly(c *wire.Codec) {
	var h header
	h.wire(c, "ORDERLY_DATA", orderlyMagic, otherVersion)
	wire.U64(c, &s.Clock)
	wireBool(c, &s.ClockSafe)
	wireDRBG(c)
	skip(c, "selfHealTimer")
	if h.version >= 2 {
		skip(c, "ORDERLY_DATA")
	}
}

func wireDRBG(c *wire.Codec) {
	var h header
	h.wire(c, "DRBG_STATE", drbgMagic, otherVersion)
	var counter uint64
	var magic uint32
	var seed []byte
	var n uint16
	wire.U64(c, &counter)
	wire.U32(c, &magic)
	c.Sized16(&seed, seedSize)
	wire.U16(c, &n)
	check(c, n <= 16, ErrFormat, "DRBG_STATE: %d last values", n)
	if c.Err() == nil {
		c.Raw(&seed, 4*int(n))
	}
	if h.version >= 2 {
		skip(c, "DRBG_STATE")
	}
}
