package evidence

// integrityCodes are what the host's own watch over a boot finds
// (internal/integrity).
var integrityCodes = []CodeInfo{
	{
		Code:    "integrity.as-planned",
		Meaning: "The boot differs from its baseline and shows, so far, exactly what somebody approved before it took place; a whole boot that does becomes the baseline.",
		Causes:  []string{"a planned update: assay vm baseline approve-next"},
		Action:  "Nothing, if the update was meant; the event says who approved it.",
	},
	{
		Code:    "integrity.attempt-failed",
		Meaning: "A program that the firmware had started returned to it, and the firmware went on to the next boot option.",
		Causes:  []string{"the boot loader found nothing to start", "somebody left the boot menu", "the boot option is an old one"},
		Action:  "Look at the serial log of that moment; remove boot options that are not wanted.",
	},
	{
		Code:    "integrity.attempt-refused",
		Meaning: "The firmware gave a boot option up before any program of it was measured: it could not be loaded, or secure boot refused it.",
		Causes:  []string{"the image is not signed by a key in db, was altered, or is revoked by dbx", "the disk or the file is not there"},
		Action:  "Run assay vm check on the stopped machine: it names the file and says why. The serial log has the firmware's own words.",
	},
	{
		Code:    "integrity.baseline-learned",
		Meaning: "The machine had no baseline of this shape, and its first whole boot became it; that boot was compared with nothing.",
		Causes:  []string{"the machine is new", "its memory or processors were changed"},
		Action:  "Review the components of that boot once, if it was not made from an image that you trust.",
	},
	{
		Code:    "integrity.baseline-unapproved",
		Meaning: "The machine has no baseline, and its profile leaves the first one to a person; until then no boot passes.",
		Causes:  []string{"the machine is new"},
		Action:  "Review the components of the boot and approve them as the baseline.",
	},
	{
		Code:    "integrity.boot-deadline",
		Meaning: "The machine was started and did not hand over to its operating system within its deadline.",
		Causes:  []string{"secure boot refused an image", "there is nothing to boot from", "the machine waits in a menu", "the host is overloaded"},
		Action:  "Read the other reasons of the event and the serial log; run assay vm check on the stopped machine.",
	},
	{
		Code:    "integrity.early-boot-mismatch",
		Meaning: "What the firmware measured until it handed over to the boot loader differs from the baseline.",
		Causes:  []string{"the boot loader was updated", "secure boot's keys or settings were changed", "another boot loader was started"},
		Action:  "Compare the named component with what you changed. Approve the new baseline only if you know why; otherwise stop the machine and examine its disk.",
	},
	{
		Code:    "integrity.firmware-register-changed",
		Meaning: "A register that belongs to the firmware was extended after the operating system took over.",
		Causes:  []string{"a program in the guest extends PCRs that are not its own", "somebody tries to make the log of another boot fit"},
		Action:  "Find the program. Evidence of this boot that the guest gives from now on does not match its log.",
	},
	{
		Code:    "integrity.late-boot-mismatch",
		Meaning: "What was measured from the boot loader until the operating system took over differs from the baseline.",
		Causes:  []string{"the kernel, the initrd or the command line was updated", "the boot loader's configuration was changed", "one of them was tampered with"},
		Action:  "Compare the named component with what you changed. Approve the new baseline only if you know why; otherwise stop the machine and examine its disk.",
	},
	{
		Code:    "integrity.more-differences",
		Meaning: "The boot differs from its baseline in more than the event lists.",
		Causes:  []string{"another operating system, or a boot that measures much more than the one before"},
		Action:  "Run assay vm why: it shows all of them.",
	},
	{
		Code:    "integrity.record-full",
		Meaning: "After the operating system took over, so much was measured that the record holds no more: whether a register of the firmware is extended from now on is not seen.",
		Causes:  []string{"a program in the guest extends registers without end; Linux IMA is none, its register cannot fill the record", "a guest that wants to hide what it extends"},
		Action:  "Find out which program extends registers, and restart the machine.",
	},
	{
		Code:    "integrity.record-incomplete",
		Meaning: "The record of the boot is not whole, so that nothing can be said about it.",
		Causes:  []string{"the guest extended registers until the record was full", "the watch began in the middle of the boot"},
		Action:  "Restart the machine. If it happens again, find out what extends registers thousands of times.",
	},
}
