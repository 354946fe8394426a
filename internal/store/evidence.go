package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/assay-project/assay/internal/attest"
)

// Bundles of one machine differ in the quote and repeat the event log, which is
// nearly all of them. A bundle is therefore kept as a recipe: its bytes, with
// each long JSON string replaced by the digest of that string, which is kept
// once (docs/formats/database.md). No JSON is parsed: any bytes come back as
// they were.

type digest [sha256.Size]byte

const (
	recipeVersion = 1
	partMin       = 1024    // a shorter string stays in the recipe
	maxBundle     = 8 << 20 // more than any transport lets in
)

// A part is a string that several bundles may share.
type part struct {
	digest digest // of the string
	body   []byte // the string; in a parcel, as stored
}

// split makes the recipe of a bundle: a version byte, then in turn literal bytes
// (length as uvarint, bytes) and the digest of a part, ending with a literal; hash is
// SHA-256.
func split(bundle []byte, hash func([]byte) digest) (recipe []byte, parts []part) {
	recipe = append(recipe, recipeVersion)
	literal := func(b []byte) {
		recipe = binary.AppendUvarint(recipe, uint64(len(b)))
		recipe = append(recipe, b...)
	}
	from, open := 0, 0 // start of the literal; just after the last quotation mark
	for {
		n := bytes.IndexByte(bundle[open:], '"')
		if n < 0 {
			break
		}
		if n >= partMin {
			body := bundle[open : open+n]
			p := part{hash(body), body}
			literal(bundle[from:open])
			recipe = append(recipe, p.digest[:]...)
			parts, from = append(parts, p), open+n
		}
		open += n + 1
	}
	literal(bundle[from:])
	return recipe, parts
}

// join makes the bundle of a recipe again; size is that of the bundle.
func join(recipe []byte, size int64, fetch func(digest) ([]byte, error)) ([]byte, error) {
	if len(recipe) == 0 || recipe[0] != recipeVersion || size < 0 || size > maxBundle {
		return nil, fmt.Errorf("%w: evidence of an unknown form", ErrCorrupt)
	}
	var out []byte
	for rest := recipe[1:]; ; {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > uint64(len(rest)-used) {
			return nil, fmt.Errorf("%w: evidence is cut", ErrCorrupt)
		}
		out, rest = append(out, rest[used:used+int(n)]...), rest[used+int(n):]
		if len(rest) == 0 {
			break
		}
		if len(rest) < len(digest{}) {
			return nil, fmt.Errorf("%w: evidence is cut", ErrCorrupt)
		}
		stored, err := fetch(digest(rest[:len(digest{})]))
		if err != nil {
			return nil, err
		}
		body, err := unpack(stored, size-int64(len(out)))
		if err != nil {
			return nil, err
		}
		if int64(len(out)+len(body)) > size {
			return nil, fmt.Errorf("%w: evidence is longer than it was", ErrCorrupt)
		}
		out, rest = append(out, body...), rest[len(digest{}):]
	}
	return out, nil
}

// A parcel is evidence on its way into the database: only what it lacks.
type parcel struct {
	digest digest
	known  bool // the whole bundle is there already
	size   int
	recipe []byte
	parts  []part
}

// weight is the number of bytes that wait with the parcel.
func (p *parcel) weight() int64 {
	n := int64(len(p.recipe))
	for _, part := range p.parts {
		n += int64(len(part.body))
	}
	return n
}

// pack finds what of a bundle is not stored yet. It runs in the caller's
// goroutine, beside the others'.
func (s *Store) pack(ctx context.Context, hexDigest string, bundle []byte, computed attest.Digest) (*parcel, error) {
	named, err := fromHex(hexDigest)
	if err != nil {
		return nil, err
	}
	if len(named) == 0 || len(bundle) > maxBundle {
		return nil, fmt.Errorf("%w: evidence of %d bytes with digest %q", ErrInvalid, len(bundle), hexDigest)
	}
	p := &parcel{digest: digest(named), size: len(bundle)}
	// A bundle answers a nonce, so one that was stored before is rare: the insertion
	// finds it, and the database is not asked twice.
	if p.known = s.recent.has(held{false, p.digest}); p.known {
		return p, nil
	}
	sum, ok := computed.Of(bundle)
	if !ok {
		sum = sha256.Sum256(bundle)
	}
	if p.digest != sum {
		return nil, fmt.Errorf("%w: evidence is not what its digest names", ErrInvalid)
	}
	recipe, parts := split(bundle, s.hashed.digest)
	p.recipe = recipe
	for _, part := range parts {
		known, err := s.holdsPart(ctx, part.digest)
		if err != nil {
			return nil, err
		}
		if !known {
			part.body = s.packer.pack(part.body)
			p.parts = append(p.parts, part)
		}
	}
	return p, nil
}

// held names something that is stored by its digest.
type held struct {
	part   bool // else a whole bundle
	digest digest
}

// holdsPart reports whether a part is stored. Parts are never removed, so what was
// seen once stays true, as long as the database loses no commit.
func (s *Store) holdsPart(ctx context.Context, d digest) (bool, error) {
	what := held{true, d}
	if s.recent.has(what) {
		return true, nil
	}
	found, epoch := false, s.recent.epoch()
	const query = "SELECT 1 FROM evidence_part WHERE digest = ?"
	err := s.read.query(ctx, query, []any{d[:]}, func(scanner) error { found = true; return nil })
	if found {
		s.recent.add(what, epoch)
	}
	return found, err
}

// Evidence returns a bundle by the hex SHA-256 of its bytes, having compared it.
func (s *Store) Evidence(ctx context.Context, hexDigest string) ([]byte, error) {
	named, err := fromHex(hexDigest)
	if err != nil || len(named) == 0 {
		return nil, fmt.Errorf("evidence %.80q: %w", hexDigest, attest.ErrNotFound)
	}
	var recipe []byte
	var size int64
	const query = "SELECT size, recipe FROM evidence WHERE digest = ?"
	if err := s.one(ctx, query, named, func(row scanner) error { return row.Scan(&size, &recipe) }); err != nil {
		return nil, fmt.Errorf("evidence %s: %w", hexDigest, err)
	}
	bundle, err := join(recipe, size, func(d digest) (body []byte, err error) {
		err = s.one(ctx, "SELECT body FROM evidence_part WHERE digest = ?", d[:], func(row scanner) error { return row.Scan(&body) })
		return body, err
	})
	if err != nil {
		return nil, fmt.Errorf("evidence %s: %w", hexDigest, err)
	}
	if sum := sha256.Sum256(bundle); hex.EncodeToString(sum[:]) != hexDigest {
		return nil, fmt.Errorf("evidence %s: %w: its digest is %x", hexDigest, ErrCorrupt, sum)
	}
	return bundle, nil
}

// one reads the row of a key; attest.ErrNotFound when there is none.
func (s *Store) one(ctx context.Context, query string, key any, scan func(scanner) error) error {
	found := false
	err := s.read.query(ctx, query, []any{key}, func(row scanner) error { found = true; return scan(row) })
	if err == nil && !found {
		return attest.ErrNotFound
	}
	return err
}
