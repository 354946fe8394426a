package command_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/assay-project/assay/tpm2"
	"github.com/assay-project/assay/tpm2/command"
	"github.com/assay-project/assay/tpm2/structtest"
	"github.com/assay-project/assay/wire"
)

// parameters makes random parameters of every command and response, with a fresh
// value to decode each into.
func parameters(r structtest.Source) map[string][2]wire.Layout {
	out := map[string][2]wire.Layout{}
	for _, i := range command.All() {
		in, answer := i.New()
		freshIn, freshAnswer := i.New()
		for side, v := range map[string][2]wire.Layout{"In": {in, freshIn}, "Out": {answer, freshAnswer}} {
			r.Fill(v[0])
			if z, ok := v[0].(*command.ZGen2PhaseIn); ok {
				z.InScheme = structtest.Pick(r, tpm2.AlgECDH, tpm2.AlgECMQV)
			}
			out[i.Name+" "+side] = v
		}
	}
	return out
}

func TestParametersSurviveARoundTrip(t *testing.T) {
	for seed := range uint64(15) {
		for name, p := range parameters(structtest.New(seed)) {
			b, err := wire.Encode(p[0])
			if err != nil {
				t.Fatalf("seed %d: Encode(%s) = %v", seed, name, err)
			}
			if err := wire.Decode(b, p[1]); err != nil {
				t.Fatalf("seed %d: Decode(%s %x) = %v", seed, name, b, err)
			}
			if diff := cmp.Diff(p[0], p[1], cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("seed %d: %s changed (-want +got):\n%s", seed, name, diff)
			}
		}
	}
}

func TestEveryProperPrefixIsRefusedWithItsParameter(t *testing.T) {
	for seed := range uint64(2) {
		for name, p := range parameters(structtest.New(seed)) {
			b, err := wire.Encode(p[0])
			if err != nil {
				t.Fatal(err)
			}
			for n := range b {
				err := wire.Decode(b[:n], p[1])
				if err == nil {
					t.Errorf("seed %d: %s cut to %d of %d bytes is accepted", seed, name, n, len(b))
					continue
				}
				subject, number := tpm2.RCOf(err).Subject()
				if strings.HasSuffix(name, "In") && (subject != tpm2.RCParameter || number == 0) {
					t.Errorf("seed %d: %s cut to %d of %d bytes: %v names no parameter", seed, name, n, len(b), tpm2.RCOf(err))
				}
			}
			// Part 3, 5.6: bytes after the last parameter are TPM_RC_SIZE of the command.
			if err := wire.Decode(append(b, 0), p[1]); !errors.Is(err, wire.ErrTrailing) || tpm2.RCOf(err) != tpm2.RCSize {
				t.Errorf("seed %d: %s with one byte more: %v, want ErrTrailing, TPM_RC_SIZE", seed, name, err)
			}
		}
	}
}

func TestParametersAreNumberedInOrder(t *testing.T) {
	for _, i := range command.All() {
		in, _ := i.New()
		fields := reflect.TypeOf(in).Elem().NumField()
		structtest.New(1).Fill(in)
		if z, ok := in.(*command.ZGen2PhaseIn); ok {
			z.InScheme = tpm2.AlgECDH
		}
		b, err := wire.Encode(in)
		if err != nil {
			t.Fatal(err)
		}
		last := 0
		for n := range b {
			_, number := tpm2.RCOf(wire.Decode(b[:n], in)).Subject()
			if number < last || number > last+1 {
				t.Errorf("%s cut to %d bytes fails in parameter %d, after %d", i.Name, n, number, last)
			}
			last = number
		}
		if last != fields {
			t.Errorf("%s has %d parameters, its layout numbers %d", i.Name, fields, last)
		}
	}
}

// TestTheFirstParameterIsSaidToBeSizedWhenItIs holds the encrypted flags to the
// layouts: a session encrypts what begins with its own 16-bit length (Part 1, 21).
func TestTheFirstParameterIsSaidToBeSizedWhenItIs(t *testing.T) {
	for _, i := range command.All() {
		in, out := i.New()
		for side, p := range map[string]struct {
			v    wire.Layout
			said bool
		}{"In": {in, i.DecryptFirst}, "Out": {out, i.EncryptFirst}} {
			name := i.Name + " " + side
			if sized := beginsSized(t, p.v); sized != p.said {
				t.Errorf("%s begins with a TPM2B: %v, the table says %v", name, sized, p.said)
			}
		}
	}
}

