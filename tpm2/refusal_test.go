package tpm2_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/wire"
)

func TestKindsOfFailureHaveTheirResponseCode(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want tpm2.RC
	}{
		"none":                {nil, tpm2.RCSuccess},
		"short":               {wire.ErrShort, tpm2.RCInsufficient},
		"overrun":             {wire.ErrOverrun, tpm2.RCSize},
		"overlong":            {wire.ErrOverlong, tpm2.RCSize},
		"trailing":            {wire.ErrTrailing, tpm2.RCSize},
		"size":                {wire.ErrSize, tpm2.RCSize},
		"selector":            {wire.ErrSelector, tpm2.RCSelector},
		"range":               {wire.ErrRange, tpm2.RCValue},
		"reserved":            {wire.ErrReserved, tpm2.RCReservedBits},
		"own code":            {tpm2.Refuse(tpm2.RCCurve, wire.ErrSelector), tpm2.RCCurve},
		"own code, wrapped":   {fmt.Errorf("x: %w", tpm2.Refuse(tpm2.RCKDF, wire.ErrSelector)), tpm2.RCKDF},
		"of a parameter":      {&wire.Error{Part: 3, Err: wire.ErrShort}, tpm2.RCInsufficient.Of(tpm2.RCParameter, 3)},
		"own of a parameter":  {&wire.Error{Part: 2, Err: tpm2.Refuse(tpm2.RCHash, wire.ErrSelector)}, tpm2.RCHash.Of(tpm2.RCParameter, 2)},
		"of no parameter":     {&wire.Error{Offset: 9, Err: wire.ErrTrailing}, tpm2.RCSize},
		"what nobody foresaw": {errors.New("x"), tpm2.RCValue},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tpm2.RCOf(tc.err); got != tc.want {
				t.Errorf("RCOf(%v) = %v, want %v", tc.err, got, tc.want)
			}
		})
	}
	if err := tpm2.Refuse(tpm2.RCHash, wire.ErrSelector); !errors.Is(err, wire.ErrSelector) {
		t.Errorf("%v is not of its kind", err)
	}
}

func TestLocalitiesAreSetsOrExtended(t *testing.T) {
	for locality := range 256 {
		set := tpm2.LocalitySet(uint8(locality))
		none := locality > 4 && locality < 32
		if (set == 0) != none || set.Extended() != (locality >= 32) {
			t.Errorf("LocalitySet(%d) = %#02x", locality, uint8(set))
		}
		for other := range 256 {
			if got, want := set.Has(uint8(other)), other == locality && !none; got != want {
				t.Errorf("LocalitySet(%d).Has(%d) = %v, want %v", locality, other, got, want)
			}
		}
	}
	if both := tpm2.LocalitySet(0) | tpm2.LocalitySet(3); !both.Has(0) || both.Has(1) || !both.Has(3) {
		t.Errorf("localities 0 and 3 are %#02x", uint8(both))
	}
	if tpm2.Locality(0).Has(0) {
		t.Error("the empty set has locality 0")
	}
}

func TestAttributesOfIndicesKeepTheirType(t *testing.T) {
	for _, n := range []tpm2.NVType{tpm2.NVOrdinary, tpm2.NVCounter, tpm2.NVBits, tpm2.NVExtend, tpm2.NVPinFail, tpm2.NVPinPass} {
		a := n.Attributes() | tpm2.NVPolicyWrite | tpm2.NVPolicyDelete
		if a.Type() != n || !a.Has(tpm2.NVPolicyWrite) || n.Attributes().Has(tpm2.NVPolicyWrite) {
			t.Errorf("type %d gives attributes %#08x", n, uint32(a))
		}
	}
}

func TestCommandAttributesTellTheirParts(t *testing.T) {
	a := tpm2.NewCommandAttributes(tpm2.CCNVCertify, 3, tpm2.CommandNV)
	if a != 0x06400184 || a.Code() != tpm2.CCNVCertify || a.CHandles() != 3 || !a.Has(tpm2.CommandNV) || a.Has(tpm2.CommandRHandle) {
		t.Errorf("attributes = %#08x", uint32(a))
	}
	if v := tpm2.NewCommandAttributes(tpm2.CCVendor|1, 0, 0); v != tpm2.CommandVendor|1 {
		t.Errorf("attributes of a vendor's command = %#08x", uint32(v))
	}
}

