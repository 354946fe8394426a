package storetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/assay-project/assay/internal/access"
	"github.com/assay-project/assay/internal/attest"
	"github.com/assay-project/assay/internal/audit"
	"github.com/assay-project/assay/internal/store"
)

var (
	errOverloaded = store.ErrOverloaded
	errClosed     = store.ErrClosed
)

func principal(n int) access.Principal {
	return access.Principal{
		Name: fmt.Sprint("principal-", n), Roles: []access.Role{access.Operator}, Permissions: []access.Permission{access.ReadAudit},
		TokenHash: access.Digest{1, byte(n)}, TokenTail: "aZ_-", Certificate: access.Digest{2, byte(n)},
		Added: Noon(), AddedBy: "admin", Expires: later(n),
	}
}

func principalsAreFound(t *testing.T, open Opener) {
	s := opened(t, open)
	both, token, certificate := principal(1), principal(2), principal(3)
	token.Certificate, token.Expires, token.Permissions = access.Digest{}, time.Time{}, nil
	certificate.TokenHash, certificate.TokenTail, certificate.Roles = access.Digest{}, "", nil
	for _, p := range []access.Principal{certificate, both, token} {
		must(t, s.AddPrincipal(t.Context(), p, nil, Entry("principal.add", p.Name)))
	}
	list, err := s.Principals(t.Context())
	must(t, err)
	same(t, "list", list, []access.Principal{both, token, certificate})
	for _, p := range []access.Principal{both, token} {
		got, err := s.PrincipalByToken(t.Context(), p.TokenHash)
		must(t, err)
		same(t, "by token", got, p)
	}
	for _, p := range []access.Principal{both, certificate} {
		got, err := s.PrincipalByCertificate(t.Context(), p.Certificate)
		must(t, err)
		same(t, "by certificate", got, p)
	}
	for _, d := range []access.Digest{{}, {9}} {
		_, err := s.PrincipalByToken(t.Context(), d)
		wantErr(t, "unknown token", err, access.ErrNotFound)
		_, err = s.PrincipalByCertificate(t.Context(), d)
		wantErr(t, "unknown certificate", err, access.ErrNotFound)
	}
	_, err = s.PrincipalByCertificate(t.Context(), both.TokenHash)
	wantErr(t, "a token's digest as a certificate's", err, access.ErrNotFound)
	must(t, s.RemovePrincipal(t.Context(), both.Name, nil, Entry("principal.remove", both.Name)))
	_, err = s.PrincipalByToken(t.Context(), both.TokenHash)
	wantErr(t, "removed principal", err, access.ErrNotFound)
	wantErr(t, "removed twice", s.RemovePrincipal(t.Context(), both.Name, nil, Entry("principal.remove", both.Name)), access.ErrNotFound)
	kept(t, s, 4)
}

func principalsAreUnique(t *testing.T, open Opener) {
	s := opened(t, open)
	must(t, s.AddPrincipal(t.Context(), principal(1), nil, Entry("principal.add", "")))
	for what, change := range map[string]func(*access.Principal){
		"name":        func(p *access.Principal) { p.Name = principal(1).Name },
		"token":       func(p *access.Principal) { p.TokenHash = principal(1).TokenHash },
		"certificate": func(p *access.Principal) { p.Certificate = principal(1).Certificate },
	} {
		p := principal(2)
		change(&p)
		wantErr(t, "same "+what, s.AddPrincipal(t.Context(), p, nil, Entry("principal.add", "")), access.ErrExists)
	}
	p := principal(2)
	p.Roles = []access.Role{"root"}
	wantErr(t, "invalid", s.AddPrincipal(t.Context(), p, nil, Entry("principal.add", "")), access.ErrInvalid)
	kept(t, s, 1)
}

