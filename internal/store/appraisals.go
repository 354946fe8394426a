package store

import (
	"context"
	"encoding/hex"
	"errors"
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

// Appraisals lists newest first, at most 10,000 at once. A row that is damaged is
// [evidence.Unusable], with its id and the reason appraisal.damaged.
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
	var faults []error
	err := s.read.query(ctx, query+" ORDER BY id DESC LIMIT ?", append(args, limit(f.Limit)), func(row scanner) error {
		a, column, err := scanAppraisal(row)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		out, found, faults = append(out, a), append(found, column), append(faults, err)
		return nil
	})
	shared := map[digest][]byte{}
	for i := 0; i < len(out) && err == nil; i++ {
		fault := faults[i]
		if fault == nil {
			fault = s.unpackFindings(ctx, found[i], &out[i], shared)
		}
		if errors.Is(fault, ErrCorrupt) {
			out[i] = damaged(out[i])
			continue
		}
		err = fault
	}
	if err != nil {
		return nil, fmt.Errorf("list appraisals: %w", err)
	}
	return out, nil
}

const codeDamaged evidence.Code = "appraisal.damaged"

// damaged is an appraisal in a list whose row is not what was put there: its id and
// what it is about are told, that the others can be read, but no verdict.
func damaged(a attest.Appraisal) attest.Appraisal {
	a.Verdict, a.Claims, a.NotChecked = evidence.Unusable, nil, nil
	a.Reasons = []evidence.Reason{{Code: codeDamaged, Message: fmt.Sprintf("the stored record of appraisal %q is damaged: it says nothing of a verdict", a.ID)}}
	return a
}

// scanAppraisal reads a row but for its findings, whose column it returns. Of a row
// that is damaged the rest is there.
func scanAppraisal(row scanner) (a attest.Appraisal, found []byte, err error) {
	var made, verdict int64
	var digest []byte
	err = row.Scan(&a.ID, &made, &a.Type, &a.Attester, &a.Machine, &verdict, &a.Policy, &a.PolicyRev, &digest, &a.TokenID, &found)
	if err != nil {
		return attest.Appraisal{}, nil, err
	}
	a.Time, a.Evidence = fromMoment(made), hex.EncodeToString(digest)
	// A verdict that is none must not read as one: 257 would become Trusted.
	if verdict < 0 || verdict > int64(evidence.Unusable) {
		return a, nil, fmt.Errorf("%w: verdict %d of %q", ErrCorrupt, verdict, a.ID)
	}
	a.Verdict = evidence.Verdict(verdict)
	return a, found, nil
}
