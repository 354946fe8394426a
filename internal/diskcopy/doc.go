// Package diskcopy takes the disks of a machine that runs to another host, with its memory,
// for hosts that have no storage in common.
//
// The destination makes disks of the same format and size ([Make]) in a folder of its own
// choice, has its hypervisor export them over NBD at a Unix socket, and waits for the memory
// ([Destination.Arrive]). The source's hypervisor copies its disks there, and then what the
// guest goes on writing; when the machine stands still, the copies are completed, and the
// last of the memory leaves ([Source.Leave]). All of it shares one link of package move:
// nothing listens on a network for it, and it ends with the link.
//
// The other host is not trusted: a destination makes what [Check] has found in order, and
// no more than it has room for; who writes to an exported disk reaches that disk alone. What
// the source's disks hold is not judged, and nothing here says which host a machine is on.
//
// Read [Check] first. NBD protocol (docs/interop/nbd of QEMU; NetworkBlockDevice/nbd,
// doc/proto.md); QMP of QEMU 7.2: blockdev-mirror, block-export-add.
package diskcopy
