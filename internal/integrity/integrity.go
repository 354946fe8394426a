// Package integrity watches from the host's side how a virtual machine boots, and
// says whether it booted as it should: nothing is installed in the guest, and
// nothing that the guest says is believed.
//
// The source is the journal of the machine's own TPM: what was measured, in which
// order, as the TPM took it. A [Watch] follows it and tells the moments of a boot; a
// [Monitor] judges them against the machine's baseline and makes the events that
// its operator sees. What the package cannot know: that the programs which were
// measured are good ones, and what they did after the operating system took over.
// The first boot becomes the baseline because it was the first, not because it
// was found to be good.
//
// Early and late boot, the events and the contents of reports are those of
// Google's Shielded VM integrity monitoring; what is measured where is in the TCG
// PC Client Platform Firmware Profile 1.06 (PFP), chapter 3.
package integrity
