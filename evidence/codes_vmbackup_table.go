package evidence

// vmbackupCodes are those of backups of machines (package internal/vmbackup).
var vmbackupCodes = []CodeInfo{
	{
		Code:    "machine.backed-up",
		Meaning: "A backup of the whole machine was written, and opened again.",
		Causes:  []string{"somebody who may read all of the machine did so; the event names who"},
		Action:  "Nothing, if it was meant. Otherwise find out where the file went: it has the machine's secrets, encrypted.",
	},
	{
		Code:    "machine.copied",
		Meaning: "The machine was made of a backup of another one, with an id and a TPM of its own.",
		Causes:  []string{"somebody restored a backup with a new identity; the event names who"},
		Action:  "Enrol its attestation key, and seal disk keys and secrets anew: its TPM is empty.",
	},
	{
		Code:    "machine.from-image",
		Meaning: "The machine was made from an image of the gallery; its disk had the image's digest then.",
		Causes:  []string{"somebody made a machine with --image; the event names who, and the image"},
		Action:  "Nothing.",
	},
	{
		Code:    "machine.imported",
		Meaning: "The machine was made of copies of one of another platform.",
		Causes:  []string{"somebody imported it; the event names who, and what from"},
		Action:  "See that the original does not run at the same time, and that its TPM, which is another, is not missed.",
	},
	{
		Code:    "machine.restored",
		Meaning: "The machine was made of a backup: what happened after the backup is not in it.",
		Causes:  []string{"somebody restored the machine; the event names who, and the backup"},
		Action:  "See that the original does not run elsewhere: both have the same secrets.",
	},
	{
		Code:    "machine.restored-older",
		Meaning: "The machine went back to a backup that is older than what its TPM had told since.",
		Causes:  []string{"somebody restored an old backup and allowed it; the event names who"},
		Action:  "Look whether it was meant: counters, revocations and sealed secrets of the time in between are lost, and boots have counters that were given before.",
	},
}
