package eventlog

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi/sigdb"
)

// A claimant gathers the claims of one log.
type claimant struct {
	*analysis
	claims evidence.Claims
	pcrs   []int // backs the registers of all claims, so that they are one allocation
}

// set records a claim. Its registers are its own, without room to append.
func (c *claimant) set(name string, claim evidence.Claim, pcrs []int) {
	first := len(c.pcrs)
	c.pcrs = append(c.pcrs, pcrs...)
	if len(pcrs) > 0 {
		claim.PCRs = c.pcrs[first:len(c.pcrs):len(c.pcrs)]
	}
	c.claims[name] = claim
}

// ready reports whether the registers support a claim; otherwise it records why not.
func (c *claimant) ready(name string, pcrs ...int) bool {
	if c.weak {
		c.set(name, evidence.Claim{Reason: codeWeakBank}, pcrs)
		return false
	}
	for _, pcr := range pcrs {
		if !c.trusts(pcr) {
			c.set(name, evidence.Claim{Reason: codeNotQuoted}, pcrs)
			return false
		}
	}
	return true
}

// text sets a claim to a text, or to unknown with a reason.
func (c *claimant) text(name, value string, why evidence.Code, pcrs ...int) {
	switch {
	case !c.ready(name, pcrs...):
	case why != "":
		c.set(name, evidence.Claim{Reason: why}, pcrs)
	default:
		c.set(name, evidence.Claim{Value: evidence.Text(value)}, pcrs)
	}
}

// truth sets a claim to a truth value, or to unknown with a reason.
func (c *claimant) truth(name string, value bool, why evidence.Code, pcrs ...int) {
	switch {
	case !c.ready(name, pcrs...):
	case why != "":
		c.set(name, evidence.Claim{Reason: why}, pcrs)
	default:
		c.set(name, evidence.Claim{Value: evidence.Bool(value)}, pcrs)
	}
}

// makeClaims makes all claims of the table in claims_table.go.
func (a *analysis) makeClaims() evidence.Claims {
	c := &claimant{a, make(evidence.Claims, len(claimNames)+len(a.windows.Claims)), make([]int, 0, 3*len(claimNames))}
	if a.log.format == FormatCC {
		return c.claims // what its registers mean is for the evidence of such machines to say
	}
	c.firmware()
	c.secureBootClaims()
	c.bootImages()
	c.linux()
	c.windowsClaims()
	return c.claims
}

func (c *claimant) firmware() {
	version, why := "", codeNotMeasured
	for _, j := range c.of(0) {
		if j.Type != SCRTMVersion || why != codeNotMeasured || j.closed {
			continue
		}
		e := *j
		c.judge.finish(&e)
		if why = codeUnproven; e.cover == coverWhole {
			version, why = versionText(e.Data), ""
		}
	}
	c.text("firmwareVersion", version, why, 0)

	failed, seen := false, 0
	for pcr := range uint32(8) {
		for _, j := range c.of(pcr) {
			failed = failed || j.is(Separator, separatorError)
			if j.is(Separator, separatorZero) || j.is(Separator, separatorOnes) {
				seen |= 1 << pcr
			}
		}
	}
	why = ""
	if !failed && seen != pcrs0to7 {
		why = codeNoSeparator
	}
	c.truth("firmwareError", failed, why, 0, 1, 2, 3, 4, 5, 6, 7)
	c.exit()
}

// exit makes the claim that the operating system took over from the firmware.
func (c *claimant) exit() {
	done := false
	for _, j := range c.of(5) {
		done = done || j.is(EFIAction, actionExitDone)
	}
	why := evidence.Code("")
	if !done {
		why = codeNotMeasured
	}
	c.truth("exitBootServices", done, why, 5)
}

func (c *claimant) secureBootClaims() {
	s := &c.secureBoot
	on, why := s.state()
	c.truth("secureBoot", on, why, 7)
	for i, name := range map[slot]string{slotSetupMode: "setupMode", slotAuditMode: "auditMode", slotDeployedMode: "deployedMode"} {
		value, why := s.flag(i)
		c.truth(name, value, why, 7)
	}
	// PFP 3.3.4.8: firmware that a debugger can enter must say so before the separator.
	c.truth("firmwareDebug", s.debug != nil, s.bad, 7)
	dma := s.bad
	if s.noDMA == nil && dma == "" {
		dma = codeNotMeasured // older firmware never says so
	}
	c.truth("dmaProtection", false, dma, 7)
	c.database("pk", slotPK)
	c.database("kek", slotKEK)
	c.database("db", slotDB)
	c.database("dbx", slotDBX)
	c.authorityClaims()
}

