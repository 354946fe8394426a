// Package guestimage makes what a virtual machine boots from out of its parts: an
// archive of files for the kernel ([Initrd]), a unified kernel image that firmware
// starts by itself ([UKI]), and a disk with an EFI system partition ([Disk]). It
// needs no rights, mounts nothing, and the same parts give the same bytes: identifiers
// and times are parameters.
//
// It signs nothing, which is for package authenticode, and looks at the parts only as
// far as to lay them out: what a kernel or an archive does is not known here. Start
// with [UKI].
//
// PE Format, revision of 2024 (sections 3 and 4); UAPI.5 Unified Kernel Image; UEFI
// Specification 2.10, 5.3 and 13.3; FAT: General Overview of On-Disk Format 1.03.
package guestimage
