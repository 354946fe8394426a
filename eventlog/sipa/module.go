package sipa

import (
	"encoding/hex"
	"slices"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/tpm2"
)

// A Module is one image that a boot application loaded, as PCR 13 describes it.
type Module struct {
	PCR, Event int
	Path       string
	Alg        tpm2.Alg // of Digest; AlgError when not stated
	Digest     []byte   // Authenticode digest
	Size       uint64
	Publisher  string // subject of the signing certificate
	Issuer     string // of the signing certificate
	Serial     string // of the signing certificate, hex
	SVN        uint64
	// Validated is what the loader found when it checked the signature.
	Validated evidence.Value
}

// maxModuleFields bounds the tags of one module; the header knows 15.
const maxModuleFields = 64

// Name is the last element of the path.
func (m Module) Name() string { return m.Path[strings.LastIndexByte(m.Path, '\\')+1:] }

// module reads one LOADEDMODULE aggregation. PCR 12 (19) has its digest and
// base address only, PCR 13 (20) the rest; of the first only the digest is
// kept, to compare.
func (c *collector) module(m Measured, t Tag) {
	if m.PCR == 12 || m.PCR == 19 {
		for _, f := range t.Members {
			if f.ID == AuthenticodeHash {
				c.seen[AuthenticodeHash] = append(c.seen[AuthenticodeHash], occurrence{m.PCR, m.Event, f.Value})
			}
		}
		return
	}
	mod := Module{PCR: m.PCR, Event: m.Event}
	ok := len(t.Members) <= maxModuleFields
	for i, f := range t.Members[:min(len(t.Members), maxModuleFields)] {
		if slices.ContainsFunc(t.Members[:i], func(before Tag) bool { return before.ID == f.ID }) {
			ok = false // a second value would contradict the first
			break
		}
		ok = mod.field(f) && ok
	}
	if !ok || len(mod.Digest) == 0 {
		c.breakBy(m, codeMalformed, "description of module \""+mod.Path+"\" is malformed")
		return
	}
	if mod.Validated.IsFalse() {
		c.problems = append(c.problems, Problem{codeNotValidated, m.PCR, m.Event, "module \"" + mod.Path + "\" was loaded without a valid signature"})
	}
	c.modules = append(c.modules, mod)
}

func (mod *Module) field(f Tag) (ok bool) {
	switch f.ID {
	case FilePath:
		mod.Path, ok = text(f.Value)
	case ImageSize:
		mod.Size, ok = integer(f.Value)
	case HashAlgorithmID:
		mod.Alg, ok = hashOfCALG(f.Value)
	case AuthenticodeHash:
		mod.Digest, ok = f.Value, len(f.Value) > 0 && len(f.Value) <= tpm2.MaxDigest
	case AuthorityIssuer:
		mod.Issuer, ok = text(f.Value)
	case AuthorityPublisher:
		mod.Publisher, ok = text(f.Value)
	case AuthoritySerial:
		mod.Serial, ok = hex.EncodeToString(f.Value), len(f.Value) <= 64
	case ModuleSVN:
		mod.SVN, ok = integer(f.Value)
	case ImageValidated:
		var v bool
		v, ok = boolean(f.Value)
		if ok {
			mod.Validated = evidence.Bool(v)
		}
	default:
		return true // newer fields describe more of the same module
	}
	return ok
}

// hashOfCALG translates an ALG_ID of CryptoAPI (CALG_SHA_256 is 0x800C).
func hashOfCALG(b []byte) (tpm2.Alg, bool) {
	n, ok := integer(b)
	if !ok {
		return tpm2.AlgError, false
	}
	switch n {
	case 0x8004:
		return tpm2.AlgSHA1, true
	case 0x800C:
		return tpm2.AlgSHA256, true
	case 0x800D:
		return tpm2.AlgSHA384, true
	case 0x800E:
		return tpm2.AlgSHA512, true
	default:
		return tpm2.AlgError, true
	}
}

// sameModules reports whether PCR 12 and PCR 13 (19 and 20) list the same
// modules. Windows writes the two lists in different orders.
func (c *collector) sameModules() bool {
	count := map[string]int{}
	for _, o := range c.seen[AuthenticodeHash] {
		count[string(o.value)]++
	}
	for _, m := range c.modules {
		count[string(m.Digest)]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// elamPublisher is the subject of the certificates under which Microsoft lets
// early-launch anti-malware drivers be signed.
const elamPublisher = "Microsoft Windows Early Launch Anti-malware Publisher"

// defenderPaths end the path of Microsoft's own early-launch driver.
var defenderPaths = [...]string{`\windows\system32\drivers\wdboot.sys`, `\windows\system32\drivers\wd\wdboot.sys`}

// isELAM reports whether m is an early-launch anti-malware driver.
func (m Module) isELAM() bool {
	if m.Publisher == elamPublisher {
		return true
	}
	path := strings.ToLower(m.Path)
	return slices.Contains(defenderPaths[:], path)
}
