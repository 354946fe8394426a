package sipa

// A ClaimName documents one claim of [Appraise].
type ClaimName struct {
	Name    string
	Meaning string
	Values  string // "true, false", or what the text can be
	Good    string // what a strict policy asks for, "" when it depends
	PCRs    string // which registers prove it
}

// ClaimNames returns the claims that [Appraise] makes, sorted by name. The
// names state a fact, so that false is good news for testSigning.
func ClaimNames() []ClaimName {
	rules := claimRules()
	out := make([]ClaimName, len(rules))
	for i, r := range rules {
		out[i] = r.ClaimName
	}
	return out
}

type rule func(c *collector, name string)

type claimRule struct {
	ClaimName
	rule rule
}

const (
	yesNo    = "true, false"
	inBoth   = "12 and 13"
	inShort  = "12"
	inDetail = "13"
)

func claimRules() []claimRule {
	return []claimRule{
		{ClaimName{"bitlockerUnlock", "what opened the encrypted system volume", "none, cached, media, tpm, pin, external, recovery, joined by +", "", inBoth}, bitlocker},
		{ClaimName{"bootCounter", "how often this installation has started, resumes included", "a decimal number", "", inShort}, bootCounter},
		{ClaimName{"bootDebugging", "a debugger could attach to the boot applications", yesNo, "false", inBoth}, flag(BootDebugging)},
		{ClaimName{"bootManagerSVN", "security version of the boot manager", "a decimal number", "", inBoth}, bootManagerSVN},
		{ClaimName{"bootRevocationList", "digest of the list of revoked boot applications", "algorithm:hex", "", inDetail}, textOf(BootRevocationList, detailed, revocationList)},
		{ClaimName{"codeIntegrity", "the kernel loads only signed code", yesNo, "true", inBoth}, flag(CodeIntegrity)},
		{ClaimName{"codeIntegrityPolicy", "code integrity policies in force", "name algorithm:hex, separated by commas", "", inDetail}, codeIntegrityPolicy},
		{ClaimName{"dep", "data execution prevention", "optIn, optOut, alwaysOff, alwaysOn", "anything but alwaysOff", inBoth}, textOf(DataExecutionPrevention, both, depPolicy)},
		{ClaimName{"driverLoadPolicy", "which boot drivers start after the anti-malware driver has judged them", "good, goodAndUnknown, goodUnknownAndCritical, all", "good or goodAndUnknown", inBoth}, textOf(DriverLoadPolicy, both, driverLoadPolicy)},
		{ClaimName{"dumpEncryption", "crash dumps are encrypted", yesNo, "", inBoth}, flag(DumpEncryption)},
		{ClaimName{"dumpsDisabled", "crash dumps are off", yesNo, "", inBoth}, flag(DumpsDisabled)},
		{ClaimName{"elam", "an early-launch anti-malware driver started first", "true", "true", "12 or 13"}, elam},
		{ClaimName{"elamDriver", "which early-launch anti-malware driver", "file name, or the product's key name", "", "12 or 13"}, elamDriver},
		{ClaimName{"flightSigning", "code signed for preview builds is accepted", yesNo, "false", inBoth}, flag(FlightSigning)},
		{ClaimName{"hibernationDisabled", "the machine cannot hibernate", yesNo, "", inBoth}, flag(HibernationDisabled)},
		{ClaimName{"hvci", "the hypervisor enforces code integrity", yesNo, "true", inBoth}, func(c *collector, name string) { c.set(name, c.agreed(VBSHVCIPolicy, both, nonZero)) }},
		{ClaimName{"hypervisorDebug", "a debugger could attach to the hypervisor", yesNo, "false", inBoth}, flag(HypervisorDebug)},
		{ClaimName{"hypervisorLaunched", "the hypervisor was set to start", yesNo, "", inBoth}, func(c *collector, name string) { c.set(name, c.agreed(HypervisorLaunchType, both, nonZero)) }},
		{ClaimName{"kernelDebug", "a debugger could attach to the kernel", yesNo, "false", inBoth}, flag(OSKernelDebug)},
		{ClaimName{"kernelModulesValidated", "every module that was loaded at boot had a valid signature", yesNo, "true", inBoth}, modulesValidated},
		{ClaimName{"osRevocationList", "digest of the kernel's list of revoked code", "algorithm:hex", "", inDetail}, textOf(OSRevocationList, detailed, revocationList)},
		{ClaimName{"pagefileEncryption", "the page file is encrypted", yesNo, "", inBoth}, flag(PagefileEncryption)},
		{ClaimName{"resumedFromHibernation", "the machine woke from hibernation instead of starting cold", yesNo, "", inShort}, resumed},
		{ClaimName{"safeMode", "Windows runs in safe mode", yesNo, "false", inBoth}, flag(SafeMode)},
		{ClaimName{"smmLevel", "isolation of system management mode after a dynamic launch; always unknown, since nothing closes PCR 20", "a decimal number", "", "20"}, textOf(DRTMSMMLevel, detailed, decimal)},
		{ClaimName{"testSigning", "code with test signatures is accepted", yesNo, "false", inBoth}, flag(TestSigning)},
		{ClaimName{"vbs", "virtualization-based security is required and was launched", yesNo, "true", inBoth}, vbs},
		{ClaimName{"vbsIommuRequired", "virtualization-based security requires DMA protection", yesNo, "", inBoth}, flag(VBSIOMMURequired)},
		{ClaimName{"vbsLaunched", "the virtual secure mode was launched", yesNo, "true", inBoth}, func(c *collector, name string) { c.set(name, c.agreed(VSMLaunchType, both, nonZero)) }},
		{ClaimName{"vbsRequired", "configuration requires virtualization-based security", yesNo, "true", inBoth}, vbsRequired},
		{ClaimName{"vbsSecureBootRequired", "virtualization-based security requires secure boot", yesNo, "", inBoth}, flag(VBSSecureBootRequired)},
		{ClaimName{"winPE", "this is a Windows preinstallation environment", yesNo, "false", inBoth}, flag(WinPE)},
	}
}

// scalar reports whether a rule reads id.
func scalar(id ID) bool {
	switch id {
	case BootCounter, TransferControl, BitlockerUnlock, EventCounter, CounterID, ApplicationSVN,
		BootDebugging, BootRevocationList, OSKernelDebug, CodeIntegrity, TestSigning, DataExecutionPrevention,
		SafeMode, WinPE, HypervisorLaunchType, HypervisorDebug, DriverLoadPolicy, SIPolicy, VSMLaunchType,
		OSRevocationList, FlightSigning, PagefileEncryption, HibernationDisabled, DumpsDisabled, DumpEncryption,
		VBSVSMRequired, VBSSecureBootRequired, VBSIOMMURequired, VBSMandatoryEnforcement, VBSHVCIPolicy, DRTMSMMLevel:
		return true
	default:
		return false
	}
}
