package eventlog

import (
	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/sigdb"
)

// slot is a variable that the Secure Boot claims rest on.
type slot uint8

const (
	slotSecureBoot slot = iota
	slotPK
	slotKEK
	slotDB
	slotDBX
	slotDBT
	slotDBR
	slotSetupMode
	slotAuditMode
	slotDeployedMode
	slots
)

// slotNames are the variables of PFP 3.3.4.8, by slot, with their vendors.
var slotNames = [slots]struct {
	name   string
	vendor *uefi.GUID
}{
	slotSecureBoot:   {"SecureBoot", &uefi.GlobalVariable},
	slotPK:           {"PK", &uefi.GlobalVariable},
	slotKEK:          {"KEK", &uefi.GlobalVariable},
	slotDB:           {"db", &uefi.ImageSecurityDatabase},
	slotDBX:          {"dbx", &uefi.ImageSecurityDatabase},
	slotDBT:          {"dbt", &uefi.ImageSecurityDatabase},
	slotDBR:          {"dbr", &uefi.ImageSecurityDatabase},
	slotSetupMode:    {"SetupMode", &uefi.GlobalVariable},
	slotAuditMode:    {"AuditMode", &uefi.GlobalVariable},
	slotDeployedMode: {"DeployedMode", &uefi.GlobalVariable},
}

func slotOf(v *uefi.VariableData) (slot, bool) {
	for s := range slots {
		if v.Is(*slotNames[s].vendor, slotNames[s].name) {
			return s, true
		}
	}
	return 0, false
}

// secureBoot is what PCR 7 says.
type secureBoot struct {
	separators int
	// bad says why no claim may be read from PCR 7; "" when one may.
	bad         evidence.Code
	events      [slots]*judged
	data        [slots][]byte
	debug       *judged // firmware ran in debug mode
	noDMA       *judged // firmware turned DMA protection off
	authorities []authority
	// unproven says why the authorities are not known, "" when they are.
	unproven evidence.Code
}

// authority is what vouched for an image: a certificate or digest of a database,
// or what shim checked or measured.
type authority struct {
	event    *judged
	variable uefi.VariableData
}

// maxAuthorities bounds the authorities of a boot; real ones have under ten.
const maxAuthorities = 64

// spoil records the first reason why PCR 7 is not believed.
func (s *secureBoot) spoil(code evidence.Code) {
	if s.bad == "" {
		s.bad = code
	}
}

// checkSecureBoot reads PCR 7. Firmware measures the variables, one separator,
// then authorities (PFP 3.3.4.8); any other type could be one of these in disguise.
func (a *analysis) checkSecureBoot() {
	s := &a.secureBoot
	for _, j := range a.of(7) {
		switch j.Type {
		case Separator:
			s.separators++
			if j.is(Separator, separatorError) {
				s.spoil(codeErrorSeparator)
			} else if !closes(j) {
				s.spoil(codeUnexpected)
			}
		case EFIVariableDriverConfig:
			a.variable(s, j)
		case EFIVariableAuthority:
			a.authority(s, j)
		case EFIAction:
			if !isAction(j) {
				s.spoil(codeUnexpected)
			}
			s.action(j)
		default:
			s.spoil(codeUnexpected)
			if !a.room() {
				continue
			}
			a.find(codeUnexpected, j.Index, "event %d in PCR 7 is of type %v, which has no place there: no claim rests on PCR 7", j.Index, j.Type)
		}
	}
	for i := slotPK; i <= slotDBR; i++ {
		if j := s.events[i]; j != nil {
			if _, err := sigdb.Parse(s.data[i]); err != nil {
				a.find(codeSignatureList, j.Index, "event %d: %s cannot be read: %v", j.Index, slotNames[i].name, err)
			}
		}
	}
	switch {
	case s.separators == 0:
		s.spoil(codeNoSeparator)
	case s.separators > 1:
		s.spoil(codeAmbiguous)
	}
}

func (a *analysis) variable(s *secureBoot, j *judged) {
	if j.cover != coverWhole {
		s.spoil(codeUnproven)
		return
	}
	v, err := uefi.ParseVariableData(j.Data)
	if err != nil {
		s.spoil(codeVariableMalformed)
		a.find(codeVariableMalformed, j.Index, "event %d in PCR 7 holds no variable: %v", j.Index, err)
		return
	}
	i, known := slotOf(&v)
	switch {
	case !known && s.separators > 0:
		// Old shims measured their lists under this type. What came after the
		// separator is one list, whatever the types say, so that nothing hides.
		a.authority(s, j)
	case !known:
	case s.separators > 0:
		s.spoil(codeLateVariable)
		a.find(codeLateVariable, j.Index, "event %d measures %s into PCR 7 after its separator", j.Index, slotNames[i].name)
	case s.events[i] != nil:
		s.spoil(codeAmbiguous)
	default:
		s.events[i], s.data[i] = j, v.Data
	}
}

func (a *analysis) authority(s *secureBoot, j *judged) {
	if j.cover != coverWhole {
		s.unproven = codeUnproven
		return
	}
	if len(s.authorities) == maxAuthorities {
		s.unproven = codeAmbiguous
		return
	}
	v, err := uefi.ParseVariableData(j.Data)
	if err != nil {
		s.unproven = codeVariableMalformed
		return
	}
	s.authorities = append(s.authorities, authority{j, v})
}

func (s *secureBoot) action(j *judged) {
	switch {
	case j.is(EFIAction, actionDebug):
		s.debug = j
	case j.is(EFIAction, actionNoDMA):
		s.noDMA = j
	}
}

// state gives the claim secureBoot, or why it is unknown.
func (s *secureBoot) state() (on bool, why evidence.Code) {
	if s.bad != "" {
		return false, s.bad
	}
	if s.events[slotSecureBoot] == nil {
		return false, codeNotMeasured
	}
	switch value := s.data[slotSecureBoot]; {
	case len(value) == 0: // firmware built without Secure Boot measures an empty variable
		return false, ""
	case len(value) == 1 && value[0] == 0:
		return false, ""
	case len(value) == 1 && value[0] == 1:
		return true, s.contradiction()
	default:
		return false, codeInconsistent
	}
}

// contradiction says what keeps SecureBoot = 1 from being believed.
func (s *secureBoot) contradiction() evidence.Code {
	if s.debug != nil {
		return codeInconsistent
	}
	for _, i := range [...]slot{slotPK, slotKEK, slotDB} {
		// UEFI 2.10, 32.3: without a PK the platform is in setup mode and checks nothing.
		if len(s.data[i]) == 0 {
			return codeInconsistent
		}
		if d, err := sigdb.Parse(s.data[i]); err != nil {
			return codeSignatureList
		} else if d.Count() == (sigdb.Count{}) {
			return codeInconsistent
		}
	}
	if _, err := sigdb.Parse(s.data[slotDBX]); err != nil {
		return codeSignatureList
	}
	return ""
}
