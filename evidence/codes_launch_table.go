package evidence

// launchCodes are why a boot chain is not started, and why something about it cannot be
// known from the disk and the variables alone (uefi/launch).
var launchCodes = []CodeInfo{
	{
		Code:    "launch.by-firmware",
		Meaning: "The register is written by the firmware, by the machine's shape and by its devices; the disk says nothing of it.",
		Causes:  []string{"this is so for every machine: PCR 0 to 3 and 6"},
		Action:  "Learn these registers from a boot.",
	},
	{
		Code:    "launch.by-system",
		Meaning: "The register is written by the operating system after it took over.",
		Causes:  []string{"this is so for every machine: PCR 10 and 15"},
		Action:  "Do not judge boots by these registers, or learn them from a boot.",
	},
	{
		Code:    "launch.disk-unreadable",
		Meaning: "A file, a folder or the partition table is not as it should be, and what firmware makes of that is not known.",
		Causes:  []string{"the file system is damaged", "two entries of a folder have the same name", "the first copy of the partition table is damaged"},
		Action:  "Check the file system with fsck.vfat and the table with sgdisk --verify, while the machine is off.",
	},
	{
		Code:    "launch.extra-files",
		Meaning: "Files beside the loader change what it does: keys, revocations, credentials or extensions.",
		Causes:  []string{"shim_certificate*.efi or revocations*.efi lie beside shim", "the folder *.extra.d of the image or loader/credentials has files"},
		Action:  "Learn the register from a boot, or remove files that should not be there.",
	},
	{
		Code:    "launch.file-missing",
		Meaning: "A file that the boot chain names is not there.",
		Causes:  []string{"an update was interrupted", "a kernel was removed and the boot menu was not written again", "the path in the configuration is mistyped"},
		Action:  "Install the boot loader or the kernel again, or correct its configuration.",
	},
	{
		Code:    "launch.firmware-state",
		Meaning: "A variable of the machine has the boot go another way than is followed here.",
		Causes:  []string{"firmware was interrupted while it wrote", "keys of shim's are to be enrolled, or its verification is off (MokNew, MokSBState)", "SbatPolicy is set", "a boot option gives its program arguments"},
		Action:  "Boot the machine once, and check again; reset what should not be set with mokutil.",
	},
	{
		Code:    "launch.grub-prompt",
		Meaning: "GRUB's configuration comes to its end and has booted nothing: it waits for input.",
		Causes:  []string{"the configuration is empty or cut short", "the command boot is missing after linux and initrd"},
		Action:  "Write the configuration again; end it with boot where it has no menu.",
	},
	{
		Code:    "launch.grub-script",
		Meaning: "GRUB's configuration has something that is not followed here, so that what it boots and measures is not known.",
		Causes:  []string{"it has a menu: what is booted depends on input and on stored variables", "it looks for files on other partitions or file systems", "it uses a command or a form of the language that is not followed"},
		Action:  "Learn the registers from a boot, or use a configuration of linux, initrd and boot alone.",
	},
	{
		Code:    "launch.loader-unknown",
		Meaning: "The chain comes to a program whose choices are not known: what it starts and measures cannot be said.",
		Causes:  []string{"systemd-boot chooses by a menu", "shim's fallback program (fbx64.efi) sets boot options and restarts the machine", "it is another program", "the image has parts of an unusual form"},
		Action:  "Learn the registers from a boot; after a fallback has run once, check again with the machine's variables.",
	},
	{
		Code:    "launch.no-loader",
		Meaning: "There is no program on the disk that firmware would start.",
		Causes:  []string{"the disk has no EFI system partition, or \\EFI\\BOOT\\BOOTX64.EFI is not on it", "the disk was installed for BIOS", "a boot option names a file that was removed"},
		Action:  "Install a boot loader for UEFI; for a disk that moves between machines, to \\EFI\\BOOT\\BOOTX64.EFI.",
	},
	{
		Code:    "launch.not-a-program",
		Meaning: "The file is a PE image, but no UEFI application for x86-64.",
		Causes:  []string{"it is for another architecture", "it is a driver or a program of Windows"},
		Action:  "Install the boot loader for x86-64.",
	},
	{
		Code:    "launch.not-reached",
		Meaning: "The register is not predicted, because the chain is not known up to the operating system.",
		Causes:  []string{"a program of the chain is refused", "the chain goes on in a way that cannot be known"},
		Action:  "See the reasons of the verdict.",
	},
	{
		Code:    "launch.sbat-missing",
		Meaning: "The program has no SBAT section that shim can read; under Secure Boot shim starts none without.",
		Causes:  []string{"the program is from before 2021", "it was built without .sbat", "the section is malformed"},
		Action:  "Install a newer version of the program.",
	},
	{
		Code:    "launch.sbat-revoked",
		Meaning: "A component of the program is of a generation that the SBAT level revokes.",
		Causes:  []string{"the program is older than a revocation that shim brought along", "the machine booted a newer shim before, which raised the level"},
		Action:  "Install a newer version of the program; do not lower the level.",
	},
	{
		Code:    "launch.too-much-to-read",
		Meaning: "The files that the boot chain names are larger together than is read to answer, so that what it boots and measures is not known.",
		Causes:  []string{"a disk that was made to keep the host busy", "an initrd of gigabytes"},
		Action:  "Look at the boot loader's configuration; learn the registers from a boot when the files are meant.",
	},
	{
		Code:    "launch.version-unknown",
		Meaning: "What this version of a program measures was never compared with a TPM's record, so it is not predicted.",
		Causes:  []string{"the stub, GRUB or the kernel is of another version than those that were compared", "the image was signed twice"},
		Action:  "Learn the register from a boot.",
	},
}
