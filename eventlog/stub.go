package eventlog

import (
	"bytes"

	"github.com/assay-project/assay/uefi"
)

// section judges an event of systemd-stub in PCR 11: for each section of the
// image, its name in ASCII with NUL, then its content. Both carry the name in
// UTF-16 as data.
func (k *judge) section(j *judged) {
	name := uefi.Text(j.Data)
	if len(name) < 2 || name[0] != '.' || len(name) > 8 {
		k.whole(j, false)
		return
	}
	k.part(j, append([]byte(name), 0))
}

// sectionRanks is the order in which the stub measures (systemd, uki.h).
var sectionRanks = map[string]int{
	".linux": 1, ".osrel": 2, ".cmdline": 3, ".initrd": 4, ".ucode": 5, ".splash": 6,
	".dtb": 7, ".dtbauto": 8, ".hwids": 9, ".uname": 10, ".sbat": 11, ".pcrpkey": 12, ".profile": 13, ".efifw": 14,
}

// ukiSection is one section of a unified kernel image.
type ukiSection struct {
	name   string
	digest []byte
	event  int
}

// ukiSections reads PCR 11 as the stub writes it. ok is false when anything else
// is in it: then no section is believed.
func ukiSections(events []*judged) (out []ukiSection, ok bool) {
	if len(events) == 0 || len(events)%2 != 0 {
		return nil, false
	}
	last := 0
	for i := 0; i < len(events); i += 2 {
		head, body := events[i], events[i+1]
		name, end := bytes.CutSuffix(head.covered, []byte{0})
		rank := sectionRanks[string(name)]
		if head.Type != IPL || body.Type != IPL || !head.proven() || !end || rank <= last {
			return nil, false
		}
		last = rank
		out = append(out, ukiSection{string(name), body.digest, body.Index})
	}
	return out, true
}
