package evidence

// uefiCodes are what is wrong with variable stores, signed images, updates of
// signature databases and key sets (uefi/...).
var uefiCodes = []CodeInfo{
	{
		Code:    "varstore.duplicate",
		Meaning: "The store has a variable twice; which of the two firmware reads cannot be said.",
		Causes:  []string{"the file was edited by another program", "the file is damaged"},
		Action:  "Restore the variable store from a backup, or begin with a new one.",
	},
	{
		Code:    "varstore.layout",
		Meaning: "The file is no variable store of a layout that is known here: the raw files of OVMF's builds of 2 MB and 4 MB.",
		Causes:  []string{"it is a qcow2 image", "it is firmware code, or code and variables in one file", "it is of another firmware or another machine architecture"},
		Action:  "Name the machine's OVMF_VARS file; convert a qcow2 image to raw first.",
	},
	{
		Code:    "varstore.malformed",
		Meaning: "The variable store contradicts itself.",
		Causes:  []string{"the file is damaged", "somebody edited it"},
		Action:  "Restore the variable store from a backup, or begin with a new one.",
	},
	{
		Code:    "varstore.not-authenticated",
		Meaning: "The variable store is of a firmware that was built without authenticated variables, and so without Secure Boot.",
		Causes:  []string{"the template belongs to another build of the firmware"},
		Action:  "Use a firmware with Secure Boot, such as OVMF_CODE_4M.secboot.fd, and its template.",
	},
	{
		Code:    "varstore.pending-write",
		Meaning: "Firmware was interrupted while it wrote to the store, and finishes that when the machine starts next; until then the store is not changed here.",
		Causes:  []string{"the machine was killed while it wrote a variable", "the machine is running"},
		Action:  "Start the machine once and shut it down; then try again.",
	},
	{
		Code:    "varstore.too-large",
		Meaning: "The firmware has no room for this variable.",
		Causes:  []string{"the full list of revocations does not fit the 2 MB build of OVMF", "there are many variables in the store"},
		Action:  "Use the 4 MB build of the firmware, or a shorter list.",
	},
	{
		Code:    "varstore.torn",
		Meaning: "A write of a variable was cut short; firmware goes on with the variable as it was before, or as it was written, and so does this program.",
		Causes:  []string{"the machine was killed while it wrote a variable"},
		Action:  "Nothing: firmware cleans up when the machine starts next.",
	},
}
