package evidence

// vtpmCodes are the requirements of a virtual TPM and what is odd about those of
// a root (internal/vtpm).
var vtpmCodes = []CodeInfo{
	{
		Code:    "vtpm.encrypted-home",
		Meaning: "The home files of the virtual machine are not encrypted, or nobody said that they are; a machine with a TPM needs that.",
		Causes:  []string{"the machine was made without encryption", "its configuration does not say"},
		Action:  "Encrypt the machine's home files, and say so in its configuration.",
	},
	{
		Code:    "vtpm.firmware",
		Meaning: "The virtual machine does not start with EFI firmware, or nobody said that it does; other firmware cannot measure a boot.",
		Causes:  []string{"the machine has BIOS firmware", "its configuration does not say"},
		Action:  "Change the machine to EFI firmware; an installed system may need to be converted first.",
	},
	{
		Code:    "vtpm.guest-os",
		Meaning: "The operating system of the virtual machine cannot use a TPM 2.0, or is not named.",
		Causes:  []string{"it is older than Windows 7 or Windows Server 2008", "its configuration does not say"},
		Action:  "Name the operating system, or install one that can use a TPM 2.0.",
	},
	{
		Code:    "vtpm.hardware-version",
		Meaning: "The virtual hardware is older than the first that had a TPM, or its version is not said.",
		Causes:  []string{"the machine was made long ago", "its configuration does not say"},
		Action:  "Upgrade the machine's virtual hardware to version 14 or later.",
	},
	{
		Code:    "vtpm.key-change-unfinished",
		Meaning: "A change of the key provider of this TPM's state was cut short; the state opens with one of the two.",
		Causes:  []string{"the program or the machine stopped in between", "the new key provider did not answer"},
		Action:  "Run assay vtpm rotate-key again with the provider that is wanted.",
	},
	{
		Code:    "vtpm.key-provider",
		Meaning: "There is no key provider for the TPM's state, which is always encrypted.",
		Causes:  []string{"none was configured"},
		Action:  "Make one with assay key-provider add, or name one with --key-provider.",
	},
	{
		Code:    "vtpm.management-version",
		Meaning: "The program that manages the virtual machine is too old to give it a TPM, or is not known here.",
		Causes:  []string{"it was not upgraded", "its name is spelled otherwise"},
		Action:  "Upgrade it: libvirt to 9.0.0; vSphere to 6.7 for Windows, 7.0.2 for Linux.",
	},
	{
		Code:    "vtpm.rollback-unknown",
		Meaning: "No ledger knew this TPM when its state was opened: an old copy of the state would have looked the same.",
		Causes:  []string{"the folder of TPMs was copied from elsewhere without its ledger", "the ledger was lost"},
		Action:  "Make sure that the state is the newest; from now on the ledger knows it.",
	},
	{
		Code:    "vtpm.same-id",
		Meaning: "Two TPMs have one id: a folder was copied by hand.",
		Causes:  []string{"a TPM was copied with the tools of the operating system in place of assay vtpm clone"},
		Action:  "Remove the copy, and make a clone.",
	},
	{
		Code:    "vtpm.same-machine",
		Meaning: "Two TPMs say that they belong to one virtual machine.",
		Causes:  []string{"a folder was copied by hand"},
		Action:  "Detach the one that the machine does not use.",
	},
	{
		Code:    "vtpm.shared-secrets",
		Meaning: "Two TPMs have the same seeds: either can take the other's place, and read what is sealed to it.",
		Causes:  []string{"one is a clone of the other by --mode copy", "one was restored from a backup of the other as a copy"},
		Action:  "Clear the one whose identity is not needed; until then treat both machines as one.",
	},
	{
		Code:    "vtpm.state-notice",
		Meaning: "Something was found in the file of a TPM's state that takes nothing from its newest generation.",
		Causes:  []string{"a write was cut short by a crash", "an older generation was damaged"},
		Action:  "Read the message; make a backup, and look at the disk if it comes again.",
	},
	{
		Code:    "vtpm.unreadable",
		Meaning: "The folder of a TPM lacks its card or its state, or they cannot be read.",
		Causes:  []string{"files were moved or damaged", "the folder is on a disk that is not mounted"},
		Action:  "Put the files back, or restore the TPM from a backup.",
	},
}
