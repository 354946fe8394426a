package differential

import (
	"bytes"
	"fmt"
	"slices"
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
}

// explain returns the row for an observation, or nil.
func explain(o *Observation) *Difference {
	for i := range differences {
		if differences[i].Match(o) {
			return &differences[i]
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

var differences = []Difference{
	{
		Name: "tag", Right: "ours", Clause: "Part 3, 5.2",
		Why: "A tag that is neither of the two is TPM_RC_BAD_TAG; libtpms answers TPM_RC_VALUE when it is no TPM_ST at all, and never with the tag of TPM 1.2.",
		Match: func(o *Observation) bool {
			return o.RC[0] == tpm2.RCBadTag && (o.RC[1] == tpm2.RCValue || o.RC[1] == tpm2.RCBadTag)
		},
	},
	{
		Name: "structure that ends early", Right: "either", Clause: "Part 2, 10.4.2 and the like",
		Why: "The size of a TPM2B is smaller than its structure: we say TPM_RC_SIZE; libtpms reads on behind its end and says what it finds there.",
		Match: func(o *Observation) bool {
			s, n := o.RC[0].Subject()
			t, m := o.RC[1].Subject()
			return refused(o.RC[0], tpm2.RCSize) && s == t && n == m && s != 0 && o.RC[1] != 0 && o.Bent != ""
		},
	},
	{
		Name: "curves", Right: "either", Clause: "Part 2, 11.2.5.5",
		Why:   "We have no curve but NIST P-256, P-384 and P-521; libtpms also has BN P-256, BN P-638, SM2 P-256, P-192 and P-224.",
		Match: func(o *Observation) bool { return refused(o.RC[0], tpm2.RCCurve) },
	},
	{
		Name: "TDES and Camellia", Right: "either", Clause: "Part 2, 11.1",
		Why: "We have no block cipher but AES.",
		Match: func(o *Observation) bool {
			return o.RC[0] != 0 && o.RC[1] == 0 && (o.has(0, 3) || o.has(0, 0x26)) && (o.Code == tpm2.CCIncrementalSelfTest || refused(o.RC[0], tpm2.RCSymmetric))
		},
	},
	{
		Name: "AES-192", Right: "either", Clause: "Part 2, 11.1.3",
		Why:   "libtpms 0.9.2 has no AES-192.",
		Match: func(o *Observation) bool { return refused(o.RC[1], tpm2.RCValue) && o.has(0, 6, 0, 0xc0) },
	},
	{
		Name: "RSA-4096", Right: "either", Clause: "Part 2, 11.2.4.6",
		Why: "libtpms 0.9.2 has no RSA keys of 4096 bits, and its buffers for RSA are as long as 3072 bits.",
		Match: func(o *Observation) bool {
			return refused(o.RC[1], tpm2.RCValue) && o.has(0x10, 0) || refused(o.RC[1], tpm2.RCSize) && o.has(0, 1)
		},
	},
	{
		Name: "failure mode", Right: "ours", Clause: "Part 1, 12.4",
		Why:   "libtpms goes into failure mode on this input.",
		Match: func(o *Observation) bool { return o.RC[1] == tpm2.RCFailure },
	},
	{
		Name: "number of sequenceHandle", Right: "ours", Clause: "Part 3, 17.4",
		Why: "sequenceHandle is a handle, so the code has a handle's number; libtpms gives that of a parameter.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCSequenceUpdate && refused(o.RC[0], tpm2.RCMode) && refused(o.RC[1], tpm2.RCMode)
		},
	},
	{
		Name: "tag of a ticket", Right: "ours", Clause: "Part 2, 10.7",
		Why:   "The tag of a ticket that is another one is TPM_RC_TAG; libtpms answers TPM_RC_VALUE when it is no TPM_ST at all.",
		Match: func(o *Observation) bool { return refused(o.RC[0], tpm2.RCTag) && refused(o.RC[1], tpm2.RCValue) },
	},
	{
		Name: "tags of version 1.85", Right: "theirs", Clause: "Part 2, 10.7.4 (version 1.83)",
		Why: "The tags of tickets of version 1.85 are read under every profile; they are refused where the ticket is used.",
		Match: func(o *Observation) bool {
			return refused(o.RC[1], tpm2.RCValue) && o.RC[0] != 0 && (o.has(0x80, 0x26) || o.has(0x80, 0x27))
		},
	},
	{
		Name: "size of RSA private areas", Right: "either", Clause: "Part 2, 12.3.2.4",
		Why:   "What the encrypted area keeps of an RSA key is the TPM's own business: libtpms 0.9.2 keeps one prime, we also the numbers that follow from both.",
		Match: func(o *Observation) bool { return firstLine(o.Diff) == "content: size of OutPrivate" && o.has(0, 1) },
	},
	{
		Name: "NV space", Right: "either", Clause: "Part 3, 31.3",
		Why:   "How much room there is is the TPM's own business.",
		Match: func(o *Observation) bool { return o.RC[1] == tpm2.RCNVSpace },
	},
	{
		Name: "slots of persistent objects", Right: "either", Clause: "Part 2, 8.8 (TPMA_MEMORY.objectCopiedToRam)",
		Why: "libtpms copies a persistent object into a transient slot while a command uses it: fewer slots are free then, others are taken first, and their handles name the copy.",
		Match: func(o *Observation) bool {
			if !o.has(0x81, 0) && !o.has(0x81, 0x80) {
				return false
			}
			return strings.HasPrefix(o.Diff, "handle") || o.RC[1] == tpm2.RCObjectMemory || o.RC[0] == tpm2.RCReferenceH0+1
		},
	},
	{
		Name: "commands of newer revisions", Right: "either", Clause: "Part 3, version 1.83",
		Why: "libtpms 0.9.2 has not all commands of version 1.83.",
		Match: func(o *Observation) bool {
			return o.RC[1] == tpm2.RCCommandCode || o.Code == tpm2.CCPolicyCommandCode && refused(o.RC[1], tpm2.RCPolicyCC)
		},
	},
	{
		Name: "capabilities of newer revisions", Right: "either", Clause: "Part 2, 6.12",
		Why: "libtpms 0.9.2 does not know the capabilities from TPM_CAP_ACT on.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCGetCapability && refused(o.RC[1], tpm2.RCValue) && len(o.Plain) > 3 && o.Plain[3] >= 0x0a
		},
	},
	{
		Name: "attributes of newer revisions", Right: "either", Clause: "Part 2, 8.3",
		Why: "firmwareLimited and svnLimited are reserved bits for libtpms 0.9.2.",
		Match: func(o *Observation) bool {
			return refused(o.RC[1], tpm2.RCReservedBits) && refused(o.RC[0], tpm2.RCAttributes)
		},
	},
	{
		Name: "SHA-3", Right: "either", Clause: "TCG Algorithm Registry, 1.35",
		Why: "libtpms 0.9.2 has no SHA-3.",
		Match: func(o *Observation) bool {
			return refused(o.RC[1], tpm2.RCHash) && (o.has(0, 0x27) || o.has(0, 0x28) || o.has(0, 0x29))
		},
	},
	{
		Name: "signed comparison of negative numbers", Right: "ours", Clause: "Part 2, 6.16 (TPM_EO_SIGNED)",
		Why: "Of two negative numbers the smaller one is the one whose two's complement is smaller; the reference code compares them the other way round.",
		Match: func(o *Observation) bool {
			return (o.Code == tpm2.CCPolicyNV || o.Code == tpm2.CCPolicyCounterTimer) && (o.RC[0] == tpm2.RCPolicy) != (o.RC[1] == tpm2.RCPolicy) &&
				len(o.Plain) > 2 && o.Plain[2] >= 0x80 && slices.Contains([]byte{2, 4, 6, 8}, o.Plain[len(o.Plain)-1])
		},
	},
	{
		Name: "a second template", Right: "ours", Clause: "Part 3, 23.21",
		Why: "A policy session that is bound to another template is TPM_RC_CPHASH in version 1.83; libtpms 0.9.2 follows version 1.59, which says TPM_RC_VALUE.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCPolicyTemplate && o.RC[0] == tpm2.RCCPHash && refused(o.RC[1], tpm2.RCValue)
		},
	},
	{
		Name: "number of signHandle", Right: "ours", Clause: "Part 3, 18.8",
		Why: "signHandle of TPM2_CertifyX509 is the second handle; libtpms gives the number of the first.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCCertifyX509 && o.RC[0] == tpm2.RCKey.Of(tpm2.RCHandle, 2) && o.RC[1] == tpm2.RCKey.Of(tpm2.RCHandle, 1)
		},
	},
	{
		Name: "clock after a power loss", Right: "ours", Clause: "Part 1, 36.3.2",
		Why: "The clock does not step back behind a value that TPM2_ClockSet made; libtpms forgets that value when the power goes.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCClockSet && refused(o.RC[0], tpm2.RCValue) && o.RC[1] == 0
		},
	},
	{
		Name: "lockout after a power loss", Right: "either", Clause: "Part 1, 19.8.7",
		Why:   "A power loss after the use of a protected object counts as a failed try; the two note such a use at different times.",
		Match: func(o *Observation) bool { return o.RC[0] == tpm2.RCLockout },
	},
	{
		Name: "public area that its private one does not fit", Right: "ours", Clause: "Part 3, 13.3",
		Why:   "An RSA modulus that its prime does not divide is TPM_RC_BINDING already when it is imported; libtpms imports it.",
		Match: func(o *Observation) bool { return o.Code == tpm2.CCImport && o.RC[0] == tpm2.RCBinding && o.RC[1] == 0 },
	},
	{
		Name: "chaining value after a part of a block", Right: "ours", Clause: "Part 4, CryptSymmetricEncrypt",
		Why:   "After data that end within a block, the reference code fills the chaining value of CFB up with zeros, and so do we; libtpms leaves what OpenSSL had there.",
		Match: func(o *Observation) bool { return firstLine(o.Diff) == "content: IVOut" },
	},
	{
		Name: "algorithms to test", Right: "either", Clause: "Part 3, 10.3",
		Why:   "Which algorithms still await their test depends on what there is and was used.",
		Match: func(o *Observation) bool { return o.Code == tpm2.CCIncrementalSelfTest && o.RC == [2]tpm2.RC{} },
	},
}

// Differences returns the table.
func Differences() []Difference { return differences }

// Document is the table as a page.
func Document() string {
	var b strings.Builder
	b.WriteString(documentHead)
	for _, d := range differences {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", d.Name, d.Right, d.Clause, d.Why)
	}
	return b.String()
}

const documentHead = `# Where our TPM and swtpm differ

Made from the table in test/differential, where a difference that no row explains fails the run: do not edit.
The peer is Debian 12's swtpm 0.7.1 with libtpms 0.9.2 (TPM 2.0 version 1.59). Compared are response codes with their numbers, sizes, and all contents that do not hang on a secret of one TPM.

Not compared: how many bytes a saved context has; the vendor's name, versions and limits in TPM2_GetCapability; lists of algorithms, commands and curves but for what both have.
libtpms answers TPM_RC_RETRY to the first use of an object that is protected against dictionary attacks; the command is then sent again.

| what | who is right | clause | why |
|---|---|---|---|
`