func everyWriteIsAudited(t *testing.T, open Opener) {
	s := opened(t, open)
	actions := []string{}
	entry := func(action string) audit.Entry {
		actions = append(actions, action)
		return Entry(action, "subject of "+action)
	}
	ctx := t.Context()
	must(t, s.PutPolicy(ctx, policy(1), entry("policy.put")))
	must(t, s.PutReference(ctx, reference(1), entry("reference.put")))
	must(t, s.PutAnchor(ctx, anchor(1), entry("anchor.put")))
	must(t, s.RemoveAnchor(ctx, anchor(1).ID, entry("anchor.remove")))
	must(t, s.PutSigningKey(ctx, signingKey(1), entry("key.put")))
	must(t, s.AddAttester(ctx, Attester(2), entry("attester.add")))
	a := Attester(2)
	a.Revision = 1
	must(t, s.SetAttester(ctx, a, entry("attester.set")))
	must(t, s.PutEnrolment(ctx, enrolment(1)))
	must(t, s.FinishEnrolment(ctx, enrolment(1).ID, Attester(1), entry("attester.enrol")))
	must(t, s.AddPrincipal(ctx, principal(1), nil, entry("principal.add")))
	must(t, s.RemovePrincipal(ctx, principal(1).Name, nil, entry("principal.remove")))
	must(t, s.RecordAudit(ctx, entry("request")))
	d := Decision(1, nil)
	d.Generation, d.Audit = 6, entry("attest")
	must(t, s.Decide(ctx, d))
	must(t, s.Prune(ctx, later(0)))
	var got []string
	for _, e := range Chain(t, s) {
		got = append(got, e.Action)
		if e.Subject != "subject of "+e.Action || string(e.Detail) != "{\"words\":\"\\u003ca \\u0026 b\\u003e\"}" {
			t.Errorf("entry %+v", e)
		}
	}
	same(t, "actions", got, actions)
}

func auditChainPages(t *testing.T, open Opener) {
	s := opened(t, open)
	const total = 105
	for n := range total {
		must(t, s.Decide(t.Context(), Decision(n, nil)))
	}
	for _, tc := range []struct {
		after uint64
		limit int
		first uint64
		n     int
	}{
		{0, 0, 1, 100}, {0, 7, 1, 7}, {100, 7, 101, 5}, {total, 7, 0, 0}, {math.MaxUint64, 7, 0, 0}, {0, math.MaxInt, 1, total},
	} {
		page, err := s.AuditEntries(t.Context(), tc.after, tc.limit)
		must(t, err)
		if len(page) != tc.n || tc.n > 0 && page[0].Seq != tc.first {
			t.Errorf("AuditEntries(%d, %d) gave %d entries", tc.after, tc.limit, len(page))
		}
	}
}

func hostileText(t *testing.T, open Opener) {
	s := opened(t, open)
	for _, bad := range []string{"a\x00b", "\xff\xfe"} {
		p := policy(1)
		p.Name = bad
		for what, err := range map[string]error{
			"policy":    s.PutPolicy(t.Context(), p, Entry("policy.put", "")),
			"anchor":    s.PutAnchor(t.Context(), attest.Anchor{ID: bad}, Entry("anchor.put", "")),
			"reference": s.PutReference(t.Context(), attest.Reference{Name: bad, Version: 1}, Entry("reference.put", "")),
			"key":       s.PutSigningKey(t.Context(), attest.SigningKey{ID: bad}, Entry("key.put", "")),
			"attester":  s.AddAttester(t.Context(), attest.Attester{AKName: "a", Machine: bad}, Entry("attester.add", "")),
			"enrolment": s.PutEnrolment(t.Context(), attest.Enrolment{ID: bad}),
		} {
			wantErr(t, fmt.Sprintf("%s named %q", what, bad), err, store.ErrInvalid)
		}
		for what, read := range map[string]func() error{
			"appraisal":  func() error { _, err := s.Appraisal(t.Context(), bad); return err },
			"evidence":   func() error { _, err := s.Evidence(t.Context(), bad); return err },
			"attester":   func() error { _, err := s.Attester(t.Context(), bad); return err },
			"enrolment":  func() error { _, err := s.Enrolment(t.Context(), bad); return err },
			"history":    func() error { _, err := s.PolicyHistory(t.Context(), bad); return err },
			"anchor":     func() error { return s.RemoveAnchor(t.Context(), bad, Entry("", "")) },
			"enrolment.": func() error { return s.FinishEnrolment(t.Context(), bad, Attester(1), Entry("", "")) },
		} {
			wantErr(t, fmt.Sprintf("%s %q", what, bad), read(), attest.ErrNotFound)
		}
	}
	wantErr(t, "principal", s.RemovePrincipal(t.Context(), "\x00", nil, Entry("", "")), access.ErrNotFound)
	// What an attacker can put into an audit entry must not keep it out of the chain.
	d := Decision(1, nil)
	d.Audit.Subject, d.Audit.Detail = "\x00\xff'; DROP TABLE audit; --", []byte("{\x00")
	must(t, s.Decide(t.Context(), d))
	kept(t, s, 1)
}

