package evidence

// machineCodes are those of virtual machines of this host (package internal/machine).
var machineCodes = []CodeInfo{
	{
		Code:    "machine.configuration-changed",
		Meaning: "An option of the machine was changed.",
		Causes:  []string{"somebody who may change machines did so; the event names who"},
		Action:  "Nothing, if it was meant. Otherwise change it back and find out who has that right.",
	},
	{
		Code:    "machine.tpm-cleared",
		Meaning: "The machine's TPM was made anew: what it protected is gone, and its identity is another.",
		Causes:  []string{"somebody who may change machines cleared it; the event names who"},
		Action:  "Enrol the machine's attestation key again, and seal disk keys and secrets anew.",
	},
	{
		Code:    "machine.tpm-lost",
		Meaning: "The machine's TPM ended while the machine ran; its guest goes on without one.",
		Causes:  []string{"a fault of this program", "state that could not be kept, as on a full or broken disk"},
		Action:  "Look at the log of the supervisor, and restart the machine.",
	},
}
