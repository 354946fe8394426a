package eventlog

import "bytes"

// section judges an event of systemd-stub in PCR 11: for each section of the
// image, its name in ASCII with NUL, then its content. Both carry the name in
// UTF-16 as data.
func (k *judge) section(j *judged) {
	var name [maxSection]byte
	n := 0
	for ; 2*n+1 < len(j.Data) && n < maxSection && j.Data[2*n] != 0 && j.Data[2*n+1] == 0; n++ {
		name[n] = j.Data[2*n]
	}
	s, known := stubSections[string(name[:n])]
	if !known || !k.part(j, s.hashed) {
		k.whole(j, false)
	}
}

// maxSection is the longest name of a PE section.
const maxSection = 8

// stubSection is a section that systemd-stub measures.
type stubSection struct {
	rank   int    // in the order of measurement
	hashed []byte // the name with NUL
}

// stubSections are the sections in the order of measurement (systemd, uki.h).
var stubSections = func() map[string]stubSection {
	out := map[string]stubSection{}
	for i, name := range [...]string{
		".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".dtbauto",
		".hwids", ".uname", ".sbat", ".pcrpkey", ".profile", ".efifw",
	} {
		out[name] = stubSection{i + 1, []byte(name + "\x00")}
	}
	return out
}()

// ukiSection is one section of a unified kernel image.
type ukiSection struct {
	name   string
	digest []byte
	event  int
}

// ukiSections reads PCR 11 as the stub writes it. ok is false when anything else
// is in it: then no section is believed.
func ukiSections(events []*judged) (out []ukiSection, ok bool) {
	if len(events) == 0 || len(events)%2 != 0 || len(events) > 2*len(stubSections) {
		return nil, false
	}
	last := 0
	for i := 0; i < len(events); i += 2 {
		head, body := events[i], events[i+1]
		name, end := bytes.CutSuffix(head.covered, []byte{0})
		rank := stubSections[string(name)].rank
		if head.Type != IPL || body.Type != IPL || !head.proven() || !end || rank <= last {
			return nil, false
		}
		last = rank
		out = append(out, ukiSection{string(name), body.digest, body.Index})
	}
	return out, true
}
