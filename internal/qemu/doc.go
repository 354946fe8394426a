// Package qemu runs virtual machines with QEMU: the command line as a pure
// function of the machine, the process with its monitor, and a probe that finds
// out by running whether KVM can be used.
//
// It decides nothing about a machine: which disk, which keys and which TPM are the
// caller's. What it promises is that secure boot cannot be switched off from
// within the guest (SMM, secure flash) where [Firmware] asks for it, that the
// process has no files but those of its machine, and that its end is told. For the
// files, [Start] refuses a qcow2 disk with a backing file or an external data file,
// which QEMU would follow; nothing else may write a disk's header between that look
// and QEMU's own, nor on the far host while a machine migrates. Start with
// [Arguments] and [Start].
//
// QEMU 7.2; docs/system/i386/pc and docs/specs/tpm of its documentation.
package qemu
