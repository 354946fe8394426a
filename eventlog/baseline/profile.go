package baseline

import (
	"fmt"
	"slices"
)

// A Profile says which registers decide. Differences in the others are listed
// and decide nothing. The zero Profile judges no register and passes no boot.
type Profile struct {
	Name string
	// Shape is that of the machine that booted, where the caller knows it.
	Shape   Shape
	linux   judgement
	windows judgement
}

// A judgement names the registers that decide each part.
type judgement struct {
	early []int // until the boot loader has control
	late  []int // the whole boot
	tail  []int // late, but only what came after the early part
}

// Default is the profile that is meant by no other name. It is stricter than
// [GCE]: command line, initrd and boot loader configuration decide too.
//
// Of Windows, PCR 12 informs: it holds counters that rise with every start, and
// all else that it states is in PCR 13 too.
func Default() Profile {
	early, tail := []int{0, 2, 3, 4, 7}, []int{0, 2, 3, 5}
	return Profile{
		Name:    "default",
		linux:   judgement{early, []int{4, 7, 8, 9, 11, 12, 13, 14}, tail},
		windows: judgement{early, []int{4, 7, 8, 9, 11, 13, 14}, tail},
	}
}

// GCE is the set of Google's Shielded VMs: PCR 0 and 5 are recorded and never
// decide, and the kernel command line (PCR 8, 9) is not looked at.
func GCE() Profile {
	early := []int{4, 7}
	return Profile{
		Name:    "gce",
		linux:   judgement{early, []int{4, 7}, nil},
		windows: judgement{early, []int{4, 7, 11, 13, 14}, nil},
	}
}

// ProfileNames are the names that [ProfileNamed] knows.
func ProfileNames() []string { return []string{"default", "gce"} }

// ProfileNamed returns a profile by its name; "" is the default.
func ProfileNamed(name string) (Profile, error) {
	switch name {
	case "", "default":
		return Default(), nil
	case "gce":
		return GCE(), nil
	default:
		return Profile{}, fmt.Errorf("profile %q is none of %v", name, ProfileNames())
	}
}

func (p Profile) judgement(windows bool) judgement {
	if windows {
		return p.windows
	}
	return p.linux
}

// judges reports whether a difference in a register decides on the early boot,
// and on the late one.
func (j judgement) judges(pcr int, late bool) (decidesEarly, decidesLate bool) {
	decidesEarly = !late && slices.Contains(j.early, pcr)
	decidesLate = slices.Contains(j.late, pcr) || late && slices.Contains(j.tail, pcr)
	return decidesEarly, decidesLate
}

// pcrs returns every register that decides anything.
func (j judgement) pcrs() []int {
	out := slices.Concat(j.early, j.late, j.tail)
	slices.Sort(out)
	return slices.Compact(out)
}

// Required returns the PCRs that a quote must cover for a boot to pass under p.
func (p Profile) Required(b *Baseline) []int { return p.judgement(b.Windows()).pcrs() }