// flag reads a variable of one byte.
func (s *secureBoot) flag(i slot) (bool, evidence.Code) {
	switch {
	case s.bad != "":
		return false, s.bad
	case s.events[i] == nil:
		return false, codeNotMeasured
	case len(s.data[i]) != 1 || s.data[i][0] > 1:
		return false, codeInconsistent
	default:
		return s.data[i][0] == 1, ""
	}
}

// database makes the claims of one key database.
func (c *claimant) database(name string, i slot) {
	name = "secureBootKeys." + name
	digest, certs, hashes, why := "", "", "", c.secureBoot.bad
	if why == "" && c.secureBoot.events[i] == nil {
		why = codeNotMeasured
	}
	content := why
	if why == "" {
		digest = hex.EncodeToString(c.secureBoot.events[i].digest)
		if d, err := sigdb.Parse(c.secureBoot.data[i]); err != nil {
			content = codeSignatureList
		} else {
			certs = c.derive(c.secureBoot.events[i], useCertificates, func() string { return certificates(d) })
			hashes = strconv.Itoa(d.Count().Digests)
		}
	}
	c.text(name+".digest", digest, why, 7)
	c.text(name+".certificates", certs, content, 7)
	if i == slotDB || i == slotDBX {
		c.text(name+".hashes", hashes, content, 7)
	}
}

// SortedNames returns the names of claims in order. Those of a Linux boot are all
// in a table that is in order, so that nothing is left to sort.
func SortedNames(claims evidence.Claims) []string {
	out := make([]string, 0, len(claims))
	for i := range claimNames {
		if _, ok := claims[claimNames[i].Name]; ok {
			out = append(out, claimNames[i].Name)
		}
	}
	if len(out) < len(claims) {
		out = slices.AppendSeq(out[:0], maps.Keys(claims))
	}
	slices.Sort(out) // one look at what is in order
	return out
}

// maxCertificates bounds the certificates that a claim lists.
const maxCertificates = 64

// certificates lists the certificates of a database, one a line: the SHA-256
// digest in hex, a space, and the subject's name.
func certificates(d *sigdb.Database) string {
	var out strings.Builder
	n := 0
	for s := range d.All() {
		if s.Type != sigdb.X509 {
			continue
		}
		if n++; n > maxCertificates {
			out.WriteString("\n…")
			break
		}
		if n > 1 {
			out.WriteByte('\n')
		}
		out.WriteString(certificate(s.Data))
	}
	return out.String()
}

func certificate(der []byte) string {
	subject, _, _ := sigdb.Names(der)
	return certificateLine(der, subject)
}

func certificateLine(der []byte, subject string) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]) + " " + subject
}

func (c *claimant) authorityClaims() {
	s := &c.secureBoot
	why := s.bad
	if why == "" {
		why = s.unproven
	}
	var lines, sbat []string
	for _, au := range s.authorities {
		if au.isSBAT() {
			sbat = append(sbat, strings.TrimRight(string(au.variable.Data), "\x00\n "))
			continue
		}
		if line := c.derive(au.event, useAuthority, au.line); !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	none := why
	if none == "" && len(lines) == 0 {
		none = codeNotMeasured
	}
	c.text("secureBootAuthorities", strings.Join(lines, "\n"), none, 7)
	level, why := single(sbat, why)
	if why == "" {
		if _, err := sigdb.ParseSBATLevel([]byte(level)); err != nil {
			why = codeInconsistent
		}
	}
	// Shim measures it, and shim is in PCR 4.
	c.text("sbatLevel", level, why, 4, 7)
}

// single returns the one value of all, or why there is none.
func single(all []string, why evidence.Code) (string, evidence.Code) {
	all = slices.Compact(slices.Clone(all))
	switch {
	case why != "":
		return "", why
	case len(all) == 0:
		return "", codeNotMeasured
	case len(all) > 1:
		return "", codeAmbiguous
	default:
		return all[0], ""
	}
}
