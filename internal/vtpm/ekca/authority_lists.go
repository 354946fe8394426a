package ekca

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/assay-project/assay/internal/durable"
)

// ErrNotIssued is a certificate that the authority did not issue.
var ErrNotIssued = errors.New("this authority issued no such certificate")

// Revoke revokes one certificate by its serial number, in hex, and publishes new
// lists. One that is revoked already is no error.
func (a *Authority) Revoke(ctx context.Context, serial string, reason Reason) error {
	serial = strings.TrimLeft(strings.ToLower(strings.ReplaceAll(serial, ":", "")), "0")
	n, err := a.revoke(ctx, reason, func(c *IssuedCertificate) bool { return c.Serial == serial })
	if err == nil && n == 0 {
		err = fmt.Errorf("serial number %s: %w", serial, ErrNotIssued)
	}
	return err
}

// RevokeTPM revokes the certificates of a TPM, as when it is deleted or made anew,
// and publishes new lists. Those whose serial number is in keep, in hex, stay
// good, and with them a platform certificate that names one. It returns how many
// certificates are meant.
func (a *Authority) RevokeTPM(ctx context.Context, tpm string, reason Reason, keep ...string) (int, error) {
	if tpm == "" {
		return 0, errors.New("revoke certificates of a TPM: which?")
	}
	return a.revoke(ctx, reason, func(c *IssuedCertificate) bool {
		return c.TPM == tpm && !slices.Contains(keep, c.Serial) && (c.Holder == "" || !slices.Contains(keep, c.Holder))
	})
}

// revoke writes down what is revoked first: a list that fails to be signed now is
// signed later, and tells it then.
func (a *Authority) revoke(ctx context.Context, reason Reason, which func(*IssuedCertificate) bool) (int, error) {
	if _, ok := reason.code(); !ok {
		return 0, fmt.Errorf("%q is no reason to revoke a certificate: want one of %v", reason, Reasons())
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	all, err := a.Issued("")
	if err != nil {
		return 0, err
	}
	found := 0
	var entries []journalEntry
	for i := range all {
		if c := &all[i]; which(c) {
			found++
			if c.Revoked == nil {
				entries = append(entries, journalEntry{Type: entryRevoke, Time: a.cfg.Now().UTC(), By: c.By, Serial: c.Serial, Reason: reason})
			}
		}
	}
	if len(entries) == 0 {
		return found, nil
	}
	if err := a.append(entries...); err != nil {
		return found, err
	}
	return found, a.updateLists()
}

// UpdateLists signs and publishes new revocation lists.
func (a *Authority) UpdateLists(ctx context.Context) error {
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return a.updateLists()
}

// updateLists signs the lists of all generations; the caller has the lock. Their numbers are written
// down before they are used, so that none is used twice (RFC 5280, 5.2.3).
func (a *Authority) updateLists() error {
	for _, g := range a.generations() {
		if g.issuing.key == nil || g.platform.key == nil {
			return fmt.Errorf("sign revocation lists: %w", ErrNoKey)
		}
	}
	all, err := a.Issued("")
	if err != nil {
		return err
	}
	number, err := a.nextNumber()
	if err != nil {
		return err
	}
	now := a.cfg.Now().UTC()
	if err := a.append(journalEntry{Type: entryList, Time: now, By: byIssuing, Number: number.String()}); err != nil {
		return err
	}
	for _, g := range a.generations() {
		for by, s := range g.signers() {
			list := &x509.RevocationList{Number: number, ThisUpdate: now.Add(-backdate), NextUpdate: now.Add(a.cfg.listLife())}
			if list.RevokedCertificateEntries, err = revokedBy(all, by); err != nil {
				return err
			}
			if err := a.writeList(by, *s, list); err != nil {
				return err
			}
		}
	}
	return nil
}

func revokedBy(all []IssuedCertificate, by string) ([]x509.RevocationListEntry, error) {
	var out []x509.RevocationListEntry
	for i := range all {
		c := &all[i]
		if c.Revoked == nil || c.By != by {
			continue
		}
		serial, ok := new(big.Int).SetString(c.Serial, 16)
		code, known := c.Reason.code()
		if !ok || !known {
			return nil, fmt.Errorf("journal of the authority: revoked serial number %q, reason %q: %w", c.Serial, c.Reason, ErrAuthority)
		}
		out = append(out, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: *c.Revoked, ReasonCode: code})
	}
	return out, nil
}

// nextNumber is one more than that of any list so far.
func (a *Authority) nextNumber() (*big.Int, error) {
	highest := new(big.Int)
	err := a.walk(func(e *journalEntry) error {
		if e.Type != entryList {
			return nil
		}
		n, ok := new(big.Int).SetString(e.Number, 10)
		if !ok || n.Sign() <= 0 || n.BitLen() > 64 {
			return fmt.Errorf("journal of the authority: list number %q: %w", e.Number, ErrAuthority)
		}
		if n.Cmp(highest) > 0 {
			highest = n
		}
		return nil
	})
	return highest.Add(highest, one()), err
}

func one() *big.Int { return big.NewInt(1) }

// writeList signs and publishes a list.
func (a *Authority) writeList(by string, s signer, list *x509.RevocationList) error {
	der, err := x509.CreateRevocationList(a.cfg.Random, list, s.cert, s.key)
	if err != nil {
		return fmt.Errorf("sign revocation list %q: %w", by, err)
	}
	return durable.WriteFile(a.public(by+listSuffix), der, 0o644)
}

// Lists are the names of the revocation lists: ca and platform of the newest generation,
// those of older ones, root.
func (a *Authority) Lists() []string {
	var out []string
	for _, g := range a.generations() {
		out = append(out, g.name(byIssuing), g.name(byPlatform))
	}
	return append(out, byRoot)
}

// List returns the published revocation list of one of [Authority.Lists].
func (a *Authority) List(by string) (*x509.RevocationList, error) {
	if names := a.Lists(); !slices.Contains(names, by) {
		return nil, fmt.Errorf("no revocation list %q: want one of %s", by, strings.Join(names, ", "))
	}
	der, err := readBounded(a.public(by+listSuffix), maxList)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("read revocation list %q: %w: %w", by, err, ErrAuthority)
	}
	return list, nil
}

// maxList bounds a revocation list in bytes: some 400,000 entries.
const maxList = 16 << 20
