package keyprovider

import (
	"bytes"
	"fmt"

	"github.com/assay-project/assay/internal/seal"
	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/client"
	"github.com/assay-project/assay/tpm2/command"
)

// handleSRK is where the storage root key of a provisioned TPM is kept (TCG TPM
// v2.0 Provisioning Guidance, 7.5.1).
const handleSRK tpm2.Handle = 0x81000001

// srkTemplate is the storage root key P-256 of the TCG EK Credential Profile's
// template H-2 with the attributes of a storage key (Provisioning Guidance, 7.5.1):
// TPM2_CreatePrimary makes the same key of it each time, until the TPM is cleared.
func srkTemplate() tpm2.Public {
	p := tpm2.Public{
		Type: tpm2.AlgECC, NameAlg: tpm2.AlgSHA256,
		Attributes: tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrSensitiveDataOrigin | tpm2.AttrUserWithAuth | tpm2.AttrNoDA | tpm2.AttrRestricted | tpm2.AttrDecrypt,
	}
	p.Parameters.ECC = tpm2.ECCParms{
		Symmetric: tpm2.SymDefObject{Algorithm: tpm2.AlgAES, KeyBits: 128, Mode: tpm2.AlgCFB}, CurveID: tpm2.CurveNISTP256,
		Scheme: tpm2.ECCScheme{Scheme: tpm2.AlgNull}, KDF: tpm2.KDFScheme{Scheme: tpm2.AlgNull},
	}
	p.Unique.ECC = tpm2.ECCPoint{X: make([]byte, 32), Y: make([]byte, 32)}
	return p
}

// A storageKey is loaded; close gives its place back.
type storageKey struct {
	client.Entity
	public tpm2.Public
	close  func()
}

// storageRoot returns the kept storage root key, or makes one for the while.
func storageRoot(t *client.TPM) (*storageKey, error) {
	var kept command.ReadPublicOut
	if _, err := t.Run(&client.Command{Code: tpm2.CCReadPublic, Handles: []client.Entity{{Handle: handleSRK}}, Out: &kept}); err == nil {
		return &storageKey{client.Entity{Handle: handleSRK, Name: kept.Name}, kept.OutPublic, func() {}}, nil
	}
	var made command.CreatePrimaryOut
	h, err := t.Run(&client.Command{
		Code: tpm2.CCCreatePrimary, Handles: []client.Entity{{Handle: tpm2.HandleOwner}},
		In: &command.CreatePrimaryIn{InPublic: srkTemplate()}, Out: &made,
	})
	if err != nil {
		return nil, fmt.Errorf("storage root key: %w", err)
	}
	return &storageKey{client.Entity{Handle: h, Name: made.Name}, made.OutPublic, func() { _ = t.Flush(h) }}, nil
}

// session starts a session whose key is sent under the storage key, so that the
// secret does not cross the bus in the clear. That the key is the TPM's and not an
// interposer's nobody here knows.
func (k *storageKey) session(t *client.TPM, kind tpm2.SessionType) (*client.Session, func(), error) {
	s, err := t.StartSession(client.SessionConfig{Type: kind, Salt: &client.SaltKey{Handle: k.Handle, Public: &k.public}})
	if err != nil {
		return nil, nil, err
	}
	return s, func() { _ = t.Flush(s.Handle()) }, nil
}

