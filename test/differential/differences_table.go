package differential

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// newer are the commands that libtpms 0.9.2 has not.
var newer = []tpm2.CC{
	tpm2.CCReadOnlyControl, tpm2.CCNVDefineSpace2, tpm2.CCNVReadPublic2, tpm2.CCECCEncrypt, tpm2.CCECCDecrypt,
	tpm2.CCPolicyParameters, tpm2.CCPolicyCapability,
}

// withPublic are the commands that have the parameters of a key.
var withPublic = []tpm2.CC{
	tpm2.CCCreate, tpm2.CCCreatePrimary, tpm2.CCCreateLoaded, tpm2.CCLoad, tpm2.CCLoadExternal, tpm2.CCImport, tpm2.CCTestParms,
}

// decryptsRSA are the commands that take something encrypted by RSA, or encrypt.
var decryptsRSA = []tpm2.CC{
	tpm2.CCRSAEncrypt, tpm2.CCRSADecrypt, tpm2.CCActivateCredential, tpm2.CCRewrap, tpm2.CCImport, tpm2.CCStartAuthSession,
}

var differences = []Difference{
	{
		Name: "swtpm ends", Right: "ours", Clause: "Part 3, 17.3 (TPM2_MAC_Start), 28.3", Ended: true, Parts: true,
		Why: "A CMAC sequence that was saved and loaded again ends swtpm at its next command, by a call to address 0 (libtpms 0.9.2, seed 41, stream 4088): any user of the TPM can do that. Ours goes on.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCSequenceUpdate || o.Code == tpm2.CCSequenceComplete || o.Code == tpm2.CCEventSequenceComplete
		},
	},
	{
		Name: "tag", Right: "ours", Clause: "Part 3, 5.2 and 6.1",
		Why: "A tag that is neither of the two is TPM_RC_BAD_TAG with the tag of TPM 1.2; libtpms answers TPM_RC_VALUE when it is no TPM_ST at all, and never with the tag of TPM 1.2.",
		Match: func(o *Observation) bool {
			tag := binary.BigEndian.Uint16(o.Request[0])
			return tag != 0x8001 && tag != 0x8002 && o.RC[0] == tpm2.RCBadTag && (o.RC[1] == tpm2.RCValue || o.RC[1] == tpm2.RCBadTag)
		},
	},
	{
		Name: "structure that ends early", Right: "either", Clause: "Part 3, 5.8 (TPM_RC_SIZE and TPM_RC_INSUFFICIENT)",
		Why: "The size of a TPM2B is smaller than its structure, or more than any may be: we say TPM_RC_SIZE; libtpms reads the structure first, also on behind its end, and says what it finds there.",
		Match: func(o *Observation) bool {
			s, n := o.RC[0].Subject()
			t, m := o.RC[1].Subject()
			return s == t && n == m && s == tpm2.RCParameter && o.Bent != "" && o.beyond()
		},
	},
	{
		Name: "time and clock", Right: "either", Clause: "Part 3, 23.10 (TPM2_PolicyCounterTimer)",
		Why: "The two were started some milliseconds apart, so that a spoilt comparison with the time or the clock may hold for the one already.",
		Match: func(o *Observation) bool {
			in, ok := o.read().in.(*command.PolicyCounterTimerIn)
			return ok && o.Bent != "" && in.Offset < 16 && (o.RC == [2]tpm2.RC{tpm2.RCPolicy, 0} || o.RC == [2]tpm2.RC{0, tpm2.RCPolicy})
		},
	},
	{
		Name: "size of a policy", Right: "either", Clause: "Part 2, 12.2.4 (authPolicy)",
		Why: "A policy that is no digest of nameAlg is TPM_RC_SIZE here before the rest of the public area is read; libtpms says what is wrong with the rest first, or that the parent is none, and does not ask when TPM2_LoadExternal loads a public area alone.",
		Match: func(o *Observation) bool {
			s, n := o.RC[1].Subject()
			later := o.RC[1] == tpm2.RCType.Of(tpm2.RCHandle, 1) // the parent is none: what TPM2_Load looks at when all was read
			later = later || o.Code == tpm2.CCLoadExternal && o.RC[1] == tpm2.RCSuccess
			return o.RC[0] == tpm2.RCSize.Of(tpm2.RCParameter, 2) && (s == tpm2.RCParameter && n == 2 || later) && o.Bent != "" && o.oddPolicy()
		},
	},
	{
		Name: "room in lists and buffers", Right: "either", Clause: "Part 2, 10.4 and 10.9",
		Why: "How long a list or buffer may be is the TPM's own business: with a size between our limit and theirs, and too few bytes behind it, one says TPM_RC_SIZE, and the other what is wrong behind it.",
		Match: func(o *Observation) bool {
			s, n := o.RC[0].Subject()
			t, m := o.RC[1].Subject()
			behind := refused(o.RC[0], tpm2.RCInsufficient) || refused(o.RC[0], tpm2.RCHash) || refused(o.RC[0], tpm2.RCValue)
			ours := refused(o.RC[0], tpm2.RCSize) && refused(o.RC[1], tpm2.RCInsufficient) && o.oversized()
			return (behind && refused(o.RC[1], tpm2.RCSize) || ours) && s == t && n == m && s != 0 && o.Bent != ""
		},
	},
	{
		Name: "size of a Name", Right: "ours", Clause: "Part 2, 10.5.3 (TPMU_NAME)",
		Why:   "A Name is a handle or a TPMT_HA, of at most 66 bytes; the reference code takes the size of a union in C, which is padded to 68, and so reads a Name of 67 or 68 bytes and says what is wrong behind it.",
		Match: func(o *Observation) bool { return o.Bent != "" && o.RC[0].Base() == tpm2.RCSize && o.longName() },
	},
	{
		Name: "bytes behind a point", Right: "ours", Clause: "Part 3, 11.1, 12.5, 13.2 and 13.3 (TPM_RC_SIZE)",
		Why:   "A secret for an ECC key is a point and nothing else: with more behind it its size is wrong. The reference code does not look there, and goes on with the point.",
		Match: func(o *Observation) bool { return o.overlongSecret() },
	},
	{
		Name: "MQV", Right: "ours", Clause: "Part 3, 14.7; SP 800-56A, 6.1.1.4",
		Why: "The reference code reduces by the order of the curve without having set it, and goes into failure mode.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCZGen2Phase && o.RC[1] == tpm2.RCFailure && o.has(0, 0x1d)
		},
	},
	{
		Name: "curves", Right: "either", Clause: "Part 2, 11.2.5.5",
		Why:   "We have no curve but NIST P-256, P-384 and P-521; libtpms also has BN P-256, BN P-638, SM2 P-256, P-192 and P-224.",
		Match: func(o *Observation) bool { return o.unknown(tpm2.RCCurve, 1, 2, 0x10, 0x11, 0x20) },
	},
	{
		Name: "SM2", Right: "either", Clause: "Part 2, 11.2.1.5",
		Why:   "We have no signature scheme of SM2.",
		Match: func(o *Observation) bool { return o.unknown(tpm2.RCScheme, uint16(tpm2.AlgSM2)) },
	},
	{
		Name: "TDES and Camellia", Right: "either", Clause: "Part 2, 11.1",
		Why: "We have no block cipher but AES.",
		Match: func(o *Observation) bool {
			return o.unknown(tpm2.RCSymmetric, uint16(tpm2.AlgTDES), uint16(tpm2.AlgCamellia)) ||
				o.RC == [2]tpm2.RC{tpm2.RCValue.Of(tpm2.RCParameter, 1), 0} && o.tests(tpm2.AlgTDES, tpm2.AlgCamellia)
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
			return slices.Contains(withPublic, o.Code) && refused(o.RC[1], tpm2.RCValue) && o.has(0x10, 0) && o.has(0, 1) || refused(o.RC[1], tpm2.RCSize) && o.longRSA()
		},
	},
	{
		Name: "HMAC session for a public area", Right: "ours", Clause: "Part 3, 5.6 (TPM_RC_AUTH_UNAVAILABLE)",
		Why: "An object without its private part has no authValue; libtpms asks for that before it looks, and goes into failure mode.",
		Match: func(o *Observation) bool {
			return o.RC[1] == tpm2.RCFailure && o.HMAC && slices.Contains([]tpm2.RC{tpm2.RCAuthUnavailable, tpm2.RCAuthType, tpm2.RCLockout}, o.RC[0])
		},
	},
	{
		Name: "RSA padding", Right: "ours", Clause: "Part 3, 14.2, 14.3, 12.5, 13.2, 13.3 and 11.1",
		Why: "A message that is too long and a padding that is wrong, of a secret too, are TPM_RC_VALUE; libtpms says TPM_RC_FAILURE when OpenSSL refuses.",
		Match: func(o *Observation) bool {
			return slices.Contains(decryptsRSA, o.Code) && refused(o.RC[0], tpm2.RCValue) && o.RC[1] == tpm2.RCFailure
		},
	},
	{
		Name: "number of sequenceHandle", Right: "ours", Clause: "Part 3, 17.5",
		Why: "sequenceHandle is a handle, so the code has a handle's number; libtpms gives that of a parameter.",
		Match: func(o *Observation) bool {
			info, _ := o.sent()
			return info != nil && info.Code == tpm2.CCSequenceUpdate && o.RC[0] == tpm2.RCMode.Of(tpm2.RCHandle, 1) && o.RC[1] == tpm2.RCMode.Of(tpm2.RCParameter, 1)
		},
	},
	{
		Name: "tag of a ticket", Right: "ours", Clause: "Part 2, 10.7",
		Why:   "The tag of a ticket that is another one is TPM_RC_TAG; libtpms answers TPM_RC_VALUE when it is no TPM_ST at all.",
		Match: func(o *Observation) bool { return o.RC[0].Base() == tpm2.RCTag && o.ticketTag() },
	},
	{
		Name: "tags of version 1.85", Right: "theirs", Clause: "Part 2, 10.7.4 (version 1.83)",
		Why: "The tags of tickets of version 1.85 are read under every profile; they are refused where the ticket is used.",
		Match: func(o *Observation) bool {
			return o.RC[1] == tpm2.RCValue.Of(tpm2.RCParameter, 4) && o.RC[0] != 0 && o.newTag()
		},
	},
	{
		Name: "size of RSA private areas", Right: "either", Clause: "Part 2, 12.3.7",
		Why: "What the encrypted area keeps of an RSA key is the TPM's own business: libtpms 0.9.2 keeps one prime, we also the numbers that follow from both.",
		Match: func(o *Observation) bool {
			return firstLine(o.Diff) == "content: size of OutPrivate" && (o.Made == tpm2.AlgRSA || o.Type == tpm2.AlgRSA && o.Code == tpm2.CCObjectChangeAuth)
		},
	},
	{
		Name: "NV space", Right: "either", Clause: "Part 3, 31.3",
		Why: "How much room there is is the TPM's own business.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCNVDefineSpace && o.RC == [2]tpm2.RC{0, tpm2.RCNVSpace}
		},
		Parts: true,
	},
	{
		Name: "persistent objects without the owner", Right: "either", Clause: "Part 2, 8.7 (TPMA_STARTUP_CLEAR, shEnable)",
		Why: "While the owner's hierarchy is disabled its persistent objects are not there; libtpms has no handle of the owner's range then, also of objects of the endorsement hierarchy, which is enabled.",
		Match: func(o *Observation) bool {
			s, n := o.RC[1].Subject()
			return o.Past.noOwner && s == tpm2.RCHandle && o.RC[1].Base() == tpm2.RCHandleValue && n >= 1 && n <= len(o.Handles) &&
				o.Handles[n-1].Kind() == tpm2.KindPersistent && o.Handles[n-1] < 0x81800000
		},
	},
	{
		Name: "slots of persistent objects", Right: "either", Clause: "Part 2, 8.8 (TPMA_MEMORY.objectCopiedToRam)",
		Why: "libtpms copies a persistent object into a transient slot while a command uses it: fewer slots are free then, others are taken first, and their handles name the copy.",
		Match: func(o *Observation) bool {
			persistent := func(h tpm2.Handle) bool { return h.Kind() == tpm2.KindPersistent }
			if !slices.ContainsFunc(o.Handles, persistent) {
				return false
			}
			reference := o.RC[0] >= tpm2.RCReferenceH0 && int(o.RC[0]-tpm2.RCReferenceH0) < len(o.Handles) && o.Handles[o.RC[0]-tpm2.RCReferenceH0].Kind() == tpm2.KindTransient
			return strings.HasPrefix(o.Diff, "handle") || o.RC[1] == tpm2.RCObjectMemory || reference
		},
		Parts: true,
	},
	{
		Name: "commands of newer revisions", Right: "either", Clause: "Part 3, version 1.83",
		Why: "libtpms 0.9.2 has not all commands of version 1.83.",
		Match: func(o *Observation) bool {
			named := o.Code
			if o.Bent != "" {
				named = tpm2.CC(binary.BigEndian.Uint32(o.Request[0][6:]))
			}
			if named == tpm2.CCPolicyCommandCode && len(o.Plain) == 4 {
				named = tpm2.CC(binary.BigEndian.Uint32(o.Plain))
			}
			return slices.Contains(newer, named) && (o.RC[1] == tpm2.RCCommandCode || refused(o.RC[1], tpm2.RCPolicyCC))
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
		Why: "firmwareLimited and svnLimited are reserved bits for libtpms 0.9.2; a public area that is loaded alone may have them.",
		Match: func(o *Observation) bool {
			short := o.Bent != "" && refused(o.RC[0], tpm2.RCInsufficient)
			return refused(o.RC[1], tpm2.RCReservedBits) && (refused(o.RC[0], tpm2.RCAttributes) || short || o.newAttributes())
		},
	},
	{
		Name: "SHA-3", Right: "either", Clause: "TCG Algorithm Registry, 1.35",
		Why: "libtpms 0.9.2 has no SHA-3.",
		Match: func(o *Observation) bool {
			return refused(o.RC[1], tpm2.RCHash) && (o.has(0, 0x27) || o.has(0, 0x28) || o.has(0, 0x29)) ||
				o.RC[1] == tpm2.RCSymmetric.Of(tpm2.RCParameter, 2) && o.macBySHA3()
		},
	},
	{
		Name: "signed comparison", Right: "ours", Clause: "Part 2, 6.8 (TPM_EO_SIGNED_GT and the like)",
		Why: "Of two negative numbers the smaller one is the one whose two's complement is smaller; the reference code compares them the other way round. Two empty operands are equal; the reference code looks at bytes that are not there.",
		Match: func(o *Observation) bool {
			signed := len(o.Plain) > 2 && slices.Contains([]byte{2, 4, 6, 8}, o.Plain[len(o.Plain)-1])
			return (o.Code == tpm2.CCPolicyNV || o.Code == tpm2.CCPolicyCounterTimer) && (o.RC[0] == tpm2.RCPolicy) != (o.RC[1] == tpm2.RCPolicy) &&
				signed && (o.Plain[2] >= 0x80 || binary.BigEndian.Uint16(o.Plain) == 0)
		},
	},
	{
		Name: "a second template", Right: "ours", Clause: "Part 3, 23.21",
		Why: "A policy session that is bound to another template is TPM_RC_CPHASH in version 1.83; libtpms 0.9.2, of revision 1.64, says TPM_RC_VALUE.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCPolicyTemplate && o.RC[0] == tpm2.RCCPHash && refused(o.RC[1], tpm2.RCValue)
		},
	},
	{
		Name: "numbers of handles of TPM2_CertifyX509", Right: "ours", Clause: "Part 3, 18.8",
		Why: "objectHandle is the first handle and signHandle the second; libtpms has their numbers the other way round.",
		Match: func(o *Observation) bool {
			if o.Code != tpm2.CCCertifyX509 || o.RC[0].Base() != o.RC[1].Base() {
				return false
			}
			s, n := o.RC[0].Subject()
			t, m := o.RC[1].Subject()
			return s == tpm2.RCHandle && t == tpm2.RCHandle && n+m == 3
		},
	},
	{
		Name: "no key for a certificate", Right: "ours", Clause: "Part 3, 18.8",
		Why: "TPM_RH_NULL as signHandle of TPM2_CertifyX509 is no key that signs, TPM_RC_KEY; the reference code takes it for one, and says what is wrong with partialCertificate.",
		Match: func(o *Observation) bool {
			b := o.Request[0]
			s, n := o.RC[1].Subject()
			return o.Code == tpm2.CCCertifyX509 && len(b) >= 18 && tpm2.Handle(binary.BigEndian.Uint32(b[14:])) == tpm2.HandleNull &&
				o.RC[0] == tpm2.RCKey.Of(tpm2.RCHandle, 2) && s == tpm2.RCParameter && n == 3
		},
	},
	{
		Name: "key usage of a restricted key", Right: "ours", Clause: "Part 3, 18.8 (version 1.83)",
		Why: "For keyEncipherment the key must be restricted; in revision 1.64, which libtpms 0.9.2 follows, for keyAgreement.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCCertifyX509 && (o.RC[0] == 0 && o.RC[1] == tpm2.RCValue.Of(tpm2.RCParameter, 3) && o.has(3, 2, 3, 8) ||
				o.RC[1] == 0 && o.RC[0] == tpm2.RCValue.Of(tpm2.RCParameter, 3) && o.has(3, 2, 5, 0x20))
		},
	},
	{
		Name: "allocation of PCRs before TPM2_Clear", Right: "ours", Clause: "Part 3, 22.5 and 24.6",
		Why: "What TPM2_PCR_Allocate ordered holds from the next reset on, and TPM2_Clear does not touch it; the reference code then writes all its persistent data down anew, with the allocation that still holds, and forgets the new one.",
		Match: func(o *Observation) bool {
			pcrs := o.Code == tpm2.CCGetCapability && bytes.HasPrefix(o.Plain, []byte{0, 0, 0, byte(tpm2.CapPCRs)})
			return o.Past.cleared && o.RC == [2]tpm2.RC{} && (pcrs || o.Code == tpm2.CCPCRRead || o.Code == tpm2.CCPCREvent)
		},
		Parts: true,
	},
	{
		Name: "clock after a power loss", Right: "ours", Clause: "Part 3, 29.2; Part 1, 36.3",
		Why: "The clock does not step back behind a value that TPM2_ClockSet made; libtpms does not write that value down, and forgets it when the power goes.",
		Match: func(o *Observation) bool {
			return o.Code == tpm2.CCClockSet && o.RC == [2]tpm2.RC{tpm2.RCValue.Of(tpm2.RCParameter, 1), 0} && binary.BigEndian.Uint64(o.Plain) < o.Past.clock+uint64(time.Hour/time.Millisecond)
		},
	},
	{
		Name: "how often the clock is written", Right: "either", Clause: "Part 2, 6.13 (TPM_PT_CLOCK_UPDATE)",
		Why: "The clock is safe again when it passes a multiple of this interval, which is the TPM's own business: 4,194,304 ms here, 4,096 ms in libtpms.",
		Match: func(o *Observation) bool {
			n := len(o.Plain)
			flag := o.Code == tpm2.CCPolicyCounterTimer && n > 4 && binary.BigEndian.Uint16(o.Plain[n-4:]) == 24
			return o.Diff == "content: Safe\nfalse\ntrue" || flag && (o.RC[0] == tpm2.RCPolicy) != (o.RC[1] == tpm2.RCPolicy)
		},
	},
	{
		Name: "power loss after a refused TPM2_Startup", Right: "ours", Clause: "Part 1, 19.8",
		Why: "A power loss after the use of a protected object counts as a failed try. libtpms forgets that use when the first TPM2_Startup is refused, for want of saved state.",
		Match: func(o *Observation) bool {
			ours, theirs, ok := o.property(tpm2.PTLockoutCounter)
			return ok && ours == theirs+1 && o.Past.refused
		},
		Parts: true,
	},
	{
		Name: "power loss after a use that was not counted", Right: "ours", Clause: "Part 1, 19.8",
		Why: "Where a startup counts no failed try for a use before the power loss, since recoveryTime or maxTries is 0 or the tries have reached it, the reference code keeps its mark of that use in memory alone. The next use is not marked, and the next power loss is no failed try.",
		Match: func(o *Observation) bool {
			ours, theirs, ok := o.property(tpm2.PTLockoutCounter)
			return ok && ours == theirs+1 && o.Past.hidden
		},
		Parts: true,
	},
	{
		Name: "changes after TPM2_Shutdown", Right: "ours", Clause: "Part 3, 9.4; Part 1, 12.2",
		Why: "A command that changes what was saved voids the shutdown, so that no startup brings old state back. libtpms does not watch command audit nor the counters of TPM2_Commit and TPM2_EC_Ephemeral.",
		Match: func(o *Observation) bool {
			switch {
			case !o.Past.voided:
			case o.Code == tpm2.CCStartup:
				return o.RC == [2]tpm2.RC{tpm2.RCValue.Of(tpm2.RCParameter, 1), 0}
			case o.Code == tpm2.CCReadClock:
				return slices.Contains([]string{"content: ResetCount", "content: RestartCount", "content: Safe"}, firstLine(o.Diff))
			}
			ours, theirs, ok := o.property(tpm2.PTStartupClear)
			return o.Past.voided && ok && ours|uint32(tpm2.StartupClearOrderly) == theirs
		},
		Parts: true,
	},
	{
		Name: "limit of a PIN index", Right: "ours", Clause: "Part 2, 13.3 (TPMS_NV_PIN_COUNTER_PARAMETERS)",
		Why:   "At its limit, and before it is written, the authValue of a PIN index is locked out. libtpms lets a policy with TPM2_PolicyAuthValue or TPM2_PolicyPassword go on trying it.",
		Match: func(o *Observation) bool { return o.PIN && o.RC[0] == tpm2.RCAuthUnavailable },
		Parts: true,
	},
	{
		Name: "part of a PIN index", Right: "ours", Clause: "Part 2, 13.3 (TPMS_NV_PIN_COUNTER_PARAMETERS)",
		Why: "Of a PIN index the first write may write a part; the rest is zero here, so that its limit allows nothing. libtpms leaves there what was in its memory.",
		Match: func(o *Observation) bool {
			return o.Part && (strings.HasPrefix(o.Diff, "content: ") || o.RC[0] == tpm2.RCAuthUnavailable || (o.RC[0] == tpm2.RCPolicy) != (o.RC[1] == tpm2.RCPolicy))
		},
		Parts: true,
	},
	{
		Name: "nothing changes after TPM2_Shutdown", Right: "either", Clause: "Part 3, 9.4; Part 1, 12.2",
		Why: "The authValue or policy of the platform set to what it was, the platform hierarchy disabled, which each startup enables, and the context of a session refused for want of room or for its number: each voids the shutdown in libtpms; here it does not, since nothing that was saved has changed.",
		Match: func(o *Observation) bool {
			ours, theirs, ok := o.property(tpm2.PTStartupClear)
			return o.Past.same && (ok && ours == theirs|uint32(tpm2.StartupClearOrderly) ||
				o.Code == tpm2.CCReadClock && (firstLine(o.Diff) == "content: ResetCount" || firstLine(o.Diff) == "content: Safe") ||
				o.Code == tpm2.CCStartup && o.RC == [2]tpm2.RC{0, tpm2.RCValue.Of(tpm2.RCParameter, 1)})
		},
		Parts: true,
	},
	{
		Name: "write lock of an orderly index", Right: "ours", Clause: "Part 3, 31.11; Part 2, 13.4 (TPMA_NV_WRITEDEFINE)",
		Why: "A lock that TPM2_NV_WriteLock set for good stays; libtpms has the attributes of orderly indices in memory alone, and a power loss without TPM2_Shutdown opens the lock.",
		Match: func(o *Observation) bool {
			ours, theirs, ok := o.attributes()
			return ok && ours == theirs|tpm2.NVWriteLocked && ours.Has(tpm2.NVOrderly|tpm2.NVWriteDefine)
		},
		Parts: true,
	},
	{
		Name: "new counter", Right: "ours", Clause: "Part 3, 31.2",
		Why: "A new counter starts above every count of any counter. libtpms looks at those that were deleted and, when it starts, at those there are, but not at those that went on since.",
		Match: func(o *Observation) bool {
			if o.Index.Type() != tpm2.NVCounter {
				return false
			}
			switch o.Code {
			case tpm2.CCNVRead:
				return firstLine(o.Diff) == "content: Data" && bytes.Compare(o.Params[0], o.Params[1]) > 0
			case tpm2.CCNVCertify:
				return strings.HasPrefix(firstLine(o.Diff), "content: NV")
			case tpm2.CCPolicyNV:
				return (o.RC[0] == tpm2.RCPolicy) != (o.RC[1] == tpm2.RCPolicy)
			}
			return false
		},
		Parts: true,
	},
	{
		Name: "public area that its private one does not fit", Right: "ours", Clause: "Part 3, 13.3",
		Why:   "An RSA modulus that its prime does not divide is TPM_RC_BINDING already when it is imported; libtpms imports it.",
		Match: func(o *Observation) bool { return o.Code == tpm2.CCImport && o.RC[0] == tpm2.RCBinding && o.RC[1] == 0 },
	},
	{
		Name: "chaining value after a part of a block", Right: "ours", Clause: "Part 4, CryptSymmetricEncrypt",
		Why:   "After data that end within a block, the reference code fills the chaining value of CFB up with zeros, and so do we; libtpms leaves what OpenSSL had there.",
		Match: func(o *Observation) bool { return firstLine(o.Diff) == "content: IVOut" && o.partOfBlock() },
	},
	{
		Name: "algorithms to test", Right: "either", Clause: "Part 3, 10.3",
		Why:   "Which algorithms still await their test depends on what there is and was used.",
		Match: func(o *Observation) bool { return o.Code == tpm2.CCIncrementalSelfTest && o.RC == [2]tpm2.RC{} },
	},
}
