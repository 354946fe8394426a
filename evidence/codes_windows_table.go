package evidence

// windowsCodes are those of the Windows boot events (package eventlog/sipa).
var windowsCodes = []CodeInfo{
	{
		Code:    "windows.not-measured",
		Meaning: "No Windows boot event that counts states this fact.",
		Causes:  []string{"this version or configuration of Windows does not measure it", "the machine did not boot Windows"},
		Action:  "Treat the fact as unknown; if the policy needs it, turn the feature on or update Windows.",
	},
	{
		Code:    "windows.resumed",
		Meaning: "The machine woke from hibernation, and the resume application does not measure this fact.",
		Causes:  []string{"the event log is that of the resume, not of the cold boot before it"},
		Action:  "Supply the logs of the cold boot and of all resumes since, or restart the machine.",
	},
	{
		Code:    "windows.registers-disagree",
		Meaning: "The Windows boot events contradict each other on this fact: every boot application, and both registers of a pair, must say the same.",
		Causes:  []string{"boot applications ran under different settings", "software other than Windows extended PCR 12 or 13"},
		Action:  "Look at the events of PCR 12 and 13; unless the boot settings explain it, treat the machine as tampered with.",
	},
	{
		Code:    "windows.register-open",
		Meaning: "Only PCR 19 to 22 state this fact, which nothing ever closes: software with access to them could have appended it.",
		Causes:  []string{"a fact of a dynamic launch that PCR 12 and 13 do not state", "software extended PCR 19 to 22"},
		Action:  "Ask for facts that the boot measures into PCR 12 and 13.",
	},
	{
		Code:    "windows.register-missing",
		Meaning: "Windows measures this fact into two registers, and only one of them is proven.",
		Causes:  []string{"the quote selects PCR 12 without 13, or the reverse", "the register was not extended by Windows"},
		Action:  "Quote PCR 11 to 14 together.",
	},
	{
		Code:    "windows.tag-malformed",
		Meaning: "A Windows boot event is no well-formed tree of tags.",
		Causes:  []string{"software other than Windows made the event", "the event is of a format newer than this program"},
		Action:  "Treat all Windows facts of this boot as unknown; report the log if Windows itself made it.",
	},
	{
		Code:    "windows.tag-nesting",
		Meaning: "Tags of a Windows boot event are nested more than 4 deep.",
		Causes:  []string{"the event was made to exhaust its reader"},
		Action:  "Treat the machine as hostile until the event is explained.",
	},
	{
		Code:    "windows.tag-count",
		Meaning: "The Windows boot events hold more tags than a boot can have.",
		Causes:  []string{"the events were made to exhaust their reader"},
		Action:  "Treat the machine as hostile until the events are explained.",
	},
	{
		Code:    "windows.tag-unexpected",
		Meaning: "The outermost tag of a Windows boot event is not one that belongs into its register.",
		Causes:  []string{"software other than Windows extended the register"},
		Action:  "Find out what ran before Windows: look at PCR 4 and the authorities of PCR 7.",
	},
	{
		Code:    "windows.value-malformed",
		Meaning: "The value of a Windows boot event has a size or content that its type does not allow.",
		Causes:  []string{"software other than Windows made the event", "the format is newer than this program"},
		Action:  "Treat the fact as unknown; report the log if Windows itself made it.",
	},
	{
		Code:    "windows.module-not-validated",
		Meaning: "A module was loaded at boot although its signature was not found valid.",
		Causes:  []string{"test signing or a debugger is on", "the boot loader was changed"},
		Action:  "Look at testSigning and codeIntegrity, and at the module's name and digest.",
	},
	{
		Code:    "windows.chain-broken",
		Meaning: "The logs are not one cold boot followed by all its resumes.",
		Causes:  []string{"a log is missing or out of order", "logs of two machines were mixed", "an old log is being replayed"},
		Action:  "Collect every log since the last cold boot again, in order, or restart the machine.",
	},
}
