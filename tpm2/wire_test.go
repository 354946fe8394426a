package tpm2_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openKinds are the structures that end with a buffer without a size of its own.
func openKinds() map[string]wire.Layout {
	return map[string]wire.Layout{"TPMS_CONTEXT_DATA": new(tpm2.ContextData), "TPMS_ID_OBJECT": new(tpm2.IDObject)}
}

// kinds are all other structures of the package by their name in Part 2, each fresh.
func kinds() map[string]wire.Layout {
	return map[string]wire.Layout{
		"TPM2B_ATTEST":                   new(tpm2.Attest2B),
		"TPM2B_DATA":                     new(tpm2.Data2B),
		"TPM2B_DIGEST":                   new(tpm2.Digest2B),
		"TPM2B_ENCRYPTED_SECRET":         new(tpm2.EncryptedSecret2B),
		"TPM2B_NAME":                     new(tpm2.Name2B),
		"TPM2B_PUBLIC":                   new(tpm2.Public2B),
		"TPM2B_SENSITIVE":                new(tpm2.Sensitive2B),
		"TPML_DIGEST_VALUES":             new(tpm2.DigestValues),
		"TPML_PCR_SELECTION":             new(tpm2.PCRSelections),
		"TPMS_ACT_DATA":                  new(tpm2.ACTData),
		"TPMS_ALGORITHM_DETAIL_ECC":      new(tpm2.ECCDetail),
		"TPMS_ALG_PROPERTY":              new(tpm2.AlgProperty),
		"TPMS_ATTEST":                    new(tpm2.Attest),
		"TPMS_AUTH_COMMAND":              new(tpm2.AuthCommand),
		"TPMS_AUTH_RESPONSE":             new(tpm2.AuthResponse),
		"TPMS_CAPABILITY_DATA":           new(tpm2.CapabilityData),
		"TPMS_CONTEXT":                   new(tpm2.Context),
		"TPMS_CREATION_DATA":             new(tpm2.CreationData),
		"TPMS_DERIVE":                    new(tpm2.Derive),
		"TPMS_ECC_POINT":                 new(tpm2.ECCPoint),
		"TPMS_NV_PIN_COUNTER_PARAMETERS": new(tpm2.NVPinCounter),
		"TPMS_NV_PUBLIC":                 new(tpm2.NVPublic),
		"TPMS_NV_PUBLIC_EXP_ATTR":        new(tpm2.NVPublicExp),
		"TPMS_PCR_SELECT":                new(tpm2.PCRSelect),
		"TPMS_SENSITIVE_CREATE":          new(tpm2.SensitiveCreate),
		"TPMS_SPDM_SESSION_INFO":         new(tpm2.SPDMSession),
		"TPMS_TAGGED_PCR_SELECT":         new(tpm2.TaggedPCRSelect),
		"TPMS_TAGGED_POLICY":             new(tpm2.TaggedPolicy),
		"TPMS_TAGGED_PROPERTY":           new(tpm2.TaggedProperty),
		"TPMS_TIME_INFO":                 new(tpm2.TimeInfo),
		"TPMT_HA":                        new(tpm2.HA),
		"TPMT_KDF_SCHEME":                new(tpm2.KDFScheme),
		"TPMT_KEYEDHASH_SCHEME":          new(tpm2.KeyedHashScheme),
		"TPMT_NV_PUBLIC_2":               new(tpm2.NVPublic2),
		"TPMT_PUBLIC":                    new(tpm2.Public),
		"TPMT_PUBLIC_PARMS":              new(tpm2.PublicParmsOf),
		"TPMT_RSA_DECRYPT":               new(tpm2.RSADecrypt),
		"TPMT_RSA_SCHEME":                new(tpm2.RSAScheme),
		"TPMT_SENSITIVE":                 new(tpm2.Sensitive),
		"TPMT_SIGNATURE":                 new(tpm2.Signature),
		"TPMT_SIG_SCHEME":                new(tpm2.SigScheme),
		"TPMT_SYM_DEF":                   new(tpm2.SymDef),
		"TPMT_SYM_DEF_OBJECT":            new(tpm2.SymDefObject),
		"TPMT_TEMPLATE of a derived one": new(tpm2.DeriveTemplate),
		"TPMT_TK_AUTH":                   new(tpm2.AuthTicket),
		"TPMT_TK_CREATION":               new(tpm2.CreationTicket),
		"TPMT_TK_HASHCHECK":              new(tpm2.HashCheckTicket),
		"TPMT_TK_VERIFIED":               new(tpm2.VerifiedTicket),
		"TPMA_CC":                        new(tpm2.CommandAttributes),
		"TPM_EO":                         new(tpm2.Operation),
		"TPM_CLOCK_ADJUST":               new(tpm2.ClockAdjust),
	}
}

