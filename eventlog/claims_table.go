package eventlog

import (
	"slices"
	"strings"

	"github.com/assay-project/assay/eventlog/sipa"
)

// A ClaimName documents one claim.
type ClaimName struct {
	Name    string
	Meaning string
	Values  string // what the value can be
	PCRs    string // which registers prove it
	Unknown string // when the value is unknown, beyond the reasons that all claims share
}

const (
	yesNo   = "true, false"
	hexText = "digest in hex, in the bank of the verdict"
)

// ClaimNames returns the claims of Linux and Windows boots, sorted by name.
// docs/claims.md is made from it.
func ClaimNames() []ClaimName {
	out := slices.Clone(claimNames)
	for _, w := range sipa.ClaimNames() {
		i := slices.IndexFunc(out, func(c ClaimName) bool { return c.Name == w.Name })
		if i >= 0 {
			out[i].Meaning += "; on Windows: " + w.Meaning
			out[i].PCRs += "; on Windows: " + w.PCRs
			continue
		}
		out = append(out, ClaimName{w.Name, "Windows: " + w.Meaning, w.Values, w.PCRs, "the boot did not measure it, its registers disagree, or the log is not one of Windows (then the claim is absent)"})
	}
	slices.SortFunc(out, func(a, b ClaimName) int { return strings.Compare(a.Name, b.Name) })
	return out
}

var claimNames = []ClaimName{
	{"auditMode", "the firmware accepts any image and only records what it would have refused", yesNo, "7", "the firmware does not measure it"},
	{"bootFiles", "what GRUB and the kernel's EFI stub read: configuration, kernel, initrd", "digests in hex in the order of measurement, one a line", "4, 9", "nothing was measured into PCR 9"},
	{"bootImages", "every EFI image measured into PCR 4, in order: boot loaders and kernel. The register has no closing marker, so only the whole list says what ran", "Authenticode digests in hex, one a line", "4", "none was measured, or PCR 4 holds what is no image, separator or action"},
	{"bootLoader", "the image that the firmware gave control to", "Authenticode digest in hex", "4", "a boot attempt failed before, more than one image can be it, or PCR 4 holds what is no image, separator or action"},
	{"deployedMode", "Secure Boot is in deployed mode: its keys change only by signed updates", yesNo, "7", "the firmware does not measure it"},
	{"dmaProtection", "the firmware protects memory against devices; only its being off is ever measured", "false", "7", "the firmware did not say that it is off, which is no proof that it is on"},
	{"exitBootServices", "the operating system took over from the firmware", "true", "5", "the log ends before, as on older kernels"},
	{"firmwareDebug", "a debugger could attach to the firmware", yesNo, "7", "PCR 7 cannot be believed"},
	{"firmwareError", "the firmware reported an error while it measured", yesNo, "0 to 7", "a register has no separator"},
	{"firmwareVersion", "version that the firmware states", "text", "0", "the firmware logs a text that it did not measure"},
	{"initrd", "initrd of a unified kernel image", hexText, "4, 8, 11", "no unified kernel image; GRUB measures its initrd into PCR 9, where only words say which file it is"},
	{"kernel", "Linux kernel of a unified kernel image", hexText, "4, 8, 11", "no unified kernel image; with GRUB see bootImages and bootFiles"},
	{"kernelCommandLine", "command line of the Linux kernel", "text", "4, 8 (GRUB), 12 (systemd-boot), and 11: each says something or proves that it was left alone", "GRUB loaded several kernels, or the image carries its command line, of which the log has only the digest"},
	{"kernelCommandLine.digest", "command line in a unified kernel image, to which nothing was added", hexText, "4, 8, 11, 12", "no unified kernel image, it has no such section, or PCR 12 holds anything, as what the stub adds to the line"},
	{"kernelDebug", "the command line lets a debugger or a shell into the machine", yesNo, "4, 8, 11, 12", "the command line is unknown"},
	{"kernelDebugFlags", "arguments of the command line that open the machine or turn a protection off", "arguments separated by spaces, empty for none", "4, 8, 11, 12", "the command line is unknown"},
	{"mokState", "shim's own key lists, in order: MokList, MokListX, MokListTrusted", "digests in hex, one a line", "4, 14", "shim did not run, or Windows uses PCR 14"},
	{"osRelease", "description of the operating system in a unified kernel image", hexText, "4, 8, 11", "no unified kernel image"},
	{"partitionTable", "partition table of the boot disk", hexText, "5", "none was measured"},
	{"sbatLevel", "revocation level that shim enforces", "the text that shim measured, as sbat,1,2025021800 and a line per component", "4, 7", "shim did not measure it"},
	{"secureBoot", "Secure Boot is on: the firmware starts only images that its keys vouch for", yesNo, "7", "the variable was not measured, contradicts the keys, or PCR 7 holds an event that has no place there"},
	{"secureBootAuthorities", "what vouched for the images that ran, and what shim checked. Anybody can append to the list at run time, so a policy should ask that every line is one it knows", "name of the variable, SHA-256 of the certificate, its subject; one a line", "7", "none was measured, or an old shim logged one that the digest does not cover"},
	{"secureBootKeys.db.certificates", "certificates whose images may start", "SHA-256 and subject, one a line", "7", "the database cannot be read"},
	{"secureBootKeys.db.digest", "the whole database db", "digest of the variable as measured, in hex, in the bank of the verdict", "7", "it was not measured"},
	{"secureBootKeys.db.hashes", "number of digests of single images in db", "decimal number", "7", "the database cannot be read"},
	{"secureBootKeys.dbx.certificates", "certificates whose images are refused", "SHA-256 and subject, one a line", "7", "the database cannot be read"},
	{"secureBootKeys.dbx.digest", "the whole revocation list dbx", "digest of the variable as measured, in hex, in the bank of the verdict", "7", "it was not measured"},
	{"secureBootKeys.dbx.hashes", "number of digests in dbx", "decimal number", "7", "the database cannot be read"},
	{"secureBootKeys.kek.certificates", "certificates that may change db and dbx", "SHA-256 and subject, one a line", "7", "the database cannot be read"},
	{"secureBootKeys.kek.digest", "the whole database KEK", "digest of the variable as measured, in hex, in the bank of the verdict", "7", "it was not measured"},
	{"secureBootKeys.pk.certificates", "certificate of the platform's owner", "SHA-256 and subject, one a line", "7", "the database cannot be read"},
	{"secureBootKeys.pk.digest", "the whole database PK", "digest of the variable as measured, in hex, in the bank of the verdict", "7", "it was not measured"},
	{"setupMode", "Secure Boot has no owner, so anybody can set its keys", yesNo, "7", "the firmware does not measure it"},
	{"ukiSections", "sections of a unified kernel image, in the order of measurement", "name and digest in hex, one a line", "4, 8, 11", "no unified kernel image, or PCR 11 holds anything else"},
}
