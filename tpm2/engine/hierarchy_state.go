package engine

import "github.com/assay-project/assay/tpm2"

// hierarchyOf returns the state of a hierarchy; nil when h is none.
func (t *TPM) hierarchyOf(h tpm2.Handle) *hierarchy {
	switch h {
	case tpm2.HandleOwner:
		return &t.permanent.owner
	case tpm2.HandleEndorsement:
		return &t.permanent.endorsement
	case tpm2.HandlePlatform:
		return &t.permanent.platform
	case tpm2.HandleLockout:
		return &t.permanent.lockout
	case tpm2.HandleNull:
		return &t.reset.null
	}
	return nil
}

// enabled reports whether the hierarchy is (Part 1, 13.1); TPM_RH_NULL and
// TPM_RH_LOCKOUT always are.
func (t *TPM) enabled(h tpm2.Handle) bool {
	switch h {
	case tpm2.HandleOwner:
		return t.clear.ownerEnabled
	case tpm2.HandleEndorsement:
		return t.clear.endorsementEnabled
	case tpm2.HandlePlatform:
		return t.vol.platformEnabled
	}
	return true
}

// proof returns the secret under which tickets and contexts of a hierarchy are
// authenticated.
func (t *TPM) proof(h tpm2.Handle) []byte {
	if s := t.hierarchyOf(h); s != nil {
		return s.proof
	}
	return t.reset.null.proof
}

// hierarchyAuth returns the authValue of a permanent entity. That of
// TPM_RH_PLATFORM starts empty at each Startup(CLEAR), that of TPM_RH_NULL is empty.
func (t *TPM) hierarchyAuth(h tpm2.Handle) []byte {
	if h == tpm2.HandlePlatform {
		return t.clear.platformAuth
	}
	if s := t.hierarchyOf(h); s != nil {
		return s.auth
	}
	return nil
}

// hierarchyPolicy returns the authPolicy of a permanent entity.
func (t *TPM) hierarchyPolicy(h tpm2.Handle) authPolicy {
	if h == tpm2.HandlePlatform {
		return t.clear.platformPolicy
	}
	if s := t.hierarchyOf(h); s != nil {
		return s.policy
	}
	return authPolicy{alg: tpm2.AlgNull}
}

// setHierarchyAuth replaces the authValue of a permanent entity.
func (t *TPM) setHierarchyAuth(h tpm2.Handle, auth []byte) {
	auth = append([]byte(nil), trimAuth(auth)...)
	if h == tpm2.HandlePlatform {
		t.clear.platformAuth = auth
		return
	}
	t.hierarchyOf(h).auth = auth
	t.touch()
}
