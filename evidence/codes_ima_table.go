package evidence

// imaCodes are those of the IMA measurement list (package eventlog/ima).
var imaCodes = []CodeInfo{
	{
		Code:    "ima.malformed",
		Meaning: "The IMA list is no well-formed list of measurements.",
		Causes:  []string{"the list was cut while it was copied", "the file is something else"},
		Action:  "Read the kernel's measurement list again, whole, and attest again.",
	},
	{
		Code:    "ima.replay-mismatch",
		Meaning: "No beginning of the IMA list replays to the quoted PCR 10.",
		Causes:  []string{"the list was read before the quote was made", "entries were removed or changed", "the list is that of another boot or machine"},
		Action:  "Quote first and read the list afterwards; if it still fails, treat the machine as tampered with.",
	},
	{
		Code:    "ima.data-mismatch",
		Meaning: "An entry of the IMA list shows fields that do not hash to the digest that was extended.",
		Causes:  []string{"the names or digests in the list were edited"},
		Action:  "Treat the machine as tampered with.",
	},
	{
		Code:    "ima.boot-aggregate-mismatch",
		Meaning: "The first IMA entry is the digest neither of the quoted PCR 0 to 7 nor of the quoted PCR 0 to 9.",
		Causes:  []string{"a PCR below 10 was extended after the kernel started", "the list belongs to another boot, and PCR 10 was extended to fit it"},
		Action:  "Find out what extended PCR 0 to 9 after boot; if nothing should have, treat the machine as tampered with.",
	},
	{
		Code:    "ima.boot-aggregate-absent",
		Meaning: "The IMA list does not begin with the digest of the boot PCRs, or it is zero. By itself no refusal: it stands in notChecked.",
		Causes:  []string{"IMA started before the TPM driver", "the list's beginning was removed"},
		Action:  "Build the TPM driver into the kernel, so that it is there before IMA starts.",
	},
	{
		Code:    "ima.boot-aggregate-unchecked",
		Meaning: "The first IMA entry is over PCRs or a bank that were not quoted. By itself no refusal: it stands in notChecked.",
		Causes:  []string{"the kernel uses another hash for IMA than the quoted bank", "the quote leaves out some of PCR 0 to 9"},
		Action:  "Quote PCR 0 to 9 of the bank that IMA uses.",
	},
}
