package tpm2_test

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/assay-project/assay/tpm2"
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

// structures are the random structures of one round, with a fresh value to decode into.
func structures(r source) map[string][2]wire.Layout {
	name, data, digest, secret := tpm2.Name2B(r.upTo(tpm2.MaxName)), tpm2.Data2B(r.upTo(tpm2.MaxData)), tpm2.Digest2B(r.upTo(tpm2.MaxDigest)), tpm2.EncryptedSecret2B(r.upTo(256))
	ha := tpm2.HA{HashAlg: r.hash()}
	ha.Digest = r.bytes(ha.HashAlg.DigestSize())
	list := tpm2.PCRSelections(r.selections())
	return map[string][2]wire.Layout{
		"TPMT_PUBLIC":            {r.public(), new(tpm2.Public)},
		"TPM2B_PUBLIC":           {&tpm2.Public2B{Public: *r.public()}, new(tpm2.Public2B)},
		"TPMS_ATTEST":            {r.attest(), new(tpm2.Attest)},
		"TPM2B_ATTEST":           {&tpm2.Attest2B{Attest: *r.attest()}, new(tpm2.Attest2B)},
		"TPMT_SIGNATURE":         {r.signature(), new(tpm2.Signature)},
		"TPML_PCR_SELECTION":     {&list, new(tpm2.PCRSelections)},
		"TPMT_HA":                {&ha, new(tpm2.HA)},
		"TPM2B_NAME":             {&name, new(tpm2.Name2B)},
		"TPM2B_DATA":             {&data, new(tpm2.Data2B)},
		"TPM2B_DIGEST":           {&digest, new(tpm2.Digest2B)},
		"TPM2B_ENCRYPTED_SECRET": {&secret, new(tpm2.EncryptedSecret2B)},
	}
}

func TestStructuresSurviveARoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		for name, s := range structures(newSource(seed)) {
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
	for seed := range uint64(20) {
		for name, s := range structures(newSource(seed)) {
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
		r := newSource(seed)
		list := tpm2.PCRSelections(r.selections())
		for name, tc := range map[string]struct {
			v     wire.Layout
			codec func([]byte) ([]byte, error)
		}{
			"TPMT_PUBLIC":        {r.public(), gotpmCodec[gotpm.TPMTPublic]},
			"TPMS_ATTEST":        {r.attest(), gotpmCodec[gotpm.TPMSAttest]},
			"TPMT_SIGNATURE":     {r.signature(), gotpmCodec[gotpm.TPMTSignature]},
			"TPML_PCR_SELECTION": {&list, gotpmCodec[gotpm.TPMLPCRSelection]},
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
		r := newSource(seed)
		p, a := r.public(), r.attest()
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

func FuzzStructures(f *testing.F) {
	for seed := range uint64(8) {
		r := newSource(seed)
		for kind, v := range []wire.Layout{r.public(), r.attest(), r.signature()} {
			b, err := wire.Encode(v)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(kind), b)
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, in []byte) {
		v := []wire.Layout{new(tpm2.Public), new(tpm2.Attest), new(tpm2.Signature), new(tpm2.Public2B), new(tpm2.PCRSelections), new(tpm2.HA)}[int(kind)%6]
		if wire.Decode(in, v) != nil {
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
