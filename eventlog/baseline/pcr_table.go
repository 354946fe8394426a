package baseline

// A PCRInfo says what a register covers and why it changes, for people.
type PCRInfo struct {
	PCR    int
	Covers string
	// Causes are the usual ones, likely first, as one sentence without its stop.
	Causes string
	Action string
}

// PCR explains one register; docs/pcrs.md is made from these.
func PCR(pcr int) PCRInfo {
	for _, p := range PCRs() {
		if p.PCR == pcr {
			return p
		}
	}
	return PCRInfo{PCR: pcr, Covers: "not used by firmware or boot loader", Causes: "software extended it", Action: "Find out which program uses it."}
}

// PCRs returns the table of registers (PFP 3.3.4; PCR 8 and above as GRUB,
// systemd, shim and Windows use them).
func PCRs() []PCRInfo {
	return []PCRInfo{
		{0, "firmware code", "firmware update; of an OVMF machine also another memory size, number of processors or reset variables", "Compare with the firmware that the machine should run and with its shape."},
		{1, "firmware configuration and boot entries", "boot entries, boot order, disks, network cards, machine type", "Informs only, unless the policy says otherwise."},
		{2, "option ROMs and drivers from cards", "a card added or removed, a network card's boot ROM, a graphics card passed through", "Compare with the hardware that the machine should have."},
		{3, "configuration of option ROMs", "settings of a card", "Compare with the hardware that the machine should have."},
		{4, "boot loader and what it started through the firmware: shim, GRUB, kernel, or a unified kernel image; bootmgfw of Windows", "update of shim, GRUB or kernel; a boot option that failed first; another boot disk", "Compare the digests with the installed packages."},
		{5, "partition table of the boot disk, and the hand-over to the operating system", "repartitioning, a cloned disk with new identifiers, loader.conf of systemd-boot", "Check that the disk is the one that belongs there."},
		{6, "by the platform's maker; some clouds put the machine's identifier here", "another machine", "Informs only, unless the policy says otherwise."},
		{7, "secure boot: its state, PK, KEK, db, dbx, and the keys that verified what was started", "secure boot switched, update of db or dbx, new SBAT level with a new shim, an image signed by another key", "Look for the vendor's update; any other key is one that somebody enrolled."},
		{8, "commands of GRUB and the kernel command line", "any edit of grub.cfg, a choice in the boot menu", "Read the commands that changed."},
		{9, "files that GRUB read: configuration, kernel, initrd; of a unified kernel image its options and initrd", "a rebuilt initrd, a kernel update, an edit of grub.cfg", "Look for the update that changed the file."},
		{10, "list of Linux IMA: files run and read", "differs at every boot; is confirmed by its own list and never compared", "None."},
		{11, "sections of a unified kernel image, later boot phases by systemd; access control of BitLocker", "an update of the image; the moment at which it was read", "Compare the sections that changed."},
		{12, "kernel command line beside a unified kernel image, credentials, add-ons; of Windows all settings, and counters that rise with every start", "another command line or credential; of Windows every start", "Read what changed; of Windows look at PCR 13."},
		{13, "system extensions; of Windows all settings and loaded modules", "a Windows update, a new driver, a changed boot setting", "Look at the modules that changed."},
		{14, "machine owner keys of shim; of Windows the keys that signed its modules", "a key enrolled or removed with mokutil", "Ask who enrolled it."},
		{15, "machine identity and file systems, by systemd", "first boot, another disk; is never compared", "None."},
		{16, "debugging", "is never compared", "None."},
		{17, "dynamic launch: the measured launch code", "is never compared without a dynamic launch", "None."},
		{18, "dynamic launch: its authorities", "is never compared without a dynamic launch", "None."},
		{19, "dynamic launch: settings of Windows", "is never compared without a dynamic launch", "None."},
		{20, "dynamic launch: modules of Windows", "is never compared without a dynamic launch", "None."},
		{21, "dynamic launch: by the operating system", "is never compared without a dynamic launch", "None."},
		{22, "dynamic launch: by the operating system", "is never compared without a dynamic launch", "None."},
		{23, "applications", "is never compared", "None."},
	}
}
