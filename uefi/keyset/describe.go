package keyset

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/sigdb"
)

// A Certificate is one of a set, for reading.
type Certificate struct {
	Role      string    `json:"role"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	SHA256    string    `json:"sha256"` // of the certificate
	Owner     string    `json:"owner"`  // GUID
	Own       bool      `json:"own"`    // the owner is the set
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	State     State     `json:"state"`
}

// Certificates describes the certificates of a database at a time, in order; owner
// is the set whose own they may be.
func Certificates(r sigdb.Role, d *sigdb.Database, owner uefi.GUID, now time.Time) []Certificate {
	var out []Certificate
	if d == nil {
		return nil
	}
	for e := range d.All() {
		if e.Type != sigdb.X509 {
			continue
		}
		sum := sha256.Sum256(e.Data)
		c := Certificate{Role: r.String(), SHA256: hex.EncodeToString(sum[:]), Owner: e.Owner.String(), Own: e.Owner == owner, State: StateUnknown}
		c.Subject, c.Issuer, _ = sigdb.Names(e.Data)
		if x, err := cms.ParseCertificate(e.Data); err == nil {
			c.NotBefore, c.NotAfter = x.NotBefore, x.NotAfter
			c.State = stateAt(x.NotBefore, x.NotAfter, now)
		}
		out = append(out, c)
	}
	return out
}

// Status describes every certificate of the set at a time, revoked ones apart.
func (s *Set) Status(now time.Time) []Certificate {
	var out []Certificate
	for _, r := range []sigdb.Role{sigdb.PK, sigdb.KEK, sigdb.DB} {
		out = append(out, Certificates(r, s.Database(r), s.Owner, now)...)
	}
	return out
}
