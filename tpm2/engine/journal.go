package engine

import (
	"encoding/binary"
	"iter"
	"slices"

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
	JournalExtend                           // PCR was extended with Digests
	JournalEvent                            // TPM2_PCR_Event did so
	JournalReset                            // PCR was reset
	JournalHashStart                        // _TPM_Hash_Start: a dynamic root of trust, or the H-CRTM
	JournalHashEnd                          // _TPM_Hash_End extended PCR with Digests
	JournalLocality                         // from here on commands come from Locality
	JournalAllocate                         // TPM2_PCR_Allocate; it takes effect at the next TPM Reset
)

// A JournalRecord is one thing that happened to the measurements of a TPM.
type JournalRecord struct {
	Kind     JournalKind
	Locality uint8
	PCR      uint8
	Detail   uint8
	Time     uint64    // milliseconds since power on
	Digests  []tpm2.HA // by bank, those that changed the PCR, in order; of JournalStartup the value of PCR 0 in every bank
	// Omitted is how many records of PCR 10 and from 16 on came right before this one
	// and were not kept.
	Omitted uint64
}

// Wire lays out a record as it is kept and snapshotted; [journal.begin] and
// [journal.digest] write the same. What was omitted is kept beside the records.
func (r *JournalRecord) Wire(c *wire.Codec) {
	wire.U8(c, &r.Kind)
	c.Check(r.Kind >= JournalInit && r.Kind <= JournalAllocate, wire.ErrRange)
	wire.U8(c, &r.Locality)
	wire.U8(c, &r.PCR)
	wire.U8(c, &r.Detail)
	wire.U64(c, &r.Time)
	n := uint8(len(r.Digests)) // bounded: a command names at most MaxPCRSelections
	wire.U8(c, &n)
	c.Check(n <= tpm2.MaxPCRSelections, wire.ErrSize)
	if c.Decoding() && c.Err() == nil {
		r.Digests = make([]tpm2.HA, n)
	}
	for i := range r.Digests {
		r.Digests[i].Wire(c)
	}
}

const (
	// journalLimit bounds the bytes of the journal of one boot: some 500 extends of
	// four banks. What comes later is counted, not kept: a guest must not be able to
	// push out the record of its own boot.
	journalLimit = 96 << 10
	// besideLimit bounds the part of it that registers beside the boot may fill: Linux
	// extends PCR 10 for each file that it runs, and no boot is known by that. From
	// there on none of theirs is kept, and all are counted.
	besideLimit = journalLimit / 2
	// recordSize is that of a record without digests, countAt the place of their number.
	recordSize = 13
	countAt    = recordSize - 1
	// maxRecord is the size of the largest record, maxJournal that of a full journal.
	maxRecord  = recordSize + tpm2.MaxPCRSelections*(2+tpm2.MaxDigest)
	maxJournal = journalLimit + maxRecord
)

// journal is the record of measurements since _TPM_Init. Only the owner of the
// process can read it; no command does.
type journal struct {
	buf      []byte // records, one after the other
	dropped  uint64 // records that came when it was full
	omitted  omitted
	last     int   // where the record that is being written starts; -1 is nowhere
	locality uint8 // of the last command
}

// besideBoot reports whether a record is of a register that holds nothing of a boot: that of
// Linux IMA, and those of applications and dynamic launches (PFP 3.3.3 and 3.3.4).
func besideBoot(kind JournalKind, pcr uint8) bool {
	return (kind == JournalExtend || kind == JournalEvent || kind == JournalReset) && (pcr == 10 || pcr >= 16)
}

// Journal yields the records since power came on, in order. dropped is how many
// more there were after the journal was full. Half of the journal is not for PCR 10 and
// from 16 on: how many more there were of these say the records that follow them, and
// [TPM.JournalOmitted]. The records share no memory with the TPM, and need not be read
// before the next command. There is always one of power coming on, unless a fault of ours
// made them unreadable.
func (t *TPM) Journal() (records iter.Seq[JournalRecord], dropped uint64) {
	list, _ := t.JournalSince(0)
	return slices.Values(list), t.journal.dropped
}

// JournalSize is how far the journal has got since power came on: the bytes of its
// records, and how many did not fit. It costs nothing to ask after each command.
func (t *TPM) JournalSize() (size int, dropped uint64) {
	return len(t.journal.buf), t.journal.dropped
}

// JournalSince returns the records that came after the journal had a size, and its
// size now. A size of before the last power on is none of this journal: say 0 then.
func (t *TPM) JournalSince(size int) (records []JournalRecord, now int) {
	defer t.fault(nil)
	now = len(t.journal.buf)
	size = min(max(size, 0), now)
	for buf := clone(t.journal.buf[size:]); len(buf) > 0; {
		var r JournalRecord
		rest, err := wire.DecodePrefix(buf, &r)
		if err != nil {
			panic(err) // we wrote it
		}
		r.Omitted = t.journal.omitted.before(now - len(buf))
		buf, records = rest, append(records, r)
	}
	return records, now
}

// restart empties the journal for a new boot. It starts small: most boots need
// some 10 KiB.
func (j *journal) restart() {
	*j = journal{buf: j.buf[:0], omitted: omitted{places: j.omitted.places[:0]}}
}

// begin appends a record without digests at the given time.
func (j *journal) begin(kind JournalKind, locality, pcr, detail uint8, time uint64) {
	n := len(j.buf)
	if n >= besideLimit && besideBoot(kind, pcr) {
		j.last = -1
		j.omitted.add(n)
		return
	}
	if j.dropped != 0 || n >= journalLimit {
		j.last = -1
		j.dropped = oneMore(j.dropped)
		return
	}
	if cap(j.buf)-n < maxRecord {
		j.buf = slices.Grow(j.buf, maxRecord)
	}
	j.last, j.buf = n, j.buf[:n+recordSize]
	head := (*[recordSize]byte)(j.buf[n:])
	head[0], head[1], head[2], head[3] = byte(kind), locality, pcr, detail
	binary.BigEndian.PutUint64(head[4:], time)
	head[countAt] = 0
}

// digest adds a digest to the record that was begun last. There is room for all that
// a command can bring.
func (j *journal) digest(a tpm2.Alg, digest []byte) {
	if j.last < 0 {
		return
	}
	j.buf[j.last+countAt]++
	n := len(j.buf)
	j.buf = j.buf[:n+2+len(digest)]
	binary.BigEndian.PutUint16(j.buf[n:], uint16(a))
	copy(j.buf[n+2:], digest)
}

// record notes what happened now.
func (t *TPM) record(r JournalRecord) {
	t.journal.begin(r.Kind, r.Locality, r.PCR, r.Detail, t.vol.time)
}

// recordBanks adds to the record of TPM2_Startup what PCR 0 holds in each bank: that names
// the banks that there are, those among them that nobody extends.
func (t *TPM) recordBanks() {
	for i := range t.vol.pcrs {
		b := &t.vol.pcrs[i]
		value := b.value(0)
		if value == nil { // it has other registers
			value = make([]byte, b.alg.DigestSize())
		}
		t.journal.digest(b.alg, value)
	}
}

// noteLocality records that commands come from another locality than before.
func (t *TPM) noteLocality(locality uint8) {
	if locality != t.journal.locality {
		t.journal.locality = locality
		t.record(JournalRecord{Kind: JournalLocality, Locality: locality})
	}
}
