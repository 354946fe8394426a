package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// An Effect is something that a change of a machine brings about, in words, before
// it is made.
type Effect struct {
	Member string `json:"member"`
	Old    string `json:"old"`
	New    string `json:"new"`
	// PCRs will have other values at the next boot; what is sealed to them does not
	// open then.
	PCRs []int `json:"pcrs,omitempty"`
	// Restart is set when the change takes effect at the next start only.
	Restart bool `json:"restart"`
	// Destroys is set when secrets are lost for good.
	Destroys bool   `json:"destroys"`
	Words    string `json:"words"`
}

// Effects compares two definitions of one machine.
func Effects(before, after *Definition) []Effect {
	var out []Effect
	add := func(member, was, is string, pcrs []int, destroys bool, words string) {
		if was != is {
			out = append(out, Effect{member, was, is, pcrs, true, destroys, words})
		}
	}
	onOff := map[bool]string{true: "on", false: "off"}
	a, b := &before.Shielded, &after.Shielded
	add("enableSecureBoot", onOff[a.SecureBoot], onOff[b.SecureBoot], []int{0, 4, 7}, false, word(b.SecureBoot,
		"the firmware, another build, will refuse programs that are not signed by a key in db; what the guest sealed to PCR 7 does not open until it is sealed again",
		"any boot loader can run, under another build of the firmware; what the guest sealed to PCR 7 does not open until it is sealed again"))
	add("enableVtpm", onOff[a.VTPM], onOff[b.VTPM], nil, a.VTPM && !b.VTPM, word(b.VTPM,
		"the machine gets a new TPM at its next start",
		"the TPM and all that the guest keeps in it or sealed with it are lost; take a backup first"))
	add("enableIntegrityMonitoring", onOff[a.IntegrityMonitoring], onOff[b.IntegrityMonitoring], nil, false, word(b.IntegrityMonitoring,
		"the next whole boot is judged, by the newest baseline or as the first one",
		"boots are no longer judged; the baselines are kept"))
	add("integrityPolicy", before.Policy, after.Policy, nil, false, "the next boot is judged by other registers")
	add("keyset", before.Keyset, after.Keyset, []int{7}, false, "other keys in PK, KEK, db or dbx: PCR 7 changes, and what the guest sealed to it does not open")
	add("cpus", fmt.Sprint(before.CPUs), fmt.Sprint(after.CPUs), []int{0}, false, "PCR 0 depends on the number of processors: its part that does informs, and the rest is judged as before")
	add("memoryMiB", fmt.Sprint(before.MemoryMiB), fmt.Sprint(after.MemoryMiB), []int{0}, false, "PCR 0 depends on the memory: its part that does informs, and the rest is judged as before")
	add("tpmInterface", before.TPM, after.TPM, nil, false, "the guest needs the other driver")
	add("machineType", before.MachineType, after.MachineType, []int{0, 1, 2}, false, "another board: the firmware measures other things")
	add("agent", onOff[before.Agent], onOff[after.Agent], nil, false, "the second serial port, by which an agent in the guest attests")
	add("approveFirstBoot", onOff[before.ApproveFirst], onOff[after.ApproveFirst], nil, false, "who makes the first baseline")
	add("bootDeadlineSeconds", fmt.Sprint(before.BootDeadline), fmt.Sprint(after.BootDeadline), nil, false, "a boot that takes longer is an event")
	add("stopOnFailure", onOff[before.StopOnFailure], onOff[after.StopOnFailure], nil, false, "whether a boot that fails ends the machine")
	add("guestOS", before.GuestOS, after.GuestOS, nil, false, "what is supported and judged follows the operating system")
	add("virtualizationBasedSecurity", onOff[before.Virtualization], onOff[after.Virtualization], []int{1}, false, "the board gets or loses an IOMMU")
	add("disks", fmt.Sprint(before.Disks), fmt.Sprint(after.Disks), []int{1, 4, 5}, false, "other boot entries and partition tables are measured")
	add("networks", fmt.Sprint(before.Networks), fmt.Sprint(after.Networks), []int{1}, false, "other boot entries may be measured")
	add("site", anywhere(before.Site), anywhere(after.Site), nil, false, "where the machine may run; one that runs elsewhere does not move by this")
	add("host", anywhere(before.Host), anywhere(after.Host), nil, false, "where the machine may run; one that runs elsewhere does not move by this")
	add("image", orNone(before.Image), orNone(after.Image), nil, false, "what is said of the image that the machine was made from; its disk is as before")
	if was, is := labels(before.Labels), labels(after.Labels); was != is {
		out = append(out, Effect{Member: "labels", Old: was, New: is, Words: "the groups that the machine is in; its boots are as before"})
	}
	return out
}

func orNone(image string) string {
	if image == "" {
		return "none"
	}
	return image
}

func anywhere(place string) string {
	if place == "" {
		return "anywhere"
	}
	return place
}

// labels lists labels in the order of their names.
func labels(l map[string]string) string {
	if len(l) == 0 {
		return "none"
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(l)) {
		out = append(out, fmt.Sprintf("%s=%q", name, l[name]))
	}
	return strings.Join(out, ", ")
}

func word(on bool, yes, no string) string {
	if on {
		return yes
	}
	return no
}
