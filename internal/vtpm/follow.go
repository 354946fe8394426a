package vtpm

import (
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/tpm2/engine"
)

// Measured is what a TPM took into its measurement journal, in order.
type Measured struct {
	// Records are those that the journal keeps; each says how many right before it were
	// omitted.
	Records []engine.JournalRecord
	// Restored is set when the TPM goes on from volatile state, as after a migration or
	// in a snapshot: the records are then all of the boot that it is in.
	Restored bool
	// Lost is set when there were more than the journal holds. What it omits of the
	// registers beside the boot is not lost: no boot is known by that.
	Lost bool
}

// Follow has f told of what the TPM measures, from its next power on. f is called
// with the TPM's lock, between two commands, and must not wait. It is for the owner of
// the machine: no guest and no hypervisor reads the journal.
func (i *Instance) Follow(f func(Measured)) { i.follow = f }

// followed is a TPM whose journal somebody reads.
type followed struct {
	frontend.TPM
	engine   *engine.TPM
	tell     func(Measured)
	seen     int
	dropped  uint64
	restored bool // and nothing was told of it yet
}

// look tells what the journal has that was not told.
func (f *followed) look() {
	size, dropped := f.engine.JournalSize()
	if size == f.seen && dropped == f.dropped {
		return
	}
	m := Measured{Restored: f.restored, Lost: dropped != f.dropped}
	m.Records, f.seen = f.engine.JournalSince(f.seen)
	f.dropped, f.restored = dropped, false
	f.tell(m)
}

// Arrived tells of a boot that goes on, before any command of it.
func (f *followed) Arrived() { f.look() }

// Execute runs a command.
func (f *followed) Execute(locality uint8, request []byte) []byte {
	b := f.TPM.Execute(locality, request)
	f.look()
	return b
}

// PowerOn is _TPM_Init, with which the journal begins anew.
func (f *followed) PowerOn() {
	f.TPM.PowerOn()
	f.seen, f.dropped, f.restored = 0, 0, false
	f.look()
}

// HashEnd ends a dynamic launch, or the H-CRTM's measurement.
func (f *followed) HashEnd() {
	f.TPM.HashEnd()
	f.look()
}
