package keyset

import (
	"time"

	"github.com/assay-project/assay/uefi"
	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

// edk2's variables for its own switch, and for writes without signatures.
var (
	vendorSecureBootEnable = uefi.MustGUID("f0a30bc7-af08-4556-99c4-001009c93a44")
	vendorCustomMode       = uefi.MustGUID("c076ec0c-7028-4399-a072-71ee5c448b9f")
)

const (
	nameSecureBootEnable = "SecureBootEnable"
	nameCustomMode       = "CustomMode"
	switchAttributes     = uefi.NonVolatile | uefi.BootServiceAccess
)

// Enrolled says what [Set.Enrol] did beside writing the set.
type Enrolled struct {
	// Kept is how many revocations the store had that the set does not have: none is
	// ever taken back.
	Kept int
}

// Enrol writes the set into the store of a machine that is off, in place of the keys
// there, and turns Secure Boot on; a set of kind [SetupMode] removes all keys.
// Revocations that the store has are kept beside the set's. Times never go back, so
// that what a guest wrote before is not played back after.
func (s *Set) Enrol(store *varstore.Store) (Enrolled, error) {
	var done Enrolled
	now, err := Read(store)
	if err != nil {
		return done, err
	}
	variables := s.Variables()
	if old := now.Database(sigdb.DBX); old != nil && s.Kind != SetupMode {
		all := s.Entries(sigdb.DBX)
		for e := range old.All() {
			if !s.has(sigdb.DBX, e) {
				all = append(all, e)
				done.Kept++
			}
		}
		variables[sigdb.DBX] = sigdb.Value{Data: sigdb.Encode(all), Time: uefi.NewTime(s.Updated)}
	}
	for _, r := range sigdb.Roles() {
		value := variables[r]
		if value.Time.Compare(now[r].Time) < 0 {
			value.Time = now[r].Time
		}
		if err := Write(store, r, value); err != nil {
			return done, err
		}
	}
	if s.Kind != SetupMode {
		return done, SetSecureBoot(store, true)
	}
	// Without its switch firmware turns Secure Boot on when the guest has enrolled a
	// platform key.
	for name, vendor := range map[string]uefi.GUID{nameSecureBootEnable: vendorSecureBootEnable, nameCustomMode: vendorCustomMode} {
		if _, err := store.Delete(vendor, name); err != nil {
			return done, err
		}
	}
	return done, nil
}

// Read returns the Secure Boot variables of a store.
func Read(store *varstore.Store) (sigdb.Variables, error) {
	out := sigdb.Variables{}
	for _, r := range sigdb.Roles() {
		v, ok := store.Get(r.Vendor(), r.String())
		if !ok {
			continue
		}
		if _, err := sigdb.Parse(v.Data); err != nil {
			return nil, err
		}
		out[r] = sigdb.Value{Data: v.Data, Time: v.Time}
	}
	return out, nil
}

// Write puts one of the variables into a store; no data removes it. It asks for no
// signature: [sigdb.Variables.Verify] does.
func Write(store *varstore.Store, r sigdb.Role, v sigdb.Value) error {
	if len(v.Data) == 0 {
		_, err := store.Delete(r.Vendor(), r.String())
		return err
	}
	return store.Set(varstore.Variable{
		Vendor: r.Vendor(), Name: r.String(), Attributes: sigdb.Attributes, Time: v.Time, Data: v.Data,
	})
}

// SetSecureBoot turns Secure Boot on or off in a store. Firmware turns it on only
// where there is a platform key.
func SetSecureBoot(store *varstore.Store, on bool) error {
	value := []byte{0}
	if on {
		value[0] = 1
	}
	err := store.Set(varstore.Variable{Vendor: vendorSecureBootEnable, Name: nameSecureBootEnable, Attributes: switchAttributes, Data: value})
	if err != nil {
		return err
	}
	// In custom mode firmware takes the keys of who sits at its console.
	return store.Set(varstore.Variable{Vendor: vendorCustomMode, Name: nameCustomMode, Attributes: switchAttributes, Data: []byte{0}})
}

// SecureBoot reports whether firmware will enforce Secure Boot with this store: it
// needs a platform key, and its switch on. A store without the switch has it on.
func SecureBoot(store *varstore.Store) bool {
	_, key := store.Get(sigdb.PK.Vendor(), sigdb.PK.String())
	v, ok := store.Get(vendorSecureBootEnable, nameSecureBootEnable)
	return key && (!ok || len(v.Data) == 1 && v.Data[0] == 1)
}

// A State is how long a certificate has to live.
type State string

// The states. Firmware does not look at times: an expired key goes on working, but
// who signs with it will stop.
const (
	StateGood        State = "good"
	StateExpiresSoon State = "expires-soon" // within half a year
	StateExpired     State = "expired"
	StateNotYet      State = "not-yet-valid"
	StateUnknown     State = "unknown" // the times cannot be read
)

const soon = 182 * 24 * time.Hour

func stateAt(notBefore, notAfter, now time.Time) State {
	switch {
	case notBefore.IsZero() || notAfter.IsZero():
		return StateUnknown
	case now.Before(notBefore):
		return StateNotYet
	case now.After(notAfter):
		return StateExpired
	case now.Add(soon).After(notAfter):
		return StateExpiresSoon
	default:
		return StateGood
	}
}
