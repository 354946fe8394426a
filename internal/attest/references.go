package attest

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/assay-project/assay/eventlog/baseline"
)

// PutReference makes a baseline current under a name, as the revision after replaces.
func (s *Service) PutReference(ctx context.Context, actor, name string, file []byte, replaces int) (Reference, error) {
	if err := checkName("name", name); err != nil {
		return Reference{}, err
	}
	if _, err := baseline.Parse(file); err != nil {
		return Reference{}, badInput("baseline", "%v", err)
	}
	r := Reference{Name: name, Version: replaces + 1, Baseline: file, Author: actor, Time: s.now().UTC()}
	err := s.change(ctx, s.entry(actor, "reference.put", name, "done"), func(e auditEntry) error {
		return s.store.PutReference(ctx, r, e)
	})
	if errors.Is(err, ErrStale) {
		return Reference{}, &ConflictError{Code: "request.conflict", Detail: fmt.Sprintf("reference %q is not at version %d any more: read it again before changing it", name, replaces)}
	}
	return r, err
}

// References lists the current revision of every reference value, by name.
func (s *Service) References(ctx context.Context) ([]Reference, error) {
	if err := s.Refresh(ctx); err != nil {
		return nil, err
	}
	refs := s.configuration().References
	var out []Reference
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		out = append(out, refs[name])
	}
	return out, nil
}

// The kinds of trust anchor.
const (
	AnchorEKCA = "ek-ca" // issues certificates of endorsement keys
	AnchorAKCA = "ak-ca" // issues certificates of attestation keys
)

// maxAnchors bounds one upload; the largest vendor bundle known has some 1,700.
const maxAnchors = 4096

// AddAnchors trusts every certificate of a PEM bundle from now on.
func (s *Service) AddAnchors(ctx context.Context, actor, kind string, bundle []byte) ([]Anchor, error) {
	if kind != AnchorEKCA && kind != AnchorAKCA {
		return nil, badInput("kind", "%q is neither %q nor %q", kind, AnchorEKCA, AnchorAKCA)
	}
	certs, err := parseCertificates(bundle)
	if err != nil {
		return nil, err
	}
	var out []Anchor
	for _, c := range certs {
		sum := sha256.Sum256(c.Raw)
		a := Anchor{
			ID: kind + "-" + hex.EncodeToString(sum[:8]), Kind: kind, Name: c.Subject.String(), DER: c.Raw,
			Added: s.now().UTC(), AddedBy: actor,
		}
		err := s.store.PutAnchor(ctx, a, s.entry(actor, "anchor.put", a.ID, "done"))
		if err != nil && !errors.Is(err, ErrExists) {
			return nil, err
		}
		out = append(out, a)
	}
	_, err = s.reload(ctx)
	return out, err
}

func parseCertificates(bundle []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := bundle; len(out) <= maxAnchors; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, badInput("pem", "block %d is a %s, want CERTIFICATE", len(out)+1, block.Type)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badInput("pem", "certificate %d: %v", len(out)+1, err)
		}
		if !c.IsCA {
			return nil, badInput("pem", "certificate %d (%s) is not a CA", len(out)+1, c.Subject)
		}
		out = append(out, c)
	}
	if len(out) == 0 || len(out) > maxAnchors {
		return nil, badInput("pem", "%d certificates, want 1 to %d", len(out), maxAnchors)
	}
	return out, nil
}

// RemoveAnchor trusts an anchor no longer.
func (s *Service) RemoveAnchor(ctx context.Context, actor, id string) error {
	return s.change(ctx, s.entry(actor, "anchor.remove", id, "done"), func(e auditEntry) error {
		return s.store.RemoveAnchor(ctx, id, e)
	})
}

// Anchors lists what is trusted, by id.
func (s *Service) Anchors(ctx context.Context) ([]Anchor, error) {
	if err := s.Refresh(ctx); err != nil {
		return nil, err
	}
	out := slices.Clone(s.configuration().Anchors)
	slices.SortFunc(out, func(a, b Anchor) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}
