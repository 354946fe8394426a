package engine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

// Magic numbers and versions of the blobs (docs/formats/tpm-state.md). A reader
// takes a blob whose oldest reader is not newer than itself.
const (
	permanentMagic   = "ASYTPMP\x00"
	permanentVersion = 1
	volatileMagic    = "ASYTPMV\x00"
	volatileVersion  = 2 // omitted records are counted
	oldestReader     = 1 // of both

	maxProfileName = 64
	maxExtra       = 1 << 20
)

// ErrState is a blob that is not a TPM's state, or not one that this program can
// read; it is wrapped with what is wrong and where.
var ErrState = errors.New("not a TPM state that can be read")

// stateHeader is the start of both blobs: what they are, and of which profile.
type stateHeader struct {
	magic           [8]byte
	version, oldest uint16
	profile         []byte
	profileVersion  uint16
}

// Wire lays out the header.
func (h *stateHeader) Wire(c *wire.Codec) {
	c.Bytes(h.magic[:])
	wire.U16(c, &h.version)
	wire.U16(c, &h.oldest)
	c.Sized16(&h.profile, maxProfileName)
	wire.U16(c, &h.profileVersion)
}

// newest is the version of the blobs with a magic number that this program writes.
func newest(magic string) uint16 {
	if magic == volatileMagic {
		return volatileVersion
	}
	return permanentVersion
}

func (t *TPM) stateHeader(magic string) *stateHeader {
	h := &stateHeader{version: newest(magic), oldest: oldestReader, profile: []byte(t.profile.Name), profileVersion: uint16(t.profile.Version)}
	copy(h.magic[:], magic)
	return h
}

// find says what is wrong with the header of a blob, and finds its profile.
func (h *stateHeader) find(magic string) (*Profile, error) {
	switch {
	case string(h.magic[:]) != magic:
		return nil, fmt.Errorf("magic is %q, want %q: %w", h.magic, magic, ErrState)
	case h.oldest > newest(magic):
		return nil, fmt.Errorf("version %d can be read from version %d on, this program has %d: %w", h.version, h.oldest, newest(magic), ErrState)
	case h.version == 0 || h.version < h.oldest:
		return nil, fmt.Errorf("version %d with oldest reader %d: %w", h.version, h.oldest, ErrState)
	case h.profileVersion == 0: // FindProfile would give the newest
		return nil, fmt.Errorf("%w: %q version 0", ErrProfile, h.profile)
	}
	return FindProfile(string(h.profile), int(h.profileVersion))
}

// Permanent returns the state that must survive a power loss, and marks it as
// written. It holds secrets in the clear: the caller encrypts it. The error is
// [ErrFault], and then there is no state: the one last written is the good one.
func (t *TPM) Permanent() (state []byte, err error) {
	if t.torn {
		return nil, ErrFault
	}
	defer t.fault(&err)
	state = t.encodePermanent()
	t.changed = false
	return state, nil
}

func (t *TPM) encodePermanent() []byte {
	return encodeState(t.stateHeader(permanentMagic), nil, t.permanentParts()...)
}

// Volatile returns the rest of the state, for a snapshot or a migration. It goes
// with what [TPM.Permanent] returns at the same moment, is as secret, and fails as
// that does.
func (t *TPM) Volatile() (state []byte, err error) {
	if t.torn {
		return nil, ErrFault
	}
	defer t.fault(&err)
	m := moment{permanent: sha256.Sum256(t.encodePermanent())}
	m.elapsed = max(uint64(max(t.cfg.Now().Milliseconds()-t.vol.startedAt, 0)), t.vol.time)
	return encodeState(t.stateHeader(volatileMagic), t.journal.extra(), &m, &t.clear, &t.reset, &t.vol, t.random, &t.journal), nil
}

// A moment is what a volatile blob says of when it was made.
type moment struct {
	permanent [sha256.Size]byte // SHA-256 of the permanent blob that it goes with
	elapsed   uint64            // milliseconds since power on; vol.time is that of the last command
}

// maxElapsed bounds times since power on: they are signed elsewhere.
const maxElapsed = 1 << 62

// Wire lays out the moment.
func (m *moment) Wire(c *wire.Codec) {
	c.Bytes(m.permanent[:])
	wire.U64(c, &m.elapsed)
	c.Check(m.elapsed <= maxElapsed, wire.ErrRange)
}

