package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// A Profile says what a TPM offers: commands, algorithms and limits. It is fixed
// at manufacture and kept with the TPM's state, so that a guest finds the same
// TPM after an upgrade of this program. A published version never changes.
// Profile is an [tpm2.Offer]. Callers must not change one.
type Profile struct {
	Name    string // "default"
	Version int    // from 1
	Summary string // one line for people
	FIPS    bool   // only algorithms approved by FIPS 140-3

	Algorithms []tpm2.Alg // all that TPM_CAP_ALGS lists
	Curves     []tpm2.ECCCurve
	RSABits    []uint16
	SymBits    []uint16   // key sizes of block ciphers
	Banks      []tpm2.Alg // hashes for which PCRs may be allocated
	Allocated  []tpm2.Alg // those with PCRs at manufacture
	Without    []tpm2.CC  // commands left out of the table
	Version185 bool       // with the commands of TPM 2.0 version 1.85
	Libtpms    bool       // primary keys are those that libtpms makes of the same seeds

	Limits Limits
}

// Limits are what a TPM has room for.
type Limits struct {
	Transient  int // loaded objects
	Sessions   int // loaded sessions
	Persistent int // persistent objects
	NVIndices  int
	NVBytes    int // data of all NV indices together
	NVIndex    int // data of one ordinary NV index (TPM_PT_NV_INDEX_MAX)
	NVBuffer   int // bytes of one NV_Read or NV_Write
	Command    int // bytes of a command or response
}

// Profiles returns the profiles that this program can manufacture; the versions of
// one follow each other.
func Profiles() []*Profile { return slices.Clone(profiles) }

// NewestProfiles returns the newest version of each profile.
func NewestProfiles() []*Profile {
	return slices.DeleteFunc(Profiles(), func(p *Profile) bool {
		newest, err := FindProfile(p.Name, 0)
		return err != nil || newest != p
	})
}

// ErrProfile is an unknown profile, wrapped with its name and version.
var ErrProfile = fmt.Errorf("unknown TPM profile")

// unknownProfile names those that there are.
func unknownProfile(name string, version int) error {
	if version != 0 {
		name = fmt.Sprintf("%s:%d", name, version)
	}
	var known []string
	for _, p := range NewestProfiles() {
		known = append(known, p.Name)
	}
	return fmt.Errorf("%w %q: there are %s", ErrProfile, name, strings.Join(known, ", "))
}

// FindProfile returns a profile by name; version 0 asks for the newest.
func FindProfile(name string, version int) (*Profile, error) {
	var found *Profile
	for _, p := range profiles {
		if p.Name == name && (version == p.Version || version == 0 && (found == nil || p.Version > found.Version)) {
			found = p
		}
	}
	if found == nil {
		return nil, unknownProfile(name, version)
	}
	return found, nil
}

// DefaultProfile names the profile of TPMs that are made without a choice: "fips" where
// the validated module computes (FIPS 140-3 mode), else "default".
func DefaultProfile() string {
	if tpmcrypto.Validated() {
		return "fips"
	}
	return "default"
}

// Unapproved reports whether a TPM of this profile offers what FIPS 140-3 does not
// approve although the validated module computes: who makes one is to be told.
func (p *Profile) Unapproved() bool { return tpmcrypto.Validated() && !p.FIPS }

// Has reports whether the profile has the command.
func (p *Profile) Has(cc tpm2.CC) bool {
	info, ok := command.Lookup(cc)
	return ok && (!info.Version185 || p.Version185) && !slices.Contains(p.Without, cc)
}

// OffersAlg reports whether the profile has the algorithm.
func (p *Profile) OffersAlg(a tpm2.Alg) bool { return slices.Contains(p.Algorithms, a) }

// An offer is a profile as the layouts of commands ask it, once for each algorithm
// of a list and each hash that there could be: with its algorithms as bits.
type offer struct {
	*Profile
	algs [4]uint64
}

// offer returns the profile's, made on first use.
func (t *TPM) offer() *offer {
	if t.offers.Profile != t.profile {
		t.offers = offer{Profile: t.profile}
		for _, a := range t.profile.Algorithms {
			t.offers.algs[a/64] |= 1 << (a % 64)
		}
	}
	return &t.offers
}

// OffersAlg is [Profile.OffersAlg].
func (o *offer) OffersAlg(a tpm2.Alg) bool {
	return int(a) < 64*len(o.algs) && o.algs[a/64]>>(a%64)&1 == 1
}

// OffersCurve reports whether the profile has the curve.
func (p *Profile) OffersCurve(c tpm2.ECCCurve) bool { return slices.Contains(p.Curves, c) }

// OffersKeyBits reports whether the profile has RSA keys, or keys of a block
// cipher, of this size.
func (p *Profile) OffersKeyBits(a tpm2.Alg, bits uint16) bool {
	if a == tpm2.AlgRSA {
		return slices.Contains(p.RSABits, bits)
	}
	return slices.Contains(p.SymBits, bits)
}

// HandleLimits returns the ranges of handles that the TPM numbers from zero.
func (p *Profile) HandleLimits() tpm2.HandleLimits {
	return tpm2.HandleLimits{PCRs: tpm2.NumPCR, Sessions: maxActiveSessions, Transients: uint32(p.Limits.Transient)}
}

// maxDigest is the size of the largest digest of the profile.
func (p *Profile) maxDigest() int {
	n := 0
	for _, a := range p.Algorithms {
		n = max(n, a.DigestSize())
	}
	return n
}