func missingNames(t *testing.T, open Opener) {
	s := opened(t, open)
	for what, read := range map[string]func() error{
		"appraisal": func() error { _, err := s.Appraisal(t.Context(), ID(1)); return err },
		"evidence":  func() error { _, err := s.Evidence(t.Context(), Digest(nil)); return err },
		"no digest": func() error { _, err := s.Evidence(t.Context(), ""); return err },
		"attester":  func() error { _, err := s.Attester(t.Context(), "000b"); return err },
		"enrolment": func() error { _, err := s.Enrolment(t.Context(), "1"); return err },
		"history":   func() error { _, err := s.PolicyHistory(t.Context(), "default"); return err },
		"anchor":    func() error { return s.RemoveAnchor(t.Context(), "1", Entry("", "")) },
	} {
		wantErr(t, what, read(), attest.ErrNotFound)
	}
	kept(t, s, 0)
}

func reopened(t *testing.T, open Opener) {
	s := open(t)
	must(t, s.PutPolicy(t.Context(), policy(1), Entry("policy.put", "default")))
	d := Decision(1, Bundle(0, 1))
	d.Generation = 2
	must(t, s.Decide(t.Context(), d))
	must(t, s.AddPrincipal(t.Context(), principal(1), nil, Entry("principal.add", "")))
	head, err := s.AuditHead(t.Context())
	must(t, err)
	must(t, s.Close())
	s = opened(t, open)
	got, err := s.Appraisal(t.Context(), ID(1))
	must(t, err)
	same(t, "appraisal", got, d.Appraisal)
	if g, err := s.Generation(t.Context()); err != nil || g != 2 {
		t.Errorf("generation %d, %v after reopening, want 2", g, err)
	}
	again := Decision(2, nil)
	again.Challenge, again.Generation = d.Challenge, 2
	wantErr(t, "challenge used before", s.Decide(t.Context(), again), attest.ErrChallengeUsed)
	if now, err := s.AuditHead(t.Context()); err != nil || now != head {
		t.Errorf("head %v, %v after reopening, want %v", now, err, head)
	}
	again.Challenge = Challenge(2)
	must(t, s.Decide(t.Context(), again))
	kept(t, s, 4)
}

func closed(t *testing.T, open Opener) {
	s := open(t)
	must(t, s.Decide(t.Context(), Decision(1, nil)))
	must(t, s.Close())
	wantErr(t, "Decide", s.Decide(t.Context(), Decision(2, nil)), errClosed)
	wantErr(t, "PutAnchor", s.PutAnchor(t.Context(), anchor(1), Entry("", "")), errClosed)
	must(t, s.Close())
	if _, err := s.Generation(t.Context()); err == nil {
		t.Error("a closed store answers")
	}
	s = opened(t, open)
	kept(t, s, 1)
}