// drbgState is the layout of a [tpmcrypto.DRBG], as bytes.
type drbgState [56]byte

// Wire lays out the bytes.
func (d *drbgState) Wire(c *wire.Codec) { c.Bytes(d[:]) }

// extra is what versions after 1 have, which those before pass over.
type extra []byte

// Wire lays out the size and the bytes.
func (e *extra) Wire(c *wire.Codec) { c.Sized32((*[]byte)(e), maxExtra) }

// usualState is enough for permanent state with a few indices and keys.
const usualState = 4096

// encodeState lays out the parts of a blob: header, parts, what versions after 1
// have, and a SHA-256 of all that. The digest is there to find damage; it proves
// nothing about who wrote the blob.
func encodeState(header *stateHeader, more extra, parts ...wire.Layout) []byte {
	var c wire.Codec
	b, err := c.Append(make([]byte, 0, usualState), header)
	for _, p := range append(parts, &more) {
		if err == nil {
			b, err = c.Append(b, p)
		}
	}
	if err != nil {
		panic(fmt.Errorf("the state breaks its own limits: %w", err))
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// Restore continues a TPM from its permanent state, and from its volatile state
// too if it is not nil: without it power was lost, and [TPM.PowerOn] comes next.
// The blobs are copied. Errors wrap [ErrState] or [ErrProfile], and nothing of a
// blob that is refused is used.
//
// The random bit generator gets new entropy: a snapshot may be restored more than
// once, and no two machines may share their random numbers. Commitments of
// TPM2_Commit that were not used are void for the same reason.
func Restore(cfg Config, permanent, volatile []byte) (_ *TPM, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	t := &TPM{cfg: cfg, validated: tpmcrypto.Validated()}
	defer t.fault(&err)
	if err := t.restorePermanent(clone(permanent)); err != nil {
		return nil, fmt.Errorf("read permanent state: %w", err)
	}
	t.vol = t.newVolatile()
	if volatile == nil {
		var err error
		if t.random, err = tpmcrypto.NewDRBG(cfg.Random, personalization(t.profile)); err != nil {
			return nil, fmt.Errorf("seed the random bit generator: %w", err)
		}
		t.renewCommitments()
		return t, nil
	}
	if err := t.restoreVolatile(clone(volatile), sha256.Sum256(permanent)); err != nil {
		return nil, fmt.Errorf("read volatile state: %w", err)
	}
	if err := t.reseed(); err != nil {
		return nil, fmt.Errorf("seed the random bit generator: %w", err)
	}
	return t, nil
}

// reseed sets what is random from now on apart from that of any other TPM with the
// same state.
func (t *TPM) reseed() error {
	if err := t.random.Reseed(nil); err != nil {
		return err
	}
	t.renewCommitments()
	return nil
}

// personalization sets the random bit generator of a TPM apart from others on
// the same entropy source.
func personalization(p *Profile) []byte { return []byte("assay tpm " + p.Name) }

// A later is what a blob has behind its parts, and the version that says what it is.
type later struct {
	version uint16
	more    extra
}

// read reads from it what a version added.
func (l *later) read(v wire.Layout) (err error) {
	if l.more, err = wire.DecodePrefix(l.more, v); err != nil {
		return fmt.Errorf("what version %d has behind the parts: %w (%w)", l.version, err, ErrState)
	}
	return nil
}

// end checks that what is left is of a version that is newer than the reader's.
func (l *later) end(reader uint16) error {
	if l.version <= reader && len(l.more) != 0 {
		return fmt.Errorf("version %d with %d bytes of a later one: %w", l.version, len(l.more), ErrState)
	}
	return nil
}

// decodeState reads the header and the parts of a blob, and returns what stands behind
// these: that must fill it.
func decodeState(b []byte, magic string, parts func(*Profile) []wire.Layout) (l later, err error) {
	var h stateHeader
	rest, err := wire.DecodePrefix(b, &h)
	if err != nil {
		return l, fmt.Errorf("header: %w (%w)", err, ErrState)
	}
	p, err := h.find(magic)
	if err != nil {
		return l, err
	}
	if len(rest) < sha256.Size {
		return l, fmt.Errorf("%d bytes: %w (%w)", len(b), wire.ErrShort, ErrState)
	}
	body := b[:len(b)-sha256.Size]
	if sum := sha256.Sum256(body); !bytes.Equal(sum[:], b[len(body):]) {
		return l, fmt.Errorf("the digest of its %d bytes is not the one at their end: %w", len(body), ErrState)
	}
	rest = rest[:len(rest)-sha256.Size]
	l.version = h.version
	for i, part := range append(parts(p), &l.more) {
		at := len(body) - len(rest)
		if rest, err = wire.DecodePrefixIn(p, rest, part); err != nil {
			return l, fmt.Errorf("part %d, which starts at byte %d: %w (%w)", i+1, at, err, ErrState)
		}
	}
	if len(rest) != 0 {
		return l, fmt.Errorf("%d bytes follow the last part: %w", len(rest), ErrState)
	}
	return l, nil
}

func (t *TPM) restorePermanent(b []byte) error {
	l, err := decodeState(b, permanentMagic, func(p *Profile) []wire.Layout {
		t.profile, t.limits = p, p.Limits
		return t.permanentParts()
	})
	if err != nil {
		return err
	}
	return l.end(permanentVersion)
}

// permanentParts are the parts of permanent state.
func (t *TPM) permanentParts() []wire.Layout {
	if t.profile.Libtpms {
		return []wire.Layout{&t.permanent, &t.orderly, (*seedAges)(&t.permanent)}
	}
	return []wire.Layout{&t.permanent, &t.orderly}
}

// seedAges is the part of a TPM of profile libtpms alone: which seeds are old.
type seedAges permanent

// Wire lays out a flag for each seed: owner, endorsement, platform.
func (s *seedAges) Wire(c *wire.Codec) {
	wireFlags(c, &s.owner.originalSeed, &s.endorsement.originalSeed, &s.platform.originalSeed)
}

// restoreVolatile reads the volatile blob that goes with the permanent state of
// that digest. The time since power on goes on from the moment of the snapshot,
// whatever the machine's time is now.
func (t *TPM) restoreVolatile(b []byte, permanent [sha256.Size]byte) error {
	var m moment
	var random drbgState
	profile := t.profile
	l, err := decodeState(b, volatileMagic, func(p *Profile) []wire.Layout {
		profile = p
		return []wire.Layout{&m, &t.clear, &t.reset, &t.vol, &random, &t.journal}
	})
	if err == nil {
		err = t.journal.restored(&l)
	}
	if err != nil {
		return err
	}
	if t.random, err = tpmcrypto.RestoreDRBG(t.cfg.Random, random[:]); err != nil {
		return fmt.Errorf("%w (%w)", err, ErrState)
	}
	switch {
	case profile != t.profile || m.permanent != permanent:
		return fmt.Errorf("it belongs to another permanent state: %w", ErrState)
	case m.elapsed < t.vol.time:
		return fmt.Errorf("it was made %d ms after power on, and its last command at %d ms: %w", m.elapsed, t.vol.time, ErrState)
	}
	if err := t.checkSessions(); err != nil {
		return err
	}
	t.vol.startedAt = t.cfg.Now().Milliseconds() - int64(m.elapsed)
	return nil
}

// checkSessions checks that the table of sessions and the slots name each other.
func (t *TPM) checkSessions() error {
	loaded := 0
	for slot, s := range t.vol.sessions {
		if s == nil {
			continue
		}
		loaded++
		i := s.handle.Index()
		kind := tpm2.KindHMACSession
		if s.policy {
			kind = tpm2.KindPolicySession
		}
		if !t.profile.OffersAlg(s.hash) || s.handle.Kind() != kind || i >= maxActiveSessions || t.reset.contexts[i] != uint64(slot+1) {
			return fmt.Errorf("session %#x cannot be the one of slot %d: %w", uint32(s.handle), slot, ErrState)
		}
	}
	for i, n := range t.reset.contexts {
		if n != 0 && n <= uint64(len(t.vol.sessions)) {
			if loaded--; t.vol.sessions[n-1] == nil {
				return fmt.Errorf("session %d is in no slot: %w", i, ErrState)
			}
		}
	}
	if loaded != 0 {
		return fmt.Errorf("%d sessions share their slots: %w", loaded, ErrState)
	}
	return nil
}
