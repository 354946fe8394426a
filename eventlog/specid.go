package eventlog

import (
	"encoding/binary"

	"github.com/assay-project/assay/tpm2"
)

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
