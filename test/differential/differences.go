package differential

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/assay-project/assay/tpm2"
)

// A Difference is a way in which the two answer differently, and who is right.
type Difference struct {
	Name   string
	Right  string // "ours", "theirs", "either"
	Clause string
	Why    string
	Match  func(o *Observation) bool
	Parts  bool // the two have different state from then on
	Ended  bool // the peer's process ends
}

// explain returns the row for an observation, or nil.
func explain(o *Observation, reference bool) *Difference {
	if reference {
		if d := explainBy(referenceDifferences, o); d != nil {
			return d
		}
	}
	return explainBy(differences, o)
}

func explainBy(rows []Difference, o *Observation) *Difference {
	for i := range rows {
		if rows[i].Ended == o.Ended && rows[i].Match(o) {
			return &rows[i]
		}
	}
	return nil
}

// has reports whether the request has these bytes.
func (o *Observation) has(b ...byte) bool {
	return bytes.Contains(o.Request[0], b) || bytes.Contains(o.Plain, b)
}

// refused reports whether the one refuses with this code, whatever its number.
func refused(rc, with tpm2.RC) bool { return rc == with || rc.Base() == with }

func isPIN(a tpm2.NVAttributes) bool { return a.Type() == tpm2.NVPinFail || a.Type() == tpm2.NVPinPass }

// isPIN reports whether the command is about a PIN index.
func (o *Observation) isPIN() bool { return isPIN(o.Index) }

// longRSA reports whether the parameters have room for a number of more than 3072 bits.
func (o *Observation) longRSA() bool {
	for i := range len(o.Plain) - 1 {
		if n := int(binary.BigEndian.Uint16(o.Plain[i:])); n > 384 && n <= 512 {
			return true
		}
	}
	return false
}

// property returns what both say of one property of theirs.
func (o *Observation) property(p tpm2.PT) (ours, theirs uint32, ok bool) {
	var values [2]uint32
	for i, b := range o.Params {
		if o.Code != tpm2.CCGetCapability || len(b) != 17 || tpm2.PT(binary.BigEndian.Uint32(b[9:])) != p {
			return 0, 0, false
		}
		values[i] = binary.BigEndian.Uint32(b[13:])
	}
	return values[0], values[1], true
}

// attributes returns the attributes of an index, where those are the difference.
func (o *Observation) attributes() (ours, theirs tpm2.NVAttributes, ok bool) {
	n, _ := fmt.Sscanf(o.Diff, "content: Attributes\n%d\n%d", &ours, &theirs)
	return ours, theirs, n == 2
}

// partOfBlock reports whether the data of an encryption end within a block.
func (o *Observation) partOfBlock() bool {
	b := o.Params[0]
	return (o.Code == tpm2.CCEncryptDecrypt || o.Code == tpm2.CCEncryptDecrypt2) && len(b) > 2 && binary.BigEndian.Uint16(b)%16 != 0
}

// Differences returns the table.
func Differences() []Difference { return differences }

// ReferenceDifferences returns those that only the reference simulator has.
func ReferenceDifferences() []Difference { return referenceDifferences }

// Document is the table as a page.
func Document() string {
	var b strings.Builder
	b.WriteString(documentHead)
	documentRows(&b, differences)
	b.WriteString(documentReference)
	documentRows(&b, referenceDifferences)
	return b.String()
}

func documentRows(b *strings.Builder, rows []Difference) {
	for _, d := range rows {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", d.Name, d.Right, d.Clause, d.Why)
	}
}

