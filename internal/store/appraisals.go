package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/attest"
)

const selectAppraisal = `SELECT id, made, kind, attester, machine, verdict, policy, policy_version, evidence, token_id, findings
	FROM appraisal`

// Appraisal returns one decision.
func (s *Store) Appraisal(ctx context.Context, id string) (a attest.Appraisal, err error) {
	if texts(id) != nil {
		return a, fmt.Errorf("appraisal %.80q: %w", id, attest.ErrNotFound)
	}
	var found []byte
	err = s.one(ctx, selectAppraisal+" WHERE id = ?", id, func(row scanner) (err error) {
		a, found, err = scanAppraisal(row)
		return err
	})
	if err == nil {
		err = s.unpackFindings(ctx, found, &a, map[digest][]byte{})
	}
	if err != nil {
		return attest.Appraisal{}, fmt.Errorf("appraisal %q: %w", id, err)
	}
	return a, nil
}

// Appraisals lists newest first, at most 10,000 at once.
func (s *Store) Appraisals(ctx context.Context, f attest.AppraisalFilter) ([]attest.Appraisal, error) {
	if texts(f.Attester, f.Machine, f.Before) != nil {
		return nil, nil // nothing stored has such a text
	}
	var where []string
	var args []any
	restrict := func(on bool, condition string, value any) {
		if on {
			where, args = append(where, condition), append(args, value)
		}
	}
	restrict(f.Attester != "", "attester = ?", f.Attester)
	restrict(f.Machine != "", "machine = ?", f.Machine)
	if f.Verdict != nil {
		restrict(true, "verdict = ?", int64(*f.Verdict))
	}
	restrict(f.Before != "", "id < ?", f.Before)
	query := selectAppraisal
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	var out []attest.Appraisal
	var found [][]byte
	err := s.read.query(ctx, query+" ORDER BY id DESC LIMIT ?", append(args, limit(f.Limit)), func(row scanner) error {
		a, column, err := scanAppraisal(row)
		out, found = append(out, a), append(found, column)
		return err
	})
	shared := map[digest][]byte{}
	for i := 0; i < len(out) && err == nil; i++ {
		err = s.unpackFindings(ctx, found[i], &out[i], shared)
	}
	if err != nil {
		return nil, fmt.Errorf("list appraisals: %w", err)
	}
	return out, nil
}

// scanAppraisal reads a row but for its findings, whose column it returns.
func scanAppraisal(row scanner) (a attest.Appraisal, found []byte, err error) {
	var made, verdict int64
	var digest []byte
	err = row.Scan(&a.ID, &made, &a.Type, &a.Attester, &a.Machine, &verdict, &a.Policy, &a.PolicyRev, &digest, &a.TokenID, &found)
	if err != nil {
		return attest.Appraisal{}, nil, err
	}
	// A verdict that is none must not read as one: 257 would become Trusted.
	if verdict < 0 || verdict > int64(evidence.Unusable) {
		return attest.Appraisal{}, nil, fmt.Errorf("%w: verdict %d of %q", ErrCorrupt, verdict, a.ID)
	}
	a.Time, a.Verdict, a.Evidence = fromMoment(made), evidence.Verdict(verdict), hex.EncodeToString(digest)
	return a, found, nil
}
