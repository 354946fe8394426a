// Package sipa reads the tagged events of a Windows boot (SIPA: system
// integrity and policy attestation), the part of the Windows boot
// configuration log (WBCL) that PCRs 12 to 14 cover, and 19 to 22 after a
// dynamic launch.
//
// [Appraise] takes events whose digests were checked by the caller and gives
// claims. It does not prove that Windows made the measurements: whatever runs
// before Windows can extend the same PCRs, and so can whoever replaces it. A
// relying party ties them to Windows by PCR 4 and by the authorities of PCR 7. A
// fact that no event states is unknown; nothing is true for being absent.
//
// Claims rest on PCR 12 and 13, which Windows closes with a separator. PCR 19 to
// 22 have no closing marker, so that software with a locality above 0 could
// continue them: what they say supports no claim, and makes one unknown that it
// contradicts. No boot with a dynamic launch was at hand to test with.
//
// Structure and identifiers are those of the WBCL header of the Windows driver
// kit (wbcl.h). Start with [Appraise]; [Parse] gives the tree of one event.
package sipa

import (
	"github.com/assay-project/assay/evidence"
)

// Measured is one EV_EVENT_TAG event that a PCR covers: the caller has checked
// that the digest in the log is the digest of Data, that the log replays to the
// register, and for PCR 12 to 14 that the event precedes the WBCL separator of its
// own PCR. What follows that separator anybody can append.
type Measured struct {
	PCR, Event int
	Data       []byte
}

// A Problem is something in the events that keeps them from being believed, or
// that a person should see.
type Problem struct {
	Code       evidence.Code
	PCR, Event int
	Message    string
}

// Result is what the tagged events of one boot say. Claims holds every name of
// [ClaimNames], known or not.
type Result struct {
	Claims   evidence.Claims
	Modules  []Module // as PCR 13 (or 20) describes them, in boot order
	Problems []Problem
	Counters Counters
	// Doubtful tells that no event stands for itself: one cannot be read, PCR 19 to 22
	// state another value of a setting than PCR 12 and 13 do, or the boot ended in a
	// resume, whatever open registers say.
	Doubtful bool
}

// Counters place a boot among the others of its installation; see [Chain].
type Counters struct {
	Boot    uint64         // BOOTCOUNTER; counts every start, cold or resumed
	Known   bool           // whether Boot was measured, once and well-formed
	Event   uint64         // EVENTCOUNTER of the TPM, 0 when not measured
	ID      uint64         // COUNTERID, 0 when not measured
	Resumed evidence.Value // whether the boot ended in a resume from hibernation
}

// maxTotalTags bounds the tags of all events of one boot together. The largest
// boot among the samples has under 2,500.
const maxTotalTags = 1 << 14

// Appraise makes claims of the tagged events of one boot, which must come in
// log order. It never fails: what cannot be read makes claims unknown and
// leaves a [Problem].
func Appraise(ms []Measured) Result {
	c := collector{
		seen:   map[ID][]occurrence{},
		there:  map[int]bool{},
		budget: maxTotalTags,
	}
	for _, m := range ms {
		c.event(m)
	}
	r := Result{Modules: c.modules, Problems: c.problems, Claims: evidence.Claims{}}
	c.result, r.Doubtful = &r, c.broken != ""
	c.counters()
	for _, row := range claimRules() {
		row.rule(&c, row.Name)
	}
	return r
}

// A collector gathers what the events say before any claim is made.
type collector struct {
	seen     map[ID][]occurrence
	there    map[int]bool // registers of which there is any event
	elam     []occurrence // key names of early-launch anti-malware drivers
	modules  []Module
	problems []Problem
	budget   int
	broken   evidence.Code // why nothing may be claimed, "" when all was read
	result   *Result
}

// An occurrence is one scalar in one event.
type occurrence struct {
	pcr, event int
	value      []byte
}

func (c *collector) event(m Measured) {
	c.there[m.PCR] = true
	tags, err := parse(m.Data, &c.budget)
	if err != nil {
		c.breakBy(m, codeOf(err), err.Error())
		return
	}
	for _, t := range tags {
		if !outer(m.PCR, t.ID) {
			c.breakBy(m, codeUnexpected, "outer tag is "+t.ID.String()+", no container")
			return
		}
	}
	c.walk(m, tags)
}

// breakBy records that an event cannot be read. Since the rule for a claim is
// "every occurrence", one event that hides its occurrences makes all claims unknown.
func (c *collector) breakBy(m Measured, code evidence.Code, message string) {
	if c.broken == "" {
		c.broken = code
	}
	c.problems = append(c.problems, Problem{code, m.PCR, m.Event, message})
}

// outer reports whether id may stand outermost in an event of pcr: containers
// everywhere, authority keys in PCR 14, the DRTM facts beside the trust
// boundary in PCRs 19 to 22.
func outer(pcr int, id ID) bool {
	switch {
	case id.Class() == classContainer && id.Aggregation():
		return true
	case pcr == 14 || pcr == 21:
		return id.Class() == classAuthority
	case pcr >= 19:
		return id.Class() == classDRTM
	default:
		return false
	}
}

func (c *collector) walk(m Measured, tags []Tag) {
	for _, t := range tags {
		switch {
		case t.ID == LoadedModuleAggregation:
			c.module(m, t)
		case t.ID == ELAMAggregation:
			c.elamConfiguration(m, t)
		case t.ID.Aggregation():
			c.walk(m, t.Members)
		case t.ID.Unmeasured():
			// Says of itself that no register covers it.
		case scalar(t.ID):
			c.seen[t.ID] = append(c.seen[t.ID], occurrence{m.PCR, m.Event, t.Value})
		}
	}
}

func (c *collector) elamConfiguration(m Measured, t Tag) {
	for _, member := range t.Members {
		switch member.ID {
		case ELAMKeyName:
			c.elam = append(c.elam, occurrence{m.PCR, m.Event, member.Value})
		case ELAMAggregation: // Windows 10 wraps the aggregation in another one
			c.elamConfiguration(m, member)
		}
	}
}