func TestHandlesTellTheirKind(t *testing.T) {
	for h, want := range map[tpm2.Handle]struct {
		kind  tpm2.HandleKind
		index uint32
		text  string
	}{
		0x80000002:          {tpm2.KindTransient, 2, "0x80000002"},
		0x0000000a:          {tpm2.KindPCR, 10, "0x0000000a"},
		tpm2.HandleOwner:    {tpm2.KindPermanent, 1, "TPM_RH_OWNER"},
		tpm2.HandlePassword: {tpm2.KindPermanent, 9, "TPM_RS_PW"},
	} {
		if h.Kind() != want.kind || h.Index() != want.index || h.String() != want.text || h.Kind().First()+tpm2.Handle(h.Index()) != h {
			t.Errorf("%#x is of kind %#x, index %d, called %v, want %+v", uint32(h), uint8(h.Kind()), h.Index(), h, want)
		}
	}
}

// TestTheKindOfASensitiveAreaBoundsIt holds the sizes of TPMU_SENSITIVE_COMPOSITE.
func TestTheKindOfASensitiveAreaBoundsIt(t *testing.T) {
	for alg, limit := range map[tpm2.Alg]int{
		tpm2.AlgRSA: tpm2.MaxRSAPrivate, tpm2.AlgECC: tpm2.MaxECCKeyBytes, tpm2.AlgSymCipher: tpm2.MaxSymKey,
		tpm2.AlgKeyedHash: tpm2.MaxSymData, tpm2.AlgMLKEM: 64, tpm2.AlgMLDSA: 32,
	} {
		if _, err := wire.Encode(&tpm2.Sensitive{Type: alg, Bits: make([]byte, limit)}); err != nil {
			t.Errorf("%d bytes of %#04x: %v", limit, uint16(alg), err)
		}
		if _, err := wire.Encode(&tpm2.Sensitive{Type: alg, Bits: make([]byte, limit+1)}); !errors.Is(err, wire.ErrSize) {
			t.Errorf("%d bytes of %#04x: %v, want ErrSize", limit+1, uint16(alg), err)
		}
	}
}

func TestLargestStructuresFitTheirLimits(t *testing.T) {
	full := func(n int) []byte { return make([]byte, n) }
	pub := tpm2.Public{Type: tpm2.AlgMLDSA, NameAlg: tpm2.AlgSHA512, AuthPolicy: full(64), Parameters: tpm2.PublicParms{MLDSA: tpm2.MLDSAParms{ParameterSet: tpm2.MLDSA87}}, Unique: tpm2.PublicID{MLDSA: full(tpm2.MaxMLDSAPublic)}}
	created := tpm2.CreationData{PCRSelect: make(tpm2.PCRSelections, tpm2.MaxPCRSelections), PCRDigest: full(64), ParentName: full(tpm2.MaxName), ParentQualifiedName: full(tpm2.MaxName), OutsideInfo: full(tpm2.MaxData)}
	for i := range created.PCRSelect {
		created.PCRSelect[i].Hash = tpm2.AlgSHA256
	}
	for name, tc := range map[string]struct {
		v     wire.Layout
		limit int
		exact bool
	}{
		"TPMT_PUBLIC":            {&pub, tpm2.MaxPublic, false},
		"TPMS_CREATION_DATA":     {&created, tpm2.MaxCreationData, true},
		"TPMS_SENSITIVE_CREATE":  {&tpm2.SensitiveCreate{UserAuth: full(64), Data: full(tpm2.MaxSymData)}, tpm2.MaxSensitiveCreate, true},
		"TPMS_ECC_POINT":         {&tpm2.ECCPoint{X: full(tpm2.MaxECCKeyBytes), Y: full(tpm2.MaxECCKeyBytes)}, tpm2.MaxECCPoint, true},
		"TPMT_NV_PUBLIC_2":       {&tpm2.NVPublic2{HandleType: tpm2.KindExternalNV, External: tpm2.NVPublicExp{NVIndex: 0x11000000, NameAlg: tpm2.AlgSHA512, AuthPolicy: full(64)}}, tpm2.MaxNVPublic, true},
		"TPMT_SENSITIVE":         {&tpm2.Sensitive{Type: tpm2.AlgRSA, AuthValue: full(64), SeedValue: full(64), Bits: full(tpm2.MaxRSAPrivate)}, tpm2.MaxPrivate, false},
		"TPMS_ID_OBJECT":         {&tpm2.IDObject{IntegrityHMAC: full(64), EncIdentity: full(66)}, tpm2.MaxIDObject, true},
		"TPMT_SYM_DEF of no key": {&tpm2.SymDef{Algorithm: tpm2.AlgNull}, 2, true},
	} {
		b, err := wire.Encode(tc.v)
		if err != nil || len(b) > tc.limit || tc.exact && len(b) != tc.limit {
			t.Errorf("the largest %s has %d bytes, %v; the limit is %d", name, len(b), err, tc.limit)
		}
	}
}
