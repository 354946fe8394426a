package engine

import (
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// createPrimary is TPM2_CreatePrimary (Part 3, 24.1).
func createPrimary(c *call, in *command.CreatePrimaryIn, out *command.CreatePrimaryOut) error {
	t, h := c.t, c.handles[0]
	if _, err := t.freeSlot(); err != nil {
		return err
	}
	if err := checkCreation(nil, &in.InPublic, len(in.InSensitive.Data)); err != nil {
		return parameter(responseCode(err), 2)
	}
	if !checkAuthSize(in.InSensitive.UserAuth, in.InPublic.NameAlg) {
		return parameter(tpm2.RCSize, 1)
	}
	r, err := t.primaryStream(h, &in.InPublic, in.InSensitive.Data)
	if err != nil {
		return err
	}
	o := &object{public: clonePublic(&in.InPublic), primary: true, hierarchy: h}
	if err := t.generate(o, in.InSensitive.UserAuth, in.InSensitive.Data, r); err != nil {
		return err
	}
	out.CreationData.PCRSelect, out.CreationData.OutsideInfo = in.CreationPCR, in.OutsideInfo
	out.CreationHash, out.CreationTicket, err = c.creation(o, nil, &out.CreationData)
	if err != nil {
		return err
	}
	if err := o.settle(nil, h); err != nil {
		return err
	}
	out.OutPublic, out.Name = o.public, o.name
	c.response, err = t.place(o)
	return err
}
