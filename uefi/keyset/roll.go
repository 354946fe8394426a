package keyset

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/cms"
	"github.com/assay-project/assay/uefi/sigdb"
)

// A Rolled set is the one that follows another.
type Rolled struct {
	Set  *Set
	Keys Keys // all that are at hand then
	// Role is what changed. Update is the authenticated write that takes a running
	// machine there, signed by a key of the set before; nil when that key is not at
	// hand. More says that it is written to add.
	Role   sigdb.Role
	More   bool
	Update []byte
}

// Roll puts a new key of the set's own in a role. A platform key and a key exchange
// key take the place of the old one. An image signing key is added: what the old one
// signed goes on starting until [Set.Retire].
func (s *Set) Roll(r sigdb.Role, keys Keys, random io.Reader, now time.Time) (*Rolled, error) {
	if !s.makes(r) {
		return nil, fmt.Errorf("%v of a set of kind %s: %w", r, s.Kind, ErrRole)
	}
	next := s.next(now)
	key, entry, err := next.newKey(random, r, now.UTC().Truncate(time.Second))
	if err != nil {
		return nil, err
	}
	payload := []sigdb.Signature{entry}
	more := r == sigdb.DB
	switch r {
	case sigdb.DB:
		next.lists[r] = append(next.lists[r], entry)
	case sigdb.PK: // there is one, whoever owns it (UEFI 2.10, 32.3.1)
		next.lists[r] = payload
	default:
		next.lists[r] = append(s.foreign(r), entry)
		payload = next.lists[r]
	}
	out := &Rolled{Set: next, Keys: Keys{}, Role: r, More: more}
	maps.Copy(out.Keys, keys)
	out.Keys[r] = key
	return out, s.sign(out, keys, payload, random)
}

// Retire removes the set's own image signing keys but the newest.
func (s *Set) Retire(keys Keys, random io.Reader, now time.Time) (*Rolled, error) {
	next := s.next(now)
	var kept []sigdb.Signature
	own := 0
	for _, e := range slices.Backward(s.lists[sigdb.DB]) {
		if e.Type == sigdb.X509 && e.Owner == s.Owner {
			if own++; own > 1 {
				continue
			}
		}
		kept = append(kept, e)
	}
	if own < 2 {
		return nil, fmt.Errorf("db has %d keys of the set's own, and the newest stays: %w", own, ErrRole)
	}
	slices.Reverse(kept)
	next.lists[sigdb.DB] = kept
	out := &Rolled{Set: next, Keys: keys, Role: sigdb.DB}
	return out, s.sign(out, keys, kept, random)
}

// Revoke adds an update of dbx, as Microsoft publishes them, to the set. It must be
// signed by a key under the set's KEK.
func (s *Set) Revoke(update []byte, now time.Time) (next *Set, added int, err error) {
	if s.Kind == SetupMode { // without a platform key no signature is asked for
		return nil, 0, fmt.Errorf("a set of kind %s has no revocations: %w", s.Kind, ErrKind)
	}
	u, err := sigdb.ParseUpdate(update)
	if err != nil {
		return nil, 0, err
	}
	c, err := s.Variables().Verify(sigdb.DBX, true, u)
	if err != nil {
		return nil, 0, err
	}
	d, err := sigdb.Parse(c.Value().Data)
	if err != nil {
		return nil, 0, err
	}
	next = s.next(now)
	next.lists[sigdb.DBX] = slices.Collect(d.All())
	return next, len(next.lists[sigdb.DBX]) - len(s.lists[sigdb.DBX]), nil
}

// next is a copy of the set of a later time: firmware takes no update that is not
// newer than the last.
func (s *Set) next(now time.Time) *Set {
	out := *s
	out.Updated = now.UTC().Truncate(time.Second)
	if earliest := s.Updated.Add(time.Second); out.Updated.Before(earliest) {
		out.Updated = earliest
	}
	out.lists = map[sigdb.Role][]sigdb.Signature{}
	for r, entries := range s.lists {
		out.lists[r] = slices.Clone(entries)
	}
	return &out
}

// foreign are the entries of a role that are not the set's own.
func (s *Set) foreign(r sigdb.Role) []sigdb.Signature {
	return slices.DeleteFunc(slices.Clone(s.lists[r]), func(e sigdb.Signature) bool { return e.Owner == s.Owner })
}

// sign makes the update that leads from s to the rolled set.
func (s *Set) sign(out *Rolled, keys Keys, payload []sigdb.Signature, random io.Reader) error {
	by := sigdb.PK
	if out.Role == sigdb.DB || out.Role == sigdb.DBX {
		by = sigdb.KEK
	}
	if keys[by] == nil {
		return nil
	}
	signing, err := s.Signing(by, keys, random)
	if err != nil {
		return err
	}
	out.Update, err = updateOf(out, payload, signing)
	return err
}

func updateOf(out *Rolled, payload []sigdb.Signature, signing cms.Signing) ([]byte, error) {
	return sigdb.NewUpdate(out.Role, out.More, uefi.NewTime(out.Set.Updated), sigdb.Encode(payload), signing)
}
