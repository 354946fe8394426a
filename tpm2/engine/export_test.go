package engine

import (
	"encoding/binary"
	"flag"
	"reflect"

	"github.com/assay-project/assay/tpm2"
)

// Update is the flag that makes tests write the files that they compare with.
var Update = flag.Bool("update", false, "rewrite docs/tpm-commands.md and missing files of testdata")

// What tests need and no client of a TPM can have.

// Fail puts the TPM in failure mode, as a fault of ours does.
func (t *TPM) Fail() { t.vol.failed = true }

// SetSeed replaces the primary seed of a hierarchy.
func (t *TPM) SetSeed(h tpm2.Handle, seed []byte) { t.hierarchyOf(h).seed = seed }

// SetProof replaces the proof of a hierarchy.
func (t *TPM) SetProof(h tpm2.Handle, proof []byte) { t.hierarchyOf(h).proof = proof }

// OriginalSeed reports whether the seed of a hierarchy is of the first libtpms.
func (t *TPM) OriginalSeed(h tpm2.Handle) bool { return t.hierarchyOf(h).originalSeed }

// SetNVRoom has the TPM take so many indices and bytes of them.
func (t *TPM) SetNVRoom(indices, bytes int) { t.limits.NVIndices, t.limits.NVBytes = indices, bytes }

// Reseed gives the random bit generator new entropy, as Restore does.
func (t *TPM) Reseed() error { return t.reseed() }

// Sensitive returns the sensitive area of a loaded object.
func (t *TPM) Sensitive(h tpm2.Handle) *tpm2.Sensitive { return &t.object(h).sensitive }

// SameObject reports whether two TPMs have the same at a handle, what is made on first
// use and no layout has included.
func (t *TPM) SameObject(other *TPM, h tpm2.Handle) bool {
	return reflect.DeepEqual(t.object(h), other.object(h))
}

// Wrap makes the TPM2B_PRIVATE of a child of the object, of any content and with
// an initial value of any size; nil is none.
func (t *TPM) Wrap(parent tpm2.Handle, name, iv, content []byte) ([]byte, error) {
	w := t.childWrapping(t.object(parent))
	if iv == nil || len(iv) == 16 {
		return w.seal(name, iv, clone(content))
	}
	body := append(appendSized(nil, iv), content...)
	mac, err := w.integrity(name, body)
	return append(appendSized(nil, mac), body...), err
}

// Credential makes the two parameters of TPM2_ActivateCredential, of any content.
func (t *TPM) Credential(key tpm2.Handle, name, content []byte) (blob, secret []byte, err error) {
	o := t.object(key)
	seed, secret, err := t.encryptSecret(o, "IDENTITY")
	if err != nil {
		return nil, nil, err
	}
	w := o.wrapping(seed)
	blob, err = w.seal(name, nil, clone(content))
	return blob, secret, err
}

// MustPermanent is Permanent of a TPM that met no fault.
func (t *TPM) MustPermanent() []byte { return must(t.Permanent()) }

// MustVolatile is Volatile of a TPM that met no fault.
func (t *TPM) MustVolatile() []byte { return must(t.Volatile()) }

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// Settled returns all state but what a command that fails may change: guessing
// protection and what counts for it, the random bit generator, the journal.
func (t *TPM) Settled() []byte {
	p, v := t.permanent, t.vol
	p.dictionary.failedTries, p.dictionary.lockoutEnabled, p.orderlyState = 0, true, shutdownNone
	v.heal = healing{}
	p.nv.indices = make(map[tpm2.Handle]*nvIndex, len(t.permanent.nv.indices))
	for h, x := range t.permanent.nv.indices {
		c := *x
		if x.pin() {
			c.data = clone(x.data)
			binary.BigEndian.PutUint32(c.data, 0)
		}
		p.nv.indices[h] = &c
	}
	return encodeState(t.stateHeader(permanentMagic), nil, &p, &t.orderly, &t.clear, &t.reset, &v)
}

// Lasting returns the permanent state but for what is written down at intervals only:
// clock, and the data of orderly indices (Part 1, 36.3.2 and 37.2.7).
func (t *TPM) Lasting() []byte {
	p := t.permanent
	p.nv.indices = make(map[tpm2.Handle]*nvIndex, len(t.permanent.nv.indices))
	for h, x := range t.permanent.nv.indices {
		c := *x
		if c.public.Attributes.Has(tpm2.NVOrderly) && c.written() {
			c.data = make([]byte, len(x.data))
		}
		p.nv.indices[h] = &c
	}
	return encodeState(t.stateHeader(permanentMagic), nil, &p)
}

// AuditAlg is the hash of command audit.
func (t *TPM) AuditAlg() tpm2.Alg { return t.permanent.auditAlg }

// TimeEpoch tells the time since power on from that of before.
func (t *TPM) TimeEpoch() uint32 { return t.permanent.timeEpoch }
