package agent

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/assay-project/assay/internal/channel"
)

// Modules finds kernel modules that were kept from loading, or that loaded without a
// signature that the kernel accepts. What it finds is the guest's word.
type Modules struct {
	found  []channel.Module
	denied map[string]denial // SYSCALL records of audit, by their serial number
	order  []string          // of denied, oldest first
}

// A denial is a system call that loads modules and failed.
type denial struct{ reason, by string }

// maxDenials bounds how many system calls wait for the record that names their module.
const maxDenials = 64

// The kernel's words (kernel/module/signing.c, security/lockdown): each with the text
// that is found in a line of its log. %s stands for what a module or program is called.
var (
	// A notice "Loading of unsigned module is rejected" names no module.
	rejectedWords = []string{"unsigned module", "module with unsupported crypto", "module with unavailable key"}
	lockdownWord  = "unsigned module loading is restricted"
	taintWord     = ": module verification failed: signature and/or required key missing - tainting kernel"
)

// Take reads lines of the kernel's log, or of audit's.
func (m *Modules) Take(lines []string) {
	for _, line := range lines {
		switch {
		case strings.Contains(line, taintWord):
			name, _, _ := strings.Cut(line, taintWord)
			m.add(channel.Module{Name: lastWord(name), Loaded: true, Reason: "signature and/or required key missing", Source: "kernel log"})
		case strings.Contains(line, lockdownWord):
			_, rest, _ := strings.Cut(line, "Lockdown: ")
			by, _, _ := strings.Cut(rest, ":")
			m.add(channel.Module{Reason: "lockdown: " + lockdownWord, By: by, Source: "kernel log"})
		case strings.Contains(line, "Loading of ") && strings.Contains(line, " is rejected"):
			for _, what := range rejectedWords {
				if strings.Contains(line, what) {
					m.add(channel.Module{Reason: what, Source: "kernel log"})
				}
			}
		case strings.Contains(line, "audit("):
			m.audit(line)
		}
	}
}