const documentHead = `# Where our TPM and swtpm differ

Made from the table in test/differential, where a difference that no row explains fails the run: do not edit.
The peer is Debian 12's swtpm 0.7.1 with libtpms 0.9.2 (TPM 2.0 revision 1.64). Compared are response codes with their numbers, sizes, and all contents that do not hang on a secret of one TPM.

Not compared: how many bytes a saved context has; the vendor's name, versions and limits in TPM2_GetCapability; lists of algorithms, commands and curves but for what both have.
Nor: time and clock, and the counts of resets in attestations; more than the size of what is random or made by keys that only one has, as a quote's signature; sizes of certificates and ECDAA signatures;
what comes back encrypted by a session, or is decrypted by one, that a spoilt request or a wrong authValue was meant to break, and what follows such a command; which of two refusals of spoilt authorizations it is; what is answered to a byte that was spoilt at different places, as in requests of different lengths.
Rows on curves, SM2, TDES and Camellia, tags of tickets and structures that end early read the request as our TPM does, and match only the number, in the place of the fault, that they speak of.
Those on AES-192, RSA-4096, SHA-3 and room in lists are matched by response codes and by bytes of the request, so that they may take a difference of another cause for their own.
libtpms answers TPM_RC_RETRY to the first use of an object that is protected against dictionary attacks; the command is then sent again. Ours answers at once: what a try changed is kept before
its answer leaves ([guessing across power cuts](vtpm-threats.md#guessing-across-power-cuts)).
Where both know a key, each gets what the other one has made: signatures, ciphertexts, agreed points, credentials, duplicates and rewrapped duplicates.

Numbers of clauses are those of version 1.59, where nothing else is said. The text of the specification was not at hand: they were checked against the reference code and what others cite;
where a subclause could not be, its chapter stands here.

Never run by both of these: TPM2_PP_Commands, for swtpm's sockets cannot assert physical presence; the commands of newer revisions, and those for which libtpms 0.9.2 has none (see [below](#the-reference-simulator):
TPM2_ECC_Encrypt and _Decrypt, TPM2_PolicyCapability, TPM2_PolicyParameters, TPM2_NV_DefineSpace2, TPM2_NV_ReadPublic2, TPM2_ReadOnlyControl).

Last runs: 2026-11-23, engine of commit d197647, seed 63: 250,249 commands to each TPM in 1,302 streams, 203,294 run by both, beside other work: none that no row explains.
A run of 250,020 commands of the same seed before had shown one (494): a secret with bytes behind its point, which is a row now. Seed 68: 214,881 commands in 1,116 streams, 174,364 run by both, one (815): TPM2_CertifyX509 without a key, a row since;
then 214,102 commands of the same seed under it, 173,704 run by both: none.
Before that, engine of commit 9072637, seed 41: 1,000,286 commands to each TPM in 5,098 streams, 810,154 run by both, beside other work. Two streams showed what no row explained: a spoilt comparison
with the time (3913), and a policy of another size in a public area that TPM2_LoadExternal loads alone (4619); a run of 808,964 commands of the same seed before had shown four more, and ended where swtpm did (4088).
All are rows now, or of rows that read too little; ours was wrong in none. Then all of it again under this table, 1,000,286 commands: none that no row explains.
Before that, engine of commit 6ff632e, seed 31: 1,000,074 commands to each TPM in 5,135 streams, 808,648 run by both. Ten streams showed differences that no row explains. In three of them (1965, 2244,
3862) ours was wrong: failures were still counted, and TPM_RC_LOCKOUT answered, within the millisecond after TPM2_DictionaryAttackParameters had set recoveryTime to 0 (Part 1, 19.8.3); in one (3089) a
TPM2B_SENSITIVE of which nothing came was TPM_RC_SIZE, where it is TPM_RC_INSUFFICIENT: both were mended. Three are of rows that did not read templates of TPM2_CreateLoaded (2806, 4771) or know refused contexts
(4857), one is a new row (783, a Name of 68 bytes), and two were none: a byte spoilt at different places (2965), and an answer decrypted with a wrong authValue (3868). Each of the ten was run again under this table
without one that no row explains. Then, engine of commit 31c97da, seed 31 again: 100,004 commands in 541 streams, 80,786 run by both, none; and seed 77: 250,082 commands in 1,289 streams, 202,448 run by both, two:
of two faults of a password authorization ours named the other one first (mended), and the row on the size of a policy did not know a parent that is none. Both streams were run again.
Before that, 2026-11-22: engine of commit b917a0a, seeds 21 to 30: 1,001,567 commands in 5,097 streams, 810,402 run by both; and engine of commit 9882921, seeds 902 to 910: 451,198 commands in 2,335 streams,
364,459 run by both.

| what | who is right | clause | why |
|---|---|---|---|
`
