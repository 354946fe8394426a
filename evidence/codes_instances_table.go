package evidence

// instancesCodes are those of the HTTP interface of machines.
var instancesCodes = []CodeInfo{
	{
		Code:    "instance.backup-refused",
		Meaning: "The backup is not written, or no machine is made of it.",
		Causes: []string{
			"a disk of the machine is shared, or in use", "the machine itself is here, or its TPM has told of a newer state", "the file is damaged, cut, or for other keys",
			"the service has no folder for backups",
		},
		Action: "Mend what the answer names; newIdentity makes another machine, allowRollback goes back knowingly.",
	},
	{
		Code:    "instance.busy",
		Meaning: "The machine is in use: it runs, or something else is changing it.",
		Causes:  []string{"a change needs the machine to be off", "another operation is under way"},
		Action:  "Stop the machine, or wait for the operation that the answer names, and ask again.",
	},
	{
		Code:    "instance.confirm",
		Meaning: "The change destroys secrets for good, and nobody confirmed it.",
		Causes:  []string{"the vTPM would be removed with all that the guest keeps in it"},
		Action:  "Take a backup, look at the effects with validateOnly=true, and send confirm=true.",
	},
	{
		Code:    "instance.damaged",
		Meaning: "What is stored of the machine is damaged.",
		Causes:  []string{"its home was altered, exchanged or not written whole"},
		Action:  "See on the host what assay vm describe says; restore the machine from a backup.",
	},
	{
		Code:    "instance.disk-not-allowed",
		Meaning: "The definition names something of the host that this caller may not give a machine.",
		Causes:  []string{"the file lies in none of the folders that the service was given for disks of machines", "a caller with a role on some machines only names another's folder, or a device of the host's network"},
		Action:  "Put the disk into the machine's folder below one of --machine-disks, or ask an administrator who has the role everywhere.",
	},
	{
		Code:    "instance.image-refused",
		Meaning: "The image is not taken, or not removed.",
		Causes:  []string{"it does not boot under the key set that it was checked against", "machines were made from it"},
		Action:  "Sign what the answer names, or choose the key set that fits; force does it all the same.",
	},
	{
		Code:    "instance.no-answer",
		Meaning: "The supervisor of the machine does not answer, or not in words that can be read.",
		Causes:  []string{"the supervisor hangs, or its host is overloaded", "it is of a program that this service does not understand"},
		Action:  "See on the host what the process assay vm run of the machine does, and its supervisor.log; what was asked of the machine may have been done.",
	},
	{
		Code:    "instance.not-running",
		Meaning: "The machine does not run.",
		Causes:  []string{"it was stopped, or it ended by itself"},
		Action:  "Start it; its events say how it ended.",
	},
	{
		Code:    "instance.outcome-unknown",
		Meaning: "Whether the operation took place is not known.",
		Causes:  []string{"the service ended, by a crash or a loss of power, before the operation did", "the operation was broken off at its deadline, or as the service ended", "its record is damaged"},
		Action:  "Look at the machine and its events; ask again for what was not done.",
	},
	{
		Code:    "instance.start-failed",
		Meaning: "The machine did not start.",
		Causes:  []string{"its supervisor or its hypervisor ended at once; the answer has its words"},
		Action:  "Mend what the words name; supervisor.log in the machine's run folder has more.",
	},
	{
		Code:    "instance.unsupported",
		Meaning: "The machine is not one that this host supports.",
		Causes:  []string{"the support matrix has no such combination, or a disk, a variable store or a key does not fit"},
		Action:  "Change what the errors of the answer name; assay support-matrix lists what is supported.",
	},
}