// lastWord is the name before the kernel's words: "nvidia" of "[ 12.3] nvidia".
func lastWord(s string) string {
	words := strings.Fields(s)
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// audit reads a record: SYSCALL (1300) of init_module or finit_module that failed, and
// KERN_MODULE (1330), which names the module of the same event.
func (m *Modules) audit(line string) {
	_, rest, _ := strings.Cut(line, "audit(")
	serial, rest, ok := strings.Cut(rest, ")")
	if !ok {
		return
	}
	fields := auditFields(rest)
	switch {
	case strings.Contains(line, "type=KERN_MODULE") || strings.Contains(line, "type=1330"):
		if d, ok := m.denied[serial]; ok {
			m.add(channel.Module{Name: fields["name"], Reason: d.reason, By: d.by, Source: "audit"})
		}
	case strings.Contains(line, "type=SYSCALL") || strings.Contains(line, "type=1300"):
		if reason := refusals[fields["exit"]]; reason != "" && fields["success"] == "no" {
			m.deny(serial, denial{reason, fields["comm"]})
		}
	}
}

// refusals are the errors of a module whose signature is not accepted.
var refusals = map[string]string{
	"-129": "the signature is by a key that is not accepted (EKEYREJECTED)",
	"-126": "the signature's key is not known (ENOKEY)",
	"-74":  "the signature does not match (EBADMSG)",
	"-1":   "not permitted: lockdown, or no right to load modules (EPERM)",
}

func (m *Modules) deny(serial string, d denial) {
	if m.denied == nil {
		m.denied = map[string]denial{}
	}
	if _, known := m.denied[serial]; !known {
		m.order = append(m.order, serial)
	}
	m.denied[serial] = d
	if len(m.order) > maxDenials {
		delete(m.denied, m.order[0])
		m.order = m.order[1:]
	}
}

// auditFields splits a record into its fields; values may be quoted.
func auditFields(s string) map[string]string {
	out := map[string]string{}
	for word := range strings.FieldsSeq(strings.TrimPrefix(s, ":")) {
		if name, value, ok := strings.Cut(word, "="); ok {
			out[name] = strings.Trim(value, `"`)
		}
	}
	return out
}

// add keeps what is new; the channel takes no more than its limit.
func (m *Modules) add(f channel.Module) {
	f.Name, f.By, f.Reason = channel.Clean(f.Name, 64), channel.Clean(f.By, 64), channel.Clean(f.Reason, channel.MaxText)
	if len(f.Name) == 0 && len(f.Reason) == 0 || slices.Contains(m.found, f) || len(m.found) >= channel.MaxModules {
		return
	}
	m.found = append(m.found, f)
}

// Files of the kernel that tell how it stands to modules.
const (
	modulesPath    = "proc/modules"
	taintedPath    = "proc/sys/kernel/tainted"
	lockdownPath   = "sys/kernel/security/lockdown"
	sigEnforcePath = "sys/module/module/parameters/sig_enforce"
	auditLogPath   = "var/log/audit/audit.log"
	imaTextPath    = "sys/kernel/security/ima/ascii_runtime_measurements"
	maxProc        = 256 << 10
)

// Look reads what the kernel of root says now: the flags of loaded modules, what IMA
// measured of them, and the end of audit's log where there is one. What cannot be read is
// left out.
func (m *Modules) Look(root fs.FS) *channel.Kernel {
	if list, err := readAtMost(root, modulesPath, maxProc); err == nil {
		m.loaded(string(list))
		m.name(root, string(list))
	}
	if log, err := tail(root, auditLogPath, maxProc); err == nil {
		m.Take(strings.Split(string(log), "\n"))
	}
	k := new(channel.Kernel)
	if b, err := readAtMost(root, taintedPath, 64); err == nil {
		k.Tainted, _ = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	if b, err := readAtMost(root, lockdownPath, 256); err == nil {
		_, rest, _ := strings.Cut(string(b), "[")
		mode, _, _ := strings.Cut(rest, "]")
		k.Lockdown = channel.Clean(mode, 32)
	}
	if b, err := readAtMost(root, sigEnforcePath, 16); err == nil {
		k.SigEnforce = channel.Clean(strings.TrimSpace(string(b)), 4)
	}
	return k
}

// loaded reads /proc/modules, whose last field has the taint of a module in brackets:
// E for unsigned, F for forced.
func (m *Modules) loaded(list string) {
	for line := range strings.Lines(list) {
		words := strings.Fields(line)
		if len(words) < 7 {
			continue
		}
		if flags := words[len(words)-1]; strings.HasPrefix(flags, "(") && strings.ContainsAny(flags, "EF") {
			m.add(channel.Module{Name: words[0], Loaded: true, Reason: "loaded with taint " + flags, Source: "modules"})
		}
	}
}

// name finds names for a refusal that has none. IMA measures a module before its
// signature is looked at, under the rules that it has with secure boot: a module that was
// measured and is not loaded may be the one that was refused.
func (m *Modules) name(root fs.FS, loaded string) {
	i := slices.IndexFunc(m.found, func(f channel.Module) bool { return f.Name == "" && slices.Contains(rejectedWords, f.Reason) })
	if i < 0 {
		return
	}
	measured, err := readAtMost(root, imaTextPath, maxIMA)
	if err != nil {
		return
	}
	reason := m.found[i].Reason
	running := map[string]bool{}
	for line := range strings.Lines(loaded) {
		name, _, _ := strings.Cut(line, " ")
		running[name] = true
	}
	var names []string
	for line := range strings.Lines(string(measured)) {
		// "10 HASH ima-ng sha256:HASH /path/of/a-module.ko", and a signature in some templates.
		if words := strings.Fields(line); len(words) >= 5 {
			if name := moduleName(words[4]); name != "" && !running[name] && !slices.Contains(names, name) && len(names) < channel.MaxModules {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return
	}
	m.found = slices.Delete(m.found, i, i+1)
	for _, name := range names {
		m.add(channel.Module{Name: name, Reason: reason, Source: "kernel log; IMA measured this module, and it is not loaded"})
	}
}

// moduleName is the name of the module in a file, "" for other files: a module has
// underscores where its file may have hyphens.
func moduleName(file string) string {
	base := path.Base(file)
	for _, packed := range []string{".xz", ".zst", ".gz"} {
		base = strings.TrimSuffix(base, packed)
	}
	name, ok := strings.CutSuffix(base, ".ko")
	if !ok {
		return ""
	}
	return strings.ReplaceAll(name, "-", "_")
}

// tail reads the end of a file that may be long.
func tail(fsys fs.FS, name string, most int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	at, ok := f.(interface {
		ReadAt(b []byte, off int64) (int, error)
	})
	if !ok || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", name)
	}
	b := make([]byte, min(most, info.Size()))
	n, err := at.ReadAt(b, info.Size()-int64(len(b)))
	if n < len(b) {
		return nil, err
	}
	return b, nil
}

// Found lists what was found so far.
func (m *Modules) Found() []channel.Module { return slices.Clone(m.found) }
