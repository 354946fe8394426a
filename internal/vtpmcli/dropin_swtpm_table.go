package vtpmcli

// The options of swtpm 0.10.1 whose value is a list of words (man 8 swtpm).
func swtpmServerWords() map[string]wordKind {
	return map[string]wordKind{
		"type": wordText, "path": wordText, "port": wordNumber, "bindaddr": wordText, "ifname": wordText,
		"fd": wordNumber, "disconnect": wordFlag, "mode": wordMode, "uid": wordUser, "gid": wordGroup,
	}
}

func swtpmCtrlWords() map[string]wordKind {
	return map[string]wordKind{
		"type": wordText, "path": wordText, "port": wordNumber, "bindaddr": wordText, "ifname": wordText,
		"fd": wordNumber, "clientfd": wordNumber, "mode": wordMode, "uid": wordUser, "gid": wordGroup, "terminate": wordFlag,
	}
}

func swtpmStateWords() map[string]wordKind {
	return map[string]wordKind{"dir": wordText, "mode": wordMode, "backend-uri": wordText, "lock": wordFlag}
}

func swtpmLogWords() map[string]wordKind {
	return map[string]wordKind{"file": wordText, "fd": wordNumber, "level": wordNumber, "prefix": wordText, "truncate": wordFlag}
}

func swtpmKeyWords() map[string]wordKind {
	return map[string]wordKind{
		"file": wordText, "fd": wordNumber, "pwdfile": wordText, "pwdfd": wordNumber,
		"mode": wordText, "format": wordText, "kdf": wordText, "remove": wordFlag,
	}
}

func swtpmPidWords() map[string]wordKind {
	return map[string]wordKind{"file": wordText, "fd": wordNumber}
}

func swtpmLocalityWords() map[string]wordKind {
	return map[string]wordKind{"reject-locality-4": wordFlag, "allow-set-locality": wordFlag}
}

func swtpmFlagsWords() map[string]wordKind {
	return map[string]wordKind{
		"not-need-init": wordFlag, "startup-none": wordFlag, "startup-clear": wordFlag, "startup-state": wordFlag,
		"startup-deactivated": wordFlag, "disable-auto-shutdown": wordFlag,
	}
}

func swtpmMigrationWords() map[string]wordKind {
	return map[string]wordKind{"incoming": wordFlag, "release-lock-outgoing": wordFlag}
}

func swtpmProfileWords() map[string]wordKind {
	return map[string]wordKind{"name": wordText, "profile": wordText, "file": wordText, "fd": wordNumber, "remove-disabled": wordText}
}

// swtpmFeatures are what swtpm --print-capabilities lists, in swtpm's order. A
// verb that is missing is not served: tpm-1.2, and cmdarg-seccomp, since the
// option is taken and there is no filter of system calls behind it.
func swtpmFeatures() []string {
	return []string{
		"tpm-2.0", "tpm-send-command-header", "flags-opt-startup", "flags-opt-disable-auto-shutdown", "ctrl-opt-terminate",
		"cmdarg-key-fd", "cmdarg-pwd-fd", "cmdarg-print-states", "cmdarg-chroot", "cmdarg-migration",
		"nvram-backend-dir", "nvram-backend-file", "rsa-keysize-2048", "rsa-keysize-3072",
		"cmdarg-profile", "cmdarg-print-profiles", "profile-opt-remove-disabled", "cmdarg-print-info", "tpmstate-opt-lock",
	}
}

// swtpmVersion is the version of swtpm whose place this program takes.
const swtpmVersion = "0.10.1"
