// Package storetest holds every implementation of the service's store to one
// behaviour.
//
// It is for tests only. Start with [Run].
package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
)

// Store is all that the service keeps things in.
type Store interface {
	attest.Store
	access.Store
	AuditHead(context.Context) (audit.Head, error)
	RecordAudit(context.Context, audit.Entry) error
	Close() error
}

// An Opener opens the same database each time; one Store at a time is open.
type Opener func(testing.TB) Store

// Run holds an implementation to the contract of attest.Store and access.Store.
// Each call of fresh makes an empty database.
func Run(t *testing.T, fresh func(testing.TB) Opener) {
	for name, test := range map[string]func(*testing.T, Opener){
		"DecisionComesBackWhole":             decisionComesBackWhole,
		"ChallengeServesOnce":                challengeServesOnce,
		"StaleDecisionKeepsNothing":          staleDecisionKeepsNothing,
		"InvalidDecisionKeepsNothing":        invalidDecisionKeepsNothing,
		"ParallelDecisionsConsumeOnce":       parallelDecisionsConsumeOnce,
		"WithdrawnDecisionKeepsNothing":      withdrawnDecisionKeepsNothing,
		"AttesterRevisionsGuardCounters":     attesterRevisionsGuardCounters,
		"AppraisalsPageNewestFirst":          appraisalsPageNewestFirst,
		"EvidenceComesBackByteForByte":       evidenceComesBackByteForByte,
		"PoliciesAreAppendOnly":              policiesAreAppendOnly,
		"ReferencesAreAppendOnly":            referencesAreAppendOnly,
		"AnchorsComeAndGo":                   anchorsComeAndGo,
		"SigningKeysAreReplacedByID":         signingKeysAreReplacedByID,
		"ConfigurationIsOneGeneration":       configurationIsOneGeneration,
		"AttestersAreUniqueByKeyAndMachine":  attestersAreUnique,
		"AttestersAreFoundByKey":             attestersAreFoundByKey,
		"DecisionRestsOnNoRecordOfItsKey":    decisionRestsOnNoRecord,
		"AttestersChangeByRevision":          attestersChangeByRevision,
		"AttestersPageByName":                attestersPageByName,
		"EnrolmentEndsInOneStep":             enrolmentEndsInOneStep,
		"PruneDropsOnlyWhatExpired":          pruneDropsOnlyWhatExpired,
		"PrincipalsAreFoundByCredential":     principalsAreFound,
		"PrincipalsAreUnique":                principalsAreUnique,
		"RolesComeAndGo":                     rolesComeAndGo,
		"RolesOfPrincipalsAreResolved":       rolesOfPrincipals,
		"GrantsChangeAndNothingElse":         grantsChange,
		"EveryWriteIsInTheAuditChain":        everyWriteIsAudited,
		"AuditChainPages":                    auditChainPages,
		"HostileTextIsRefusedOrCleaned":      hostileText,
		"ReopenedStoreHoldsWhatItHeld":       reopened,
		"ClosedStoreTakesNoWrites":           closed,
		"MissingNamesAreNotFound":            missingNames,
		"CancelledContextIsNoSilentFailure":  cancelledContext,
		"UnsignedNumbersKeepTheirBits":       unsignedNumbers,
		"ParallelAdministratorsLoseNoChange": parallelAdministrators,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

// opened opens a store that the test closes at its end.
func opened(t *testing.T, open Opener) Store {
	t.Helper()
	s := open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return s
}

// must fails the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantErr reports an error that is not the one wanted.
func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// same reports what a result differs in.
func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(evidence.Value{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// Chain reads the whole audit chain and fails the test when it does not hold, or
// does not end where the store says.
func Chain(t testing.TB, s Store) []audit.Entry {
	t.Helper()
	var all []audit.Entry
	var v audit.Verifier
	for {
		page, err := s.AuditEntries(context.Background(), v.Head().Seq, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			if err := v.Next(e); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, page...)
		if len(page) == 0 {
			break
		}
	}
	head, err := s.AuditHead(context.Background())
	if err != nil || head != v.Head() {
		t.Fatalf("chain ends at %v, the store says %v, %v", v.Head(), head, err)
	}
	return all
}

// kept fails the test unless the store holds exactly n audit entries.
func kept(t *testing.T, s Store, n int) {
	t.Helper()
	if got := len(Chain(t, s)); got != n {
		t.Errorf("audit chain has %d entries, want %d", got, n)
	}
}

func later(n int) time.Time { return Noon().Add(time.Duration(n) * time.Minute) }
