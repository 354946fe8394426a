package evidence

// convertCodes are those of conversions of machines of other platforms (package
// internal/vmconvert).
var convertCodes = []CodeInfo{
	{
		Code:    "convert.firmware-layout",
		Meaning: "The guest's firmware variables are of another build of OVMF than this host has.",
		Causes:  []string{"the guest ran under OVMF of 2 MB, and this host has that of 4 MB, or the reverse"},
		Action:  "Name the other build by --firmware, --firmware-secure and --firmware-variables, or convert without --vars.",
	},
	{
		Code:    "convert.no-efi-partition",
		Meaning: "The disk that is to boot has no GUID partition table with an EFI system partition.",
		Causes:  []string{"the guest was installed for BIOS (generation 1)", "the disk is not the one that the guest boots from, or its format is another than was said"},
		Action:  "Convert the installed system to UEFI first, where it runs; or name the right disk and format.",
	},
	{
		Code:    "convert.no-platform-key",
		Meaning: "Secure boot was asked for, and the guest's firmware variables have no platform key, without which firmware enforces nothing.",
		Causes:  []string{"the guest ran without secure boot"},
		Action:  "Choose the keys by --keyset, or --no-secure-boot.",
	},
	{
		Code:    "convert.no-tpm",
		Meaning: "The state of a TPM was given for a machine that is to have no TPM.",
		Causes:  []string{"--no-vtpm or a profile without a TPM, together with --tpm-state"},
		Action:  "Leave one of the two out.",
	},
	{
		Code:    "convert.shared-disk",
		Meaning: "A disk is shared with other machines, and the machine would be made of a copy.",
		Causes:  []string{"the disk was given with the word shared"},
		Action:  "Convert without it, and add it by assay vm update --disk.",
	},
	{
		Code:    "convert.tpm-in-use",
		Meaning: "swtpm holds the state of the guest's TPM.",
		Causes:  []string{"the guest runs"},
		Action:  "Shut the guest down where it runs, and try again.",
	},
	{
		Code:    "convert.tpm-key",
		Meaning: "The state of the guest's TPM is encrypted, and does not open.",
		Causes:  []string{"its key was not named", "the key is another one", "the file was altered"},
		Action:  "Name swtpm's key by --swtpm-key or --swtpm-passphrase-file: that of its option --key.",
	},
	{
		Code:    "convert.tpm-loss",
		Meaning: "Something of the guest's TPM cannot be taken over.",
		Causes:  []string{"the guest was suspended and not shut down", "the TPM has something that TPMs here do not"},
		Action:  "Resume the guest and shut it down; or go on without what is named by --yes.",
	},
	{
		Code:    "convert.tpm-version",
		Meaning: "The state of the guest's TPM is of a version that only a newer program reads.",
		Causes:  []string{"a swtpm or libtpms that is newer than what is read here wrote it"},
		Action:  "Update this program.",
	},
	{
		Code:    "machine.converted",
		Meaning: "The machine was made of copies of another machine's disks, variables and TPM.",
		Causes:  []string{"somebody converted it; the event names who, and of what"},
		Action:  "See that the original does not run at the same time: both may have the same identity and the same secrets.",
	},
}
