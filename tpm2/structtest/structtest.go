// Package structtest makes random TPM structures for tests: values of the types
// of packages tpm2 and command that obey Part 2, so that they encode.
//
// The values mean nothing: no point is on its curve, no ticket is genuine. Start
// with [Source.Fill].
//
// TPM 2.0 Library, Part 2: Structures, version 1.83.
package structtest

import (
	"math/rand/v2"
	"reflect"

	"github.com/assay-project/assay/tpm2"
)

// A Source makes structures. The same seed gives the same ones.
type Source struct{ *rand.Rand }

// New returns the source of a seed.
func New(seed uint64) Source { return Source{rand.New(rand.NewPCG(seed, 1))} }

// Bytes returns n random bytes.
func (r Source) Bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// UpTo returns from 0 to n random bytes.
func (r Source) UpTo(n int) []byte { return r.Bytes(r.IntN(n + 1)) }

// Pick returns one of some values.
func Pick[T any](r Source, of ...T) T { return of[r.IntN(len(of))] }

// Fill sets what v points to to a random value of its type: a structure of
// package tpm2, or the parameters of a command. It panics for a type that it
// does not know how to make.
func (r Source) Fill(v any) { r.fill(reflect.ValueOf(v).Elem(), "") }

// fill sets v, which is the field name of a structure.
func (r Source) fill(v reflect.Value, name string) {
	if made, ok := r.special(v.Interface(), name); ok {
		v.Set(reflect.ValueOf(made))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() & (1<<v.Type().Bits() - 1))
	case reflect.Int32:
		v.SetInt(int64(int32(r.Uint32())))
	case reflect.Array:
		for i := range v.Len() {
			r.fill(v.Index(i), name)
		}
	case reflect.Slice:
		r.fillSlice(v, name)
	case reflect.Struct:
		for i := range v.NumField() {
			r.fill(v.Field(i), v.Type().Field(i).Name)
		}
	default:
		panic("structtest: no random value for " + v.Type().String())
	}
}

// fillSlice makes byte slices that are short enough for every field, and lists
// that are long enough for those that have a least length.
func (r Source) fillSlice(v reflect.Value, name string) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(r.UpTo(shortest(name)))
		return
	}
	n := 2 + r.IntN(3)
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		r.fill(v.Index(i), name)
	}
}

// shortest bounds the byte slices of a field; most may be as long as a digest.
func shortest(name string) int {
	switch name {
	case "Timeout":
		return tpm2.MaxTimeout
	case "IVIn", "IVOut":
		return tpm2.MaxIV
	case "Label", "Context", "Bits":
		return tpm2.MaxLabel
	}
	return tpm2.MaxDigest
}

// special makes the types in which one member depends on another, or on the
// field that they are in.
func (r Source) special(v any, name string) (made any, ok bool) {
	switch v.(type) {
	case tpm2.Public:
		return *r.Public(), true
	case tpm2.Attest:
		return *r.Attest(), true
	case tpm2.Signature:
		return *r.Signature(), true
	case tpm2.Sensitive2B:
		return tpm2.Sensitive2B{Sensitive: Pick(r, nil, r.Sensitive())}, true
	case tpm2.Sensitive:
		return *r.Sensitive(), true
	case tpm2.PublicParmsOf:
		p := r.Public()
		return tpm2.PublicParmsOf{Type: p.Type, Parameters: p.Parameters}, true
	case tpm2.DeriveTemplate:
		p := r.Public()
		p.Unique = tpm2.PublicID{}
		return tpm2.DeriveTemplate{Public: *p, Unique: tpm2.Derive{Label: r.UpTo(tpm2.MaxLabel), Context: r.UpTo(tpm2.MaxLabel)}}, true
	case tpm2.HA:
		h := tpm2.HA{HashAlg: Pick(r, r.Hash(), tpm2.AlgNull)}
		h.Digest = r.Bytes(h.HashAlg.DigestSize())
		return h, true
	case tpm2.DigestValue:
		h := r.Hash()
		return tpm2.DigestValue{HashAlg: h, Digest: r.Bytes(h.DigestSize())}, true
	case tpm2.CapabilityData:
		return r.capabilityData(), true
	case tpm2.NVPublic:
		return r.nvPublic(tpm2.KindNVIndex), true
	case tpm2.NVPublicExp:
		return r.nvPublicExp(), true
	case tpm2.NVPublic2:
		return r.nvPublic2(), true
	case tpm2.Context:
		return tpm2.Context{Sequence: r.Uint64(), SavedHandle: Pick(r, tpm2.SavedObject, tpm2.SavedSTClearObject, 0x02000001, 0x03000002), Hierarchy: r.Hierarchy(), ContextBlob: r.UpTo(99)}, true
	case tpm2.VerifiedTicket:
		return r.verifiedTicket(), true
	case tpm2.AuthTicket:
		return tpm2.AuthTicket{Tag: Pick(r, tpm2.TagAuthSecret, tpm2.TagAuthSigned), Hierarchy: r.Hierarchy(), Digest: r.UpTo(tpm2.MaxDigest)}, true
	}
	if made, ok = r.scheme(v); ok {
		return made, true
	}
	return r.number(v, name)
}

