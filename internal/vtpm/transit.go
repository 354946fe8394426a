package vtpm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/internal/vtpm/frontend"
	"github.com/assay-project/assay/internal/vtpm/state"
	"github.com/assay-project/assay/wire"
)

// State in transit passes through the hypervisor, its files and its network, as
// with savevm and migration: sealed under the TPM's key provider, so that both
// ends need that provider, and nobody between them learns or alters anything.
const (
	transitMagic   = "ASYTPMX\x00"
	transitVersion = 1
	transitOldest  = 1
)

// ErrTransit is a blob that is no state in transit of this TPM; it is wrapped with
// what is wrong.
var ErrTransit = errors.New("not a state that was sealed for this TPM")

// A parcel is a blob in transit: what it is, in the clear, and the sealed content.
type parcel struct {
	magic           [8]byte
	version, oldest uint16
	id              state.ID
	kind            uint32
	sealed          []byte
}

// Wire lays out a parcel.
func (p *parcel) Wire(c *wire.Codec) {
	c.Bytes(p.magic[:])
	c.Check(string(p.magic[:]) == transitMagic, ErrTransit)
	wire.U16(c, &p.version)
	wire.U16(c, &p.oldest)
	c.Check(p.oldest >= 1 && p.oldest <= transitVersion && p.version >= p.oldest, ErrTransit)
	c.Bytes(p.id[:])
	wire.U32(c, &p.kind)
	c.Sized32(&p.sealed, frontend.MaxBlob)
}

// A cargo is the sealed content: the state, and with permanent state the record
// and generation that it had where it comes from.
type cargo struct {
	generation uint64
	record     []byte
	blob       []byte
}

// Wire lays out a cargo.
func (g *cargo) Wire(c *wire.Codec) {
	wire.U64(c, &g.generation)
	c.Sized32(&g.record, frontend.MaxBlob)
	c.Sized32(&g.blob, frontend.MaxBlob)
}

func (i *Instance) transitContext(kind frontend.BlobKind) seal.Context {
	return seal.Context{Purpose: "TPM state in transit: " + kind.String(), Name: i.id.String()}
}

// exportBlob seals a blob that leaves. The machine calls it with its lock.
func (i *Instance) exportBlob(kind frontend.BlobKind, blob []byte) ([]byte, error) {
	g := &cargo{blob: blob}
	if kind == frontend.BlobPermanent {
		i.mu.Lock()
		text, err := i.record.encode()
		i.mu.Unlock()
		if err != nil {
			return nil, err
		}
		g.record, g.generation = text, i.file.Generation()
	}
	text, err := wire.Encode(g)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	p := &parcel{version: transitVersion, oldest: transitOldest, id: i.id, kind: uint32(kind)}
	copy(p.magic[:], transitMagic)
	if key, ok := i.transitKey(); ok {
		if p.sealed, err = seal.Seal(i.root.cfg.Random, key, i.transitContext(kind), text); err != nil {
			return nil, err
		}
		return wire.Encode(p)
	}
	err = i.root.withProvider(i.ctx, i.provider(), func(kp keyprovider.Provider) (err error) {
		p.sealed, err = keyprovider.Seal(i.ctx, kp, i.root.cfg.Random, i.transitContext(kind), text)
		return err
	})
	if err != nil {
		return nil, err
	}
	return wire.Encode(p)
}

// TravelUnder has the state in transit sealed under a key of this one journey, in place of
// the key provider: two hosts that agree on it need no provider that both have.
func (i *Instance) TravelUnder(key seal.Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.journey = &key
}

// TravelAsEver takes that back.
func (i *Instance) TravelAsEver() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.journey = nil
}

func (i *Instance) transitKey() (seal.Key, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.journey == nil {
		return seal.Key{}, false
	}
	return *i.journey, true
}

// openTransit opens what was sealed for this TPM, under the key of the journey where there
// is one, and else the key provider.
func (i *Instance) openTransit(kind frontend.BlobKind, sealed []byte) (text seal.Secret, err error) {
	if key, ok := i.transitKey(); ok {
		e, err := seal.Parse(sealed)
		if err != nil {
			return text, err
		}
		return e.Open(key, i.transitContext(kind))
	}
	err = i.root.withProvider(i.ctx, i.provider(), func(kp keyprovider.Provider) (err error) {
		text, err = keyprovider.Open(i.ctx, kp, i.transitContext(kind), sealed)
		return err
	})
	return text, err
}

// importBlob opens a blob that comes. The machine calls it with its lock.
func (i *Instance) importBlob(kind frontend.BlobKind, blob []byte) ([]byte, error) {
	p := new(parcel)
	if err := wire.Decode(blob, p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTransit, err)
	}
	switch {
	case p.id != i.id:
		return nil, fmt.Errorf("%w: it is of TPM %s, this is %s", ErrTransit, p.id, i.id)
	case p.kind != uint32(kind):
		return nil, fmt.Errorf("%w: it is %s state, want %s", ErrTransit, frontend.BlobKind(p.kind), kind)
	}
	text, err := i.openTransit(kind, p.sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTransit, err)
	}
	defer text.Destroy()
	g := new(cargo)
	if err := wire.Decode(text.Expose(), g); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTransit, err)
	}
	if kind == frontend.BlobPermanent {
		if err := i.expect(g); err != nil {
			return nil, err
		}
	}
	return append([]byte(nil), g.blob...), nil
}

// expect notes the record of permanent state that came. It takes effect with the
// state, when that is saved.
func (i *Instance) expect(g *cargo) error {
	rec, err := parseRecord(g.record)
	if err != nil {
		return err
	}
	if rec.ID != i.id {
		return fmt.Errorf("%w: its record is of TPM %s", ErrTransit, rec.ID)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.arrived = &arrival{rec, g.generation, sha256.Sum256(g.blob)}
	return nil
}

// An arrival is the record of state that came and is not kept yet.
type arrival struct {
	record     *Record
	generation uint64
	state      [sha256.Size]byte // digest of the permanent state that it is the record of
}

// arriving reports whether it is the state that came which is saved: what came may
// have been refused or forgotten before it was, and then its record is, too.
func (i *Instance) arriving(permanent []byte) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.arrived != nil && i.arrived.state != sha256.Sum256(permanent) {
		i.arrived = nil
	}
	return i.arrived != nil
}

// saveArrived keeps permanent state that came from outside, with the record that
// came with it.
func (i *Instance) saveArrived(permanent []byte) error {
	if err := i.turns.Wait(i.ctx); err != nil {
		return err
	}
	i.rotating.Lock()
	defer i.rotating.Unlock()
	i.mu.Lock()
	defer i.mu.Unlock()
	a := i.arrived
	i.arrived = nil
	rec := *i.record
	if a.record.Secrets != rec.Secrets || a.record.Name != rec.Name {
		rec = *a.record
		rec.Name = i.name
		rec.descend(Origin{
			Event: EventArrive, Time: i.root.cfg.Now().UTC(), By: i.actor,
			From: a.record.Name, FromID: a.record.ID, Generation: a.generation,
		})
	}
	meta, err := rec.encode()
	if err != nil {
		return err
	}
	// Where it comes from its TPM went on until now: who knows that host's generations knows
	// this one for a newer one.
	if err := i.file.SaveAbove(context.Background(), state.Content{Permanent: permanent, Meta: meta}, a.generation); err != nil {
		return err
	}
	i.record = &rec
	i.report(EventArrive, OutcomeDone, map[string]any{"from": a.record.Name, "generation": a.generation})
	i.card = rec.card(i.card.Providers...)
	return i.root.writeCard(i.card)
}
