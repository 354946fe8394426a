package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
)

// What an appraisal says beside its columns is the same, to the byte, each time that a
// machine shows the same boot to the same policy. It is nearly all of an appraisal, so
// it is kept once, as a part of evidence is (docs/formats/database.md).

// findings is what an appraisal says beside its columns.
type findings struct {
	Reasons    []evidence.Reason `json:"reasons"`
	Claims     evidence.Claims   `json:"claims"`
	NotChecked []string          `json:"notChecked"`
}

// findingsShared begins a column that names a part. All others are JSON, which begins
// with a brace.
const findingsShared = 1

// maxFindings bounds what is kept and read. A boot that differs in every register from
// its baseline gives some 10 MB.
const maxFindings = 64 << 20

// packFindings returns the column of findings, and the part that it names if that is
// not stored yet.
func (s *Store) packFindings(ctx context.Context, doc []byte) (column []byte, missing []part, err error) {
	if len(doc) > maxFindings { // nobody could read it again
		return nil, nil, fmt.Errorf("%w: findings of %d bytes", ErrInvalid, len(doc))
	}
	if len(doc) < partMin {
		return doc, nil, nil
	}
	p := part{digest: sha256.Sum256(doc)}
	column = append([]byte{findingsShared}, p.digest[:]...)
	known, err := s.holdsPart(ctx, p.digest)
	if err != nil || known {
		return column, nil, err
	}
	p.body = s.packer.pack(doc)
	return column, []part{p}, nil
}

// unpackFindings puts what column says into a. It reads no part that is in shared,
// and puts there what it has read.
func (s *Store) unpackFindings(ctx context.Context, column []byte, a *attest.Appraisal, shared map[digest][]byte) error {
	doc := column
	if len(column) > 0 && column[0] == findingsShared {
		var err error
		if doc, err = s.sharedFindings(ctx, column[1:], shared); err != nil {
			return fmt.Errorf("findings of %q: %w", a.ID, err)
		}
	}
	var f findings
	if err := fromDocument(doc, &f); err != nil {
		return fmt.Errorf("findings of %q: %w", a.ID, err)
	}
	a.Reasons, a.Claims, a.NotChecked = f.Reasons, f.Claims, f.NotChecked
	return nil
}

func (s *Store) sharedFindings(ctx context.Context, named []byte, shared map[digest][]byte) ([]byte, error) {
	if len(named) != len(digest{}) {
		return nil, fmt.Errorf("%w: findings name a part by %d bytes", ErrCorrupt, len(named))
	}
	if doc, ok := shared[digest(named)]; ok {
		return doc, nil
	}
	var stored []byte
	err := s.one(ctx, "SELECT body FROM evidence_part WHERE digest = ?", named, func(row scanner) error { return row.Scan(&stored) })
	if errors.Is(err, attest.ErrNotFound) {
		err = fmt.Errorf("%w: part %x is missing", ErrCorrupt, named)
	}
	if err != nil {
		return nil, err
	}
	doc, err := unpack(stored, maxFindings)
	if err == nil && sha256.Sum256(doc) != digest(named) {
		err = fmt.Errorf("%w: part %x has another digest", ErrCorrupt, named)
	}
	if err == nil {
		shared[digest(named)] = doc
	}
	return doc, err
}
