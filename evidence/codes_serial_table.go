package evidence

// serialCodes are what the console of a machine says about its boot
// (internal/serial). A console proves nothing: these are words for what the
// journal of the machine's TPM shows.
var serialCodes = []CodeInfo{
	{
		Code:    "serial.grub-policy",
		Meaning: "GRUB says that secure boot does not let it do what its configuration asks.",
		Causes:  []string{"a module or command that is not allowed under secure boot", "GRUB was started without shim"},
		Action:  "Use the distribution's signed GRUB and its own configuration, started by shim.",
	},
	{
		Code:    "serial.grub-refused",
		Meaning: "GRUB says that the signature of a kernel or another file is not valid.",
		Causes:  []string{"the kernel was altered or is not signed", "its key is not known to shim"},
		Action:  "Install the kernel again from its package; enrol the key if it is your own.",
	},
	{
		Code:    "serial.kernel-panic",
		Meaning: "The kernel says that it cannot go on.",
		Causes:  []string{"the root file system is not found", "a driver is missing in the initrd"},
		Action:  "Read the lines before it on the console.",
	},
	{
		Code:    "serial.kernel-revoked-key",
		Meaning: "The kernel says that a hash or a certificate is on the list of revoked ones.",
		Causes:  []string{"a module or key that dbx or the distribution revoked"},
		Action:  "Update what was signed with it.",
	},
	{
		Code:    "serial.lockdown-denied",
		Meaning: "The kernel says that lockdown kept a program from something that could change the kernel.",
		Causes:  []string{"a tool that writes memory or ports", "an unsigned module", "an attempt to get around secure boot"},
		Action:  "Find the program that the line names, and whether it should run there.",
	},
	{
		Code:    "serial.module-refused",
		Meaning: "The kernel says that it refused a module whose signature it does not accept.",
		Causes:  []string{"a driver that was built locally or comes from a third party", "an untrusted module"},
		Action:  "Find out which module it was and who tried to load it; sign it with a key of yours that is enrolled, or remove it.",
	},
	{
		Code:    "serial.module-unsigned",
		Meaning: "The kernel says that it loaded a module without a valid signature.",
		Causes:  []string{"secure boot or signature enforcement is off"},
		Action:  "Turn secure boot on, or sign the module.",
	},
	{
		Code:    "serial.no-boot-option",
		Meaning: "The firmware says that it found nothing to boot and waits in its menu.",
		Causes:  []string{"all boot options were refused or not found"},
		Action:  "See the reasons before it; run assay vm check on the stopped machine.",
	},
	{
		Code:    "serial.not-loaded",
		Meaning: "The firmware says that it could not load a boot option, for a reason other than secure boot.",
		Causes:  []string{"the disk or the file is not there", "the network did not answer", "the file is no program for this machine"},
		Action:  "Check the disks and the boot order.",
	},
	{
		Code:    "serial.secure-boot-refused",
		Meaning: "The firmware says that secure boot refused an image.",
		Causes:  []string{"it is not signed, or by no key in db", "it was altered", "its hash or its signer is in dbx"},
		Action:  "Run assay vm check on the stopped machine: it names the file and the reason. Turn secure boot off only to examine it.",
	},
	{
		Code:    "serial.shell-refused",
		Meaning: "The firmware says that secure boot kept its own shell from starting, which it tries when nothing else has booted.",
		Causes:  []string{"the boot options before it were refused, see the reasons beside this one", "there was nothing else to start: no disk, an empty one, or no boot loader where firmware looks for it"},
		Action:  "Check the disks of the machine and their order; run assay vm check on the stopped machine.",
	},
	{
		Code:    "serial.shim-refused",
		Meaning: "Shim says that it refused the program that it was to start.",
		Causes:  []string{"the boot loader is not signed by a key that shim knows", "it was altered", "its SBAT generation is revoked"},
		Action:  "Install the boot loader again from its package, or enrol its key.",
	},
	{
		Code:    "serial.shim-revoked",
		Meaning: "Shim says that it is itself too old for the revocations in force.",
		Causes:  []string{"an old image on a machine that has had newer ones"},
		Action:  "Update shim in the image.",
	},
	{
		Code:    "serial.shim-state",
		Meaning: "Shim says that its own keys or settings are not as they should be.",
		Causes:  []string{"validation was switched off in the guest (mokutil)", "its variables are damaged"},
		Action:  "Look at the machine owner keys; switch validation on again.",
	},
}
