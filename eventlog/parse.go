package eventlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/assay-project/assay/tpm2"
)

// Limits of a log. The largest real one known has 73 kB and 203 events; only a
// dbx and the tagged events of Windows hold much in one event. Each event costs
// an extend and the hash of its data: the limits keep a log under 5 ms.
const (
	MaxSize      = 1 << 20
	MaxEvents    = 8192
	maxData      = 64 << 10
	maxLargeData = 256 << 10
)

// The kinds of failure of [Parse]; a [ParseError] says where.
var (
	// ErrEmpty is a log without any event.
	ErrEmpty = errors.New("log is empty")
	// ErrTooLarge is a log above MaxSize or MaxEvents.
	ErrTooLarge = errors.New("log exceeds its limit")
	// ErrTruncated is a record that goes on beyond the end of the log.
	ErrTruncated = errors.New("record ends beyond the log")
	// ErrSpecID is a Spec ID event that declares no usable set of banks.
	ErrSpecID = errors.New("event of the Spec ID is malformed")
	// ErrDigests is a record whose digests are not those of the declared banks.
	ErrDigests = errors.New("digests do not fit the declared banks")
	// ErrRegister is a register that no TPM has.
	ErrRegister = errors.New("register does not exist")
	// ErrDataSize is event data above its limit.
	ErrDataSize = errors.New("event data exceeds its limit")
)

// A ParseError says at which byte and event of the log parsing stopped.
type ParseError struct {
	Offset int // of the record
	Event  int // index of the record
	Err    error
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("event %d at byte %d: %v", e.Event, e.Offset, e.Err)
}

// Unwrap gives the kind of failure.
func (e *ParseError) Unwrap() error { return e.Err }

// Parse reads a log of any [Format]. It checks shape only, aliases data, and
// allocates nothing that grows with it. The error is a [*ParseError].
//
// Padding after the last record is accepted where real logs have it: zeros to
// the end, or from a record whose register and type are both 0xFFFFFFFF.
func Parse(data []byte) (*Log, error) {
	if len(data) == 0 {
		return nil, &ParseError{Err: ErrEmpty}
	}
	if len(data) > MaxSize {
		return nil, &ParseError{Err: ErrTooLarge}
	}
	l := &Log{data: data}
	if err := l.parseSpecID(); err != nil {
		return nil, &ParseError{Err: err}
	}
	r := reader{log: l, data: data}
	used := len(bytes.TrimRight(data, "\x00")) // found once, so that padding is told in constant time
	var seen signs
	var e Event
	for !r.atPadding(used) {
		if r.count == MaxEvents {
			return nil, &ParseError{r.off, r.count, ErrTooLarge}
		}
		at := r.off
		if err := r.next(&e); err != nil {
			return nil, &ParseError{at, r.count, err}
		}
		seen.note(&e)
	}
	if r.count == 0 {
		return nil, &ParseError{Err: ErrEmpty}
	}
	l.end, l.count = r.off, r.count
	l.format = seen.format(l)
	return l, nil
}

// signs are what tells the formats apart.
type signs struct {
	windows   bool
	registers uint32 // bit set of those extended
}

func (s *signs) note(e *Event) {
	if !e.Measured() {
		return
	}
	s.registers |= 1 << e.PCR
	if e.PCR >= 11 && e.PCR <= 14 {
		s.windows = s.windows || e.Type == Separator && string(e.Data) == wbclMarker ||
			e.Type == EventTag && len(e.Data) >= 4 && binary.LittleEndian.Uint32(e.Data)&0xBFFF0000 == sipaContainer
	}
}

// format decides. Only SHA-384 and only the registers of a confidential machine
// (UEFI 2.10, 38.4.1: 0 is MRTD, 1 to 4 are RTMR 0 to 3) make a CC log; a log of a
// TPM always has events in PCR 7.
func (s *signs) format(l *Log) Format {
	switch {
	case s.windows:
		return FormatWBCL
	case !l.agile:
		return FormatTCG1
	case l.nAlgs == 1 && l.algs[0].alg == tpm2.AlgSHA384 && s.registers>>5 == 0:
		return FormatCC
	default:
		return FormatTCG2
	}
}

// A reader walks the records of a log.
type reader struct {
	log   *Log
	data  []byte
	off   int
	count int
}

// atPadding reports whether no record follows; used is the length of the log
// without trailing zeros.
func (r *reader) atPadding(used int) bool {
	if r.off >= used {
		return true
	}
	rest := r.data[r.off:]
	const ones = "\xff\xff\xff\xff\xff\xff\xff\xff"
	if len(rest) < len(ones) {
		return string(rest) == ones[:len(rest)]
	}
	return string(rest[:len(ones)]) == ones
}

// u32 reads at off, which the caller advances; ok is false beyond the end.
func u32(b []byte, off int) (v uint32, ok bool) {
	if len(b)-off < 4 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(b[off:]), true
}

