package engine

import (
	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
)

// Chapter 19 of Part 3: ephemeral EC keys. How their scalars are kept, or rather
// are not, is in ephemeral_state.go.

// commit is TPM2_Commit (Part 3, 19.2), the first half of an ECDAA signature.
func commit(c *call, in *command.CommitIn, out *command.CommitOut) error {
	t, o := c.t, c.t.object(c.handles[0])
	curve := o.public.Parameters.ECC.CurveID
	switch {
	case o.public.Type != tpm2.AlgECC:
		return handleError(tpm2.RCKey, 1)
	case o.public.Parameters.ECC.Scheme.Scheme != tpm2.AlgECDAA:
		return handleError(tpm2.RCScheme, 1)
	case (len(in.S2) == 0) != (len(in.Y2) == 0):
		return parameter(tpm2.RCSize, 3)
	}
	var p1, p2 *tpm2.ECCPoint
	if len(in.S2) != 0 {
		p, err := tpmcrypto.CommitPoint(curve, o.public.NameAlg, in.S2, in.Y2)
		if err != nil {
			if rc := responseCode(err); rc != tpm2.RCECCPoint {
				return handleError(rc, 1)
			}
			return parameter(tpm2.RCECCPoint, 2)
		}
		p2 = &p
	}
	if len(in.P1.X) != 0 || len(in.P1.Y) != 0 {
		if p1 = &in.P1; tpmcrypto.OnCurve(curve, in.P1) != nil {
			return parameter(tpm2.RCECCPoint, 1)
		}
	}
	r, err := t.commitScalar(t.reset.commitCounter, curve, o.name)
	if err != nil {
		return err
	}
	k, err := o.eccKey()
	if err != nil {
		return err
	}
	if out.K, out.L, out.E, err = k.Commit(r, p1, p2); err != nil {
		return err
	}
	out.Counter = t.addCommitment()
	return nil
}

// ecEphemeral is TPM2_EC_Ephemeral (Part 3, 19.3): the public half of a key that
// TPM2_ZGen_2Phase uses.
func ecEphemeral(c *call, in *command.ECEphemeralIn, out *command.ECEphemeralOut) error {
	k, err := c.t.ephemeralKey(c.t.reset.commitCounter, in.CurveID)
	if err != nil {
		return err
	}
	out.Q, out.Counter = k.Point(), c.t.addCommitment()
	return nil
}

// ephemeralKey derives the key of TPM2_EC_Ephemeral that has the counter.
func (t *TPM) ephemeralKey(count uint64, curve tpm2.ECCCurve) (*tpmcrypto.ECCKey, error) {
	d, err := t.commitScalar(count, curve, nil)
	if err != nil {
		return nil, err
	}
	return tpmcrypto.LoadECC(curve, d)
}
