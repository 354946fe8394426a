package engine

import (
	"iter"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// JournalKind says what a [JournalRecord] tells.
type JournalKind uint8

// The kinds of records.
const (
	JournalInit      JournalKind = iota + 1 // _TPM_Init: power came on
	JournalStartup                          // TPM2_Startup; Detail is 0 for a TPM Reset, 1 Restart, 2 Resume
	JournalShutdown                         // TPM2_Shutdown; Detail is its TPM_SU
	JournalExtend                           // a PCR was extended with Digests
	JournalEvent                            // TPM2_PCR_Event did so
	JournalReset                            // a PCR was reset
	JournalHashStart                        // _TPM_Hash_Start: a dynamic root of trust, or the H-CRTM
	JournalHashEnd                          // _TPM_Hash_End extended PCR with Digests
	JournalLocality                         // commands come from another locality
	JournalAllocate                         // TPM2_PCR_Allocate; it takes effect at the next TPM Reset
)

// A JournalRecord is one thing that happened to the measurements of a TPM.
type JournalRecord struct {
	Kind     JournalKind
	Locality uint8
	PCR      uint8
	Detail   uint8
	Time     uint64 // milliseconds since power on
	Digests  []tpm2.HA
}

// Wire lays out a record as it is kept and snapshotted.
func (r *JournalRecord) Wire(c *wire.Codec) {
	wire.U8(c, &r.Kind)
	wire.U8(c, &r.Locality)
	wire.U8(c, &r.PCR)
	wire.U8(c, &r.Detail)
	wire.U64(c, &r.Time)
	wire.List32(c, &r.Digests, tpm2.MaxPCRSelections)
}

// journalLimit bounds the bytes of the journal of one boot: some 450 extends of
// four banks. What comes later is counted, not kept: a guest must not be able to
// push out the record of its own boot.
const journalLimit = 96 << 10

// journal is the record of measurements since _TPM_Init. Only the owner of the
// process can read it; no command does.
type journal struct {
	buf     []byte // records, one after the other
	count   uint64
	dropped uint64
}

// Journal yields the records since power came on, in order. dropped is how many
// more there were after the journal was full.
func (t *TPM) Journal() (records iter.Seq[JournalRecord], dropped uint64) {
	buf := t.journal.buf
	return func(yield func(JournalRecord) bool) {
		for len(buf) > 0 {
			var r JournalRecord
			rest, err := wire.DecodePrefix(buf, &r)
			if err != nil {
				panic(err) // we wrote it
			}
			if buf = rest; !yield(r) {
				return
			}
		}
	}, t.journal.dropped
}

// restart empties the journal for a new boot.
func (j *journal) restart() { *j = journal{buf: j.buf[:0]} }

// record appends a record at the present time.
func (t *TPM) record(r *JournalRecord) {
	j := &t.journal
	j.count++
	if len(j.buf) >= journalLimit || j.dropped != 0 {
		j.dropped++
		return
	}
	r.Time = t.vol.time
	b, err := wire.Append(j.buf, r)
	if err != nil {
		panic(err)
	}
	j.buf = b
}

// journalDigests records what a PCR was extended with.
func (t *TPM) journalDigests(kind JournalKind, locality uint8, pcr int, digests tpm2.DigestValues) {
	r := JournalRecord{Kind: kind, Locality: locality, PCR: uint8(pcr)}
	for i := range digests {
		r.Digests = append(r.Digests, tpm2.HA(digests[i]))
	}
	t.record(&r)
}