// next reads one record into e.
func (r *reader) next(e *Event) error {
	if len(r.data)-r.off < 8 {
		return ErrTruncated
	}
	e.log, e.Index = r.log, r.count
	e.PCR = binary.LittleEndian.Uint32(r.data[r.off:])
	e.Type = Type(binary.LittleEndian.Uint32(r.data[r.off+4:]))
	at := r.off + 8
	if e.PCR >= maxPCR && (e.PCR != NoPCR || e.Type != NoAction) {
		return ErrRegister
	}
	digests, err := r.digestsEnd(at)
	if err != nil {
		return err
	}
	e.digests = r.data[at:digests:digests]
	if r.log.agile && r.count > 0 {
		e.digests = e.digests[4:]
	}
	size, ok := u32(r.data, digests)
	if !ok {
		return ErrTruncated
	}
	if size > dataLimit(e.Type) {
		return ErrDataSize
	}
	start := digests + 4
	if int(size) > len(r.data)-start {
		return ErrTruncated
	}
	r.off = start + int(size)
	e.Data = r.data[start:r.off:r.off]
	r.count++
	return nil
}

func dataLimit(t Type) uint32 {
	switch t {
	case EventTag, EFIVariableDriverConfig, NoAction:
		return maxLargeData
	default:
		return maxData
	}
}

// digestsEnd returns where the digests that begin at byte at end.
func (r *reader) digestsEnd(at int) (int, error) {
	if !r.log.agile || r.count == 0 { // the Spec ID record has the shape of SHA-1 logs (PFP 10.4.5.1)
		if len(r.data)-at < 20 {
			return 0, ErrTruncated
		}
		return at + 20, nil
	}
	n, ok := u32(r.data, at)
	if !ok {
		return 0, ErrTruncated
	}
	// Windows logs have events with fewer digests than banks; none may have more.
	if n > uint32(r.log.nAlgs) {
		return 0, ErrDigests
	}
	at += 4
	seen := 0
	for range n {
		if len(r.data)-at < 2 {
			return 0, ErrTruncated
		}
		i := r.log.bankIndex(tpm2.Alg(binary.LittleEndian.Uint16(r.data[at:])))
		if i < 0 || seen&(1<<i) != 0 {
			return 0, ErrDigests
		}
		seen |= 1 << i
		at += 2 + r.log.algs[i].size
		if at > len(r.data) {
			return 0, ErrTruncated
		}
	}
	return at, nil
}

func (l *Log) bankIndex(a tpm2.Alg) int {
	for i := range l.nAlgs {
		if l.algs[i].alg == a {
			return i
		}
	}
	return -1
}

// specIDSignature begins the data of the first event of a crypto agile log
// (PFP 10.4.5.1).
const specIDSignature = "Spec ID Event03\x00"

// sha1Header is the size of a TCG_PCClientPCREvent before its data.
const sha1Header = 4 + 4 + 20 + 4

// parseSpecID sets agile and the banks from the first record. A log that does
// not begin with a crypto agile Spec ID event is a SHA-1 log.
func (l *Log) parseSpecID() error {
	l.algs[0], l.nAlgs = bank{tpm2.AlgSHA1, 20}, 1
	b := l.data
	if len(b) < sha1Header+len(specIDSignature) || Type(binary.LittleEndian.Uint32(b[4:])) != NoAction {
		return nil
	}
	size := int(binary.LittleEndian.Uint32(b[sha1Header-4:]))
	if string(b[sha1Header:sha1Header+len(specIDSignature)]) != specIDSignature {
		return nil
	}
	if size > len(b)-sha1Header {
		return ErrTruncated
	}
	l.agile, l.nAlgs, l.start = true, 0, sha1Header+size
	return l.parseBanks(b[sha1Header:l.start])
}

// parseBanks reads a TCG_EfiSpecIDEvent.
func (l *Log) parseBanks(b []byte) error {
	const fixed = len(specIDSignature) + 4 + 1 + 1 + 1 + 1 // platformClass, minor, major, errata, uintnSize
	n, ok := u32(b, fixed)
	if !ok || n == 0 || n > maxAlgs {
		return ErrSpecID
	}
	at := fixed + 4
	for range n {
		if len(b)-at < 4 {
			return ErrSpecID
		}
		alg := tpm2.Alg(binary.LittleEndian.Uint16(b[at:]))
		size := int(binary.LittleEndian.Uint16(b[at+2:]))
		at += 4
		if l.bankIndex(alg) >= 0 || size == 0 || size > tpm2.MaxDigest {
			return ErrSpecID
		}
		// A known algorithm has one size; an unknown one is skipped by the size given.
		if known := alg.DigestSize(); known != 0 && known != size {
			return ErrSpecID
		}
		l.algs[l.nAlgs] = bank{alg, size}
		l.nAlgs++
	}
	// The vendor information that follows must fit; firmware leaves it out at times.
	if len(b) > at && int(b[at]) > len(b)-at-1 {
		return ErrSpecID
	}
	return nil
}
