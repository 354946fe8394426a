//go:build unix

package state

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/assay-project/assay/internal/durable"
	"github.com/assay-project/assay/internal/keyprovider"
	"github.com/assay-project/assay/internal/seal"
)

// A change is what a whole new file has otherwise than the old one.
type change struct {
	head header
	key  seal.Secret
	// keep takes the older generations along.
	keep bool
	// fresh is for a name that must be free.
	fresh bool
	// recovered is the generation that the operator went back to.
	recovered uint64
}

func (f *file) create(ctx context.Context, c Content) error {
	if err := c.check(); err != nil {
		return err
	}
	err := f.prepare(ctx, c)
	if err == nil {
		err = f.rewrite(c, change{head: f.head, key: f.key, fresh: true})
	}
	if err != nil {
		f.shut()
	}
	return err
}

// prepare makes the header and the key of a new file.
func (f *file) prepare(ctx context.Context, c Content) error {
	f.head = header{Version: Version, Oldest: Version, id: f.id, slots: slotCount, slotSize: slotSizeFor(c)}
	f.next = 1
	k, err := f.newKey(ctx, f.cfg.Provider, f.cfg.ProviderName)
	if err != nil {
		return err
	}
	f.key = k.key
	f.head.wrapped, f.head.provider = k.wrapped, []byte(k.provider)
	err = f.anchorFirst()
	f.goAbove(f.cfg.Above)
	return err
}

// anchorFirst has the ledger know the TPM before its file is there: a file that says
// it has a ledger, and a ledger that does not know it, would look like a lost one. A
// TPM that comes back under its old id goes on from the number that it had.
func (f *file) anchorFirst() error {
	if f.cfg.Anchor == nil {
		return nil
	}
	m, known, err := f.cfg.Anchor.Last(f.id)
	if err == nil && known {
		f.next = m.Generation + 1
	} else if err == nil {
		err = f.cfg.Anchor.Advance(f.id, Mark{}, true)
	}
	if err != nil {
		return f.fault(AnchorDown, err)
	}
	return nil
}

// A wrappedKey is a key for the file as its header has it.
type wrappedKey struct {
	key      seal.Secret
	wrapped  []byte
	provider string
}

// newKey makes a key for the file and sees that the provider gives it back. It asks
// the provider, who may take long, and needs no lock: it only reads what is fixed.
func (f *file) newKey(ctx context.Context, p keyprovider.Provider, name string) (wrappedKey, error) {
	if len(name) > maxProviderName {
		return wrappedKey{}, fmt.Errorf("name of the key provider has %d bytes, more than %d", len(name), maxProviderName)
	}
	key, err := seal.Random(f.cfg.Random, seal.KeySize)
	if err != nil {
		return wrappedKey{}, err
	}
	wrapped, err := f.wrapKey(ctx, p, key)
	if err != nil {
		key.Destroy()
		return wrappedKey{}, err
	}
	return wrappedKey{key, wrapped, name}, nil
}

func (f *file) wrapKey(ctx context.Context, p keyprovider.Provider, key seal.Secret) ([]byte, error) {
	wrapped, err := p.Wrap(ctx, keyContext(f.id), key)
	if err != nil {
		return nil, f.fault(providerKind(err), err)
	}
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return nil, f.fault(BadProvider, fmt.Errorf("wrapped key of %d bytes", len(wrapped)))
	}
	again, err := p.Unwrap(ctx, keyContext(f.id), wrapped)
	if err != nil {
		return nil, f.fault(providerKind(err), fmt.Errorf("unwrap what it just wrapped: %w", err))
	}
	defer again.Destroy()
	if !again.Equal(key) {
		return nil, f.fault(BadProvider, errors.New("what it wrapped unwraps to another key"))
	}
	return wrapped, nil
}

// A kept generation is one that goes along into a new file.
type kept struct {
	head   slotHead
	sealed []byte
}

// keep reads the generations that count, sealed under the key of a change.
func (f *file) keep(ch change) ([slotCount]*kept, error) {
	var out [slotCount]*kept
	if !ch.keep {
		return out, nil
	}
	l := &loaded{}
	if err := f.readSlots(l); err != nil {
		return out, err
	}
	defer l.destroy()
	for i := range l.slots {
		s := &l.slots[i]
		if s.condition != isWhole || s.generation != f.table[i] {
			continue
		}
		k := &kept{s.head, s.sealed}
		if !ch.key.Equal(f.key) {
			sealed, err := sealText(f.cfg.Random, ch.key, f.id, s.generation, s.record.text.Expose())
			if err != nil {
				return out, err
			}
			k.sealed, k.head.size = sealed, uint32(len(sealed))
		}
		out[i] = k
	}
	return out, nil
}

