package evidence

// uefiCodes are what is wrong with variable stores, signed images, updates of
// signature databases and key sets (uefi/...).
var uefiCodes = []CodeInfo{
	{
		Code:    "image.algorithm",
		Meaning: "The signature has an algorithm that firmware does not know, so it does not count.",
		Causes:  []string{"it was made with an elliptic-curve key: firmware takes RSA", "it was made with MD5 or another old digest", "firmware looks for the digest's name at a fixed place, and it is elsewhere: the signature is longer than 64 KB or written in an unusual form"},
		Action:  "Sign the image with an RSA key of 2048 bits or more, and SHA-256.",
	},
	{
		Code:    "image.digest-mismatch",
		Meaning: "The signature is of another image: this one was changed after it was signed, or the signature was put there from elsewhere.",
		Causes:  []string{"the file was damaged or edited", "a tool changed the image after it was signed", "somebody tampered with it"},
		Action:  "Install the file from its package again; compare it with the copy on another machine.",
	},
	{
		Code:    "image.malformed",
		Meaning: "The file is no PE image whose headers fit together; firmware does not load it.",
		Causes:  []string{"the file is damaged or cut short", "it is no program for UEFI"},
		Action:  "Install the file from its package again.",
	},
	{
		Code:    "image.no-anchor",
		Meaning: "The image has a whole signature, but db has no certificate that the signer is under.",
		Causes:  []string{"the image is signed by a key that this machine does not trust", "db lacks the newer of two authorities, as Microsoft's of 2023", "the signature does not bring the certificates in between"},
		Action:  "Add the signer's authority to db if it is to be trusted, or sign the image with a key that is.",
	},
	{
		Code:    "image.revocations-unreadable",
		Meaning: "dbx has a certificate that cannot be read here, so that no signed image can be known not to be under it.",
		Causes:  []string{"somebody added a damaged certificate to dbx", "the certificate is one that firmware reads and Assay does not"},
		Action:  "Find the entry with sigdb or efi-readvar, and replace it by one that is whole; do not remove the revocation.",
	},
	{
		Code:    "image.revoked-certificate",
		Meaning: "dbx revokes a certificate that this signature rests on; one such signature refuses the whole image.",
		Causes:  []string{"the image is older than a revocation", "the signing key was withdrawn"},
		Action:  "Install a newer version of the image; do not remove the revocation.",
	},
	{
		Code:    "image.revoked-hash",
		Meaning: "dbx revokes exactly this image.",
		Causes:  []string{"the image is a version with a known flaw"},
		Action:  "Install a newer version of the image; do not remove the revocation.",
	},
	{
		Code:    "image.signature-invalid",
		Meaning: "The signature does not verify: the key of the certificate that it names did not sign this.",
		Causes:  []string{"somebody forged a digest in the signature", "the file is damaged"},
		Action:  "Take the image for tampered with; install it from its package again.",
	},
	{
		Code:    "image.signature-malformed",
		Meaning: "The image's certificate table or a signature in it cannot be read; firmware refuses the image, whatever its other signatures.",
		Causes:  []string{"the file was cut short or something was added behind it", "a signing tool wrote what firmware does not read"},
		Action:  "Install the file from its package again, or sign it anew with sbsign.",
	},
	{
		Code:    "image.unsigned",
		Meaning: "The image has no signature that firmware reads, and db does not have its digest.",
		Causes:  []string{"the image was built here and not signed", "its signature was removed"},
		Action:  "Sign the image with a key whose certificate is in db, or add its digest to db.",
	},
	{
		Code:    "update.algorithm",
		Meaning: "The update is signed with an algorithm that firmware does not take: it takes RSA with SHA-256.",
		Causes:  []string{"it was signed with an elliptic-curve key, or with another digest"},
		Action:  "Sign it with an RSA key, as sbvarsign or assay keyset do.",
	},
	{
		Code:    "update.list",
		Meaning: "The new content is no list of signatures that firmware stores in this variable.",
		Causes:  []string{"it has a certificate whose key is not RSA", "PK was given more than one key", "the file is damaged"},
		Action:  "Make the list anew, and check that each certificate has an RSA key.",
	},
	{
		Code:    "update.malformed",
		Meaning: "The file is no authenticated update of a variable.",
		Causes:  []string{"it is a bare signature list or a certificate", "it is damaged"},
		Action:  "Name the signed file, often called .auth or DBXUpdate.bin.",
	},
	{
		Code:    "update.replay",
		Meaning: "The update is not newer than what is there: firmware takes it for an old one played back.",
		Causes:  []string{"it was applied before", "somebody plays an old list of revocations back", "the clock was wrong when it was signed"},
		Action:  "Sign a newer one; an old list of revocations does no good.",
	},
	{
		Code:    "update.signature-invalid",
		Meaning: "The signature is not of this update of this variable.",
		Causes:  []string{"the update was changed", "it is of another variable", "it was signed to replace and is used to add, or the other way"},
		Action:  "Name the variable that it was signed for; get the update again from who made it.",
	},
	{
		Code:    "update.signer",
		Meaning: "The update is whole, but not signed by a key that may change this variable on this machine.",
		Causes:  []string{"the machine has other keys than the signer thought", "somebody tries to change the machine's keys"},
		Action:  "PK and KEK change by the platform key, db and dbx by a key under KEK: compare with assay keyset show.",
	},
	{
		Code:    "update.time",
		Meaning: "The update's time has fractions of a second or a time zone, which firmware refuses.",
		Causes:  []string{"a tool filled the time in wrongly"},
		Action:  "Sign the update again with a time of whole seconds in UTC.",
	},
	{
		Code:    "varstore.duplicate",
		Meaning: "The store has a variable twice; which of the two firmware reads cannot be said.",
		Causes:  []string{"the file was edited by another program", "the file is damaged"},
		Action:  "Restore the variable store from a backup, or begin with a new one.",
	},
	{
		Code:    "varstore.layout",
		Meaning: "The file is no variable store of a layout that is known here: the raw files of OVMF's builds of 2 MB and 4 MB.",
		Causes:  []string{"it is a qcow2 image", "it is firmware code, or code and variables in one file", "it is of another firmware or another machine architecture"},
		Action:  "Name the machine's OVMF_VARS file; convert a qcow2 image to raw first.",
	},
	{
		Code:    "varstore.malformed",
		Meaning: "The variable store contradicts itself.",
		Causes:  []string{"the file is damaged", "somebody edited it"},
		Action:  "Restore the variable store from a backup, or begin with a new one.",
	},
	{
		Code:    "varstore.not-authenticated",
		Meaning: "The variable store is of a firmware that was built without authenticated variables, and so without Secure Boot.",
		Causes:  []string{"the template belongs to another build of the firmware"},
		Action:  "Use a firmware with Secure Boot, such as OVMF_CODE_4M.secboot.fd, and its template.",
	},
	{
		Code:    "varstore.pending-write",
		Meaning: "Firmware was interrupted while it wrote to the store, and finishes that when the machine starts next; until then the store is not changed here.",
		Causes:  []string{"the machine was killed while it wrote a variable", "the machine is running"},
		Action:  "Start the machine once and shut it down; then try again.",
	},
	{
		Code:    "varstore.too-large",
		Meaning: "The firmware has no room for this variable.",
		Causes:  []string{"the full list of revocations does not fit the 2 MB build of OVMF", "there are many variables in the store"},
		Action:  "Use the 4 MB build of the firmware, or a shorter list.",
	},
	{
		Code:    "varstore.torn",
		Meaning: "A write of a variable was cut short; firmware goes on with the variable as it was before, or as it was written, and so does this program.",
		Causes:  []string{"the machine was killed while it wrote a variable"},
		Action:  "Nothing: firmware cleans up when the machine starts next.",
	},
}