// structures are the random structures of one round, with a fresh value to decode into.
func structures(r structtest.Source, kinds func() map[string]wire.Layout) map[string][2]wire.Layout {
	fresh, out := kinds(), map[string][2]wire.Layout{}
	for _, name := range slices.Sorted(maps.Keys(fresh)) {
		v := fresh[name]
		r.Fill(v)
		out[name] = [2]wire.Layout{v, kinds()[name]}
	}
	return out
}

func TestStructuresSurviveARoundTrip(t *testing.T) {
	for seed := range uint64(60) {
		for name, s := range structures(structtest.New(seed), kinds) {
			b, err := wire.Encode(s[0])
			if err != nil {
				t.Fatalf("seed %d: Encode(%s) = %v", seed, name, err)
			}
			if err := wire.Decode(b, s[1]); err != nil {
				t.Fatalf("seed %d: Decode(%s %x) = %v", seed, name, b, err)
			}
			if diff := cmp.Diff(s[0], s[1], cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d: %s changed (-want +got):\n%s", seed, name, diff)
			}
		}
	}
}

func TestEveryProperPrefixAndOneByteMoreIsRefused(t *testing.T) {
	for seed := range uint64(3) {
		for name, s := range structures(structtest.New(seed), kinds) {
			b, err := wire.Encode(s[0])
			if err != nil {
				t.Fatal(err)
			}
			for n := range b {
				if err := wire.Decode(b[:n], s[1]); err == nil {
					t.Errorf("seed %d: %s cut to %d of %d bytes is accepted", seed, name, n, len(b))
				}
			}
			if err := wire.Decode(append(b, 0), s[1]); !errors.Is(err, wire.ErrTrailing) {
				t.Errorf("seed %d: %s with one byte more: %v, want ErrTrailing", seed, name, err)
			}
		}
	}
}

// gotpmCodec decodes and encodes with go-tpm.
func gotpmCodec[T gotpm.Marshallable, P interface {
	*T
	gotpm.Unmarshallable
}](b []byte) ([]byte, error) {
	v, err := gotpm.Unmarshal[T, P](b)
	if err != nil {
		return nil, err
	}
	return gotpm.Marshal(*v), nil
}

func TestEncodingAgreesWithGoTPM(t *testing.T) {
	for seed := range uint64(300) {
		r := structtest.New(seed)
		s := structures(r, kinds)
		for name, tc := range map[string]struct {
			v     wire.Layout
			codec func([]byte) ([]byte, error)
		}{
			"TPMT_PUBLIC":         {r.Classic(), gotpmCodec[gotpm.TPMTPublic]},
			"TPMS_ATTEST":         {s["TPMS_ATTEST"][0], gotpmCodec[gotpm.TPMSAttest]},
			"TPML_PCR_SELECTION":  {s["TPML_PCR_SELECTION"][0], gotpmCodec[gotpm.TPMLPCRSelection]},
			"TPMS_CREATION_DATA":  {s["TPMS_CREATION_DATA"][0], gotpmCodec[gotpm.TPMSCreationData]},
			"TPMS_CONTEXT":        {s["TPMS_CONTEXT"][0], gotpmCodec[gotpm.TPMSContext]},
			"TPMS_NV_PUBLIC":      {s["TPMS_NV_PUBLIC"][0], gotpmCodec[gotpm.TPMSNVPublic]},
			"TPMT_SIGNATURE":      {r.ClassicSignature(), gotpmCodec[gotpm.TPMTSignature]},
			"TPMT_TK_CREATION":    {s["TPMT_TK_CREATION"][0], gotpmCodec[gotpm.TPMTTKCreation]},
			"TPMT_TK_HASHCHECK":   {s["TPMT_TK_HASHCHECK"][0], gotpmCodec[gotpm.TPMTTKHashCheck]},
			"TPMT_TK_AUTH":        {s["TPMT_TK_AUTH"][0], gotpmCodec[gotpm.TPMTTKAuth]},
			"TPMT_SYM_DEF":        {s["TPMT_SYM_DEF"][0], gotpmCodec[gotpm.TPMTSymDef]},
			"TPMT_SYM_DEF_OBJECT": {s["TPMT_SYM_DEF_OBJECT"][0], gotpmCodec[gotpm.TPMTSymDefObject]},
			"TPMT_RSA_DECRYPT":    {s["TPMT_RSA_DECRYPT"][0], gotpmCodec[gotpm.TPMTRSADecrypt]},
			"TPMT_SIG_SCHEME":     {s["TPMT_SIG_SCHEME"][0], gotpmCodec[gotpm.TPMTSigScheme]},
			"TPMS_AUTH_COMMAND":   {s["TPMS_AUTH_COMMAND"][0], gotpmCodec[gotpm.TPMSAuthCommand]},
			"TPMS_TIME_INFO":      {s["TPMS_TIME_INFO"][0], gotpmCodec[gotpm.TPMSTimeInfo]},
		} {
			b, err := wire.Encode(tc.v)
			if err != nil {
				t.Fatalf("seed %d: Encode(%s) = %v", seed, name, err)
			}
			other, err := tc.codec(b)
			if err != nil || !bytes.Equal(b, other) {
				t.Errorf("seed %d: go-tpm reads %s %x as %x, %v", seed, name, b, other, err)
			}
		}
	}
}