// rewrite puts a whole new file in place of the old one, with c as its newest
// generation.
func (f *file) rewrite(c Content, ch change) error {
	older, err := f.keep(ch)
	if err != nil {
		return err
	}
	var table [slotCount]uint64
	for i, k := range older {
		if k != nil {
			table[i] = k.head.generation
		}
	}
	at := oldest(table)
	r, text, err := f.newRecord(c, at, table)
	if err != nil {
		return err
	}
	defer clear(text)
	r.recovered = ch.recovered
	if text, err = f.encode(r); err != nil {
		return err
	}
	image, err := f.image(ch, at, r, text, older)
	if err != nil {
		return err
	}
	if err := f.replace(image, ch); err != nil {
		return err
	}
	f.table, f.whole = r.table, false
	f.setLast(r, text)
	f.silent = false
	return f.advance(true)
}

// image is the content of a whole file.
func (f *file) image(ch change, at int, r *record, text []byte, older [slotCount]*kept) ([]byte, error) {
	head, err := ch.head.encode(ch.key)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, ch.head.fileSize()), head...)
	blocks := int(ch.head.slotSize) / blockSize
	for i := range slotCount {
		var framed []byte
		switch k := older[i]; {
		case i == at:
			framed, err = f.frame(ch.key, i, r, text)
		case k != nil:
			framed, err = frameSlot(nil, i, k.head, k.sealed)
		}
		if err != nil {
			return nil, err
		}
		out = blank(append(out, framed...), i, len(framed)/blockSize, blocks)
	}
	return append(out, head...), nil
}

// replace writes the image and gives it the name. It is locked before it has it, so
// that nobody takes it in between.
func (f *file) replace(image []byte, ch change) error {
	p, err := f.cfg.disk.begin(f.path)
	if err != nil {
		return f.ioFault(err)
	}
	err = fill(p, image)
	if err == nil && ch.fresh {
		err = p.commitNew()
	} else if err == nil {
		err = p.commit()
	}
	if err == nil {
		f.adopt(p, ch)
		return nil
	}
	// The name may lead to the new file although making that durable failed: then
	// the old one is not to be written any more.
	if named, nerr := p.named(f.path); nerr == nil && named && !errors.Is(err, durable.ErrExists) {
		f.adopt(p, ch)
		f.whole = true
	} else {
		err = errors.Join(err, p.abort())
	}
	if errors.Is(err, durable.ErrExists) {
		return f.fault(Exists, nil)
	}
	return f.ioFault(err)
}

func fill(p pending, image []byte) error {
	if locked, err := p.lock(); err != nil {
		return err
	} else if !locked {
		return errors.New("somebody else locked the new file")
	}
	_, err := p.WriteAt(image, 0)
	return err
}

// adopt goes on with the new file.
func (f *file) adopt(h handle, ch change) {
	if f.h != nil {
		f.h.Close()
	}
	f.h, f.head = h, ch.head
	if !ch.key.Equal(f.key) {
		f.key.Destroy()
		f.key = ch.key
	}
}

// Rewrap gives the file a new key, wrapped by another provider, or by the same one
// under its newest key, and seals every generation under it. The TPM goes on in the
// meantime; a crash leaves the old file or the new one. The file goes on with the
// new provider and its name.
func (f *File) Rewrap(ctx context.Context, to keyprovider.Provider, name string) error {
	k, err := f.newKey(ctx, to, name) // saves go on while the provider thinks
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.newest()
	if err != nil {
		k.key.Destroy()
		return err
	}
	defer c.Destroy()
	return f.rekey(to, k, c, true)
}

// Renew is [File.Save] of a TPM that was cleared: the older generations, which still
// have what was cleared, are dropped, and the key that they were under is forgotten.
func (f *File) Renew(ctx context.Context, c Content) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := errors.Join(f.usable(), c.check()); err != nil {
		return err
	}
	if err := f.there(); err != nil {
		return err
	}
	k, err := f.newKey(ctx, f.cfg.Provider, string(f.head.provider))
	if err != nil {
		return err
	}
	return f.rekey(f.cfg.Provider, k, c, false)
}

// rekey writes the file anew under a key.
func (f *file) rekey(to keyprovider.Provider, k wrappedKey, c Content, keep bool) error {
	head := f.grown(c)
	head.wrapped, head.provider = k.wrapped, []byte(k.provider)
	err := f.rewrite(c, change{head: head, key: k.key, keep: keep})
	if !f.key.Equal(k.key) {
		k.key.Destroy()
		return err
	}
	f.cfg.Provider, f.cfg.ProviderName = to, k.provider
	return err
}

// newest reads the last generation back from the disk.
func (f *file) newest() (Content, error) {
	if err := f.usable(); err != nil {
		return Content{}, err
	}
	if err := f.there(); err != nil {
		return Content{}, err
	}
	l := &loaded{}
	if err := f.readSlots(l); err != nil {
		return Content{}, err
	}
	defer l.destroy()
	at := slices.Index(f.table[:], f.last.Generation)
	if at < 0 || l.slots[at].record == nil || l.slots[at].record.generation != f.last.Generation {
		fault := f.fault(Damaged, errors.New("what was saved last cannot be read back"))
		fault.Good = l.generations()
		return Content{}, fault
	}
	return l.slots[at].record.content(), nil
}
