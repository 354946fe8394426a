package keyset

import (
	"fmt"
	"slices"

	"github.com/assay-project/assay/uefi/sigdb"
	"github.com/assay-project/assay/uefi/varstore"
)

// JSON is what [Set.Enrol] writes into an empty store, in the form of virt-firmware.
func (s *Set) JSON() ([]byte, error) {
	store := varstore.New(varstore.OVMF4M)
	if _, err := s.Enrol(store); err != nil {
		return nil, err
	}
	return varstore.JSON(store.All())
}

// Import makes a set of kind [Own] of the Secure Boot variables among others, such as
// those that [varstore.ParseJSON] read. Its private keys are elsewhere. Of o it takes
// Random and Now.
func Import(name string, variables []varstore.Variable, o Options) (*Set, error) {
	o.Kind, o.Given = Own, map[sigdb.Role][]sigdb.Signature{}
	for _, v := range variables {
		r, ok := sigdb.ParseRole(v.Name)
		if !ok || v.Vendor != r.Vendor() || v.Name != r.String() {
			continue
		}
		d, err := sigdb.Parse(v.Data)
		if err != nil {
			return nil, fmt.Errorf("%v: %w: %w", r, ErrEntry, err)
		}
		o.Given[r] = append(o.Given[r], slices.Collect(d.All())...)
	}
	for _, r := range sigdb.Roles() {
		if r != sigdb.DBX && len(o.Given[r]) == 0 { // New would make a key
			return nil, fmt.Errorf("there is no %v: %w", r, ErrEntry)
		}
	}
	s, _, err := New(name, o)
	return s, err
}
