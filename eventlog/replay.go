package eventlog

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // a bank that is shown, never trusted alone
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/assay-project/assay/tpm2"
)

// The failures of [Log.Replay].
var (
	// ErrNoBank is a bank that the log does not declare.
	ErrNoBank = errors.New("log has no such bank")
	// ErrNoHash is a bank whose hash is not implemented here.
	ErrNoHash = errors.New("hash is not implemented")
	// ErrIncomplete is a measured event without a digest in the bank.
	ErrIncomplete = errors.New("event has no digest in the bank")
)

// Registers are the values that a log leads to in one bank. The zero value has none.
type Registers struct {
	alg      tpm2.Alg
	size     int
	values   [maxPCR][tpm2.MaxDigest]byte
	extended uint32
	start    byte // last byte of PCR 0 before its first event
}

// Value returns the value of a register, at its start value if nothing extended
// it; nil for a register that no TPM has. It must not be changed.
func (r *Registers) Value(pcr int) []byte {
	if pcr < 0 || pcr >= maxPCR || r.size == 0 {
		return nil
	}
	return r.values[pcr][:r.size:r.size]
}

// Extended reports whether the log extends a register.
func (r *Registers) Extended(pcr int) bool {
	return pcr >= 0 && pcr < maxPCR && r.extended&(1<<pcr) != 0
}

// Bank returns the algorithm of the registers.
func (r *Registers) Bank() tpm2.Alg { return r.alg }

// extend is TPM2_PCR_Extend (Part 3, 22.2).
func (r *Registers) extend(pcr uint32, digest []byte) {
	r.extended |= 1 << pcr
	if r.alg == tpm2.AlgSHA256 { // the usual bank, without the detour over a switch
		var in [2 * sha256.Size]byte
		copy(in[:], r.values[pcr][:sha256.Size])
		copy(in[sha256.Size:], digest)
		*(*[sha256.Size]byte)(r.values[pcr][:]) = sha256.Sum256(in[:])
		return
	}
	var in [2 * tpm2.MaxDigest]byte
	copy(in[:], r.values[pcr][:r.size])
	copy(in[r.size:], digest)
	sum(r.alg, r.values[pcr][:], in[:2*r.size])
}

// sum writes the digest of in by a to out. The caller has checked a.
func sum(a tpm2.Alg, out, in []byte) {
	switch a {
	case tpm2.AlgSHA256:
		d := sha256.Sum256(in)
		copy(out, d[:])
	case tpm2.AlgSHA1:
		d := sha1.Sum(in) //nolint:gosec // see the import
		copy(out, d[:])
	case tpm2.AlgSHA384:
		d := sha512.Sum384(in)
		copy(out, d[:])
	case tpm2.AlgSHA512:
		d := sha512.Sum512(in)
		copy(out, d[:])
	case tpm2.AlgSHA3x256:
		d := sha3.Sum256(in)
		copy(out, d[:])
	case tpm2.AlgSHA3x384:
		d := sha3.Sum384(in)
		copy(out, d[:])
	case tpm2.AlgSHA3x512:
		d := sha3.Sum512(in)
		copy(out, d[:])
	}
}

// newRegisters returns the registers as after TPM2_Startup: zero, but the
// registers of a dynamic launch, which are all ones until there was one and zero
// once there was (PC Client Platform TPM Profile 4.7.2).
func (l *Log) newRegisters(a tpm2.Alg) (Registers, error) {
	r := Registers{alg: a, size: a.DigestSize()}
	if !l.HasBank(a) {
		return Registers{}, fmt.Errorf("replay %s: %w", a.BankName(), ErrNoBank)
	}
	if _, ok := a.Hash(); !ok {
		return Registers{}, fmt.Errorf("replay %s: %w", a.BankName(), ErrNoHash)
	}
	for pcr := 17; pcr <= 22; pcr++ {
		for i := range r.size {
			r.values[pcr][i] = 0xFF
		}
	}
	return r, nil
}

// Replay computes the registers of bank a from the log. It proves nothing.
func (l *Log) Replay(a tpm2.Alg) (Registers, error) {
	r, err := l.newRegisters(a)
	if err != nil {
		return Registers{}, err
	}
	rd := reader{log: l, data: l.data[:l.end]}
	var e Event
	for range l.count {
		if err := rd.next(&e); err != nil {
			return Registers{}, &ParseError{rd.off, rd.count, err}
		}
		if err := r.measure(&e); err != nil {
			return Registers{}, err
		}
	}
	return r, nil
}

// measure takes e into the registers.
func (r *Registers) measure(e *Event) error {
	if e.Type == NoAction {
		r.setLocality(e)
		return nil
	}
	d := e.Digest(r.alg)
	if d == nil {
		return fmt.Errorf("replay %s: event %d: %w", r.alg.BankName(), e.Index, ErrIncomplete)
	}
	if r.extended&(1<<e.PCR) == 0 {
		r.begin(e)
	}
	r.extend(e.PCR, d)
	return nil
}

// begin sets the start value of a register at its first event.
func (r *Registers) begin(e *Event) {
	switch {
	case e.PCR == 0 && e.Type == EFIHCRTMEvent:
		// Part 1, 34.3: an H-CRTM sequence leaves PCR 0 at 4 before its first extend.
		r.values[0][r.size-1] = 4
	case e.PCR >= 17 && e.PCR <= 22:
		r.values[e.PCR] = [tpm2.MaxDigest]byte{}
	}
	if e.PCR == 0 {
		r.start = r.values[0][r.size-1]
	}
}

// localitySignature begins the data of a TCG_EfiStartupLocalityEvent (PFP 10.4.5.3).
const localitySignature = "StartupLocality\x00"

// startupLocality returns the locality that e states; ok is false for any other event.
func startupLocality(e *Event) (locality byte, ok bool) {
	if e.Type != NoAction || e.PCR != 0 || len(e.Data) != len(localitySignature)+1 || !bytes.HasPrefix(e.Data, []byte(localitySignature)) {
		return 0, false
	}
	return e.Data[len(localitySignature)], true
}

// setLocality sets the start value of PCR 0 (Part 3, 9.3: TPM2_Startup from
// locality 3 leaves 3). The event counts only before the first extend of PCR 0.
func (r *Registers) setLocality(e *Event) {
	locality, ok := startupLocality(e)
	if ok && !r.Extended(0) && (locality == 0 || locality == 3 || locality == 4) {
		r.values[0][r.size-1] = locality
	}
}

// isSpecID reports whether e states the form of the log.
func isSpecID(e *Event) bool {
	return e.Type == NoAction && bytes.HasPrefix(e.Data, []byte("Spec ID Event"))
}

// tagOf returns the tag and the content of an EV_EVENT_TAG (TCG_PCClientTaggedEvent,
// PFP 10.4.2.1); ok is false unless the length fits.
func tagOf(data []byte) (id uint32, body []byte, ok bool) {
	if len(data) < 8 {
		return 0, nil, false
	}
	id = binary.LittleEndian.Uint32(data)
	n := binary.LittleEndian.Uint32(data[4:])
	if uint64(n) > uint64(len(data)-8) {
		return 0, nil, false
	}
	return id, data[8 : 8+n : 8+n], true
}
