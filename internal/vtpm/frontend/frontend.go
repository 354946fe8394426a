// Package frontend serves a TPM to programs outside this process: by the
// simulator protocol that TPM software stacks speak (mssim), and by swtpm's data
// and control channels.
//
// Nothing here says who the client is: whoever reaches a port commands the TPM,
// its power and the physical presence of its owner, so ports belong on loopback
// addresses or in folders of one user. Clients are hostile: every length is
// bounded, every frame has to arrive in time, and no client holds up another.
//
// Read [Machine] first, then [ServeMSSIM] and [ServeSWTPM].
//
// TCG TPM 2.0 reference code, TpmTcpProtocol.h; swtpm, tpm_ioctl.h.
package frontend