// sealTo seals a secret to the registers' values of now.
func sealTo(t *client.TPM, pcrs string, secret seal.Secret) (*sealedObject, error) {
	root, err := storageRoot(t)
	if err != nil {
		return nil, err
	}
	defer root.close()
	in := &command.CreateIn{InSensitive: tpm2.SensitiveCreate{Data: secret.Expose()}}
	in.InPublic = tpm2.Public{Type: tpm2.AlgKeyedHash, NameAlg: tpm2.AlgSHA256, Attributes: tpm2.AttrFixedTPM | tpm2.AttrFixedParent | tpm2.AttrNoDA | tpm2.AttrUserWithAuth}
	in.InPublic.Parameters.KeyedHash.Scheme = tpm2.AlgNull
	if pcrs != noPCRs {
		// Without userWithAuth the policy is the only way (Part 1, 19.7).
		in.InPublic.Attributes &^= tpm2.AttrUserWithAuth
		if in.InPublic.AuthPolicy, err = policyOfNow(t, root, pcrs); err != nil {
			return nil, err
		}
	}
	s, done, err := root.session(t, tpm2.SessionHMAC)
	if err != nil {
		return nil, err
	}
	defer done()
	var out command.CreateOut
	_, err = t.Run(&client.Command{
		Code: tpm2.CCCreate, Handles: []client.Entity{root.Entity},
		Uses: []client.Use{{Session: s, Attributes: tpm2.SessionContinue | tpm2.SessionDecrypt}}, In: in, Out: &out,
	})
	if err != nil {
		return nil, err
	}
	return &sealedObject{pcrs, root.Name, out.OutPublic, out.OutPrivate}, nil
}

// policyOfNow is the digest of PolicyPCR for the registers as they are.
func policyOfNow(t *client.TPM, root *storageKey, pcrs string) ([]byte, error) {
	s, done, err := root.session(t, tpm2.SessionTrial)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := policyPCR(t, s, pcrs); err != nil {
		return nil, err
	}
	var out command.PolicyGetDigestOut
	_, err = t.Run(&client.Command{Code: tpm2.CCPolicyGetDigest, Handles: []client.Entity{{Handle: s.Handle()}}, Out: &out})
	return out.PolicyDigest, err
}

// policyPCR runs TPM2_PolicyPCR; without a digest the TPM takes the values that the
// registers have (Part 3, 23.7).
func policyPCR(t *client.TPM, s *client.Session, pcrs string) error {
	selections, err := parsePCRs(pcrs)
	if err != nil {
		return err
	}
	_, err = t.Run(&client.Command{
		Code: tpm2.CCPolicyPCR, Handles: []client.Entity{{Handle: s.Handle()}},
		In: &command.PolicyPCRIn{PCRs: selections},
	})
	return err
}

// unsealFrom has the TPM open an object.
func unsealFrom(t *client.TPM, o *sealedObject) (seal.Secret, error) {
	root, err := storageRoot(t)
	if err != nil {
		return seal.Secret{}, err
	}
	defer root.close()
	if !bytes.Equal(root.Name, o.parent) {
		return seal.Secret{}, fmt.Errorf("%w: the file was sealed by another TPM, or by this one before it was cleared", ErrUnknownKey)
	}
	var loaded command.LoadOut
	h, err := t.Run(&client.Command{
		Code: tpm2.CCLoad, Handles: []client.Entity{root.Entity},
		In: &command.LoadIn{InPrivate: o.private, InPublic: o.public}, Out: &loaded,
	})
	if err != nil {
		return seal.Secret{}, err
	}
	defer func() { _ = t.Flush(h) }()
	kind := tpm2.SessionHMAC
	if o.pcrs != noPCRs {
		kind = tpm2.SessionPolicy
	}
	s, done, err := root.session(t, kind)
	if err != nil {
		return seal.Secret{}, err
	}
	defer done()
	if o.pcrs != noPCRs {
		if err := policyPCR(t, s, o.pcrs); err != nil {
			return seal.Secret{}, err
		}
	}
	var out command.UnsealOut
	_, err = t.Run(&client.Command{
		Code: tpm2.CCUnseal, Handles: []client.Entity{{Handle: h, Name: loaded.Name}},
		Uses: []client.Use{{Session: s, Attributes: tpm2.SessionContinue | tpm2.SessionEncrypt}}, Out: &out,
	})
	if err != nil {
		return seal.Secret{}, err
	}
	return seal.NewSecret(out.OutData), nil
}
