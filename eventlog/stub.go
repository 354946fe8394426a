package eventlog

import "bytes"

// section judges an event of systemd-stub in PCR 11: for each section of the
// image, its name in ASCII with NUL, then its content. Both carry the name in
// UTF-16 as data.
func (k *judge) section(j *judged) {
	var name [maxSection + 1]byte
	n := 0
	for ; 2*n+1 < len(j.Data) && n < maxSection && j.Data[2*n] != 0 && j.Data[2*n+1] == 0; n++ {
		name[n] = j.Data[2*n]
	}
	if n < 2 || name[0] != '.' || !k.matches(j, name[:n+1]) {
		k.whole(j, false)
		return
	}
	j.cover, j.covered = coverPart, append([]byte(nil), name[:n+1]...)
}

// maxSection is the longest name of a PE section.
const maxSection = 8

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
	if len(events) == 0 || len(events)%2 != 0 || len(events) > 2*len(sectionRanks) {
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