// number makes numbers of which only some values are allowed.
func (r Source) number(v any, name string) (made any, ok bool) {
	switch v.(type) {
	case tpm2.Alg:
		return r.alg(name), true
	case tpm2.Handle:
		return r.handle(name), true
	case tpm2.StartupType:
		return Pick(r, tpm2.StartupClear, tpm2.StartupState), true
	case tpm2.SessionType:
		return Pick(r, tpm2.SessionHMAC, tpm2.SessionPolicy, tpm2.SessionTrial), true
	case tpm2.Operation:
		return tpm2.Operation(r.IntN(int(tpm2.OpBitClear) + 1)), true
	case tpm2.ClockAdjust:
		return tpm2.ClockAdjust(r.IntN(7) - 3), true
	case tpm2.Capability:
		return tpm2.Capability(r.IntN(int(tpm2.CapSPDMSessionInfo) + 1)), true
	case tpm2.ECCCurve:
		return r.Curve(), true
	case tpm2.PCRSelections:
		return tpm2.PCRSelections(r.Selections()), true
	case tpm2.ObjectAttributes:
		return r.objectAttributes(), true
	case tpm2.NVAttributes:
		return r.nvAttributes(), true
	case tpm2.SessionAttributes:
		return tpm2.SessionAttributes(r.Uint32()) &^ 0x18, true
	case tpm2.AlgAttributes:
		return tpm2.AlgAttributes(r.Uint32()) & 0x70f, true
	case tpm2.ACTAttributes:
		return tpm2.ACTAttributes(r.Uint32()) & 3, true
	}
	return nil, false
}

// alg makes an algorithm for the named field.
func (r Source) alg(name string) tpm2.Alg {
	switch name {
	case "Mode":
		return Pick(r, tpm2.AlgCTR, tpm2.AlgOFB, tpm2.AlgCBC, tpm2.AlgCFB, tpm2.AlgECB, tpm2.AlgNull)
	case "InScheme":
		// TPM2_ZGen_2Phase takes none of those that TPM2_HMAC takes; see Command.
		return Pick(r, r.Hash(), tpm2.AlgNull)
	}
	return r.Hash()
}

func (r Source) handle(name string) tpm2.Handle {
	switch name {
	case "Hierarchy":
		return r.Hierarchy()
	case "Enable":
		return Pick(r, tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandlePlatformNV)
	case "PCRNum":
		return tpm2.Handle(r.IntN(tpm2.NumPCR))
	case "FlushHandle":
		return Pick[tpm2.Handle](r, 0x80000001, 0x02000000, 0x03000001)
	case "PersistentHandle":
		return tpm2.KindPersistent.First() + tpm2.Handle(r.IntN(1<<24))
	}
	return tpm2.Handle(r.Uint32())
}

// Hierarchy makes a TPMI_RH_HIERARCHY+.
func (r Source) Hierarchy() tpm2.Handle {
	return Pick(r, tpm2.HandleOwner, tpm2.HandleEndorsement, tpm2.HandlePlatform, tpm2.HandleNull)
}

func (r Source) verifiedTicket() tpm2.VerifiedTicket {
	t := tpm2.VerifiedTicket{Tag: Pick(r, tpm2.TagVerified, tpm2.TagMessageVerified, tpm2.TagDigestVerified), Hierarchy: r.Hierarchy(), Digest: r.UpTo(tpm2.MaxDigest)}
	if t.Tag == tpm2.TagDigestVerified {
		t.DigestAlg = r.Hash()
	}
	return t
}
