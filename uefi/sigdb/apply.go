package sigdb

import (
	"bytes"
	"maps"

	"github.com/assay-project/assay/evidence"
	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/cms"
)

// A Value is what a variable holds, and the time of the write that counts.
type Value struct {
	Data []byte
	Time uefi.Time
}

// Variables are the Secure Boot variables of a machine. A role that is not there has
// no entry.
type Variables map[Role]Value

// SetupMode reports whether there is no platform key: then anybody may write KEK, db
// and dbx, and a platform key needs its own signature only (UEFI 2.10, 32.3).
func (v Variables) SetupMode() bool { return len(v[PK].Data) == 0 }

// Database reads a role's lists; nil when the variable is not there or is malformed,
// which firmware takes alike.
func (v Variables) Database(r Role) *Database {
	value, ok := v[r]
	if !ok || len(value.Data) == 0 {
		return nil
	}
	d, err := Parse(value.Data)
	if err != nil {
		return nil
	}
	return d
}

// A Change is an update that firmware carries out. Only [Variables.Verify] makes one.
type Change struct {
	role  Role
	value Value
}

// Role is the variable that changes.
func (c *Change) Role() Role { return c.role }

// Value is what it holds then; no data means that it is deleted.
func (c *Change) Value() Value { return c.value }

// Verify decides whether firmware carries out an update of a role, and what the
// variable holds then; more says that it is written to add to what is there. An
// error is an [evidence.Refusal].
//
// UEFI 2.10, 8.2.2 and 32.3.1; edk2, ProcessVarWithPk and ProcessVarWithKek: PK and
// KEK need the platform key's own signature, db and dbx that of a key under KEK.
func (v Variables) Verify(r Role, more bool, u *Update) (*Change, error) {
	if roleNames[r] == "" {
		return nil, evidence.Refuse(codeUpdateList, "there is no such variable")
	}
	lists, err := checkPayload(r, u.Payload)
	if err != nil {
		return nil, err
	}
	old := v[r]
	// In setup mode firmware takes KEK, db and dbx from anybody, signed or not.
	if !v.SetupMode() || r == PK {
		if !u.Time.Bare() {
			return nil, evidence.Refuse(codeUpdateTime, "its time has fractions or a time zone")
		}
		if len(old.Data) > 0 && !more && u.Time.Compare(old.Time) <= 0 {
			return nil, evidence.Refuse(codeUpdateReplay, "it is of %v, and what is there of %v", u.Time.Time(), old.Time.Time())
		}
		signed, err := u.verify(r, more)
		if err != nil {
			return nil, err
		}
		if err := v.permits(r, signed, lists); err != nil {
			return nil, err
		}
	}
	if !more {
		return &Change{r, Value{bytes.Clone(u.Payload), u.Time}}, nil
	}
	now, err := Parse(old.Data)
	if err != nil {
		return nil, evidence.Refuse(codeUpdateList, "what is there: %v", err)
	}
	if r == PK && len(old.Data) > 0 {
		return nil, evidence.Refuse(codeUpdateList, "PK has one key, and nothing is added to it")
	}
	out := Value{merge(now, lists), old.Time}
	if u.Time.Compare(old.Time) > 0 { // 8.2.2: an append never makes the time earlier
		out.Time = u.Time
	}
	return &Change{r, out}, nil
}

// permits checks who signed.
func (v Variables) permits(r Role, signed *cms.Signed, lists *Database) error {
	switch {
	case v.SetupMode(): // only PK comes here: signed by the key that it holds
		for s := range lists.All() {
			if c, err := cms.ParseCertificate(s.Data); err == nil && s.Type == X509 && signed.Path(c) != nil {
				return nil
			}
			break
		}
		return evidence.Refuse(codeUpdateSigner, "in setup mode a platform key is signed by itself, and this by %s", describe(signed.Signer()))
	case r == PK || r == KEK:
		for s := range v.Database(PK).every() {
			if s.Type == X509 && bytes.Equal(s.Data, signed.Signer().Raw) {
				return nil
			}
		}
		return evidence.Refuse(codeUpdateSigner, "%v changes by the platform key, and this is signed by %s", r, describe(signed.Signer()))
	default:
		for s := range v.Database(KEK).every() {
			if c, err := cms.ParseCertificate(s.Data); err == nil && s.Type == X509 && signed.Path(c) != nil {
				return nil
			}
		}
		return evidence.Refuse(codeUpdateSigner, "%v changes by a key under KEK, and this is signed by %s", r, describe(signed.Signer()))
	}
}

// every is [Database.All], of a database that may not be there.
func (d *Database) every() func(func(Signature) bool) {
	if d == nil {
		return func(func(Signature) bool) {}
	}
	return d.All()
}

// Apply returns the variables after a change.
func (v Variables) Apply(c *Change) Variables {
	out := Variables{}
	maps.Copy(out, v)
	if len(c.value.Data) == 0 {
		delete(out, c.role)
	} else {
		out[c.role] = c.value
	}
	return out
}
