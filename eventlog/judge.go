package eventlog

import (
	"bytes"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/uefi"
)

// A coverage says what of an event's data its digest covers.
type coverage uint8

const (
	coverNone  coverage = iota // nothing: the data is a hint
	coverPart                  // the part in judged.covered; name or prefix around it is a hint
	coverWhole                 // all of it
	coverLie                   // a rule without exceptions says it must, and it does not
)

// judged is a measured event and what its digest proves.
type judged struct {
	Event
	digest  []byte
	covered []byte // the preimage of digest, nil when the log does not have it
	cover   coverage
	lazy    bool  // not judged yet: no claim and no refusal rests on it
	closed  bool  // behind the closing marker of its register
	next    int32 // index in analysis.events of the next event of the register, 0 for none
}

// proven reports whether the preimage of the digest is known.
func (j *judged) proven() bool { return j.cover == coverPart || j.cover == coverWhole }

// is reports whether j is a proven event of that type and text.
func (j *judged) is(t Type, text string) bool {
	return j.Type == t && j.cover == coverWhole && string(j.Data) == text
}

// A judge checks events of one bank. It keeps no state but scratch space.
type judge struct {
	bank tpm2.Alg
	size int
}

// matches reports whether digest is the digest of b.
func (k *judge) matches(j *judged, b []byte) bool {
	var d [tpm2.MaxDigest]byte
	sum(k.bank, d[:], b)
	return bytes.Equal(d[:k.size], j.digest)
}

// whole judges an event whose data is what is hashed. In an exact rule there is
// no honest log where it is not.
func (k *judge) whole(j *judged, exact bool) {
	switch {
	case k.matches(j, j.Data):
		j.cover, j.covered = coverWhole, j.Data
	case exact:
		j.cover = coverLie
	}
}

// part judges whether covered is what was hashed.
func (k *judge) part(j *judged, covered []byte) bool {
	if !k.matches(j, covered) {
		return false
	}
	j.cover, j.covered = coverPart, covered
	return true
}

// judge applies the rule of the event's register and type that a claim or a
// refusal may rest on, and leaves the others for later (PFP 10.4 and, for PCR 8
// and up, what boot loaders do).
func (k *judge) judge(j *judged) {
	switch {
	case j.Type == Separator && (pcrs0to7|pcrs12to14)&(1<<j.PCR) != 0, j.Type == EFIAction, j.Type == Action:
		k.whole(j, true)
	case j.PCR == 7 && j.Type == EFIVariableDriverConfig:
		k.variable(j)
	case j.PCR == 7 && j.Type == EFIVariableAuthority:
		k.authority(j)
	case j.Type == IPL:
		k.ipl(j)
	case j.Type == EventTag && tagRegisters&(1<<j.PCR) != 0:
		k.whole(j, isSIPA(j.Data))
	default:
		j.lazy = true
	}
}

// tagRegisters are those that Windows measures tagged events into.
const tagRegisters = pcrs12to14 | 1<<11 | 0xF<<19

// ipl judges what boot loaders measure.
func (k *judge) ipl(j *judged) {
	switch j.PCR {
	case 8:
		k.grub(j)
	case 11:
		k.section(j)
	case 12:
		k.whole(j, false)
	default:
		j.lazy = true
	}
}

// finish judges an event that judge left for later: for display and components.
func (k *judge) finish(j *judged) {
	if !j.lazy {
		return
	}
	j.lazy = false
	switch j.Type {
	case EFIVariableBoot, EFIVariableBoot2, EFIVariableDriverConfig, EFIVariableAuthority:
		k.whole(j, false)
		// EDK2 measures only the value of a boot variable; its name is a hint then.
		if v, err := uefi.ParseVariableData(j.Data); j.cover == coverNone && err == nil {
			k.part(j, v.Data)
		}
	case SCRTMVersion, EFIGPTEvent, EFIGPTEvent2, PlatformConfigFlags, CompactHash, NonhostInfo, NonhostConfig,
		IPLPartitionData, EventTag, TableOfDevices, PostCode, PostCode2, Separator:
		k.whole(j, false)
	case IPL:
		k.whole(j, false)
	}
}

// variable judges a Secure Boot variable. Firmware of TPM 1.2 times measured the
// value alone; then nothing says which variable it was, and no claim rests on it.
func (k *judge) variable(j *judged) {
	k.whole(j, true)
	if j.cover != coverLie {
		return
	}
	if v, err := uefi.ParseVariableData(j.Data); err == nil && len(v.Data) > 0 {
		k.part(j, v.Data)
	}
}

// authority judges what verified an image. Early shims left the last byte of what
// they logged out of the digest (their length of the structure was one short),
// for their own variables and for db alike: GCE's COS 85 has such a log.
func (k *judge) authority(j *judged) {
	k.whole(j, true)
	if n := len(j.Data); j.cover == coverLie && n > 1 {
		k.part(j, j.Data[:n-1])
	}
}
