package baseline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/assay-project/assay/eventlog"
)

// describe fills in Words, Cause and Action.
func (d *Difference) describe() {
	info := PCR(d.PCR)
	d.Cause, d.Action = info.Causes, info.Action
	if k, ok := kinds()[d.Kind]; ok && d.Change != ChangeValue {
		d.Cause, d.Action = k.cause, k.action
	}
	switch d.Change {
	case ChangeBank:
		d.Words = fmt.Sprintf("baseline is of bank %s, boot of bank %s", d.Old.Detail, d.New.Detail)
		d.Cause, d.Action = "the quote or the log is of another bank", "Quote the bank that the baseline was made of, or make a new baseline."
	case ChangeBankAdded, ChangeBankRemoved, ChangeBankUneven:
		d.describeBank()
	case ChangeNoJudgement:
		d.Words = "profile judges no register"
		d.Cause, d.Action = "no profile was chosen", "Name a profile."
	case ChangeNotQuoted:
		d.Words = fmt.Sprintf("PCR %d is not proven: the quote leaves it out, or there is no log for it", d.PCR)
		d.Cause, d.Action = "the quote selects fewer PCRs than the profile judges", fmt.Sprintf("Quote PCR %d too.", d.PCR)
	case ChangeNotCovered:
		d.Words = fmt.Sprintf("baseline has no value of PCR %d", d.PCR)
		d.Cause, d.Action = "the baseline was made from a quote of fewer PCRs", "Make the baseline again from a boot with all PCRs that the profile judges."
	case ChangeValue:
		d.Words = fmt.Sprintf("PCR %d (%s) changed: %s -> %s", d.PCR, firstClause(info.Covers), valueOf(d.Old), valueOf(d.New))
	case ChangeChanged:
		d.Words = d.subject() + " changed: " + d.fromTo()
	case ChangeMoved:
		d.Words = d.subject() + " was measured at another place of the sequence"
	case ChangeAdded:
		d.Words = d.subject() + " was added: " + content(d.New)
	case ChangeRemoved:
		d.Words = d.subject() + " is missing: it was " + content(d.Old)
	}
}

func (d *Difference) describeBank() {
	d.Cause = "somebody changed which banks the TPM has (TPM2_PCR_Allocate), in the firmware's set-up or from the operating system"
	d.Action = "Unless it was ordered, investigate: a quote of this bank does not prove what this boot was judged by."
	switch d.Change {
	case ChangeBankAdded:
		d.Words = d.Component + " is active, and the baseline does not have it"
	case ChangeBankRemoved:
		d.Words = d.Component + " of the baseline is no longer active"
	case ChangeBankUneven:
		d.Words = d.Component + " is active and does not have what the others have: nobody extended it, or somebody did so alone"
		d.Cause = "firmware or a boot loader that does not extend this bank, or a program that writes what it likes into it"
		d.Action = "Switch the bank off where the firmware does not extend it; else investigate: whoever asks for a quote of it is told what was never booted."
	}
}

// HintMark ends a component's name that says by itself who gave it, and that it is a hint.
const HintMark = "; a hint)"

// subject names the component, and says when the name is only the log's word.
func (d *Difference) subject() string {
	name := d.Component
	if name == "" {
		name = d.Kind
	}
	name = fmt.Sprintf("%s in PCR %d", name, d.PCR)
	if d.Hint && d.Component != "" && !strings.Contains(d.Component, HintMark) {
		name += " (name as the log gives it)"
	}
	return name
}

func (d *Difference) fromTo() string {
	was, is := content(d.Old), content(d.New)
	if strings.Contains(d.Old.Detail+d.New.Detail, "\n") {
		was, is = linesWithout(d.Old.Detail, d.New.Detail), linesWithout(d.New.Detail, d.Old.Detail)
	}
	if was == is { // the same words, so only the digests tell
		was, is = short(d.Old.Digest), short(d.New.Digest)
	}
	words := was + " -> " + is
	if d.Old.Signer != d.New.Signer {
		words += fmt.Sprintf("; signed by %s -> %s", orNobody(d.Old.Signer), orNobody(d.New.Signer))
	}
	return words
}

