package baseline

import (
	"bytes"

	"github.com/assay-project/assay/eventlog"
)

// exemptVolume takes the first firmware volume of OVMF out of the judgement.
//
// OVMF measures two volumes into PCR 0. The first, PEIFV, holds variables of the
// code that has just run from it, so its digest depends on memory size, number of
// processors and the variable MemoryTypeInformation, which the firmware rewrites
// by itself: the same build gives other values on other shapes and, now and then,
// on a later boot of the same machine. The second, DXEFV, is constant. Where all
// but the first volume is as in the baseline, the difference informs, unless both
// shapes are known to be the same, for then nothing explains it.
func (c *comparer) exemptVolume(pcr int, base, boot []event, from int) {
	if pcr != 0 || len(c.out.Differences) != from+1 || !c.isOVMF(base, boot) {
		return
	}
	if c.base.shape.sameHardware(c.profile.Shape) {
		return
	}
	d := &c.out.Differences[from]
	if !d.Judged || d.Change != ChangeChanged {
		return
	}
	d.Judged = false
	d.Cause = "OVMF keeps variables in its first volume: another memory size, number of processors or memory map gives another digest; the main volume is the same"
	d.Action = "Nothing, if the machine was resized or its firmware variables were reset; give the shape of the machine to have it judged."
	c.out.EarlyPassed = !c.decides(func(early, _ bool) bool { return early })
	c.out.LatePassed = !c.decides(func(_, late bool) bool { return late })
}

// decides reports whether any difference that was kept as judged decides a part.
func (c *comparer) decides(part func(early, late bool) bool) bool {
	for _, d := range c.out.Differences {
		if d.Judged && part(c.judgement.judges(d.PCR, d.Phase == phaseLate)) {
			return true
		}
	}
	return false
}

// isOVMF recognises OVMF by what its PCR 0 measured: an empty version, two
// volumes and the separator, of which only the first volume differs.
func (c *comparer) isOVMF(base, boot []event) bool {
	if len(base) != 4 || len(boot) != 4 {
		return false
	}
	version := digest(c.base.bank, []byte{0, 0}) // PcdFirmwareVersionString of OVMF: UTF-16, empty
	for i := range base {
		same := base[i].accepts(boot[i].digests[0])
		if same == (i == 1) {
			return false
		}
	}
	return bytes.Equal(boot[0].digests[0], version) &&
		boot[1].kind == eventlog.KindFirmware && boot[2].kind == eventlog.KindFirmware && boot[3].kind == eventlog.KindSeparator
}