func TestMembersAgreeWithGoTPM(t *testing.T) {
	for seed := range uint64(200) {
		r := structtest.New(seed)
		p, a := r.Classic(), r.Attest()
		pb, _ := wire.Encode(p)
		ab, _ := wire.Encode(a)
		gp, err := gotpm.Unmarshal[gotpm.TPMTPublic](pb)
		if err != nil {
			t.Fatal(err)
		}
		ga, err := gotpm.Unmarshal[gotpm.TPMSAttest](ab)
		if err != nil {
			t.Fatal(err)
		}
		type members struct {
			Type, NameAlg           uint16
			Restricted, Sign, Fixed bool
			Policy, Extra, Signer   []byte
			Clock                   uint64
			Reset, Restart          uint32
			Safe                    bool
		}
		ours := members{
			uint16(p.Type), uint16(p.NameAlg), p.Attributes.Has(tpm2.AttrRestricted), p.Attributes.Has(tpm2.AttrSign), p.Attributes.Has(tpm2.AttrFixedTPM),
			p.AuthPolicy, a.ExtraData, a.QualifiedSigner, a.ClockInfo.Clock, a.ClockInfo.ResetCount, a.ClockInfo.RestartCount, a.ClockInfo.Safe,
		}
		theirs := members{
			uint16(gp.Type), uint16(gp.NameAlg), gp.ObjectAttributes.Restricted, gp.ObjectAttributes.SignEncrypt, gp.ObjectAttributes.FixedTPM,
			gp.AuthPolicy.Buffer, ga.ExtraData.Buffer, ga.QualifiedSigner.Buffer, ga.ClockInfo.Clock, ga.ClockInfo.ResetCount, ga.ClockInfo.RestartCount, bool(ga.ClockInfo.Safe),
		}
		if diff := cmp.Diff(theirs, ours, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("seed %d: members differ (-go-tpm +ours):\n%s", seed, diff)
		}
		gname, err := gotpm.ObjectName(gp)
		if err != nil {
			t.Fatal(err)
		}
		if name, err := p.Name(); err != nil || !bytes.Equal(name, gname.Buffer) {
			t.Errorf("seed %d: Name = %x, %v, want %x", seed, name, err, gname.Buffer)
		}
	}
}

