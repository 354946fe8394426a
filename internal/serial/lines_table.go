package serial

import (
	"regexp"
	"strings"

	"github.com/assay-project/assay/evidence"
)

// The reason codes of this package.
const (
	codeRefused       = "serial.secure-boot-refused"
	codeNotLoaded     = "serial.not-loaded"
	codeShell         = "serial.shell-refused"
	codeStuck         = "serial.no-boot-option"
	codeShimRefused   = "serial.shim-refused"
	codeShimRevoked   = "serial.shim-revoked"
	codeShimState     = "serial.shim-state"
	codeGRUBRefused   = "serial.grub-refused"
	codeGRUBPolicy    = "serial.grub-policy"
	codeKernelRevoked = "serial.kernel-revoked-key"
	codeModule        = "serial.module-refused"
	codeModuleLoaded  = "serial.module-unsigned"
	codeLockdown      = "serial.lockdown-denied"
	codePanic         = "serial.kernel-panic"
)

// bds is BdsDxe's line about a boot option (edk2, MdeModulePkg/Universal/BdsDxe).
var bds = regexp.MustCompile(`^BdsDxe: failed to (load|start) (Boot[0-9A-F]{4} ".*") from (.+): ([A-Z][A-Za-z ]+?)(?: -- rejected probably by Secure Boot)?$`)

// shell is how the device path of the firmware's own shell ends (edk2, gUefiShellFileGuid).
// OVMF tries it when nothing else has booted, and secure boot never lets it start: of a
// machine with an empty disk that is all that was refused.
const shell = "/FvFile(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1)"

// denials are the statuses (EFI_STATUS, UEFI 2.10 appendix D) with which secure boot
// refuses.
var denials = map[string]bool{"Access Denied": true, "Security Violation": true}

// A phrase is text by which a line is known. Kernel lines begin with a time stamp.
type phrase struct {
	code   evidence.Code
	prefix bool // at the beginning of the line; else anywhere in it
	text   string
}

// phrases in the order in which they are tried.
var phrases = []phrase{
	{codeStuck, true, "BdsDxe: No bootable option or device was found."},
	{codeRefused, true, "DxeImageVerificationLib: Image is signed but signature is not allowed"},
	{codeRefused, true, "DxeImageVerificationLib: Image is signed but signature is forbidden"},
	{codeRefused, true, "DxeImageVerificationLib: Image is not signed and"},
	{codeRefused, true, "The image doesn't pass verification:"},
	{codeShimRevoked, true, "Verifying shim SBAT data failed:"},
	{codeShimRevoked, true, "Something has gone seriously wrong: SBAT self-check failed:"},
	{codeShimState, true, "Something has gone seriously wrong: import_mok_state() failed:"},
	{codeShimState, true, "Booting in insecure mode"},
	{codeShimState, true, "Cannot reset SBAT policy: Secure Boot is enabled."},
	{codeShimRefused, true, "Verification failed: (0x1A) Security Violation"},
	{codeShimRefused, true, "Verification failed: Security Violation"},
	{codeShimRefused, true, "Binary is forbidden:"},
	{codeShimRefused, true, "Binary is blacklisted:"},
	{codeGRUBRefused, true, "error: bad shim signature"},
	{codeGRUBRefused, true, "error: verification requested but nobody cares:"},
	{codeGRUBRefused, false, "has invalid signature"},
	{codeGRUBPolicy, false, "prohibited by secure boot policy"},
	{codeGRUBPolicy, false, "shim_lock protocol not found"},
	{codeGRUBPolicy, false, "the command is not allowed when lockdown is enforced"},
	{codeGRUBPolicy, true, "secure boot not enabled, not validating"},
	{codeKernelRevoked, false, "is blacklisted"},
	{codeModule, false, "Loading of unsigned module is rejected"},
	{codeModule, false, "Loading of module with unavailable key is rejected"},
	{codeModule, false, "Loading of module with unsupported crypto is rejected"},
	{codeModule, false, "PKCS#7 signature not signed with a trusted key"},
	{codeModuleLoaded, false, "module verification failed: signature and/or required key missing - tainting kernel"},
	{codePanic, false, "Kernel panic - not syncing:"},
}

// classify says what a line means; ok is false for all others.
func classify(line string) (f Finding, ok bool) {
	f.Line = line
	if m := bds.FindStringSubmatch(line); m != nil {
		f.Code, f.Option, f.Device, f.Status = codeNotLoaded, m[2], m[3], m[4]
		switch {
		case denials[f.Status] && strings.HasSuffix(f.Device, shell):
			f.Code = codeShell
		case denials[f.Status]:
			f.Code = codeRefused
		}
		return f, true
	}
	for i := range phrases {
		if p := &phrases[i]; p.prefix && strings.HasPrefix(line, p.text) || !p.prefix && strings.Contains(line, p.text) {
			f.Code = p.code
			return f, true
		}
	}
	return lockdown(f)
}

// lockdown takes the kernel's notice of what it denied. Linux itself asks whether
// it may hibernate at each boot with secure boot on; that is no finding.
func lockdown(f Finding) (Finding, bool) {
	_, what, ok := strings.Cut(f.Line, "Lockdown: ")
	if !ok || !strings.Contains(what, " is restricted; see man kernel_lockdown.7") || strings.HasPrefix(what, "swapper/0: hibernation ") {
		return f, false
	}
	f.Code = codeLockdown
	return f, true
}
