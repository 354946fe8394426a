package component

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/assay-project/assay/eventlog"
)

// Where the digests of the table are from: computed of the files of Debian 12's
// packages, which Debian's archive signs.
const (
	fromStandard = "TCG PC Client Platform Firmware Profile"
	fromOVMF     = "Debian 12, ovmf 2022.11-6+deb12u2"
	fromShim     = "Debian 12, shim-signed 1.51~1+deb12u1+16.1-2~deb12u1"
	fromGRUB     = "Debian 12, grub-efi-amd64-signed 1+2.06+13+deb12u2"
	fromKernel   = "Debian 12, linux-image-6.1.0-56-cloud-amd64 6.1.192-2"
	fromSystemd  = "Debian 12, systemd-boot-efi 252.39-1~deb12u2"
)

// builtin are the components that come with the program.
func builtin() []Component {
	out := []Component{
		// What OVMF has inside: the volume that PCR 0 measures whole, and the programs in it
		// by the name that the firmware gives them (FFS files 7c04a583-9e3e-4f1c-ad65-
		// e05268d0b4d1 and 462caa21-7614-4503-836e-8ab6f4662331).
		{"a644ed209b188dd428ea3e15c0b1dbbc1ad05d406bb2857cac4a73b98d0b6b4f", eventlog.KindFirmware, "main volume of OVMF_CODE_4M.secboot.fd", fromOVMF},
		{"82a0445201cb49945461acc6ed78426700fb7e92819862edc55ba3ad4559b135", eventlog.KindFirmware, "main volume of OVMF_CODE_4M.fd", fromOVMF},
		{"59ac3827f70fae56d298658e9b0c232843b7e9e2a83e56ba17113df37515804b", eventlog.KindFirmware, "main volume of OVMF_CODE.secboot.fd", fromOVMF},
		{"614b0bfb88626b36415706a5143619938a38542e732587e2fa05c481f2843d4d", eventlog.KindFirmware, "main volume of OVMF_CODE.fd", fromOVMF},
		{"d6cb71f2c6241bd0fd4c7a0765103406efe2d2b886bac12d992c12b1b803c908", eventlog.KindBootLoader, "shell inside OVMF, which it starts when nothing else boots", fromOVMF},
		{"ac2750a5b6faab3138471f0f138c9569a53b56b2ed8093a75adb05765e8f90cb", eventlog.KindBootLoader, "shell inside OVMF_CODE.fd, which it starts when nothing else boots", fromOVMF},
		{"0f1900f357d054b31fa18ff27a57e0a3645437e0c6119a086971d10349e1db31", eventlog.KindBootLoader, "set-up menu inside OVMF with secure boot", fromOVMF},
		{"2bb9f3e5281ddd6f41692a8d6efc685bfb49c4827b110ecd7e56255e40a69b4e", eventlog.KindBootLoader, "set-up menu inside OVMF_CODE_4M.fd", fromOVMF},
		{"d3d7f251ebf6668705d5bc728b233868e354d45a6df8aba743b5378b3f85cb6f", eventlog.KindBootLoader, "set-up menu inside OVMF_CODE.fd", fromOVMF},
		{"3197be1e300fa1600d1884c3a4bd4a90a15405bfb546cf2e6cf6095f8c362a93", eventlog.KindBootEntry, "boot entry of OVMF's set-up menu", fromOVMF},
		{"4d387b02d63b2f4cd7f667feb0a387fe47a10a3e26bf3533ddd001c605f3dec5", eventlog.KindBootEntry, "boot entry of OVMF's shell", fromOVMF},

		{"80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8", eventlog.KindBootLoader, "shim 16.1 (shimx64.efi.signed)", fromShim},
		{"a68f6d71ebddaa19751ff8d729f67d11b0df8e4c49400c3e7e90de16119e1265", eventlog.KindBootLoader, "GRUB 2.06 (grubx64.efi.signed)", fromGRUB},
		{"5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31", eventlog.KindKernel, "Linux 6.1.192 (vmlinuz-6.1.0-56-cloud-amd64)", fromKernel},
		{"51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275", eventlog.KindKernel, "Linux 6.1.192 (vmlinuz-6.1.0-56-cloud-amd64), the file", fromKernel},
		{"9bf2519c746ec66b569300e423127a9361b47af7f66783c7e1378fb055671ad4", eventlog.KindBootLoader, "systemd-boot 252 (systemd-bootx64.efi)", fromSystemd},
		{"28fd6b9a39b745449fa2389a31045900804eae49ea7edb0f8c152a131df0002c", eventlog.KindBootLoader, "systemd-stub 252 without a kernel (linuxx64.efi.stub)", fromSystemd},
	}
	for _, c := range constants() {
		sum := sha256.Sum256([]byte(c.text))
		out = append(out, Component{hex.EncodeToString(sum[:]), c.kind, c.name, c.source})
	}
	return out
}

type constant struct{ text, kind, name, source string }

// constants are texts that firmware measures on every machine (PFP 3.3.2.2 and 10.4.4).
func constants() []constant {
	out := []constant{
		{"", eventlog.KindOther, "nothing (an empty text)", fromStandard},
		{"\x00\x00", eventlog.KindFirmware, "empty version of the firmware, as OVMF has it", fromOVMF},
		{"\x00\x00\x00\x00", eventlog.KindSeparator, "separator", fromStandard},
		{"\xff\xff\xff\xff", eventlog.KindSeparator, "separator", fromStandard},
		{"\x01\x00\x00\x00", eventlog.KindSeparator, "separator that tells of an error", fromStandard},
		{"WBCL", eventlog.KindSeparator, "separator of Windows", "Windows"},
	}
	for _, text := range []string{
		"Calling EFI Application from Boot Option", "Returning from EFI Application from Boot Option",
		"Exit Boot Services Invocation", "Exit Boot Services Returned with Failure", "Exit Boot Services Returned with Success",
		"UEFI Debug Mode",
	} {
		out = append(out, constant{text, eventlog.KindAction, text, fromStandard})
	}
	return out
}