func TestDecodersNameTheFault(t *testing.T) {
	ak := read(t, "ak-ecc.tpmt_public")
	attest := read(t, "quote-ecc-sha256.attest")
	sig := read(t, "quote-ecc-sha256.sig")
	edit := func(b []byte, at int, with ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], with)
		return b
	}
	for name, tc := range map[string]struct {
		in   []byte
		v    wire.Layout
		want error
	}{
		"good public":                    {ak, new(tpm2.Public), nil},
		"unknown type":                   {edit(ak, 0, 0, 2), new(tpm2.Public), wire.ErrSelector},
		"unknown name hash":              {edit(ak, 2, 1, 0x0b), new(tpm2.Public), wire.ErrSelector},
		"reserved attribute":             {edit(ak, 4, 0x80), new(tpm2.Public), wire.ErrReserved},
		"policy of another length":       {append(edit(ak[:8], 0), append([]byte{0, 1, 9}, ak[10:]...)...), new(tpm2.Public), wire.ErrSize},
		"unknown symmetric":              {edit(ak, 10, 0, 0x0b), new(tpm2.Public), wire.ErrSelector},
		"unknown scheme":                 {edit(ak, 12, 0, 0x14), new(tpm2.Public), wire.ErrSelector},
		"unknown curve":                  {edit(ak, 16, 0, 0x77), new(tpm2.Public), wire.ErrSelector},
		"good attest":                    {attest, new(tpm2.Attest), nil},
		"magic":                          {edit(attest, 0, 0xfe), new(tpm2.Attest), tpm2.ErrMagic},
		"unknown attest type":            {edit(attest, 4, 0x80, 0x1b), new(tpm2.Attest), wire.ErrSelector},
		"safe is neither yes nor no":     {edit(attest, 6+2+34+2+32+16, 2), new(tpm2.Attest), wire.ErrRange},
		"too many selections":            {edit(attest, 6+2+34+2+32+17+8, 0, 0, 0, 9), new(tpm2.Attest), wire.ErrSize},
		"selection of four bytes":        {edit(attest, 6+2+34+2+32+17+8+4+2, 4), new(tpm2.Attest), wire.ErrRange},
		"selection of unknown bank":      {edit(attest, 6+2+34+2+32+17+8+4, 1, 0x0b), new(tpm2.Attest), wire.ErrSelector},
		"good signature":                 {sig, new(tpm2.Signature), nil},
		"unknown signature":              {edit(sig, 0, 0, 0x17), new(tpm2.Signature), wire.ErrSelector},
		"null hash":                      {edit(sig, 2, 0, 0x10), new(tpm2.Signature), wire.ErrSelector},
		"symmetric without an algorithm": {[]byte{0, 0x25, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0}, new(tpm2.Public), wire.ErrSelector},
		"AES of 100 bits":                {[]byte{0, 0x25, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 6, 0, 100, 0, 0x43, 0, 0}, new(tpm2.Public), wire.ErrRange},
	} {
		t.Run(name, func(t *testing.T) {
			if err := wire.Decode(tc.in, tc.v); !errors.Is(err, tc.want) {
				t.Errorf("Decode(%x) = %v, want %v", tc.in, err, tc.want)
			}
		})
	}
}

func TestDecodingAllocatesLittle(t *testing.T) {
	ek := read(t, "ek-rsa2048.tpmt_public")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := tpm2.ParsePublic(ek); err != nil {
			t.Fatal(err)
		}
	}); n > 5 {
		t.Errorf("ParsePublic makes %v allocations, want at most 5", n)
	}
}

// Of a structure that ends with a buffer a prefix is another one, or none where it cuts
// what has a size.
func TestStructuresThatEndWithABuffer(t *testing.T) {
	for seed := range uint64(20) {
		for name, s := range structures(structtest.New(seed), openKinds) {
			b, err := wire.Encode(s[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := wire.Decode(b, s[1]); err != nil || !cmp.Equal(s[0], s[1], cmpopts.EquateEmpty()) {
				t.Errorf("seed %d: Decode(%s %x) = %+v, %v", seed, name, b, s[1], err)
			}
			first := 2 + int(b[0])<<8 + int(b[1])
			for n := range b {
				got := openKinds()[name]
				if err := wire.Decode(b[:n], got); (err == nil) != (n >= first) {
					t.Errorf("seed %d: Decode(%s, %d of %d bytes, %d of them sized) = %v", seed, name, n, len(b), first, err)
				}
			}
		}
	}
}

func FuzzStructures(f *testing.F) {
	names := append(slices.Sorted(maps.Keys(kinds())), slices.Sorted(maps.Keys(openKinds()))...)
	for seed := range uint64(4) {
		s := structures(structtest.New(seed), kinds)
		maps.Copy(s, structures(structtest.New(seed), openKinds))
		for kind, name := range names {
			b, err := wire.Encode(s[name][0])
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(kind), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, in []byte) {
		all := kinds()
		maps.Copy(all, openKinds())
		v := all[names[int(kind)%len(names)]]
		if err := wire.Decode(in, v); err != nil {
			if tpm2.RCOf(err) == tpm2.RCSuccess {
				t.Fatalf("%v has no response code", err)
			}
			return
		}
		out, err := wire.Encode(v)
		if err != nil || !bytes.Equal(in, out) {
			t.Fatalf("%T from %x encodes to %x, %v", v, in, out, err)
		}
	})
}

func BenchmarkParsePublic(b *testing.B) {
	ek := read(b, "ek-rsa2048.tpmt_public")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tpm2.ParsePublic(ek); err != nil {
			b.Fatal(err)
		}
	}
}
