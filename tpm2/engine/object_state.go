package engine

import (
	"crypto/subtle"

	"github.com/assay-project/assay/internal/tpmcrypto"
	"github.com/assay-project/assay/internal/tpmcrypto/mldsa"
	"github.com/assay-project/assay/tpm2"
)

// An object is a loaded object or a sequence (OBJECT of the reference). What a
// persistent object and a saved context keep is its layout in object_wire.go.
type object struct {
	public    tpm2.Public
	sensitive tpm2.Sensitive // empty when publicOnly
	name      []byte
	qualified []byte      // Qualified Name
	hierarchy tpm2.Handle // TPM_RH_OWNER, _ENDORSEMENT, _PLATFORM or _NULL
	evict     tpm2.Handle // its persistent handle, or 0

	publicOnly bool // no sensitive area
	primary    bool
	temporary  bool // not in its parent's hierarchy: LoadExternal with both areas
	external   bool // TPM2_LoadExternal
	stClear    bool // it or an ancestor has stClear
	parent     bool // a storage or derivation parent
	derivation bool // a derivation parent

	sequence *sequence // not nil for a hash, HMAC or event sequence

	rsa *tpmcrypto.RSAKey // private key, made on first use
	ecc *tpmcrypto.ECCKey

	rsaInverse []byte // what a saved context had of the private RSA key; empty is nothing

	rsaPublic *tpmcrypto.RSAPublic // public key, made on first use
	eccPublic *tpmcrypto.ECCPublic

	mlkem *tpmcrypto.MLKEMKey
	mldsa *mldsa.Key

	macKey []byte // of the integrity of a parent's children, made on first use
}

// authValue returns the object's, without trailing zeros.
func (o *object) authValue() []byte {
	if o.sequence != nil {
		return o.sequence.auth
	}
	return o.sensitive.AuthValue
}

// attr reports whether the object's public area has all of want.
func (o *object) attr(want tpm2.ObjectAttributes) bool { return o.public.Attributes.Has(want) }

// object returns what a transient or persistent handle names, nil when nothing.
// The dispatcher has refused commands whose handles name nothing.
//
//go:noinline
func (t *TPM) object(h tpm2.Handle) *object {
	switch h.Kind() {
	case tpm2.KindTransient:
		if i := int(h - tpm2.KindTransient.First()); i < len(t.vol.objects) {
			return t.vol.objects[i]
		}
	case tpm2.KindPersistent:
		return t.permanent.objects[h]
	}
	return nil
}

// freeSlot returns the handle for a new transient object, TPM_RC_OBJECT_MEMORY
// when all slots are taken.
func (t *TPM) freeSlot() (tpm2.Handle, error) {
	for i, o := range t.vol.objects {
		if o == nil {
			return tpm2.KindTransient.First() + tpm2.Handle(i), nil
		}
	}
	return 0, tpm2.RCObjectMemory
}

// place puts o into a free slot and returns its handle.
func (t *TPM) place(o *object) (tpm2.Handle, error) {
	h, err := t.freeSlot()
	if err != nil {
		return 0, err
	}
	t.vol.objects[h-tpm2.KindTransient.First()] = o
	return h, nil
}

// flushObject empties the slot of a transient object. The hashes of an event sequence are
// kept for the next one.
func (t *TPM) flushObject(h tpm2.Handle) {
	slot := &t.vol.objects[h-tpm2.KindTransient.First()]
	if o := *slot; o != nil && o.sequence != nil && o.sequence.kind == eventSequence {
		t.spare = o.sequence.sums
	}
	*slot = nil
}

// flushHierarchy drops the transient objects of one hierarchy, as its disabling,
// TPM2_Clear and a change of its seed do.
func (t *TPM) flushHierarchy(h tpm2.Handle) {
	for i, o := range t.vol.objects {
		if o != nil && o.hierarchy == h {
			t.vol.objects[i] = nil
		}
	}
}

// trimAuth drops trailing zeros, which no authValue has (Part 1, 19.6.4.3).
func trimAuth(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// equal compares secrets, or digests that vouch for them, in constant time.
//
//go:noinline
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
