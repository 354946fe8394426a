package evidence

// machineCodes are those of virtual machines of this host (package internal/machine).
var machineCodes = []CodeInfo{
	{
		Code:    "machine.arrived",
		Meaning: "The machine came from another host while it ran, and goes on here in the same boot.",
		Causes:  []string{"somebody who may change machines there gave it to this host, which awaited it"},
		Action:  "Nothing, if it was meant.",
	},
	{
		Code:    "machine.monitoring-off",
		Meaning: "Integrity monitoring of the machine was turned off: its boots are no longer judged, and findings about them have ended without anybody looking.",
		Causes:  []string{"somebody who may change machines turned it off; the event names who"},
		Action:  "Turn it on again where the machine's boot matters, and look at what the findings said.",
	},
	{
		Code:    "machine.configuration-changed",
		Meaning: "An option of the machine was changed.",
		Causes:  []string{"somebody who may change machines did so; the event names who"},
		Action:  "Nothing, if it was meant. Otherwise change it back and find out who has that right.",
	},
	{
		Code:    "machine.secure-boot-off",
		Meaning: "The agent's evidence is genuine and shows that secure boot is off, which the machine's definition says, too. Attestation needs secure boot.",
		Causes:  []string{"the machine was made without, or somebody turned it off; its events name who"},
		Action:  "Turn secure boot on. For a machine that must run without, suppress finding.attestation-unhealthy and finding.secure-boot-off with a reason and an end.",
	},
	{
		Code:    "machine.end-not-seen",
		Meaning: "Nobody saw the end of the machine's last run; its disks are as after a loss of power.",
		Causes:  []string{"the host lost its power or crashed", "the supervisor of the machine was killed"},
		Action:  "Look at the host's log of that time.",
	},
	{
		Code:    "machine.hypervisor-failed",
		Meaning: "The hypervisor of the machine ended by itself, with an error.",
		Causes:  []string{"a fault of QEMU", "the host ran out of memory", "somebody killed it"},
		Action:  "Look at the host's log of that time, and start the machine again.",
	},
	{
		Code:    "machine.left",
		Meaning: "The machine was given to another host and runs there; nothing of it is left here.",
		Causes:  []string{"somebody who may change machines did so; the event names who"},
		Action:  "Nothing, if it was meant.",
	},
	{
		Code:    "machine.migration-failed",
		Meaning: "The machine was to go to another host, and is still here.",
		Causes:  []string{"the other host refused it: the words say why", "the connection was lost", "an operator took it back"},
		Action:  "Mend what the words name, and try again with a new ticket.",
	},
	{
		Code:    "machine.snapshot-deleted",
		Meaning: "A snapshot of the machine was deleted; what it held is gone.",
		Causes:  []string{"somebody who may change machines did so; the event names who"},
		Action:  "Nothing, if it was meant.",
	},
	{
		Code:    "machine.snapshot-made",
		Meaning: "A snapshot of the machine was made: its disks, variables and TPM, and its memory when it ran.",
		Causes:  []string{"somebody who may change machines did so; the event names who"},
		Action:  "Nothing, if it was meant. Whoever can restore it can set the machine back to that moment.",
	},
	{
		Code:    "machine.snapshot-restored",
		Meaning: "The machine was set back to a snapshot: what it did since is undone.",
		Causes:  []string{"somebody who may change machines did so; the event names who"},
		Action:  "Nothing, if it was meant. Otherwise treat what the guest believes about time, keys and updates since the snapshot as undone.",
	},
	{
		Code:    "machine.stopped",
		Meaning: "The machine was ended from outside the guest.",
		Causes:  []string{"somebody stopped it; the event names who", "its boot failed, and it is to be stopped then", "the host went down"},
		Action:  "Nothing, if it was meant.",
	},
	{
		Code:    "machine.tpm-cleared",
		Meaning: "The machine's TPM was made anew: what it protected is gone, and its identity is another.",
		Causes:  []string{"somebody who may change machines cleared it; the event names who"},
		Action:  "Enrol the machine's attestation key again, and seal disk keys and secrets anew.",
	},
	{
		Code:    "machine.tpm-removed",
		Meaning: "The vTPM of the machine was removed: nobody sees any more what the machine boots, and findings that only a vTPM tells of have ended.",
		Causes:  []string{"somebody who may change machines turned the vTPM off; the event names who"},
		Action:  "Turn it on again where the machine's boot matters; it gets a new vTPM, without the secrets of the one before.",
	},
	{
		Code:    "machine.tpm-rolled-back",
		Meaning: "The machine's TPM is in an earlier state than one that this host knew: its counters and what it stored since are undone.",
		Causes:  []string{"the machine was set back to a snapshot; the event names who did it", "it came from another host, where it was made of an older copy", "a move that an earlier wait for the machine took up, and that failed", "it stored much while it left this host, and its next one counted less since"},
		Action:  "Where something relies on a counter of this TPM never going back, enrol it again.",
	},
	{
		Code:    "machine.tpm-lost",
		Meaning: "The machine's TPM ended while the machine ran; its guest goes on without one.",
		Causes:  []string{"a fault of this program", "state that could not be kept, as on a full or broken disk"},
		Action:  "Look at the log of the supervisor, and restart the machine.",
	},
}
