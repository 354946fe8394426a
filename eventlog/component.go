package eventlog

import "github.com/assay-project/assay/eventlog/sipa"

// Component is one measured thing with a name that a person knows.
type Component struct {
	PCR    int    `json:"pcr"`
	Event  int    `json:"event"`
	Kind   string `json:"kind"` // one of the Kind constants
	Name   string `json:"name"`
	Digest []byte `json:"digest"`           // in the bank; aliases the log
	Detail string `json:"detail,omitempty"` // decoded content, where the log has it
	Signer string `json:"signer,omitempty"` // where the log says it
	// Proven is set when Name and Detail follow from data that the digest covers.
	// Otherwise they are hints: the digest is true, the words may lie.
	Proven bool `json:"proven"`
	Late   bool `json:"late"` // belongs to late boot
}

// Kinds of components.
const (
	KindFirmware       = "firmware"
	KindBootLoader     = "boot-loader"
	KindKernel         = "kernel"
	KindInitrd         = "initrd"
	KindCommandLine    = "command-line"
	KindConfig         = "config"
	KindVariable       = "variable"
	KindAuthority      = "authority"
	KindSeparator      = "separator"
	KindOptionROM      = "option-rom"
	KindPartitionTable = "partition-table"
	KindBootEntry      = "boot-entry"
	KindAction         = "action"
	KindModule         = "module"
	KindMOK            = "mok"
	KindOther          = "other"
)

// Components returns every measured thing in log order, modules of Windows after
// the event that lists them. Registers that are not believed are left out.
func (b *boot) Components() []Component {
	if b.a == nil {
		return nil
	}
	return b.a.components()
}

func (a *analysis) components() []Component {
	var early [8]int
	for pcr := range early {
		early[pcr] = a.earlyEnd(uint32(pcr))
	}
	d := newDescriber(a)
	modules := a.windows.Modules // in log order
	out := make([]Component, 0, len(a.events))
	for i := range a.events {
		j := a.events[i]
		w := d.describe(&j) // also where nothing is believed: it counts sections
		if !a.trusts(int(j.PCR)) && a.log.format != FormatCC {
			continue
		}
		late := j.PCR >= 8 || early[j.PCR] >= 0 && j.Index > early[j.PCR]
		out = append(out, Component{
			PCR: int(j.PCR), Event: j.Index, Kind: w.kind, Name: w.name, Digest: j.digest,
			Detail: w.detail, Signer: w.signer, Proven: w.proven, Late: late,
		})
		for len(modules) > 0 && modules[0].Event <= j.Index {
			out = append(out, module(modules[0], j.Index))
			modules = modules[1:]
		}
	}
	return out
}

func module(m sipa.Module, event int) Component {
	name := m.Name()
	if name == "" {
		name = "module without a path"
	}
	return Component{
		PCR: m.PCR, Event: event, Kind: KindModule, Name: name, Digest: m.Digest,
		Detail: m.Path, Signer: m.Publisher, Proven: true, Late: true,
	}
}
