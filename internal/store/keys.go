package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/assay-project/assay/internal/attest"
)

// The records of a key are found by the digest of the key, whatever Name they are
// under. A program of the schema before has no such column and leaves NULL there,
// also while it runs beside this one: the few rows without a digest are read as well,
// until they are given theirs.

var keysRecorded = bulk{head: "SELECT key_digest FROM attester WHERE key_digest IN"}

const (
	keysUnknown   = "SELECT ak_name, ak_public FROM attester WHERE key_digest IS NULL ORDER BY ak_name LIMIT ?"
	setKeyDigest  = "UPDATE attester SET key_digest = ? WHERE ak_name = ? AND key_digest IS NULL"
	attesterByKey = selectAttester + " WHERE a.key_digest = ? ORDER BY a.ak_name LIMIT ?"
	keyRecorded   = "SELECT 1 FROM attester WHERE key_digest = ? AND ak_name <> ?"
)

// maxNames is more than the Names that one key is ever recorded under: since
// AddAttester refuses a second one, only older programs can have left any.
const maxNames = 64

// AttestersByKey returns the records of the key with this digest
// ([attest.KeyDigest]), under whatever Name, removed ones included.
func (s *Store) AttestersByKey(ctx context.Context, digest []byte) ([]attest.Attester, error) {
	var out []attest.Attester
	err := s.read.snapshot(ctx, func(t *txn) error {
		out = nil
		names, err := t.undigested(ctx)
		if err != nil {
			return err
		}
		collect := func(row scanner) error {
			a, err := scanAttester(row)
			out = append(out, a)
			return err
		}
		if err := t.query(ctx, attesterByKey, []any{digest, maxNames}, collect); err != nil {
			return err
		}
		for name, of := range names {
			if of != string(digest) {
				continue
			}
			if err := t.query(ctx, selectAttester+" WHERE a.ak_name = ?", []any{name}, collect); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("attesters by key: %w", err)
	}
	return out, nil
}

// undigested returns the digests of the keys whose rows lack them, by Name.
func (t *txn) undigested(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	err := t.query(ctx, keysUnknown, []any{pageMax + 1}, func(row scanner) error {
		var name string
		var public []byte
		err := row.Scan(&name, &public)
		out[name] = string(attest.KeyDigest(public))
		return err
	})
	if err == nil && len(out) > pageMax {
		// A part of them would leave a record unseen, and a removed key trusted.
		err = errors.New("too many attesters without a key digest: restart the service to have them added")
	}
	return out, err
}

// digestKeys gives the rows that lack a digest theirs, some at a time.
func (s *Store) digestKeys(ctx context.Context) error {
	for more := true; more; {
		err := s.change(ctx, "add key digests", nil, keeps, func(t *txn) error {
			rows := map[string][]byte{}
			err := t.query(ctx, keysUnknown, []any{pruneRows}, func(row scanner) error {
				var name string
				var public []byte
				err := row.Scan(&name, &public)
				rows[name] = attest.KeyDigest(public)
				return err
			})
			more = len(rows) == pruneRows
			for name, digest := range rows {
				if err != nil {
					return err
				}
				_, err = t.exec(ctx, setKeyDigest, digest, name)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// recorded reads which of the keys that the group's decisions hold to be
// unrecorded have a record after all.
func (b *batch) recorded(ctx context.Context, t *txn) error {
	var digests []any
	for _, p := range b.group {
		if d := p.decision.Unrecorded; d != nil {
			digests = append(digests, d)
		}
	}
	if len(digests) == 0 {
		return nil
	}
	others, err := t.undigested(ctx)
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	for _, digest := range others {
		b.keys[digest] = true
	}
	err = t.among(ctx, keysRecorded, digests, func(row scanner) error {
		var digest []byte
		err := row.Scan(&digest)
		b.keys[string(digest)] = true
		return err
	})
	if err != nil {
		return fmt.Errorf("read keys: %w", err)
	}
	return nil
}