// linesWithout returns the lines of a list that another does not have.
func linesWithout(list, other string) string {
	var out []string
	lines := strings.Split(other, "\n")
	for line := range strings.SplitSeq(list, "\n") {
		if !slices.Contains(lines, line) && len(out) < maxModules {
			out = append(out, line)
		}
	}
	return fmt.Sprintf("%q", cut(strings.Join(out, "; ")))
}

// content is what a person can compare: the text where there is one, else the
// start of the digest.
func content(s *Side) string {
	if s.Detail != "" {
		return fmt.Sprintf("%q", cut(strings.ReplaceAll(s.Detail, "\n", "; ")))
	}
	return short(s.Digest)
}

const maxShown = 400 // bytes of a text in words; the difference has the whole

func cut(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}

func short(digest string) string { return digest[:min(len(digest), 16)] }

// firstClause is as much of a description as fits into a sentence.
func firstClause(s string) string { return s[:strings.IndexAny(s+":", ":;,")] }

func valueOf(s *Side) string {
	if s == nil {
		return "nothing"
	}
	return short(s.Digest)
}

func orNobody(s string) string {
	if s == "" {
		return "nobody known"
	}
	return fmt.Sprintf("%q", s)
}

// modules says which modules of a Windows event changed. They are what the event
// lists, so its digest covers them.
func (d *Difference) modules(old, new *event) {
	was, is := map[string]module{}, map[string]module{}
	for _, m := range old.modules {
		was[m.name] = m
	}
	for _, m := range new.modules {
		is[m.name] = m
	}
	var gone, came []string
	for _, m := range old.modules {
		if is[m.name] != m && len(gone) < maxModules {
			gone = append(gone, m.name+" "+short(m.digest))
		}
	}
	for _, m := range new.modules {
		if was[m.name] != m && len(came) < maxModules {
			came = append(came, m.name+" "+short(m.digest))
		}
	}
	if len(gone)+len(came) > 0 {
		d.Old.Detail, d.New.Detail = strings.Join(gone, ", "), strings.Join(came, ", ")
	}
}

const maxModules = 32 // named in one difference

type advice struct{ cause, action string }

// kinds explains differences by the kind of component.
func kinds() map[string]advice {
	return map[string]advice{
		eventlog.KindFirmware:       {"a firmware update, or a virtual machine of another size", "Compare with the firmware package that the machine should run."},
		eventlog.KindBootLoader:     {"an update of the boot loader, or another one put in its place", "Compare the digest with the installed package; if no update was planned, do not boot it again and investigate."},
		eventlog.KindKernel:         {"a kernel update, or another kernel started", "Compare the digest with the installed package; if no update was planned, investigate."},
		eventlog.KindInitrd:         {"the initrd was rebuilt: an update, a configuration change, or tampering, which secure boot does not notice", "Look for the update that rebuilt it; if there is none, investigate."},
		eventlog.KindCommandLine:    {"an edit of the boot loader's configuration, or of the boot menu by hand", "Read old and new; unless the change was ordered, investigate."},
		eventlog.KindConfig:         {"an edit of the boot loader's configuration, or a command typed at its prompt", "Compare the configuration files with what was ordered."},
		eventlog.KindVariable:       {"secure boot was switched, or a key or revocation list was changed", "Look for an update of db or dbx by the vendor; any other key is one that somebody enrolled."},
		eventlog.KindAuthority:      {"an image signed by another key, a new shim, or a new SBAT level", "Check that the signer is one you expect."},
		eventlog.KindSeparator:      {"the firmware ended a phase otherwise than before", "Read the boot's findings; a separator in a wrong place is a sign of tampering."},
		eventlog.KindOptionROM:      {"a card was added, removed, or has new firmware", "Compare with the hardware that the machine should have."},
		eventlog.KindPartitionTable: {"the boot disk was partitioned anew, cloned, or exchanged", "Check that the disk is the one that belongs there."},
		eventlog.KindBootEntry:      {"a boot entry or the boot order was changed, or a disk or network card added", "Compare the boot entries with what was ordered."},
		eventlog.KindAction:         {"the firmware took another way: a failed attempt, a debug mode, another boot option", "Read the boot's findings."},
		eventlog.KindMOK:            {"a machine owner key was enrolled or removed", "Ask who enrolled it; shim then trusts whatever that key signs."},
	}
}