// beginsSized reports whether the first field of v is a TPM2B: its Go type is
// bytes, or it is one of the structures that commands carry with a size.
func beginsSized(t *testing.T, v wire.Layout) bool {
	t.Helper()
	typ := reflect.TypeOf(v).Elem()
	if typ.NumField() == 0 {
		return false
	}
	switch reflect.New(typ.Field(0).Type).Elem().Interface().(type) {
	case []byte, tpm2.SensitiveCreate, tpm2.Sensitive2B, tpm2.Public, tpm2.ECCPoint, tpm2.NVPublic, tpm2.NVPublic2:
		return true
	}
	return false
}

func TestTheTableIsInOrderAndComplete(t *testing.T) {
	all := command.All()
	if len(all) != 125 {
		t.Errorf("the table has %d commands, want 114 of version 1.38 to 1.83, 3 newer and 8 of 1.85", len(all))
	}
	newest := 0
	for n, i := range all {
		if n > 0 && all[n-1].Code >= i.Code {
			t.Errorf("%s follows %s", i.Name, all[n-1].Name)
		}
		if got, ok := command.Lookup(i.Code); !ok || got != i {
			t.Errorf("Lookup(%#x) = %v, %v, want %s", uint32(i.Code), got, ok, i.Name)
		}
		if i.Attr.Code() != i.Code || i.Attr.CHandles() != len(i.Handles) || i.Attr.Has(tpm2.CommandRHandle) != (i.Response != "") {
			t.Errorf("%s: TPMA_CC %#08x does not fit the row", i.Name, uint32(i.Attr))
		}
		if i.Chapter == "" || !strings.HasPrefix(i.Name, "TPM2_") {
			t.Errorf("%#x: name %q, chapter %q", uint32(i.Code), i.Name, i.Chapter)
		}
		for n, h := range i.Handles {
			if h.Role != command.RoleNone && n >= i.Auths() {
				t.Errorf("%s: %s needs authorization after one that does not", i.Name, h.Name)
			}
		}
		if i.Version185 {
			newest++
		}
	}
	if newest != 8 {
		t.Errorf("%d commands are of version 1.85, want 8", newest)
	}
	for _, code := range []tpm2.CC{0, 0x11e, 0x123, 0x175, 0x1a2, 0x1ab, tpm2.CCFieldUpgradeStart, tpm2.CCVendor | 0x144, ^tpm2.CC(0)} {
		if i, ok := command.Lookup(code); ok {
			t.Errorf("Lookup(%#x) = %s", uint32(code), i.Name)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { command.Lookup(tpm2.CCCreate) }); n != 0 {
		t.Errorf("Lookup makes %v allocations", n)
	}
}

// TestAttributesAgreeWithAnotherTPM compares with what swtpm tells of itself.
func TestAttributesAgreeWithAnotherTPM(t *testing.T) {
	b, err := os.ReadFile("testdata/swtpm-0.7.1-commands.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		var theirs tpm2.CommandAttributes
		if _, err := fmt.Sscanf(line, "%x", (*uint32)(&theirs)); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		n++
		ours, ok := command.Lookup(theirs.Code())
		if !ok {
			t.Errorf("command %#x is missing", uint32(theirs.Code()))
			continue
		}
		if ours.Attr != theirs {
			t.Errorf("%s: TPMA_CC = %#08x, swtpm has %#08x", ours.Name, uint32(ours.Attr), uint32(theirs))
		}
	}
	if n != 110 {
		t.Errorf("the file has %d commands, want 110", n)
	}
}

func FuzzParameters(f *testing.F) {
	for n, i := range command.All() {
		in, out := i.New()
		for side, v := range []wire.Layout{in, out} {
			structtest.New(uint64(n)).Fill(v)
			if z, ok := v.(*command.ZGen2PhaseIn); ok {
				z.InScheme = tpm2.AlgECDH
			}
			b, err := wire.Encode(v)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(byte(n), side == 1, b)
		}
	}
	f.Fuzz(func(t *testing.T, n byte, response bool, b []byte) {
		all := command.All()
		i := all[int(n)%len(all)]
		v, out := i.New()
		if response {
			v = out
		}
		if err := wire.Decode(b, v); err != nil {
			if tpm2.RCOf(err) == tpm2.RCSuccess {
				t.Fatalf("%s: %v has no response code", i.Name, err)
			}
			return
		}
		again, err := wire.Encode(v)
		if err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%s from %x encodes to %x, %v", i.Name, b, again, err)
		}
	})
}
