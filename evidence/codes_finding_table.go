package evidence

// findingCodes are the kinds of findings: alerts and recommendations about the
// machines of a host (internal/finding).
var findingCodes = []CodeInfo{
	{
		Code:    "finding.agent-missing",
		Meaning: "The machine has secure boot and a TPM, and no attestation agent in its guest.",
		Causes:  []string{"the agent was never installed", "it was removed or does not start"},
		Action:  "Install assay-agent in the guest and give the machine its port (assay vm update NAME --agent), so that others can be shown how the machine booted.",
	},
	{
		Code:    "finding.attestation-departs",
		Meaning: "The quote is genuine and of this machine, and what it attests departs from the trusted baseline or the policy.",
		Causes:  []string{"an update that nobody approved", "secure boot is off", "an untrusted module or boot loader was started"},
		Action:  "Read the reasons and compare them with what you changed. If you changed nothing, stop the machine and examine its disk.",
	},
	{
		Code:    "finding.attestation-silent",
		Meaning: "The machine's agent does not answer in its time.",
		Causes:  []string{"the agent was stopped or crashed", "the guest hangs or is overloaded", "somebody keeps the agent from answering"},
		Action:  "Look whether the guest runs, then at the agent's own log. A guest that runs while its agent was stopped by somebody is to be examined.",
	},
	{
		Code:    "finding.attestation-unhealthy",
		Meaning: "The latest attestation of the machine did not succeed.",
		Causes:  []string{"one of the alerts about a failed attestation says why", "the machine runs with secure boot off"},
		Action:  "Follow the alert. For a machine that must run with secure boot off, suppress this finding with a reason and an end.",
	},
	{
		Code:    "finding.attestation-unverified",
		Meaning: "The evidence cannot be verified, or does not come from this machine's TPM.",
		Causes:  []string{"somebody answers in the machine's place", "the answer is an old one that was recorded", "the TPM was replaced or cleared", "the agent is of another version"},
		Action:  "Believe nothing of that answer. Compare the machine's TPM with the registered one, and find out who is on the path between.",
	},
	{
		Code:    "finding.baseline-unapproved",
		Meaning: "The machine has booted, and its first baseline waits for a person.",
		Causes:  []string{"the machine is new and its profile leaves the first baseline to a person"},
		Action:  "Review the components of the boot and approve them.",
	},
	{
		Code:    "finding.boot-deadline",
		Meaning: "The machine was started and did not hand over to its operating system in time, or its firmware found nothing to start.",
		Causes:  []string{"there is nothing to boot from", "it waits in a menu", "the host is overloaded"},
		Action:  "Look at the console of the machine; check its disk with assay image check.",
	},
	{
		Code:    "finding.boot-not-judged",
		Meaning: "The record of a boot is not whole, so that nothing can be said about it.",
		Causes:  []string{"the guest extended registers until the record was full", "the watch began in the middle of the boot"},
		Action:  "Restart the machine. If it happens again, find out what extends registers thousands of times.",
	},
	{
		Code:    "finding.boot-refused",
		Meaning: "Firmware, shim or GRUB refused a program that the machine was to start.",
		Causes:  []string{"it is not signed by a key of the machine", "it was altered", "its hash, signer or SBAT generation is revoked"},
		Action:  "Run assay image check on the disk of the stopped machine: it names the file and the reason. Restore the file from its package, or enrol its key if it is yours.",
	},
	{
		Code:    "finding.delivery-failed",
		Meaning: "Changes of findings were given up for a route, or wait without being taken.",
		Causes:  []string{"the receiver is away or refuses", "the route's secret or address is wrong", "no assay finding deliver runs"},
		Action:  "Try the route with assay finding test-alert; what was given up is in delivery/dead-letter.jsonl beside the findings.",
	},
	{
		Code:    "finding.early-boot-failed",
		Meaning: "What the firmware measured until the boot loader took over differs from the baseline.",
		Causes:  []string{"the boot loader was updated", "secure boot's keys or settings were changed", "another boot loader was started"},
		Action:  "Compare the named component with what you changed. Approve the new baseline only if you know why; otherwise stop the machine and examine its disk.",
	},
	{
		Code:    "finding.keyset-behind",
		Meaning: "The machine's firmware variables lack a key or a revocation that its key set has by now, or hold another platform key.",
		Causes:  []string{"the key set was rolled, or got a newer list of revocations, after the machine was made or updated last", "the guest changed its variables"},
		Action:  "See what an update would do (assay vm update NAME --dry-run), stop the machine and update it, or have the guest take the signed update; then approve its next boot, for PCR 7 changes.",
	},
	{
		Code:    "finding.late-boot-failed",
		Meaning: "What was measured from the boot loader until the operating system took over differs from the baseline.",
		Causes:  []string{"the kernel, the initrd or the command line was updated", "the boot loader's configuration was changed", "one of them was tampered with"},
		Action:  "Compare the named component with what you changed. Approve the new baseline only if you know why; otherwise stop the machine and examine its disk.",
	},
	{
		Code:    "finding.module-refused",
		Meaning: "The kernel of the guest did not load a module whose signature it does not accept; the machine booted all the same.",
		Causes:  []string{"a driver that was built locally or comes from a third party", "a module without a signature", "somebody tried to load an untrusted module"},
		Action:  "Find out which package brought the named module and who loads it. Sign it with an enrolled key if you trust it, or remove it.",
	},
	{
		Code:    "finding.module-untrusted",
		Meaning: "The kernel of the guest runs a module whose signature it does not accept.",
		Causes:  []string{"secure boot or the enforcement of signatures is off", "a module that was loaded by force"},
		Action:  "Find out which package brought the named module and who loads it. Turn secure boot on, so that the kernel refuses it.",
	},
	{
		Code:    "finding.record-full",
		Meaning: "After its boot the machine has extended registers so often that the record holds no more: whether one of the firmware is extended from now on is not seen. It ends with the next start.",
		Causes:  []string{"a program in the guest extends registers without end", "a guest that wants to hide what it extends"},
		Action:  "Find the program. The list of Linux IMA does not do that: its register has a part of the record to itself. Restart the machine to be told again.",
	},
	{
		Code:    "finding.register-changed",
		Meaning: "A register that belongs to the firmware was extended after the operating system took over.",
		Causes:  []string{"a program in the guest extends PCRs that are not its own", "somebody tries to make the log of another boot fit"},
		Action:  "Find the program, then acknowledge the finding. Evidence of that boot does not match its log.",
	},
	{
		Code:    "finding.secure-boot-off",
		Meaning: "The machine supports secure boot and has it off: any boot loader can run.",
		Causes:  []string{"it was created without", "somebody turned it off to examine the machine"},
		Action:  "Turn secure boot on. What the guest sealed to PCR 7 must be sealed again afterwards.",
	},
	{
		Code:    "finding.test",
		Meaning: "Somebody tries whether alerts arrive.",
		Causes:  []string{"assay finding test-alert"},
		Action:  "Nothing is to be done.",
	},
	{
		Code:    "finding.tpm-cleared",
		Meaning: "The virtual TPM of the machine was cleared: what was kept in it or sealed with it is gone.",
		Causes:  []string{"an operator or the guest reset the TPM", "somebody with rights in the guest destroyed its keys"},
		Action:  "Ask who did it. Give the guest its keys anew, or restore the TPM from a backup; then acknowledge the finding.",
	},
	{
		Code:    "finding.tpm-lost",
		Meaning: "The virtual TPM of the machine ended while the machine ran: its guest goes on without one, and nothing is watched.",
		Causes:  []string{"the process of the TPM was killed", "its state could not be kept: the disk is full or broken", "a fault of this program"},
		Action:  "Look at the log of the machine's supervisor, then restart the machine.",
	},
	{
		Code:    "finding.vtpm-off",
		Meaning: "The machine supports a virtual TPM and has none: nothing is measured, and no secret is bound to a good boot.",
		Causes:  []string{"it was created without"},
		Action:  "Turn the vTPM on; the machine has it from its next start.",
	},
}
